"""The films of `predict` -> their pixels, in order, decoded in several processes where there are many.

Not in threads: OpenCV tells of damage on standard error only, which is caught one decode at a time in a process
(`films.native`), so threads would wait for each other. This module imports no PyTorch, which the processes then need
not load.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mococxr import workers
from mococxr.classifier.inputs import Film
from mococxr.errors import FilmError
from mococxr.images import resize_shorter
from mococxr.privacy import Key

CHUNK = 16
"""Films that a process decodes at a time."""
TRIED = 2
"""Chunks of files that are decoded here first, to see how long a film takes."""
WORTH = 10.0
"""Seconds of decoding ahead from which processes are started: they take seconds to come up."""
KILLED = "the decoder crashed on it"
Read: TypeAlias = tuple[Film, NDArray[np.uint8] | FilmError]
"""A film as it is to be named with its pixels (H, W); or as it was given, with the reason why it has none."""
Work: TypeAlias = Callable[[Sequence[Film]], list[Read]]


def decoded(
    films: Sequence[Film], *, reading: Mapping[str, Any], size: int, key: Key | None, jobs: int | None
) -> Iterator[Read]:
    """Read films, in the order given and with the same pixels whatever `jobs` is.

    Args:
        reading: how files become images: the named arguments of `films.decode_film`.
        size: a file's shorter side becomes so many px; a store's films come as they stand there.
        key: of pseudonyms, or None.
        jobs: processes at most, where they are worth their start; None for one a core.
    """
    jobs = workers.cores() if jobs is None else jobs
    work = partial(read_chunk, reading=reading, size=size, key=key)
    chunks = list(_chunks(films))
    files = [number for number, chunk in enumerate(chunks) if chunk[0].store is None]
    first = files[TRIED - 1] + 1 if len(files) > TRIED else len(chunks)
    spent = 0.0
    for chunk in chunks[:first]:
        began = time.perf_counter()
        answer = work(chunk)
        spent += time.perf_counter() - began
        yield from answer
    rest = chunks[first:]
    many = jobs > 1 and spent / TRIED * (len(files) - TRIED) > WORTH
    for answer in _over_processes(rest, work, jobs) if many else map(work, rest):
        yield from answer


def read_chunk(films: Sequence[Film], reading: Mapping[str, Any], size: int, key: Key | None) -> list[Read]:
    """Read some films, here."""
    found: list[Read] = []
    for film in films:
        try:
            pixels, named = film.read(reading, key)
            found.append((named, pixels if film.store else resize_shorter(pixels, size)))
        except FilmError as error:
            found.append((film, error))
        except MemoryError:
            found.append((film, FilmError("not enough memory to decode it")))
    return found


def _chunks(films: Sequence[Film]) -> Iterator[list[Film]]:
    """Neighbours, all of a store or all of them files."""
    for _, group in groupby(films, key=lambda film: film.store is not None):
        some = list(group)
        yield from (some[start : start + CHUNK] for start in range(0, len(some), CHUNK))


def _over_processes(chunks: Sequence[list[Film]], work: Work, jobs: int) -> Iterator[list[Read]]:
    """The answer of each chunk, in order. A process that dies costs the film it died of, and no other."""
    done = 0
    while done < len(chunks):
        try:
            for answer in _until_one_dies(chunks[done:], work, jobs):
                done += 1
                yield answer
        except BrokenProcessPool:
            yield [_alone(film, work) for film in chunks[done]]
            done += 1


def _until_one_dies(chunks: Sequence[list[Film]], work: Work, jobs: int) -> Iterator[list[Read]]:
    """Files in processes, a few chunks ahead of what is asked for; films of a store here, when they are asked for."""
    with workers.pool(jobs) as pool:
        ahead: deque[tuple[list[Film], Future[list[Read]] | None]] = deque()
        try:
            for chunk in chunks:
                ahead.append((chunk, None if chunk[0].store else pool.submit(work, chunk)))
                if len(ahead) > 2 * jobs:
                    yield _answer(*ahead.popleft(), work)
            while ahead:
                yield _answer(*ahead.popleft(), work)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _answer(chunk: list[Film], future: Future[list[Read]] | None, work: Work) -> list[Read]:
    return work(chunk) if future is None else future.result()


def _alone(film: Film, work: Work) -> Read:
    """One film in a process of its own."""
    with workers.pool(1) as pool:
        try:
            return pool.submit(work, [film]).result()[0]
        except BrokenProcessPool:
            return film, FilmError(KILLED)
