"""Where trials run: in processes of this machine, or over a Ray cluster (`on_ray`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from mococxr import workers
from mococxr.cluster import connected
from mococxr.errors import InputError
from mococxr.heads import is_closed_form
from mococxr.studies.on_ray import OnRay, share_of_gpu
from mococxr.studies.passes import Pass, read_images
from mococxr.studies.plan import Draw, Trial
from mococxr.studies.trial import Work, do_trial


@contextmanager
def joined(name: str, device: str, gpus: float | None) -> Iterator[tuple[Any, float] | None]:
    """None for the executor `local`; for `ray` the connected cluster and the share of a GPU that a task takes.

    Args:
        device, gpus: as asked for.

    Raises:
        InputError: no Ray, no such cluster, or one without the GPUs asked for.
    """
    if name == "local":
        if gpus is not None:
            raise InputError("--gpus goes with --executor ray.", "Add it, or leave --gpus out.")
        yield None
        return
    with connected() as ray:
        yield ray, share_of_gpu(ray, device, gpus)


@contextmanager
def executor_of(
    name: str, work: Work, jobs: int | None, device: str, gpus: float | None
) -> Iterator[Local | OnRay]:
    """The executor `local` or `ray`; its connection ends with the block.

    Args:
        jobs: trials at a time; None is as many as there is room for.
        device: as asked for: on Ray `auto` is looked up by each task on the machine that it runs on.
        gpus: share of a GPU for each task that needs one, on Ray; None is `on_ray.SHARE` where there are GPUs.

    Raises:
        InputError: as `joined`; nothing was written.
    """
    with joined(name, device, gpus) as cluster:
        yield Local(work, jobs) if cluster is None else OnRay(cluster[0], work, jobs, device, cluster[1])


class Local:
    """Trials in processes of this machine: one a core, one where a GPU does the work."""

    def __init__(self, work: Work, jobs: int | None) -> None:
        self._work, self._jobs = work, jobs or (workers.cores() if work.config.device == "cpu" else 1)

    def read(self, passes: Sequence[Pass]) -> None:
        """Read the images, and keep where the features lie in `Work.features`."""
        for one in passes:
            self._work.features[one.key] = read_images(self._work, one, f"features of {one.arm}")

    def do(self, todo: Sequence[tuple[Trial, Draw]]) -> Iterator[dict[str, Any]]:
        """Do the trials and yield their records as they come; in several processes where they are slow."""
        work = self._work
        by_gradient = any(not is_closed_form(trial.mode, work.config) for trial, _ in todo)
        slow = by_gradient or work.config.C == "cv"
        if self._jobs == 1 or len(todo) == 1 or not slow:
            with _one_thread(by_gradient and work.config.device == "cpu"):
                yield from (do_trial(work, trial, draw) for trial, draw in todo)
            return
        jobs = min(self._jobs, len(todo))
        for _, record in workers.surviving_map(_do_one, todo, jobs, setup=partial(_start_worker, work)):
            yield record


@contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    """Training by gradient takes one thread a trial, so that its sums do not depend on --jobs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if wanted else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_shared: list[Work] = []
"""The work of this worker process, set once when it starts."""


def _start_worker(work: Work) -> None:
    _shared[:] = [work]
    torch.set_num_threads(1)


def _do_one(planned: tuple[Trial, Draw]) -> dict[str, Any]:
    return do_trial(_shared[0], *planned)
