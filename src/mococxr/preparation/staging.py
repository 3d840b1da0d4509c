"""The folder that `prepare` works in: what is decoded stays decoded, whenever the run is killed.

    .NAME.preparing/job.json     the hash of what is being done
                    lock         held by the process at work
                    records/     a record of each chunk that is decoded
                    store/       the store in the making; renamed into place when it is whole

The pixel files of a chunk are those of the store, at every level. Its record is written after them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from mococxr import console, files
from mococxr.errors import ImageError, InputError, Shown
from mococxr.images import read_bytes, shape_of
from mococxr.preparation.decode import record_file
from mococxr.store.levels import level_folder, shard_name, written_factors

LOOKED_AT = 8
"""Images whose headers are read to estimate the disk space."""


def staging_folder(out: Path) -> Path:
    """Where the store `out` is made: beside it, so that it can be renamed into place."""
    return out.parent / f".{out.name}.preparing"


class Staging:
    """A store in the making. Open it by `Staging.open`, which also resumes.

    Attributes:
        store: the folder that becomes the store.
        records: chunk number -> its record, for every chunk that is decoded.
    """

    def __init__(self, folder: Path, lock: BinaryIO, size: int) -> None:
        self.folder, self.store = folder, folder / "store"
        self.records: dict[int, dict[str, list[Any]]] = {}
        self._lock, self._size = lock, size

    @classmethod
    def open(cls, out: Path, key: str, size: int) -> Staging:
        """Begin, or go on where a killed run with the same key stopped.

        Args:
            key: names what the run decodes, and how.
            size: shorter side of a stored image, in pixels.

        Raises:
            InputError: the folder cannot be written to, or another process is at work there.
        """
        folder = staging_folder(out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            busy = InputError(
                "Another process is preparing this store: it works in {folder}.",
                "Wait for it, or name another --out.",
                folder=Shown(folder),
            )
            staging = cls(folder, files.lock(folder / "lock", busy), size)
            staging._begin(key)  # under the lock: it deletes what others left
        except OSError as error:
            raise InputError(
                "Cannot write to {folder}: {reason}.",
                "Name another place by --out.",
                folder=Shown(folder),
                reason=Shown(error.strerror),
            ) from error
        return staging

    @property
    def done(self) -> int:
        """Images decoded, or refused, so far."""
        return sum(len(record["reason"]) for record in self.records.values())

    @property
    def shards(self) -> list[dict[str, Any]]:
        """The pixel files as the manifest lists them, when all chunks are done."""
        shards, rows = [], 0
        for number, record in sorted(self.records.items()):
            if count := sum(height is not None for height in record["height"]):
                shards.append({"file": shard_name(number), "first_row": rows, "images": count})
                rows += count
        return shards

    def column(self, name: str) -> list[Any]:
        """One entry an image of the table, in order, when all chunks are done."""
        return [value for _, record in sorted(self.records.items()) for value in record[name]]

    def add(self, number: int) -> None:
        """Take in a decoded chunk."""
        self.records[number] = files.read_json(record_file(self.folder, number))

    def finish(self, out: Path) -> None:
        """Put the store in place, at once, and clear up."""
        for unfinished in self.store.rglob(".*.part"):  # of a process that was killed while it wrote
            unfinished.unlink()
        os.replace(self.store, out)  # POSIX lets a folder take the place of an empty one
        self.remove()

    def move_shards(self, out: Path) -> None:
        """Put the pixel files beside those of a store that does not list them yet."""
        for file in sorted(self.store.rglob("pixels-*.bin")):
            target = out / file.relative_to(self.store)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)

    def remove(self) -> None:
        """Delete everything and let go of the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of the folder; what is decoded stays, and a folder with nothing in it goes."""
        if not self.records:  # nothing decoded: a refused run leaves no folder behind
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _begin(self, key: str) -> None:
        job, records = self.folder / "job.json", self.folder / "records"
        if job.is_file() and files.read_json(job) != key:
            console.say(f"{self.folder} was left by a run with other images or settings: starting anew.")
            job.unlink()  # first: killed in between, the next run starts anew, too
        if not job.is_file():
            shutil.rmtree(records, ignore_errors=True)
            shutil.rmtree(self.store, ignore_errors=True)
            files.write_json(job, key)
        self.store.mkdir(exist_ok=True)
        for file in sorted(records.glob("[0-9]*.json")):  # not those half-written, whose names begin with a dot
            record = files.read_json(file)
            if self._is_whole(int(file.stem), record):
                self.records[int(file.stem)] = record

    def _is_whole(self, number: int, record: dict[str, list[Any]]) -> bool:
        """Whether the pixel files of a chunk are as long as its record says: a power cut may have lost them."""
        sides = [pair for pair in zip(record["height"], record["width"], strict=True) if pair[0] is not None]
        for factor in (1, *written_factors(self._size)):
            file = level_folder(self.store, self._size, factor) / shard_name(number)
            size = sum((height // factor) * (width // factor) for height, width in sides)
            if size and (not file.is_file() or file.stat().st_size != size):  # without readable images there is no file
                return False
        return True


def bytes_needed(root: Path, paths: pl.Series, size: int, done: int) -> int:
    """Bytes that the images which are not decoded yet will take at all levels, from the shape of some of them.

    Args:
        root: the folder of the images.
        paths: every image, relative to it.
        size: shorter side of a stored image, in pixels.
        done: images that are decoded.
    """
    ratios = []
    for path in paths.gather_every(max(1, len(paths) // LOOKED_AT))[:LOOKED_AT]:
        try:
            shape = shape_of(read_bytes(root / path, root))
            ratios.append(max(shape) / max(1, min(shape)))
        except ImageError:
            continue
    ratio = min(sum(ratios) / len(ratios), 4.0) if ratios else 1.25
    levels = 1 + sum(factor**-2 for factor in written_factors(size))  # each halving has a quarter of the pixels
    return int((len(paths) - done) * size**2 * levels * ratio * 1.05)


def space_sentence(need: int) -> str:
    """The disk space needed, in words."""
    return f"The store needs about {need / 1e9:,.3g} GB more."


def check_space(folder: Path, need: int) -> None:
    """Fail early if the disk is too small.

    Raises:
        InputError: the disk of `folder` has less than `need` bytes free.
    """
    free = shutil.disk_usage(folder).free
    if free < need:
        raise InputError(
            "{need} {folder} has {free:,.3g} GB free.",
            "Free some, name another --out, or make the images smaller by --size.",
            need=Shown(space_sentence(need)),
            folder=Shown(folder),
            free=free / 1e9,
        )
