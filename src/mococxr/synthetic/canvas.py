"""Smooth shapes in body units, drawn as antialiased masks through one pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb

import cv2
import numpy as np

from mococxr.synthetic.anatomy import IMAGE_WIDTH

_SHIFT = 4


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
        value = round(255 * min(1.0, pixels))
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
