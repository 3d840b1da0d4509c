"""Side views and cut-out parts of a chest, told from the mean chest of a store at 24 x 24 pixels.

A side view is more like the mean of 96 synthetic side views, facing either way, than like the mean chest. A part is more
like an enlarged window of the mean chest than like all of it. Both are judged of upright images.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import cv2
import numpy as np
import numpy.typing as npt

from mococxr.guard.pose import SIDE

Floats = npt.NDArray[np.float32]

SIDES = (0.5, 0.6, 0.7, 0.8)
"""Sides of the windows, of that of the mean chest; each stands in 25 positions."""


def sideways(image: Floats, chest: Floats) -> float:
    """How much more like a side view than like a chest from the front an evened image is: -2 to 2.

    Args:
        image, chest: (24, 24).
    """
    return float((_side_views() @ _unit(image)).max() - _unit(chest) @ _unit(image))


def part_of(image: Floats, windows: Floats, chest: Floats) -> float:
    """How much more like a part of a chest than like all of it an evened image is: -2 to 2.

    Args:
        windows: those of `chest`, see `windows_of`.
    """
    return float((windows @ _unit(image)).max() - _unit(chest) @ _unit(image))


def windows_of(chest: Floats) -> Floats:
    """Windows of a mean chest, each enlarged to 24 x 24 with mean 0 and length 1: (100, 576)."""
    windows = []
    for side in (round(SIDE * share) for share in SIDES):
        for top, left in np.ndindex(5, 5):
            y, x = (round((SIDE - side) * step / 4) for step in (top, left))
            part = np.ascontiguousarray(chest[y : y + side, x : x + side])
            windows.append(_unit(np.asarray(cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.float32)))
    return np.stack(windows)


def _unit(image: Floats) -> Floats:
    flat = image.ravel() - image.mean()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6), np.float32)


@lru_cache(maxsize=1)
def _side_views() -> Floats:
    """The mean of 96 synthetic side views (`draw_synthetic(0, i, size=72, view="lateral")`), facing either way: (2, 576)."""
    with (files("mococxr.guard") / "side_view.csv").open() as file:
        view = np.loadtxt(file, delimiter=",", dtype=np.float32)
    return np.stack([_unit(view), _unit(view[:, ::-1])])
