"""Random views of an image: (image, seed, epoch, index, side) -> one view, by ONE affine resampling.

Resize, crop, rotation and flip are one matrix, so that a pixel is interpolated once. The image comes from a stored
level at most twice as large as the view. A view that shrinks it is drawn twice as fine, and each of its pixels is the mean
of four: that is nearly the mean over the pixel's area (tests/test_views.py states the error against one).

Every random number is a hash of (seed, epoch, index, side) and its place: a view is the same whichever worker,
batch or order draws it, and drawing costs no generator state.

    B  images in a batch      S  side of a view in pixels
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

DRAWS = 7
"""Random numbers a view takes: flip, angle, area, x, y, contrast, brightness."""

SHRINKS = 4 / 3
"""Pixels of the image on one of the view from which on four samples come nearer to the mean over the area than a bilinear
sample, which by itself spreads over 1.4 pixels of the image."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: SplitMix64's step


@dataclass(frozen=True)
class Recipe:
    """What a view may be.

    Args:
        size: side S of a view, in px.
        flip: probability of a horizontal flip.
        rotation: largest angle either way, in degrees; the corners that come in are black.
        crop: smallest and largest area of a view, as a share of the largest centred square. (1, 1) is the paper's
            view: shorter side to S, then a crop of S x S anywhere along the longer side.
        brightness: largest relative change of brightness either way, 0..1.
        contrast: largest relative change of contrast about the view's mean either way, 0..1.
        resampling: area: means over areas where a view shrinks the image; bilinear: single samples everywhere.
    """

    size: int
    flip: float = 0.5
    rotation: float = 10.0
    crop: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.0
    contrast: float = 0.0
    resampling: Literal["area", "bilinear"] = "area"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Recipe:
        """The recipe in a run's settings, among which its fields stand under their own names."""
        return cls(**{field.name: settings[field.name] for field in fields(cls)})


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that scatters every bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniforms(seed: int, epoch: int, index: Sequence[int] | NDArray[np.integer], side: int) -> NDArray[np.float64]:
    """Random numbers of the views (seed, epoch, index, side).

    Args:
        index: B image numbers.

    Returns:
        (B, DRAWS) float64 in [0, 1), the same for the same arguments.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        state = _mix(np.asarray([seed], dtype=np.int64).view(np.uint64) + _GOLDEN)  # a seed may be below 0
        for part in (epoch, side):
            state = _mix(state + np.uint64(part) * _GOLDEN + np.uint64(1))
        state_B = _mix(state + np.asarray(index, dtype=np.uint64) * _GOLDEN + np.uint64(1))
        places = np.arange(1, DRAWS + 1, dtype=np.uint64) * _GOLDEN
        bits = _mix(state_B[:, None] + places[None, :])
    # 53 bits: what a float64 below 1 holds evenly
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def matrix(
    recipe: Recipe, shape: tuple[int, int] | NDArray[np.integer], draws: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The affine map of one view, or of each of several, from pixels of the view to pixels of the image.

    Args:
        shape: height and width of the image, (..., 2).
        draws: the views' random numbers, (..., DRAWS).

    Returns:
        (..., 2, 3), for `cv2.warpAffine` with WARP_INVERSE_MAP. Pixel centres map to pixel centres.
    """
    height, width = np.moveaxis(np.asarray(shape, dtype=np.float64), -1, 0)
    flip, angle, area, along_x, along_y = np.moveaxis(draws, -1, 0)[:5]
    low, high = recipe.crop
    side = np.minimum(height, width) * np.sqrt(low + (high - low) * area)  # the area is drawn evenly, not the side
    centre_x = side / 2 + (width - side) * along_x
    centre_y = side / 2 + (height - side) * along_y
    scale = side / recipe.size
    theta = np.deg2rad(recipe.rotation) * (2 * angle - 1)
    cos, sin = scale * np.cos(theta), scale * np.sin(theta)
    mirror = np.where(flip < recipe.flip, -1.0, 1.0)
    # A crop turns about its own centre; the half pixels make the corners of both frames meet.
    half = (recipe.size - 1) / 2
    maps = np.empty((*draws.shape[:-1], 2, 3))
    maps[..., 0, 0], maps[..., 0, 1] = mirror * cos, -sin
    maps[..., 1, 0], maps[..., 1, 1] = mirror * sin, cos
    maps[..., 0, 2] = centre_x - 0.5 - half * (mirror * cos - sin)
    maps[..., 1, 2] = centre_y - 0.5 - half * (mirror * sin + cos)
    return maps


def shrinking(recipe: Recipe, maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the maps shrink so much that the pixels of the view are to be means over areas: (..., 2, 3) -> (...)."""
    areas = np.abs(maps[..., 0, 0] * maps[..., 1, 1] - maps[..., 0, 1] * maps[..., 1, 0])
    return np.asarray((areas > SHRINKS**2) & (recipe.resampling == "area"))


def twice_as_fine(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same maps from a view of 2S x 2S, of which four pixels lie in one of S x S."""
    fine = maps / 2
    # the first of two halves lies a quarter before the middle
    fine[..., 2] = maps[..., 2] - maps[..., :2].sum(axis=-1) / 4
    return fine


def tones(recipe: Recipe, draws: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What happens to the grey levels of B views: gain about a view's mean, and shift of all, each (B, 1).

    A level v becomes (v - mean) gain shift + mean shift.
    """
    gain = 1 + recipe.contrast * (2 * draws[:, 5:6] - 1)
    shift = 1 + recipe.brightness * (2 * draws[:, 6:7] - 1)
    return gain, shift


def draw_view(
    image: NDArray[np.uint8], recipe: Recipe, draws: NDArray[np.float64], out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """One view of an image.

    Args:
        image: (H, W) uint8.
        draws: the view's random numbers, (DRAWS,), from `uniforms`.
        out: (S, S) uint8 to write into.

    Returns:
        (S, S) uint8.
    """
    return draw_views([image], recipe, draws[None], None if out is None else out[None])[0]


def draw_views(
    images: Sequence[NDArray[np.uint8]],
    recipe: Recipe,
    draws: NDArray[np.float64],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """A view of each of B images; what the maps cost is shared by the batch.

    Args:
        images: each (H, W) uint8, of any sizes.
        draws: the views' random numbers, (B, DRAWS), from `uniforms`.
        out: (B, S, S) uint8 to write into.

    Returns:
        (B, S, S) uint8.
    """
    size = (recipe.size, recipe.size)
    views = np.empty((len(images), *size), dtype=np.uint8) if out is None else out
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # else OpenCV inverts the map; its border is black by default
    maps = matrix(recipe, np.array([image.shape for image in images]).reshape(-1, 2), draws)
    small, fine = shrinking(recipe, maps), twice_as_fine(maps)
    double = np.empty((2 * recipe.size, 2 * recipe.size), dtype=np.uint8)
    for i, (image, view) in enumerate(zip(images, views, strict=True)):
        if small[i]:
            cv2.warpAffine(image, fine[i], double.shape, dst=double, flags=flags)
            cv2.resize(double, size, dst=view, interpolation=cv2.INTER_AREA)  # means of 2 x 2
        else:
            cv2.warpAffine(image, maps[i], size, dst=view, flags=flags)
    if recipe.brightness or recipe.contrast:
        # 256 levels, not S x S pixels, are worked out
        for view, levels in zip(views, _levels(recipe, views, draws), strict=True):
            cv2.LUT(view, levels, dst=view)
    return views


def _levels(recipe: Recipe, views: NDArray[np.uint8], draws: NDArray[np.float64]) -> NDArray[np.uint8]:
    """What each grey level of each view becomes, (B, 256): brightness, then contrast about the view's mean."""
    gain, shift = tones(recipe, draws)
    mean = np.array([[cv2.sumElems(view)[0] / view.size] for view in views])
    levels = (np.arange(256) - mean) * (gain * shift) + mean * shift
    return np.rint(levels.clip(0, 255)).astype(np.uint8)
