"""Small pictures inside a page."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

SMALL = 150
"""Pixels that a picture is high at most; it is wide by a fifth more."""
QUALITY = 72


def picture(image: NDArray[np.uint8], tall: int = SMALL) -> str:
    """An image that fits `tall` pixels of height, as a `data:` address of a JPEG."""
    scale = min(tall / image.shape[0], 1.2 * tall / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
