"""Chunks over processes, and what happens when an image kills the process that decodes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from mococxr import console, workers
from mococxr.errors import RunError
from mococxr.preparation.decode import Chunk, decode_chunk, probe

KILLED = "the decoder crashed on it"


def decode_all(chunks: Iterable[Chunk], folder: Path, jobs: int, done: Callable[[int], None]) -> None:
    """Decode chunks in `jobs` processes; `done(number)` is called here as each ends, in any order.

    A process that dies (a crash in a decoder, no memory) takes no image with it but the one it died of: the
    chunks that were in work are done again one at a time, and image by image where one dies again.
    `ray_cluster.decode_all` does the same over many machines.

    Raises:
        OSError: a chunk could not be written.
        RunError: processes cannot be started, or die whatever they do.
    """
    waiting = deque(chunks)
    while waiting:
        for suspect in _until_one_dies(waiting, folder, jobs, done):
            carefully(suspect, folder, _survives)
            done(suspect.number)


def _until_one_dies(
    waiting: deque[Chunk], folder: Path, jobs: int, done: Callable[[int], None]
) -> list[Chunk]:
    """Work until all is done (nothing is returned) or a process dies (the chunks then in work are)."""
    running: dict[Future[int], Chunk] = {}
    with workers.pool(jobs) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < 2 * jobs:
                    running[pool.submit(decode_chunk, waiting[0], folder)] = waiting[0]
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = future.result()
                    del running[future]
                    done(number)
        except BrokenProcessPool:
            return list(running.values())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return []


def carefully(chunk: Chunk, folder: Path, survives: Callable[..., bool]) -> None:
    """Decode a chunk alone in a process; if that dies, find the images that kill it and go on without them.

    Args:
        chunk: one that was in work when a process died.
        folder: where its record and its pixels go.
        survives: `survives(work, *arguments)` does `work(*arguments)` in a process of its own, and says
            whether that lived through it.

    Raises:
        RunError: it dies, and not on one of the images alone.
    """
    if survives(decode_chunk, chunk, folder):
        return
    console.warn(f"a decoding process died: trying {len(chunk.paths)} images one by one.")
    killers = [place for place in range(len(chunk.paths)) if not survives(probe, chunk, place)]
    if not survives(decode_chunk, replace(chunk, refused=dict.fromkeys(killers, KILLED)), folder):
        raise RunError(
            f"Decoding processes die on images like {chunk.first}, and not on one of them alone.\n"
            "  Memory may be short: run the same command again with --jobs 1; what is decoded is kept."
        )


def _survives(work: Callable[..., object], *arguments: object) -> bool:
    """Whether a fresh process lives through `work(*arguments)`."""
    with workers.pool(1) as pool:
        try:
            pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            return False
    return True
