"""Chunks over a Ray cluster: the same tasks as `processes`, on every machine that has joined.

The machines share a file system: films and the folder of the store have one path on all of them. Only the names
of files travel; each task writes its chunk into the shared folder, and the driver makes the store from the
chunks, as it does with processes of its own. So a stopped run goes on under either executor, and the bytes are
the same. Ray does a task again where a machine or a process is lost.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mococxr import workers
from mococxr.errors import InputError, RunError
from mococxr.pseudonyms import unexpected
from mococxr.store.decode import Chunk, decode_chunk
from mococxr.store.processes import carefully
from mococxr.version import VERSION

RETRIES = 3
"""Times that a task is done again because its machine or its process was lost."""


def connect() -> Any:
    """Ray, connected: to the cluster of RAY_ADDRESS or of this machine, else to one started for this run.

    Ray's statistics of use are switched off for what is started here; a cluster that is there already was set
    up by whoever started it.

    Raises:
        InputError: Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--executor ray needs Ray, which is not installed.",
            "pip install 'mococxr[ray]' here and on every machine of the cluster.",
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                f"Ray does not answer: {str(error).splitlines()[0]}",
                "Check RAY_ADDRESS, or leave it out to work on this machine alone.",
            ) from error
    return ray


def decode_all(chunks: Iterable[Chunk], folder: Path, jobs: int | None, done: Callable[[int], None]) -> None:
    """Decode chunks as Ray tasks of one CPU each; `done(number)` is called here as each ends, in any order.

    Args:
        chunks: what is to be decoded.
        folder: where records and pixels go; on a file system that all machines share.
        jobs: tasks at a time; None is one a CPU of the cluster, whatever that has at the moment.
        done: told of each chunk.

    Raises:
        OSError: a chunk could not be written.
        RunError: a machine does not see the films or the folder, has another version, or tasks die.
    """
    ray = connect()
    waiting = deque(chunks)
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_work)
    sight = _sight(waiting, folder)
    running: dict[Any, Chunk] = {}
    try:
        while waiting or running:
            most = jobs or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
            while waiting and len(running) < most:
                chunk = waiting.popleft()
                running[task.remote(sight, decode_chunk, chunk, folder)] = chunk
            for reference in ray.wait(list(running), num_returns=1)[0]:
                chunk = running.pop(reference)
                if not _outcome(ray, reference):
                    carefully(chunk, folder, partial(_survives, ray, sight))
                done(chunk.number)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _sight(chunks: Iterable[Chunk], folder: Path) -> tuple[str, ...]:
    """The version that a machine must have, and what it must see: the folder, and a film that is there."""
    films = (str(chunk.root / path) for chunk in chunks for path in chunk.paths)
    film = next((film for film in films if os.path.isfile(film)), None)
    return (VERSION, str(folder), *([film] if film else []))


def _work(sight: tuple[str, ...], work: Callable[..., object], *arguments: object) -> tuple[str, object]:
    """In a task: do `work(*arguments)`; its errors come back as words, since Ray would log their texts."""
    if sight[0] != VERSION or not all(map(os.path.exists, sight[1:])):
        return "blind", VERSION
    workers.settle()
    try:
        work(*arguments)
    except OSError as error:
        return "unwritten", (error.errno, error.strerror)
    except RunError as error:
        return "stopped", str(error)
    except Exception as error:  # its text may quote a path or a header
        return "stopped", unexpected(error)
    return "done", None


def _outcome(ray: Any, reference: Any) -> bool:
    """False where the task's process died; every other fault is raised.

    Raises:
        OSError: the chunk could not be written.
        RunError: the machine is no use.
    """
    try:
        word, detail = ray.get(reference)
    except ray.exceptions.RayError:
        return False
    if word == "unwritten":
        raise OSError(*detail)
    if word == "stopped":
        raise RunError(detail)
    if word == "blind":
        raise RunError(
            "A machine of the cluster does not see the films or the folder of the store, or has another version "
            f"of mococxr ({detail}; here {VERSION}).\n  Films and store must lie on a file system that all "
            "machines share under one path; run the same command again, what is decoded is kept."
        )
    return True


def _survives(ray: Any, sight: tuple[str, ...], work: Callable[..., object], *arguments: object) -> bool:
    """Whether a task lives through `work(*arguments)`; a film is blamed only for a process that died twice."""
    task = ray.remote(num_cpus=1, max_retries=0)(_work)
    return any(_outcome(ray, task.remote(sight, work, *arguments)) for _ in range(2))
