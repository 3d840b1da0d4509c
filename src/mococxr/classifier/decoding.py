"""The images of `predict` -> their pixels, in order, decoded in several processes where there are many.

Not in threads: OpenCV tells of damage on standard error only, which is caught one decode at a time in a process
(`images.native`), so threads would wait for each other. This module imports no PyTorch, which the processes then need
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
from mococxr.classifier.inputs import Image
from mococxr.errors import ImageError
from mococxr.images import resize_shorter
from mococxr.privacy import Key

CHUNK = 16
"""Images that a process decodes at a time."""
TRIED = 2
"""Chunks of files that are decoded here first, to see how long an image takes."""
WORTH = 10.0
"""Seconds of decoding ahead from which processes are started: they take seconds to come up."""
KILLED = "the decoder crashed on it"
Read: TypeAlias = tuple[Image, NDArray[np.uint8] | ImageError]
"""An image as it is to be named with its pixels (H, W); or as it was given, with the reason why it has none."""
Work: TypeAlias = Callable[[Sequence[Image]], list[Read]]


def decoded(
    images: Sequence[Image], *, reading: Mapping[str, Any], size: int, key: Key | None, jobs: int | None
) -> Iterator[Read]:
    """Read images, in the order given and with the same pixels whatever `jobs` is.

    Args:
        reading: how files become images: the named arguments of `images.decode_image`.
        size: a file's shorter side becomes so many px; a store's images come as they stand there.
        key: of pseudonyms, or None.
        jobs: processes at most, where they are worth their start; None for one a core.
    """
    jobs = workers.cores() if jobs is None else jobs
    work = partial(read_chunk, reading=reading, size=size, key=key)
    chunks = list(_chunks(images))
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


def read_chunk(images: Sequence[Image], reading: Mapping[str, Any], size: int, key: Key | None) -> list[Read]:
    """Read some images, here."""
    found: list[Read] = []
    for image in images:
        try:
            pixels, named = image.read(reading, key)
            found.append((named, pixels if image.store else resize_shorter(pixels, size)))
        except ImageError as error:
            found.append((image, error))
        except MemoryError:
            found.append((image, ImageError("not enough memory to decode it")))
    return found


def _chunks(images: Sequence[Image]) -> Iterator[list[Image]]:
    """Neighbours, all of a store or all of them files."""
    for _, group in groupby(images, key=lambda image: image.store is not None):
        some = list(group)
        yield from (some[start : start + CHUNK] for start in range(0, len(some), CHUNK))


def _over_processes(chunks: Sequence[list[Image]], work: Work, jobs: int) -> Iterator[list[Read]]:
    """The answer of each chunk, in order. A process that dies costs the image it died of, and no other."""
    done = 0
    while done < len(chunks):
        try:
            for answer in _until_one_dies(chunks[done:], work, jobs):
                done += 1
                yield answer
        except BrokenProcessPool:
            yield [_alone(image, work) for image in chunks[done]]
            done += 1


def _until_one_dies(chunks: Sequence[list[Image]], work: Work, jobs: int) -> Iterator[list[Read]]:
    """Files in processes, a few chunks ahead of what is asked for; images of a store here, when they are asked for."""
    with workers.pool(jobs) as pool:
        ahead: deque[tuple[list[Image], Future[list[Read]] | None]] = deque()
        try:
            for chunk in chunks:
                ahead.append((chunk, None if chunk[0].store else pool.submit(work, chunk)))
                if len(ahead) > 2 * jobs:
                    yield _answer(*ahead.popleft(), work)
            while ahead:
                yield _answer(*ahead.popleft(), work)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _answer(chunk: list[Image], future: Future[list[Read]] | None, work: Work) -> list[Read]:
    return work(chunk) if future is None else future.result()


def _alone(image: Image, work: Work) -> Read:
    """One image in a process of its own."""
    with workers.pool(1) as pool:
        try:
            return pool.submit(work, [image]).result()[0]
        except BrokenProcessPool:
            return image, ImageError(KILLED)
