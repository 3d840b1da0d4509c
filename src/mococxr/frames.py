"""An image -> what an encoder is shown of it, the same from a store as from files.

An image passes three steps: shorter side to the store's size, whole halvings down to at most twice the frame
(`Store.level`; `image_level` does both for a file), then `to_frame`. So an image scores the same whichever way
it came. Nothing here needs PyTorch.

    H, W  height and width of a frame in px
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mococxr.images import resize_shorter
from mococxr.store.levels import halving, shrink

GRID = 32
"""Pixels: the longer side of a whole image is rounded to this multiple, so that images share a batch."""


def to_frame(image: NDArray[np.uint8], size: int, crop_mode: str = "center") -> NDArray[np.uint8]:
    """What an encoder sees of an image.

    Args:
        image: (H, W) uint8, from a level at most twice as large as the frame.
        size: shorter side of the frame, px.
        crop_mode: `center`: the shorter side becomes `size`, then a centred square, as the paper evaluates.
            `full`: all of the image, its longer side rounded to the nearest multiple of `GRID`.

    Returns:
        (size, size) uint8, or (H', W') with min(H', W') == size for `full`.
    """
    if crop_mode == "full":
        height, width = image.shape
        longer = max(size, GRID * round(max(height, width) * size / min(height, width) / GRID))
        shape = (size, longer) if height > width else (longer, size)  # OpenCV takes (width, height)
        shrinks = shape[0] <= width and shape[1] <= height
        return cv2.resize(image, shape, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # type: ignore[return-value]
    resized = resize_shorter(image, size)
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def random_frame(image: NDArray[np.uint8], size: int, position: float) -> NDArray[np.uint8]:
    """What training on labels shows of an image: as `center` of `to_frame`, the square elsewhere on the longer side.

    Pixels are those of evaluation: one resize, and a cut at a whole pixel.

    Args:
        position: where the square lies: 0 at one end, just under 1 at the other.

    Returns:
        (size, size) uint8.
    """
    resized = resize_shorter(image, size)
    top, left = (int(position * (side - size + 1)) for side in resized.shape)  # each offset equally often
    return resized[top : top + size, left : left + size]


def image_level(image: NDArray[np.uint8], stored: int, size: int) -> NDArray[np.uint8]:
    """An image read from a file, as the level of a store would hold it.

    Args:
        image: (H, W) uint8, as read.
        stored: shorter side of the store's images, px.
        size: shorter side of the frame, px.
    """
    return shrink(resize_shorter(image, stored), halving(stored, size))
