"""Bad images and bad tables, given to `prepare`: quarantine or a clear refusal, and nothing half-written."""

from __future__ import annotations

import collections
import contextlib
import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from small_images import write_images
from small_world import Refusal, but, closed, status


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to work in, with a folder `images` and its table in it."""
    write_images(tmp_path / "images", 12)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(here: Path, capsys: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(here, capsys)


def png(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, with the data of one row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * (width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded(suffix: str, *shape: int) -> bytes:
    rng = np.random.default_rng(1)
    return cv2.imencode(suffix, rng.integers(0, 256, shape, dtype=np.uint8))[1].tobytes()


WHOLE = encoded(".png", 40, 40)
BAD_IMAGES = {
    "empty.png": (b"", "empty"),
    "truncated.png": (WHOLE[: len(WHOLE) // 2], "truncated"),
    "truncated.jpg": (encoded(".jpg", 90, 90)[:900], "truncated"),
    "truncated.tif": (encoded(".tif", 40, 40)[:300], ""),
    "text.png": (b"this is a letter, not an image", "not a PNG"),
    "vast.png": (png(60_000, 60_000), "over the limit"),
    "dot.png": (encoded(".png", 1, 1), "too small"),
    "sliver.png": (encoded(".png", 400, 2), "too small"),
    "table.png": (b"path,patient\na.png,1\n", "not a PNG"),
    "web.png": (b"<html><body>404</body></html>", "not a PNG"),
    "archive.png": (b"PK\x03\x04" + bytes(60), "not a PNG"),
    "header.png": (WHOLE[:20], ""),
    "garbled.png": (WHOLE[:60] + bytes(200) + WHOLE[260:], ""),
}
"""Name -> bytes of an image that cannot be read, and a word of the reason."""


@pytest.fixture(scope="module")
def quarantine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store prepared from bad images among good ones, and what was said."""
    folder = tmp_path_factory.mktemp("bad")
    table = write_images(folder / "images", 12)
    names = [*BAD_IMAGES, "absent.png", "folder.png"]
    for name, (data, _) in BAD_IMAGES.items():
        (folder / "images" / name).write_bytes(data)
    (folder / "images" / "folder.png").mkdir()
    (folder / "images" / "really.tif").write_bytes(encoded(".jpg", 40, 40))  # another suffix is no fault
    extra = [{"path": name, "patient_id": f"x{i}"} for i, name in enumerate([*names, "really.tif"])]
    pl.concat([table, pl.DataFrame(extra)], how="diagonal").write_csv(folder / "images" / "labels.csv")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = status("prepare", folder / "images", "--out", folder / "store", "--size", 32, "--jobs", 1)
    assert code == 0
    return folder / "store", said.getvalue()


@pytest.mark.parametrize("name", [*BAD_IMAGES, "absent.png", "folder.png"])
def test_an_image_that_cannot_be_read_is_in_quarantine_with_the_reason_and_the_rest_goes_on(
    name: str, quarantine: tuple[Path, str]
) -> None:
    store, said = quarantine
    reasons = dict(pl.read_csv(store / "quarantine.csv").iter_rows())
    word = {"absent.png": "no such file", "folder.png": "a folder"}.get(name) or BAD_IMAGES[name][1]
    assert word in reasons[name]
    assert reasons[name]
    kept = pl.read_parquet(store / "index.parquet")["path"].to_list()
    assert name not in kept
    assert len(kept) == 13
    assert "really.tif" in kept
    lines = [line for line in said.strip().splitlines() if not line.startswith("Next:")]
    assert str(len(reasons)) in lines[-1], "their number is the last thing said, but for a hint"
    assert "Traceback" not in said


def nothing(here: Path) -> None: ...


def table(here: Path, text: str) -> None:
    (here / "images" / "labels.csv").write_text(text)


def change(here: Path, **columns: Any) -> None:
    """Rewrite the label table with some columns replaced (a list is a whole column)."""
    path = here / "images" / "labels.csv"
    frame = pl.read_csv(path, infer_schema=False)
    frame.with_columns(**{name: pl.Series(value) for name, value in columns.items()}).write_csv(path)


def first(here: Path, column: str, value: str) -> None:
    frame = pl.read_csv(here / "images" / "labels.csv", infer_schema=False)
    change(here, **{column: [value, *frame[column].to_list()[1:]]})


def second_table(here: Path) -> None:
    (here / "images" / "labels.csv").rename(here / "images" / "a.csv")
    shutil.copy(here / "images" / "a.csv", here / "images" / "b.csv")


def no_images(here: Path) -> None:
    shutil.rmtree(here / "images")
    (here / "images").mkdir()


def drop(here: Path, column: str) -> None:
    path = here / "images" / "labels.csv"
    pl.read_csv(path, infer_schema=False).drop(column).write_csv(path)


def occupied(here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "thesis.txt").write_text("mine")


def split_file(here: Path, text: str) -> None:
    (here / "split.csv").write_text(text)


PREPARE = "prepare images --size 32 --jobs 1 --out out"
PREPARING: dict[str, tuple[Callable[[Path], object], str, tuple[str, ...]]] = {
    "no source": (nothing, "prepare nowhere --out out", ("nowhere",)),
    "no path column": (lambda h: drop(h, "path"), PREPARE, ("labels.csv", "path")),
    "no patient column": (lambda h: drop(h, "patient_id"), PREPARE, ("--patients-unknown",)),
    "a header only": (lambda h: table(h, "path,patient\n"), PREPARE, ("labels.csv", "no rows")),
    "an empty table": (lambda h: table(h, ""), PREPARE, ("labels.csv", "empty")),
    "an image as table": (
        lambda h: (h / "images/labels.csv").write_bytes(WHOLE), PREPARE, ("labels.csv",),
    ),
    "ragged lines": (
        lambda h: table(h, "path,patient\na.png,1\nb.png,2,3,4\n"), PREPARE, ("labels.csv",),
    ),
    "a column twice": (lambda h: table(h, "path,patient,patient\na.png,1,1\n"), PREPARE, ("patient", "twice")),
    "duplicate paths": (
        lambda h: first(h, "path", "images/image0001.png"), PREPARE, ("images/image0001.png",),
    ),
    "a blank path": (lambda h: first(h, "path", ""), PREPARE, ("row 1", "blank")),
    "a blank patient": (lambda h: first(h, "patient_id", ""), PREPARE, ("row 1", "patient")),
    "a path outside": (lambda h: first(h, "path", "../../etc/passwd"), PREPARE, ("../../etc/passwd", "outside")),
    "an absolute path": (lambda h: first(h, "path", "/etc/passwd"), PREPARE, ("/etc/passwd", "outside")),
    "words among labels": (
        lambda h: first(h, "Effusion", "large"), f"{PREPARE} --label Effusion", ("row 1", "Effusion", "large"),
    ),
    "a label that is not there": (nothing, f"{PREPARE} --label Efusion", ("Efusion", "Effusion")),
    "a patient in two splits": (
        lambda h: change(h, split=["train", "test"] * 6), PREPARE, ("000", "split"),
    ),
    "an unknown split": (lambda h: change(h, split=["trian"] * 12), PREPARE, ("trian",)),
    "a split file of others": (
        lambda h: split_file(h, "patient,split\nx,train\n"), f"{PREPARE} --split-file split.csv", ("split.csv",),
    ),
    "no split file": (nothing, f"{PREPARE} --split-file absent.csv", ("absent.csv",)),
    "no label table": (nothing, f"{PREPARE} --labels absent.csv", ("absent.csv",)),
    "shares above 1": (nothing, f"{PREPARE} --split 0.5 0.5 0.5", ("--split", "0.5 0.5 0.5")),
    "shares below 0": (nothing, f"{PREPARE} --split 1.5 -0.5 0", ("--split",)),
    "two shares": (nothing, f"{PREPARE} --split 0.5 0.5", ("--split",)),
    "a tiny size": (nothing, but(PREPARE, "--size", 4), ("--size", "4")),
    "a size in words": (nothing, but(PREPARE, "--size", "big"), ("--size", "big")),
    "no jobs": (nothing, but(PREPARE, "--jobs", 0), ("--jobs",)),
    "an unknown format": (nothing, f"{PREPARE} --format nhi", ("nhi", "nih")),
    "an unknown depth": (nothing, f"{PREPARE} --depth most", ("most",)),
    "an unknown setting": (nothing, f"{PREPARE} --sice 32", ("--sice", "--size")),
    "something else at out": (occupied, PREPARE, ("out", "not a store")),
    "a file above out": (
        lambda h: (h / "file").write_text("mine"), but(PREPARE, "--out", "file/store"), ("file",),
    ),
    "two tables": (second_table, PREPARE, ("a.csv", "b.csv", "--labels")),
    "nothing there": (no_images, PREPARE, ("images",)),
    "another set's layout": (nothing, f"{PREPARE} --format chexpert", ("images",)),
}  # fmt: skip


@pytest.mark.parametrize("name", PREPARING)
def test_prepare_refuses(name: str, here: Path, refused: Refusal) -> None:
    make, line, says = PREPARING[name]
    make(here)
    refused(line, *says)
    assert not [path for path in here.iterdir() if path.name.startswith(".")]


def test_a_folder_that_cannot_be_read_is_named(here: Path, refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "images" / "labels.csv").unlink()
    closed(here / "images" / "images", monkeypatch)
    refused("prepare images --out out --format folder --patients-unknown", "images/images", "Permission denied")


def test_a_disk_without_room_for_the_store_is_refused_before_decoding(
    here: Path, refused: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("mococxr.preparation.staging.shutil.disk_usage", lambda _: usage(10, 0, 1000))
    refused(PREPARE, "GB free")
    assert not (here / "out").exists()
