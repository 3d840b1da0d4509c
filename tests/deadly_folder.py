"""A folder with an image that kills whoever opens it; its own file, so that a new process imports little."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path, PurePosixPath

from mococxr.workers import surviving_map


class DeadlyFolder(PurePosixPath):
    """Opening an image named deadly ends the process, as a crash in a decoder does."""

    def __truediv__(self, name: object) -> Path:  # type: ignore[override]
        if "deadly" in str(name):
            os._exit(139)
        return Path(str(self)) / str(name)


class DeadlyFile(PurePosixPath):
    """An image's path: looking at the file ends the process."""

    def __fspath__(self) -> str:
        os._exit(139)


def square(number: int, deadly: tuple[int, ...] = ()) -> int:
    if number in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def broken(number: int) -> int:
    raise OSError(28, f"no room for {number}")


class HangingFolder(PurePosixPath):
    """Opening an image named slow hangs, as native code does that keeps the interpreter to itself."""

    def __truediv__(self, name: object) -> Path:  # type: ignore[override]
        if "slow" in str(name):
            ctypes.PyDLL(None).sleep(600)
        return Path(str(self)) / str(name)


class HangingFile(PurePosixPath):
    """An image's path: looking at the file hangs."""

    def __fspath__(self) -> str:
        ctypes.PyDLL(None).sleep(600)
        raise AssertionError


def map_in_a_daemon() -> None:
    """Ends its process with 7 where workers answered all."""
    os._exit(7 if list(surviving_map(square, range(3), 2, ordered=True)) == [(0, 0), (1, 1), (2, 4)] else 1)
