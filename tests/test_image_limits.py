"""What one image may cost: scans of a JPEG, seconds of decoding."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from dicom_images import BASELINE, image
from mococxr.errors import ImageError
from mococxr.images import decode_image
from mococxr.images.streams import MAX_SCANS

GREY = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def progressive(scans: int, between: bytes = b"") -> bytes:
    """A mid-grey progressive JPEG of 64 x 64 pixels in so many scans, all but the first of 16 empty blocks in a run."""
    head = b"\xff\xd8" + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + segment(0xDB, b"\0" + bytes([1] * 64))
    head += segment(0xC2, struct.pack(">BHHB", 8, 64, 64, 1) + b"\1\x11\0")
    tables = segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\x00") + segment(
        0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\x60"
    )
    first = segment(0xDA, b"\1\1\x00\0\0\0") + bytes(8)  # 64 blocks whose difference is 0
    further = segment(0xDA, b"\1\1\x00\1\x3f\0") + b"\x00\x7f"  # a run of 64 blocks: 0, then 0b000000
    return head + tables + first + (between + further) * (scans - 1) + b"\xff\xd9"


def test_a_progressive_jpeg_is_read_up_to_a_hundred_scans_and_refused_beyond() -> None:
    for between in (b"", segment(0xFE, b"\xff\xd9 \xff\xda")):
        for scans in (1, 12, MAX_SCANS):
            data = progressive(scans, between)
            assert np.array_equal(decode_image(data), np.full((64, 64), 128))
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("L")), np.full((64, 64), 128))
            assert np.array_equal(decode_image(image(GREY, BASELINE, data)), np.full((64, 64), 128))
        for data in (progressive(MAX_SCANS + 1, between), progressive(5_000, between)):
            for hostile in (data, image(GREY, BASELINE, data)):
                with pytest.raises(ImageError, match="more than 100 scans"):
                    decode_image(hostile)


def test_what_stands_in_a_block_beside_the_image_is_not_counted() -> None:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "JPEG", quality=95)
    data = stream.getvalue()
    thumbnail = segment(0xE2, b"\xff\xda\0\2" * 2_000)
    assert np.array_equal(decode_image(data[:2] + thumbnail + data[2:]), decode_image(data))
    assert np.array_equal(decode_image(data + b"\xff\xda\0\2" * 2_000), decode_image(data))


def test_a_stream_of_fill_bytes_ends_at_once() -> None:
    with pytest.raises(ImageError, match="damaged"):
        decode_image(image(GREY, BASELINE, b"\xff\xd8" + b"\xff" * 2_000_000))
