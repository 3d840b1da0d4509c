"""Smaller images that need not be made before they are read: shrunk one by one until all of them are there.

Making a level of 224,000 images takes minutes, most of it reading. A run that reads each image once in its first epoch
anyway begins at once, and finds the level when it is ready; its pixels are the same, byte for byte.
"""

from __future__ import annotations

import atexit
from pathlib import Path
from threading import Event, Thread

from mococxr import console
from mococxr.errors import InputError, RunError
from mococxr.store.levels import made_level, make_level, shrink
from mococxr.store.pixels import Image, Level

LOOK = 4096
"""Images read between two looks whether another process has made the level."""


class Soon:
    """Images at a level that is not there yet: `pixels(i)` as of `Level`.

    Args:
        store: the store's folder.
        sha256: the store's hash.
        stored: the images as stored.
        factor: a power of two.
        makes: whether this process makes the level, in a thread that ends with it.
    """

    def __init__(self, store: Path, sha256: str, stored: Level, factor: int, makes: bool) -> None:
        self.shorter, self._stored, self._factor = stored.shorter // factor, stored, factor
        self._place = (store, sha256, stored, factor)
        self._level: Level | None = None
        self._read, self._stop = 0, Event()
        self.maker = Thread(target=self._make, name="level", daemon=True) if makes else None
        if self.maker:
            console.say(
                f"images at {self.shorter} px: made beside the run, which shrinks them itself until then"
            )
            atexit.register(self.close)
            self.maker.start()

    def __len__(self) -> int:
        return len(self._stored)

    def pixels(self, i: int) -> Image:
        """Image `i` as uint8 (H, W)."""
        if self._level is None:
            self._read += 1
            if self.maker is None and self._read % LOOK == 0:
                self._level = made_level(*self._place)
        level = self._level
        return shrink(self._stored.pixels(i), self._factor) if level is None else level.pixels(i)

    def close(self) -> None:
        """Stop making the level; what was begun is removed, and images are still to be read."""
        self._stop.set()
        if self.maker:
            self.maker.join()

    def _make(self) -> None:
        try:
            self._level = make_level(*self._place, self._go_on)
        except _Stopped:
            pass
        except (
            InputError,
            RunError,
            OSError,
        ) as error:  # a run does not end because of what would only be faster
            console.warn(f"{error} The run goes on without images at {self.shorter} px.")

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped


class _Stopped(Exception):
    """The process ends."""
