"""DICOM's run-length coding (PS3.5 annex G), decoded never beyond the size declared."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from mococxr.errors import ImageError
from mococxr.images.dicom.codecs import CUT, DAMAGED


def is_rle(frame: bytes) -> bool:
    """Whether a frame begins with an RLE header: up to 15 segments, the first right behind the header."""
    return len(frame) >= 64 and 1 <= struct.unpack_from("<I", frame)[0] <= 15 and frame[4:8] == b"\x40\0\0\0"


def decode_rle(
    frame: bytes, rows: int, columns: int, samples: int, width: int
) -> NDArray[np.unsignedinteger]:
    """Decode an RLE frame, never beyond the size declared.

    Args:
        width: bytes a sample, 1 or 2.

    Returns:
        uint8 or uint16, (H, W) or (H, W, samples).

    Raises:
        ImageError: the segments are not those of such an image, or end early.
    """
    many, *offsets = struct.unpack_from("<16I", frame)
    if many != samples * width:
        raise ImageError(f"{DAMAGED}: {many} RLE segments where {samples * width} are needed")
    ends = [*offsets[1:many], len(frame)]
    planes = np.empty((samples, width, rows * columns), np.uint8)
    for i, (start, end) in enumerate(zip(offsets[:many], ends, strict=True)):
        if not 64 <= start <= end <= len(frame):
            raise ImageError(f"{DAMAGED}: RLE segments outside the frame")
        planes[i // width, width - 1 - i % width] = _unpack_bits(frame, start, end, rows * columns)
    cells = np.ascontiguousarray(planes.transpose(2, 0, 1)).view("u1" if width == 1 else "<u2")
    return cells.reshape((rows, columns) if samples == 1 else (rows, columns, samples))


def _unpack_bits(frame: bytes, at: int, end: int, wanted: int) -> NDArray[np.uint8]:
    """One segment: runs and literals until `wanted` bytes are there."""
    parts: list[bytes] = []
    have = 0
    while have < wanted:
        if at + 1 >= end:
            raise ImageError(CUT)
        head = frame[at]
        if head < 128:
            part = frame[at + 1 : min(at + 2 + head, end)]
            at += 2 + head
        elif head > 128:
            part = frame[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            part = b""
            at += 1
        parts.append(part)
        have += len(part)
    return np.frombuffer(b"".join(parts), np.uint8, wanted)
