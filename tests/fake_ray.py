"""A cluster in this process: what `mococxr.cluster` asks of Ray, with machines that die when a test says so."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """As Ray's: whatever befalls a task."""


class RayTaskError(RayError):
    """As Ray's: the task's function raised."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class WorkerCrashedError(RayError):
    """As Ray's: the task's process died."""


class FakeRay:
    """Each task is done here when it is asked for; those in `deaths` never answer.

    Args:
        cpus, gpus: what the cluster has.
        deaths: numbers of the tasks, counted from 0 in the order they are started, whose process dies.
        broken: every machine fails to start tasks.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, cpus: int = 2, gpus: float = 0, deaths: Sequence[int] = (), broken: bool = False) -> None:
        self.has = {"CPU": float(cpus), "GPU": float(gpus)}
        self.deaths, self.broken = set(deaths), broken
        self.started: list[dict[str, Any]] = []
        self.cancelled: list[int] = []
        self.most = self.running = 0
        self._answers: dict[int, Any] = {}

    def cluster_resources(self) -> dict[str, float]:
        return {kind: amount for kind, amount in self.has.items() if amount}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": self.cluster_resources()}]

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        def wrapped(function: Callable[..., Any]) -> Any:
            return SimpleNamespace(remote=lambda *arguments: self._start(options, function, arguments))

        return wrapped

    def _start(self, options: dict[str, Any], function: Callable[..., Any], arguments: Any) -> int:
        number = len(self.started)
        self.started.append(options)
        self.running += 1
        self.most = max(self.most, self.running)
        if self.broken:
            self._answers[number] = RayTaskError(ModuleNotFoundError("mococxr"))
        elif number in self.deaths:
            self._answers[number] = WorkerCrashedError()
        else:
            self._answers[number] = function(*arguments)
        return number

    def wait(self, references: list[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        """The one that was started last comes first: answers have no order."""
        assert num_returns == 1
        assert timeout > 0
        return references[-1:], references[:-1]

    def get(self, reference: int) -> Any:
        self.running -= 1
        answer = self._answers.pop(reference)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, reference: int, force: bool) -> None:
        assert force
        self.cancelled.append(reference)


def double(value: int) -> int:
    return 2 * value


def total(values: list[int], factor: int) -> int:
    return factor * sum(values)


def raise_it(error: Exception) -> None:
    raise error


def stay(folder: str, name: str, seconds: float) -> tuple[str, float, float]:
    """Which GPU a task was given, and from when to when it had it."""
    began = time.time()
    time.sleep(seconds)
    Path(folder, name).write_text("")
    return os.environ.get("CUDA_VISIBLE_DEVICES", ""), began, time.time()
