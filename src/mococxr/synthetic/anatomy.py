"""The person behind a synthetic image: what stays the same from image to image.

Lengths are in body units: an image is 2 wide and 2.4 high, x is 0 in the midline and grows towards the right
of the image (the patient's left), y is 0 at the upper edge and grows downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb

import cv2
import numpy as np

IMAGE_WIDTH = 2.0
IMAGE_HEIGHT = 2.4


@dataclass(frozen=True)
class Anatomy:
    """One synthetic person. Lengths in body units (an image is 2 by 2.4), angles in radians."""

    sex: str
    """`F` or `M`: women are smaller on average, with a narrower thorax and breast shadows."""
    age: int
    """Years. With age the aortic knob grows and bone fades."""
    chest: float
    """Inner half width of the thorax at its widest."""
    shoulder: float
    """Half width of the body at the shoulders."""
    apex: float
    """y of the lung apices."""
    base: float
    """y of the costophrenic angles."""
    dome_right: float
    """Height of the right diaphragm dome above the angle; the left one is a little lower."""
    dome_left: float
    heart_ratio: float
    """Cardiothoracic ratio without any finding."""
    heart_tilt: float
    """Height of the apex of the heart above its lowest point."""
    mediastinum: float
    """Half width of the upper mediastinum."""
    knob: float
    """Radius of the aortic knob."""
    rib_drop: float
    """How far a posterior rib falls from the spine to the lateral wall."""
    rib_width: float
    bone: float
    """Brightness of bone."""
    fat: float
    """Soft tissue over the thorax: 0 slim, 1 heavy."""
    breast: float
    """Strength of the breast shadows."""
    clavicle: float
    """Slope of the clavicles."""
    vessels: float
    """Strength of the vascular markings."""
    bend: float
    """Sideways bend of the spine."""


def generator(seed: int, kind: int, number: int) -> np.random.Generator:
    """The random stream number `number` of one kind (0 person, 1 image, 2 finding, 3 table) under one seed."""
    # near numbers give streams that are unrelated
    return np.random.default_rng(np.random.SeedSequence([seed, kind, number]))


def draw_anatomy(seed: int, patient: int) -> Anatomy:
    """Draw one synthetic person: a pure function of (seed, patient), both at least 0."""
    rng = generator(seed, 0, patient)
    female = bool(rng.random() < 0.5)
    age = int(np.clip(rng.normal(56, 17), 18, 95))
    z = np.clip(rng.standard_normal(18), -2, 2)
    small = 0.03 if female else 0.0
    apex = 0.36 + 0.035 * z[2]
    dome = 0.17 + 0.03 * z[4]
    return Anatomy(
        sex="F" if female else "M",
        age=age,
        chest=0.75 - small + 0.035 * z[0],
        shoulder=0.99 - small + 0.04 * z[1],
        apex=apex,
        base=apex + 1.46 - small + 0.07 * z[3],
        dome_right=dome,
        dome_left=dome - 0.03 + 0.015 * z[5],
        heart_ratio=0.43 + 0.01 * female + 0.0005 * (age - 56) + 0.022 * z[6],
        heart_tilt=0.10 + 0.03 * z[7],
        mediastinum=0.15 + 0.015 * z[8],
        knob=0.075 + 0.0006 * (age - 56) + 0.012 * z[9],
        rib_drop=0.26 + 0.06 * z[10],
        rib_width=0.052 + 0.006 * z[11],
        bone=0.125 - 0.0007 * (age - 56) + 0.015 * z[12],
        fat=float(np.clip(0.45 + 0.22 * z[13], 0, 1)),
        breast=float(max(0.0, 0.55 + 0.25 * z[14])) if female else 0.0,
        clavicle=0.16 + 0.08 * z[15],
        vessels=1.0 + 0.25 * z[16],
        bend=0.02 * z[17],
    )


_SHIFT = 4  # fractional bits of OpenCV's coordinates: outlines lie on sixteenths of a pixel


@dataclass(frozen=True)
class Canvas:
    """An image's pixel grid and the pose under which body units are drawn on it.

    `affine` is (2, 3): pixels = affine[:, :2] @ body + affine[:, 2]. Masks are float32 (height, width), 0..1.
    """

    height: int
    width: int
    affine: np.ndarray

    @property
    def unit(self) -> float:
        """Pixels per body unit."""
        return self.width / IMAGE_WIDTH

    @cached_property
    def body(self) -> tuple[np.ndarray, np.ndarray]:
        """Body coordinates x and y of every pixel, float32 (height, width) each."""
        (xx, xy, x0), (yx, yy, y0) = cv2.invertAffineTransform(self.affine).astype(np.float32)
        row = np.arange(self.height, dtype=np.float32)[:, None]
        column = np.arange(self.width, dtype=np.float32)[None, :]
        x = xx * column + (xy * row + x0)
        y = yx * column + (yy * row + y0)
        return x, y

    def fill(self, *outlines: np.ndarray, blur: float = 0.0) -> np.ndarray:
        """The inside of closed outlines ((n, 2) each, body units), its edge softened by `blur` body units."""
        layer = np.zeros((self.height, self.width), np.uint8)
        for outline in outlines:
            cv2.fillPoly(layer, [self._pixels(outline)], 255, cv2.LINE_AA, _SHIFT)
        return self._soften(layer, blur)

    def stroke(self, lines: Sequence[np.ndarray], width: float, blur: float = 0.0) -> np.ndarray:
        """Open lines (all of n points) of one width; thinner than a pixel they fade instead of vanishing."""
        layer = np.zeros((self.height, self.width), np.uint8)
        pixels = width * self.unit
        value = round(255 * min(1.0, pixels))  # OpenCV draws no line thinner than a pixel
        pixel_lines = list(self._pixels(np.asarray(lines)))
        cv2.polylines(layer, pixel_lines, False, value, max(1, round(pixels)), cv2.LINE_AA, _SHIFT)
        return self._soften(layer, blur)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        moved = points @ self.affine[:, :2].T + self.affine[:, 2]
        return np.round(moved * (1 << _SHIFT)).astype(np.int32)

    def _soften(self, layer: np.ndarray, blur: float) -> np.ndarray:
        return soften(layer, blur * self.unit) * np.float32(1 / 255)


def soften(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur by `sigma` pixels; below a third of a pixel the image is returned as it is."""
    return image if sigma < 0.33 else cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def closed(points: Sequence[tuple[float, float]], rounds: int = 3) -> np.ndarray:
    """A smooth closed outline around corner points (n, 2): corners are cut `rounds` times (Chaikin)."""
    curve = np.asarray(points, np.float64)
    for _ in range(rounds):
        after = np.concatenate([curve[1:], curve[:1]])
        curve = np.stack([0.75 * curve + 0.25 * after, 0.25 * curve + 0.75 * after], 1).reshape(-1, 2)
    return curve


def arc(points: Sequence[np.ndarray | tuple[float, float]], steps: int = 14) -> np.ndarray:
    """A smooth open line (steps, 2): the quadratic or cubic Bezier curve of 3 or 4 control points."""
    return _bernstein(len(points) - 1, steps) @ np.asarray(points, np.float64)


@lru_cache
def _bernstein(degree: int, steps: int) -> np.ndarray:
    t = np.linspace(0, 1, steps)[:, None]
    k = np.arange(degree + 1)
    return np.array([comb(degree, i) for i in k]) * t**k * (1 - t) ** (degree - k)


def cloud(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """A smooth random field (height, width) of mean about 0 and deviation about 1, `cells` bumps across."""
    grid = rng.standard_normal((round(cells * height / width) + 2, cells + 2)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
