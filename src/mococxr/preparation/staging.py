"""The folder that `prepare` works in: what is decoded stays decoded, whenever the run is killed.

    .NAME.preparing/job.json     the hash of what is being done
                    lock         held by the process at work
                    chunks/      decoded chunks: a record each, and pixels until they stand in a shard
                    store/       the store in the making; renamed into place when it is whole

A chunk is appended to its shard in the order of the table, and its own pixels are deleted after that. The
place follows from the records alone, so a run that was killed in between does the same step again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

from mococxr import console, files
from mococxr.errors import InputError
from mococxr.preparation.decode import chunk_files
from mococxr.store.pixels import SHARD_BYTES, shard_name


def working_folder(out: Path) -> Path:
    """Where the store `out` is made: beside it, so that it can be renamed into place."""
    return out.parent / f".{out.name}.preparing"


class Working:
    """A store in the making. Open it by `Working.open`, which also resumes.

    Attributes:
        store: the folder that becomes the store.
        chunks: the folder that chunks are decoded into.
        records: chunk number -> its record, for every chunk that is decoded.
        shards: the shards so far, as the manifest lists them.
    """

    def __init__(self, folder: Path, lock: BinaryIO) -> None:
        self.folder, self.store, self.chunks = folder, folder / "store", folder / "chunks"
        self.records: dict[int, dict[str, list[Any]]] = {}
        self.shards: list[dict[str, Any]] = []
        self._lock = lock
        self._next = self._rows = 0

    @classmethod
    def open(cls, out: Path, key: str) -> Working:
        """Begin, or go on where a killed run with the same key stopped.

        Raises:
            InputError: the place cannot be written to, or another process is at work there.
        """
        folder = working_folder(out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(folder / "lock")
            working = cls(folder, lock)
            working._begin(key)
        except OSError as error:
            raise InputError(
                f"Cannot write to {folder}: {error.strerror}.", "Name another place by --out."
            ) from error
        return working

    @property
    def done(self) -> int:
        """Images decoded, or refused, so far."""
        return sum(len(record["reason"]) for record in self.records.values())

    def column(self, name: str) -> list[Any]:
        """One entry an image of the table, in order, when all chunks are done."""
        return [value for number in sorted(self.records) for value in self.records[number][name]]

    def add(self, number: int) -> None:
        """Take in a decoded chunk, and append to the shards as far as chunks are done without a gap."""
        self.records[number] = files.read_json(chunk_files(self.chunks, number)[0])
        self._advance()

    def finish(self, out: Path) -> None:
        """Put the store in place, at once, and clear up."""
        os.replace(self.store, out)
        self.remove()

    def remove(self) -> None:
        """Delete everything and let go of the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of the folder; what is decoded stays, and a folder with nothing in it goes."""
        if not self.records:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _begin(self, key: str) -> None:
        job = self.folder / "job.json"
        if job.is_file() and files.read_json(job) != key:
            console.say(f"{self.folder} was left by a run with other images or settings: starting anew.")
            job.unlink()
        if not job.is_file():
            shutil.rmtree(self.chunks, ignore_errors=True)
            shutil.rmtree(self.store, ignore_errors=True)
            files.write_json(job, key)
        self.store.mkdir(exist_ok=True)
        self.chunks.mkdir(exist_ok=True)
        for record in sorted(self.chunks.glob("[0-9]*.json")):
            self.records[int(record.stem)] = files.read_json(record)
        self._advance()

    def _advance(self) -> None:
        while self._next in self.records and self._append(self._next):
            self._next += 1

    def _append(self, number: int) -> bool:
        """Bring a chunk's pixels into their shard; False if they are lost and must be decoded again.

        Those of later chunks that stood in the shard are lost with them.
        """
        record = self.records[number]
        images = sum(height is not None for height in record["height"])
        size = sum(h * w for h, w in zip(record["height"], record["width"], strict=True) if h is not None)
        at = self.shards[-1]["bytes"] if self.shards else SHARD_BYTES
        shard = len(self.shards) - 1 if at + size <= SHARD_BYTES else len(self.shards)
        start = at if shard < len(self.shards) else 0
        if images and not self._move(number, self.store / shard_name(shard), start, size):
            kept = {n: r for n, r in self.records.items() if chunk_files(self.chunks, n)[1].is_file()}
            self.records = {
                n: r for n, r in self.records.items() if n < number or (n in kept and n != number)
            }
            return False
        if images and shard == len(self.shards):
            self.shards.append({"file": shard_name(shard), "first_row": self._rows, "images": 0, "bytes": 0})
        if images:
            self.shards[-1]["images"] += images
            self.shards[-1]["bytes"] += size
        self._rows += images
        return True

    def _move(self, number: int, shard: Path, start: int, size: int) -> bool:
        pixels = chunk_files(self.chunks, number)[1]
        if not pixels.is_file():
            return shard.is_file() and shard.stat().st_size >= start + size
        if pixels.stat().st_size != size:
            return False
        with open(pixels, "rb") as source, open(shard, "r+b" if shard.exists() else "w+b") as target:
            target.truncate(start)
            target.seek(start)
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        pixels.unlink()
        return True


def _locked(path: Path) -> BinaryIO:
    """Hold the lock until this process ends, however it ends."""
    import fcntl

    handle = open(path, "wb")  # noqa: SIM115 - held open for the life of the run
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise InputError(
            f"Another process is preparing this store: it works in {path.parent}.",
            "Wait for it, or name another --out.",
        ) from error
    return handle
