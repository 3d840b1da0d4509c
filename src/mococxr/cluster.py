"""Tasks over a Ray cluster, for `prepare` and `study`: machines and processes may be lost on the way.

The machines share a file system: what a task reads and writes has one path on all of them, each file is written
whole or not at all, and an answer is small. So a task may be done twice, and a run that was stopped goes on under
any executor. Ray does a task again where its machine or its process was lost.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mococxr import console, workers
from mococxr.errors import InputError, RunError
from mococxr.files import sha256_file
from mococxr.privacy import redacted_traceback
from mococxr.version import VERSION

RETRIES = 3
"""Times that a task is done again because its machine or its process was lost."""
PATIENCE = 20.0
"""Seconds without an answer after which it is looked whether the cluster still has what tasks need."""
GRACE = 3.0
"""Seconds that a machine is given to see a file that was written a moment ago: network file systems take some."""


@dataclass(frozen=True)
class SharedPath:
    """A file or folder that every machine must see under the same path.

    Args:
        what: how it is called in an error.
        sha256: of its bytes; "" where being there is enough.
    """

    what: str
    path: Path
    sha256: str = ""

    def exists(self) -> bool:
        """Whether this machine sees it."""
        if not self.sha256:
            return os.path.exists(self.path)
        return os.path.isfile(self.path) and sha256_file(self.path) == self.sha256


@dataclass(frozen=True)
class Task:
    """`work(*shared, *arguments)`, done somewhere.

    Args:
        key: names the task to whoever asked for it.
        arguments: plain values; they travel with the task.
        shared: what `Cluster.broadcast` gave for values that many tasks take.
        cpus: cores that it takes.
        gpus: share of a GPU that it takes, 0 to 1.
    """

    key: Any
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    shared: tuple[Any, ...] = ()
    cpus: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class WorkerDied:
    """In the place of an answer: the task's process died each time. `reason` is Ray's word for it."""

    reason: str


@contextmanager
def connected() -> Iterator[Any]:
    """Ray, connected: to the cluster of RAY_ADDRESS or of this machine, else to one started for this run.

    The connection ends with the block, unless the program that calls us has made it. Ray's statistics of use
    are switched off for what is started here (`mococxr/__init__.py`); a cluster that is there already was set up by whoever
    started it.

    Raises:
        InputError: Ray is not installed, or the cluster does not answer.
    """
    # as later versions of Ray do, without the warning that this one gives
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--executor ray needs Ray, which is not installed.",
            "pip install 'mococxr[ray]' here and on every machine of the cluster.",
        ) from error
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Ray does not answer: {str(error).splitlines()[0]}",
            "Check RAY_ADDRESS, or leave it out to work on this machine alone.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


class Cluster:
    """A connected cluster on whose machines these files must be seen.

    Args:
        ray: as `connected` gives it.
        shared: looked for by each task before it begins.
    """

    def __init__(self, ray: Any, shared: Sequence[SharedPath] = ()) -> None:
        self._ray, self._shared = ray, tuple(shared)

    def has(self, kind: str) -> float:
        """How much of `CPU` or `GPU` the cluster has at the moment."""
        return float(self._ray.cluster_resources().get(kind, 0))

    def machines(self) -> list[int]:
        """Whole CPUs of each machine that is there at the moment; those without any are left out."""
        alive = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        return [int(has["CPU"]) for has in alive if has.get("CPU", 0) >= 1]

    def broadcast(self, value: Any) -> Any:
        """Put a value where all tasks can take it from: sent to a machine once, and not with each task."""
        return self._ray.put(pickle.dumps(value))  # as bytes, as the tasks' own

    def run_unordered(self, tasks: Iterable[Task], at_once: int | None = None) -> Generator[tuple[Any, Any]]:
        """Do tasks; give the key and the answer of each as it ends, in any order.

        Whatever ends the loop cancels the tasks that are on their way: close the iterator when leaving early.

        Args:
            at_once: tasks at a time; None is what the cluster holds at the moment, and as many again in wait.

        Raises:
            InputError, RunError, OSError: what a task raised, or a machine is no use.
        """
        waiting, running = deque(tasks), dict[Any, Task]()
        try:
            while waiting or running:
                # asked each time: machines come and go
                most = at_once or self._capacity(waiting[0] if waiting else None)
                while waiting and len(running) < most:
                    task = waiting.popleft()
                    running[self._start(task, RETRIES)] = task
                # none ready by then: is there a machine for them?
                ready, _ = self._ray.wait(list(running), num_returns=1, timeout=PATIENCE)
                for reference in ready:
                    yield running.pop(reference).key, self._answer(reference)
                if not ready:
                    self._warn_of_need(running.values())
        finally:
            for reference in running:
                self._ray.cancel(reference, force=True)  # native code hears nothing else

    def survives(self, work: Callable[..., object], *arguments: object) -> bool:
        """Whether a process lives through `work(*arguments)`; only one that died twice is blamed on it."""
        task = Task(None, work, arguments)
        # 0: Ray's own retries would count
        return not all(isinstance(self._answer(self._start(task, 0)), WorkerDied) for _ in range(2))

    def _start(self, task: Task, retries: int) -> Any:
        remote = self._ray.remote(num_cpus=task.cpus, num_gpus=task.gpus, max_retries=retries)(_work)
        # as bytes: nothing of ours is unpickled over there before the versions are compared
        packed = pickle.dumps((task.work, task.arguments))
        return remote.remote(VERSION, pickle.dumps(self._shared), packed, *task.shared)

    def _capacity(self, task: Task | None) -> int:
        """Twice the tasks like this one that the cluster holds at the moment."""
        if task is None:
            return 0
        fit = self.has("CPU") / task.cpus
        if task.gpus:
            fit = min(fit, self.has("GPU") / task.gpus)
        return 2 * max(1, int(fit))

    def _warn_of_need(self, running: Iterable[Task]) -> None:
        """Say it where tasks wait for what no machine has: a machine with it may have been lost."""
        short = sorted({kind for task in running for kind in _needs(task) if not self.has(kind)})
        if short:
            console.warn(f"No machine of the cluster has a {' or '.join(short)} now: tasks wait for one.")

    def _answer(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            word, answer = self._ray.get(reference)
        except errors.RayTaskError as error:  # a task's own errors come back as answers: it never began
            raise RunError(
                f"A machine of the cluster cannot start tasks ({type(error.cause).__name__}).\n"
                f"  Install mococxr {VERSION} there, the same Python and Ray as here, and run the same command again."
            ) from None
        except errors.RayError as error:  # the process died, or its machine did, more often than Ray tries again
            return WorkerDied(type(error).__name__)
        if word == "raised":
            raise answer
        if word == "missing":
            raise RunError(
                f"A machine of the cluster does not see {answer}.\n  It must lie on a file system that all "
                "machines share under one path; run the same command again, what is done is kept."
            )
        if word == "version":
            raise RunError(
                f"A machine of the cluster has mococxr {answer}; here it is {VERSION}.\n"
                f"  pip install mococxr=={VERSION} there, and run the same command again; what is done is kept."
            )
        return answer


def _needs(task: Task) -> tuple[str, ...]:
    return ("CPU", "GPU") if task.gpus else ("CPU",)


def _work(version: str, paths: bytes, packed: bytes, *shared: bytes) -> tuple[str, Any]:
    """In a task: do the work. Its errors come back as answers: Ray would log their texts."""
    if version != VERSION:
        return "version", VERSION
    if (missing := _missing(pickle.loads(paths))) is not None:
        return "missing", missing.what
    workers.configure_process()
    try:
        work, arguments = pickle.loads(packed)
        return "done", work(*map(_unpacked, shared), *arguments)
    except (InputError, RunError) as error:
        return "raised", error
    except OSError as error:
        return "raised", OSError(error.errno, error.strerror)  # without the file's name, which may name a patient
    except Exception as error:  # its text may quote a path or a header
        return "raised", RunError(redacted_traceback(error))


@lru_cache(maxsize=2)
def _unpacked(shared: bytes) -> Any:
    """A shared value, made once in a process."""
    return pickle.loads(shared)


def _missing(shared: Iterable[SharedPath]) -> SharedPath | None:
    """The first that this machine does not see, or None."""
    end = time.monotonic() + GRACE
    for path in shared:
        while not path.exists():
            if time.monotonic() > end:
                return path
            time.sleep(0.1)
    return None
