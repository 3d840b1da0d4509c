"""Any encoder: by how much the logit falls where a window of the image is covered (Zeiler and Fergus 2014).

The slow reference: some two hundred passes an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Frames = Sequence[NDArray[np.uint8]]
"""Of an image its frame (H, W) for each encoder."""
WINDOWS, SIZE = 14, 1 / 7
"""Windows along a side, and the side of one as a share of the frame's."""
BATCH = 32


def occlusion(
    frames: Frames,
    logits_of: Callable[[Sequence[Frames]], NDArray[np.float64]],
    windows: int = WINDOWS,
    size: float = SIZE,
) -> NDArray[np.float64]:
    """The mean fall of the logit over the windows that cover a pixel, (H, W) of the largest frame.

    Args:
        frames: the image as each encoder sees it; a window covers the same part of each, by the frame's median.
        logits_of: images (N) -> their logits (N,).
        windows: along each side, evenly spaced from edge to edge.
        size: side of a window as a share of the frame's.
    """
    begins = np.linspace(0, 1 - size, windows)
    corners = [(top, left) for top in begins for left in begins]
    whole = float(logits_of([frames])[0])
    shape = max((frame.shape for frame in frames), key=np.prod)
    total, count = np.zeros(shape), np.zeros(shape)
    for start in range(0, len(corners), BATCH):
        some = corners[start : start + BATCH]
        covered = [[_cover(frame, corner, size) for frame in frames] for corner in some]
        for corner, logit in zip(some, logits_of(covered), strict=True):
            window = _window(shape, corner, size)
            total[window] += whole - float(logit)
            count[window] += 1
    return total / np.maximum(count, 1)


def _window(shape: tuple[int, ...], corner: tuple[float, float], size: float) -> tuple[slice, ...]:
    """The pixels of a window in a frame of that shape."""
    return tuple(
        slice(round(begin * side), max(round(begin * side) + 1, round((begin + size) * side)))
        for begin, side in zip(corner, shape, strict=True)
    )


def _cover(frame: NDArray[np.uint8], corner: tuple[float, float], size: float) -> NDArray[np.uint8]:
    covered = frame.copy()
    covered[_window(frame.shape, corner, size)] = np.median(frame)
    return covered
