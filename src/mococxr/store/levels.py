"""Smaller copies of a store's images: exact 2x area averages, made once and kept beside them.

A view is one resampling. From a level at most twice the view's size it does not alias, and it reads a
quarter or a sixteenth of the bytes.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mococxr import console, files
from mococxr.errors import InputError
from mococxr.store.pixels import Image, Level, shard_name


def halving(stored: int, target: int) -> int:
    """The factor, a power of two, by which images of shorter side `stored` shrink and stay >= `target` pixels.

    Raises:
        ValueError: the target is not positive.
    """
    if target < 1:
        raise ValueError(f"the target is {target} pixels; it is at least 1")
    factor = 1
    while stored // (2 * factor) >= target:
        factor *= 2
    return factor


def shrink(image: Image, factor: int) -> Image:
    """Means of `factor` x `factor` blocks, uint8 (H // factor, W // factor); the rest is cut off evenly."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    top, left = (image.shape[0] - height * factor) // 2, (image.shape[1] - width * factor) // 2
    whole = image[top : top + height * factor, left : left + width * factor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def open_level(store: Path, sha256: str, stored: Level, factor: int) -> Level:
    """The store's images shrunk by `factor`, from the folder `levels`; made there if it is not there yet.

    Args:
        store: the store's folder.
        sha256: the store's hash; a level of another store is made anew.
        stored: the images as stored.
        factor: a power of two.
    """
    if (level := made_level(store, sha256, stored, factor)) is not None:
        return level
    with console.progress(f"images at {stored.shorter // factor} px", len(stored)) as bar:
        return make_level(store, sha256, stored, factor, bar.advance)


def made_level(store: Path, sha256: str, stored: Level, factor: int) -> Level | None:
    """The level, if it is there."""
    folder = _folder(store, stored, factor)
    return _level(folder, stored, factor) if _belongs(folder, sha256) else None


def make_level(store: Path, sha256: str, stored: Level, factor: int, advance: Callable[[], object]) -> Level:
    """Make the level, in a temporary folder, and put it in place at once.

    Args:
        advance: called after each image; what it raises stops the work, and nothing is left.
    """
    return _level(_make(_folder(store, stored, factor), sha256, stored, factor, advance), stored, factor)


def _folder(store: Path, stored: Level, factor: int) -> Path:
    return store / "levels" / str(stored.shorter // factor)


def _level(folder: Path, stored: Level, factor: int) -> Level:
    shards = files.read_json(folder / "level.json")["shards"]
    return Level(folder, stored.heights // factor, stored.widths // factor, shards, stored.shorter // factor)


def _belongs(folder: Path, sha256: str) -> bool:
    """Whether the folder holds a whole level of this very store."""
    if not (folder / "level.json").is_file():
        return False
    record = files.read_json(folder / "level.json")
    whole = all((folder / s["file"]).is_file() for s in record["shards"])
    return bool(whole and record["store"] == sha256)


def _make(folder: Path, sha256: str, stored: Level, factor: int, advance: Callable[[], object]) -> Path:
    """Returns where it lies: where the store cannot be written to, in a temporary folder."""
    try:
        folder.parent.mkdir(exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        temporary = Path(tempfile.mkdtemp(prefix="mococxr-level-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        console.warn(
            f"{folder.parent} cannot be written to ({error.strerror}): the smaller copies of its images go to "
            f"{temporary} and are made again by the next run."
        )
        _fill(temporary, sha256, stored, factor, advance)
        return temporary
    try:
        _fill(temporary, sha256, stored, factor, advance)
        return _put_in_place(temporary, folder, sha256)
    except OSError as error:
        raise InputError(
            f"Cannot write the smaller images to {folder}: {error.strerror}.",
            "Free some space and run again.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path, sha256: str) -> Path:
    """Rename; another process that was faster with the same level wins, a stale level goes."""
    if folder.exists() and not _belongs(folder, sha256):
        shutil.rmtree(folder)
    try:
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    except OSError:
        if not _belongs(folder, sha256):
            raise
    return folder


def _fill(folder: Path, sha256: str, stored: Level, factor: int, advance: Callable[[], object]) -> None:
    shards = []
    for number, rows in enumerate(stored.shard_rows()):
        name = shard_name(number)
        with open(folder / name, "wb") as file:
            for i in rows:
                file.write(shrink(stored.pixels(i), factor).data)
                advance()
        size = (folder / name).stat().st_size
        shards.append({"file": name, "first_row": rows.start, "images": len(rows), "bytes": size})
    files.write_json(folder / "level.json", {"store": sha256, "factor": factor, "shards": shards})
