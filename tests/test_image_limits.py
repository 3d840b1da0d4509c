"""What one image may cost: scans of a JPEG, seconds of decoding."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deadly_folder import HangingFile, HangingFolder
from dicom_images import BASELINE, image
from mococxr import workers
from mococxr.classifier import inputs
from mococxr.errors import ImageError
from mococxr.images import Reading, decode_image
from mococxr.images.streams import MAX_SCANS
from mococxr.preparation.decode import Chunk, decode_all, record_file
from mococxr.workers import TOO_SLOW, Deadline
from small_images import write_images

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


def test_a_log_says_on_what_a_process_was_ended(tmp_path: Path) -> None:
    deadline = Deadline(tmp_path / "log", 60)
    assert deadline.exceeded() == set()
    with deadline.over(3), deadline.over(4):
        pass
    assert deadline.exceeded() == set()
    with deadline.log.open("a") as log:
        log.write("5\nTimeout (0:01:00)!\nThread 0x1:\n  File 7\n6\n7\nTimeout (0:01:00)!\n8\n")
    assert deadline.exceeded() == {5, 7}


@pytest.mark.parametrize("slow", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_images_that_hang_are_quarantined_and_all_others_are_read(
    tmp_path: Path, slow: int, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_images(tmp_path / "in", 6)["path"].to_list()
    root: Any = HangingFolder(tmp_path / "in")
    parts = (paths[:2], [paths[2], *["slow.png"] * slow, paths[3], "absent.png"], paths[4:])
    chunks = [Chunk(n, root, tuple(part), 32, Reading(), seconds=2.0) for n, part in enumerate(parts)]
    done: list[int] = []
    decode_all(chunks, tmp_path, 1, done.append)
    assert sorted(done) == [0, 1, 2]
    reasons = [json.loads(record_file(tmp_path, n).read_text())["reason"] for n in range(3)]
    assert reasons == [[None] * 2, [None, *[TOO_SLOW] * slow, None, "no such file"], [None] * 2]
    assert not list((tmp_path / "records").glob("*.log"))
    assert "one by one" not in capsys.readouterr().err, "the log says which it was"


@pytest.mark.slow
def test_predict_leaves_out_an_image_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, 6)
    images, _ = inputs.images_of(tmp_path / "images", None)
    hanging: Any = HangingFile("slow.png")
    for slow in (2, 3, 5):
        images[slow] = replace(images[slow], file=hanging)
    monkeypatch.setattr(inputs, "WORTH", -1.0)
    monkeypatch.setattr(inputs, "TRIED", 1)
    monkeypatch.setattr(inputs, "CHUNK", 2)
    monkeypatch.setattr(inputs, "Deadline", lambda log: workers.Deadline(log, 2.0))
    found = list(inputs.decoded(images, reading=Reading(), size=32, key=None, jobs=2))
    assert [image.path for image, _ in found] == [image.path for image in images]
    lost = [str(pixels) if isinstance(pixels, ImageError) else None for _, pixels in found]
    assert lost == [None, None, TOO_SLOW, TOO_SLOW, None, TOO_SLOW]
