"""Chunks of images, from files to pixels of the stored size: in processes of this machine, or over a Ray cluster.

Each task writes its chunk whole into the folder of the store in the making. So a stopped run goes on under either
executor, and the bytes are the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

from mococxr import console, files
from mococxr.errors import ImageError, RunError
from mococxr.images import Reading, decode, read_bytes, resize_shorter
from mococxr.store.levels import Image, level_folder, shard_name, shrink, written_factors
from mococxr.workers import CRASHED, IMAGE_SECONDS, TOO_SLOW, Deadline, surviving_map

SLENDER = 20
"""Ratio of the sides above which a picture is no chest image: it would need that much more room."""
RECORD = ("height", "width", "sha256", "enlarged", "remarks", "reason")


def chunk_size(images: int) -> int:
    """Images that are decoded together and share a pixel file, for a dataset of so many.

    What a killed run loses, for each process, is less than this: about a minute of decoding. Every pixel file that is
    read keeps a file descriptor, of which a process has 1,024: a million images make 245 files a level.
    """
    return min(max(32, images // 128), 4096)


@dataclass(frozen=True)
class Chunk:
    """Neighbouring images of the table.

    Args:
        number: of the chunk, from 0.
        root: the folder that the paths are relative to and may not leave.
        paths: one an image.
        size: shorter side of a stored image, in pixels.
        reading: how files become images.
        refused: position in the chunk -> reason, for images that are not to be opened.
        seconds: what each image may take.
    """

    number: int
    root: Path
    paths: tuple[str, ...]
    size: int
    reading: Reading
    refused: Mapping[int, str] = field(default_factory=dict)
    seconds: float = IMAGE_SECONDS


def record_file(folder: Path, number: int) -> Path:
    """Where a chunk's record lies; it is written last, so that its presence says that the chunk is done."""
    return folder / "records" / f"{number:06d}.json"


def _deadline(chunk: Chunk, folder: Path) -> Deadline:
    """The limit of time for each image of a chunk, by its position; its log lies beside the record."""
    return Deadline(record_file(folder, chunk.number).with_suffix(".log"), chunk.seconds)


def decode_chunk(chunk: Chunk, folder: Path) -> int:
    """Decode a chunk: a pixel file of the readable images at each level, and a record of all.

    Args:
        folder: with `store`, the store in the making, and `records`.

    Returns:
        The number of the chunk.

    Raises:
        OSError: the folder cannot be written to (a full disk, say).
    """
    rows: list[dict[str, Any]] = []
    deadline = _deadline(chunk, folder)
    deadline.log.parent.mkdir(parents=True, exist_ok=True)
    # an earlier attempt may have ended on some
    refused = {**dict.fromkeys(deadline.exceeded(), TOO_SLOW), **chunk.refused}
    factors = (1, *written_factors(chunk.size))  # while the image is in memory: docs/decisions/0003
    folders = [level_folder(folder / "store", chunk.size, factor) for factor in factors]
    paths = [where / shard_name(chunk.number) for where in folders]
    with ExitStack() as stack:
        temporary = [stack.enter_context(files.atomic(path)) for path in paths]
        outputs = [stack.enter_context(open(path, "wb")) for path in temporary]
        for i, source in enumerate(chunk.paths):
            row = dict.fromkeys(RECORD)
            try:
                if i in refused:
                    raise ImageError(refused[i])
                with deadline.over(i):
                    image, facts = _decode(chunk, source)
                row |= facts
                for output, factor in zip(outputs, factors, strict=True):
                    output.write((image if factor == 1 else shrink(image, factor)).data)
            except ImageError as error:
                row["reason"] = str(error)  # the image has written no byte: rows and pixels stay in step
            rows.append(row)
    if all(row["reason"] for row in rows):  # no pixels: no shard
        for path in paths:
            path.unlink()
    files.write_json(record_file(folder, chunk.number), {name: [row[name] for row in rows] for name in RECORD})
    deadline.log.unlink(missing_ok=True)  # after the record: until then another attempt needs it
    return chunk.number


def _decode(chunk: Chunk, path: str) -> tuple[Image, dict[str, Any]]:
    """The stored image, and what its record says of it."""
    data = read_bytes(chunk.root / path, chunk.root)
    try:
        decoded = decode(data, chunk.reading)
        full = decoded.pixels
        if max(full.shape) > SLENDER * min(full.shape):
            raise ImageError(
                f"{full.shape[1]:,} x {full.shape[0]:,} pixels: aspect ratio above {SLENDER}:1, not a chest image"
            )
        image = resize_shorter(full, chunk.size)
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    return image, {
        "height": image.shape[0],
        "width": image.shape[1],
        "sha256": hashlib.sha256(data).hexdigest(),  # of the file, by which copies are found in other stores
        "enlarged": min(full.shape) < chunk.size,
        "remarks": decoded.remarks,
    }


def _probe(chunk: Chunk, folder: Path, image: tuple[int, str]) -> None:
    """Decode one image, by its position and path, for nothing: does the process survive it?"""
    with suppress(ImageError), _deadline(chunk, folder).over(image[0]):
        _decode(chunk, image[1])


def decode_all(chunks: Sequence[Chunk], folder: Path, jobs: int, done: Callable[[int], None]) -> None:
    """Decode chunks in `jobs` processes; `done(number)` is called here as each ends, in any order.

    Raises:
        OSError: a chunk could not be written.
        RunError: processes cannot be started, or die whatever they do.
    """

    def crashes(work: Callable[[Any], object], items: Sequence[Any]) -> list[bool]:
        answers = surviving_map(partial(_survives, work), items, jobs, ordered=True, died=lambda _: True)
        return [crashed for _, crashed in answers]

    careful = partial(_without_killers, folder=folder, crashes=crashes)
    for _, number in surviving_map(partial(decode_chunk, folder=folder), chunks, jobs, died=careful):
        done(number)


def _survives(work: Callable[[Any], object], item: Any) -> bool:
    work(item)
    return False


def decode_on_ray(chunks: Iterable[Chunk], folder: Path, jobs: int | None, done: Callable[[int], None]) -> None:
    """Decode chunks as Ray tasks of one CPU each; `done(number)` is called here as each ends, in any order.

    Args:
        folder: on a file system that all machines share, as the images are.
        jobs: tasks at a time; None is one a CPU of the cluster, whatever that has at the moment.

    Raises:
        OSError: a chunk could not be written.
        RunError: a machine does not see the images or the folder, has another version, or tasks die.
    """
    from mococxr.cluster import Cluster, Task, WorkerDied, connected

    by_number = {chunk.number: chunk for chunk in chunks}
    with connected() as ray:
        cluster = Cluster(ray, _shared_paths(by_number.values(), folder))

        def crashes(work: Callable[[Any], object], items: Sequence[Any]) -> list[bool]:
            return [not cluster.survives(work, item) for item in items]

        tasks = [Task(number, decode_chunk, (chunk, folder)) for number, chunk in by_number.items()]
        with closing(cluster.run_unordered(tasks, jobs)) as answers:  # leaving early cancels what is on its way
            for number, answer in answers:
                if isinstance(answer, WorkerDied):
                    _without_killers(by_number[number], folder, crashes)
                done(number)


def _shared_paths(chunks: Iterable[Chunk], folder: Path) -> list[Any]:
    """What a machine must see: the folder, and an image that is there."""
    from mococxr.cluster import SharedPath

    shared = [SharedPath("the folder of the store", folder)]
    images = (chunk.root / path for chunk in chunks for path in chunk.paths)
    image = next((image for image in images if os.path.isfile(image)), None)  # paths of a table may lead nowhere
    return shared + ([SharedPath("the images", image)] if image else [])


def _without_killers(
    chunk: Chunk, folder: Path, crashes: Callable[[Callable[[Any], object], Sequence[Any]], list[bool]]
) -> int:
    """Decode a chunk that killed its process: find the images that do so alone, and go on without them.

    Where processes were ended for taking too long, it is known on which image, and the next attempt leaves that out.

    Args:
        crashes: for each of some items, whether `work(item)` kills a process that it has to itself.

    Raises:
        RunError: the chunk kills its process, and none of its images does so alone.
    """
    deadline, known = _deadline(chunk, folder), set[int]()
    while known != (exceeded := deadline.exceeded()):  # each attempt may end on one more image
        if not crashes(partial(decode_chunk, folder=folder), [chunk])[0]:
            return chunk.number
        known = exceeded
    console.warn(f"a decoding process crashed: decoding {len(chunk.paths):,} images one by one to find the cause.")
    # else all paths travel with each image
    killers = crashes(partial(_probe, replace(chunk, paths=()), folder), list(enumerate(chunk.paths)))
    refused = dict.fromkeys(compress(range(len(killers)), killers), CRASHED) | dict.fromkeys(
        deadline.exceeded(), TOO_SLOW
    )
    if crashes(partial(decode_chunk, folder=folder), [replace(chunk, refused=refused)])[0]:
        raise RunError(
            f"Decoding workers crash on batch {chunk.number} of the images, but on no single one of them.\n"
            "  Memory may be short: run the same command again with --jobs 1; what is decoded is kept."
        )
    return chunk.number
