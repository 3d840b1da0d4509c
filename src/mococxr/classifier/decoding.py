"""The images of `predict` -> their pixels, in order, decoded in several processes where there are many.

Not in threads: OpenCV tells of damage on standard error only, which is caught one decode at a time in a process
(`images.native`), so threads would wait for each other. This module imports no PyTorch, which the processes then need
not load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mococxr import workers
from mococxr.classifier.inputs import Image
from mococxr.errors import ImageError
from mococxr.images import Reading, resize_shorter
from mococxr.privacy import Key
from mococxr.workers import CRASHED, surviving_map

CHUNK = 16
"""Images that a process decodes at a time."""
TRIED = 2
"""Chunks of files that are decoded here first, to see how long an image takes."""
WORTH = 10.0
"""Seconds of decoding ahead from which processes are started: they take seconds to come up."""
Read: TypeAlias = tuple[Image, NDArray[np.uint8] | ImageError]
"""An image as it is to be named with its pixels (H, W); or as it was given, with the reason why it has none."""
Work: TypeAlias = Callable[[Sequence[Image]], list[Read]]


def decoded(
    images: Sequence[Image], *, reading: Reading, size: int, key: Key | None, jobs: int | None
) -> Iterator[Read]:
    """Read images, in the order given and with the same pixels whatever `jobs` is.

    Args:
        reading: how files become images.
        size: a file's shorter side becomes so many px; a store's images come as they stand there.
        key: of pseudonyms, or None.
        jobs: processes at most, where they are worth their start; None for one a core.
    """
    jobs = workers.cores() if jobs is None else jobs
    work = partial(read_chunk, reading=reading, size=size, key=key)
    for in_store, group in groupby(images, key=lambda image: image.store is not None):
        images = list(group)
        chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
        answers = map(work, chunks) if in_store else _of_files(chunks, work, jobs)
        yield from chain.from_iterable(answers)


def _of_files(chunks: Sequence[list[Image]], work: Work, jobs: int) -> Iterator[list[Read]]:
    """The answer of each chunk, in order. A process that dies costs the image it died of, and no other."""
    spent = 0.0
    for chunk in chunks[:TRIED]:
        began = time.perf_counter()
        answer = work(chunk)
        spent += time.perf_counter() - began
        yield answer
    rest = chunks[TRIED:]
    if jobs > 1 and spent / TRIED * len(rest) > WORTH:
        one_by_one = partial(_one_by_one, work=work, jobs=jobs)
        yield from (answer for _, answer in surviving_map(work, rest, jobs, ordered=True, died=one_by_one))
    else:
        yield from map(work, rest)


def _one_by_one(images: list[Image], work: Work, jobs: int) -> list[Read]:
    """A chunk whose process died."""
    died = lambda image: [(image[0], ImageError(CRASHED))]  # noqa: E731
    alone = surviving_map(work, [[image] for image in images], jobs, ordered=True, died=died)
    return [answer[0] for _, answer in alone]


def read_chunk(images: Sequence[Image], reading: Reading, size: int, key: Key | None) -> list[Read]:
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
