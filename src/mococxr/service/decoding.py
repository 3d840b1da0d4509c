"""The bytes of files -> images, in processes: whatever a file does to a decoder, it does to its own image alone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mococxr import workers
from mococxr.errors import ImageError
from mococxr.images import Decoded, Reading, decode, resize_shorter
from mococxr.workers import CRASHED, TOO_SLOW, Deadline


@dataclass(frozen=True)
class Pixels:
    """An image as a store would hold it.

    Args:
        grey: (H, W) uint8, the shorter side that of the model's store.
        remarks: of its file; see `images.Decoded`.
        shorter: shorter side of the file, px.
    """

    grey: NDArray[np.uint8]
    remarks: tuple[str, ...]
    shorter: int


def read(data: bytes, reading: Reading, size: int) -> Pixels | ImageError:
    """Decode one image.

    Args:
        reading: how files become images.
        size: its shorter side becomes so many px.
    """
    try:
        decoded: Decoded = decode(data, reading)
        return Pixels(resize_shorter(decoded.pixels, size), decoded.remarks, min(decoded.pixels.shape))
    except ImageError as error:
        return error
    except MemoryError:
        return ImageError("not enough memory to decode it")


def _read_in_time(data: bytes, reading: Reading, size: int, seconds: float) -> Pixels | ImageError:
    with Deadline(Path(os.devnull), seconds).over(0):  # it ends this process
        return read(data, reading, size)


def _deaf_to_the_end() -> None:
    """Whoever ends all processes of the service at once means the first, which still has images to answer."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


_new_process: Callable[[], ProcessPoolExecutor] = partial(workers.process_pool, 1, _deaf_to_the_end)


class Decoder:
    """Some processes, each of which decodes one image at a time, and is replaced when it dies.

    Args:
        reading, size: see `read`.
        jobs: processes.
        seconds: that an image may take.
        died: called when a process was replaced.
    """

    def __init__(self, reading: Reading, size: int, jobs: int, seconds: float, died: Callable[[], None]) -> None:
        self.jobs, self.seconds, self._died = jobs, seconds, died
        self._work = partial(_read_in_time, reading=reading, size=size, seconds=seconds)
        self._free: asyncio.Queue[ProcessPoolExecutor | None] = asyncio.Queue()

    async def start(self) -> None:
        """Start the processes.

        Raises:
            RunError: they cannot be started.
        """
        for process in await asyncio.gather(*(asyncio.to_thread(_new_process) for _ in range(self.jobs))):
            self._free.put_nowait(process)

    async def stop(self) -> None:
        """End the processes, once they are idle."""
        for _ in range(self.jobs):
            if (process := await self._free.get()) is not None:
                process.shutdown()

    async def __call__(self, data: bytes) -> Pixels | ImageError:
        """Decode one image, as soon as a process is free."""
        process = await self._free.get()
        # to the end, though nobody waits for the answer any more: the process is busy until then
        return await asyncio.shield(asyncio.create_task(self._decode(process, data)))

    async def _decode(self, process: ProcessPoolExecutor | None, data: bytes) -> Pixels | ImageError:
        begun = time.monotonic()
        try:
            if process is None:
                process = await asyncio.to_thread(_new_process)
            return await asyncio.wrap_future(process.submit(self._work, data))
        except BrokenProcessPool:
            process = None
            self._died()
            return ImageError(TOO_SLOW if time.monotonic() - begun >= self.seconds else CRASHED)
        finally:
            self._free.put_nowait(process)
