"""Small pictures of flagged films, as text that a page can hold."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import numpy.typing as npt

TALL, WIDE = 150, 180
"""Pixels that a picture fits into."""
_QUALITY = 72


def picture(film: npt.NDArray[np.uint8]) -> str:
    """A film shrunk into 180 x 150 pixels, as a `data:` address of a JPEG."""
    scale = min(TALL / film.shape[0], WIDE / film.shape[1])
    size = (max(1, round(film.shape[1] * scale)), max(1, round(film.shape[0] * scale)))
    small = cv2.resize(film, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
