"""Chunks over a Ray cluster: the same tasks as `processes`, on every machine that has joined.

Only the names of files travel; each task writes its chunk into the shared folder, and the driver makes the store
from the chunks, as it does with processes of its own. So a stopped run goes on under either executor, and the
bytes are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from mococxr.cluster import Cluster, Died, Seen, Task, connected
from mococxr.preparation.decode import Chunk, decode_chunk
from mococxr.preparation.processes import carefully


def decode_all(chunks: Iterable[Chunk], folder: Path, jobs: int | None, done: Callable[[int], None]) -> None:
    """Decode chunks as Ray tasks of one CPU each; `done(number)` is called here as each ends, in any order.

    Args:
        chunks: what is to be decoded.
        folder: where records and pixels go; on a file system that all machines share.
        jobs: tasks at a time; None is one a CPU of the cluster, whatever that has at the moment.
        done: told of each chunk.

    Raises:
        OSError: a chunk could not be written.
        RunError: a machine does not see the images or the folder, has another version, or tasks die.
    """
    by_number = {chunk.number: chunk for chunk in chunks}
    with connected() as ray:
        cluster = Cluster(ray, _seen(by_number.values(), folder))
        tasks = [Task(number, decode_chunk, (chunk, folder)) for number, chunk in by_number.items()]
        with closing(cluster.each(tasks, jobs)) as answers:
            for number, answer in answers:
                if isinstance(answer, Died):
                    carefully(by_number[number], folder, cluster.survives)
                done(number)


def _seen(chunks: Iterable[Chunk], folder: Path) -> list[Seen]:
    """What a machine must see: the folder, and an image that is there."""
    seen = [Seen("the folder of the store", folder)]
    images = (chunk.root / path for chunk in chunks for path in chunk.paths)
    image = next((image for image in images if os.path.isfile(image)), None)
    return seen + ([Seen("the images", image)] if image else [])
