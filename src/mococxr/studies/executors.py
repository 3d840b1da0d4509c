"""Where trials run: in processes of this machine, or as tasks of a Ray cluster; the files are the same.

A Ray task gets numbers: rows, labels and where things lie. Images, names and predictions stay on the file system that
the machines share. A driver that dies leaves whole trials behind; started again it does those that are missing.
A task of the dead driver that still ends writes the bytes that the new one writes.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mococxr import console, workers
from mococxr.cluster import RETRIES, Cluster, SharedPath, Task, WorkerDied, connected
from mococxr.encoders import EncoderSource
from mococxr.errors import InputError, RunError
from mococxr.feature_cache import FeatureCache
from mococxr.features import pick_device
from mococxr.files import sha256_file
from mococxr.heads import MODES
from mococxr.store import Store
from mococxr.studies.design import TargetData, Trial
from mococxr.studies.folder import INPUTS
from mococxr.studies.label_subsets import Draw
from mococxr.studies.trial import FeatureJob, ReadFeatures, TrialContext, do_trial, extract_features, reading_words


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
    with connected() as ray:  # the connection lasts as long as its tasks
        yield ray, share_of_gpu(ray, device, gpus)


@contextmanager
def executor_of(
    name: str, context: TrialContext, jobs: int | None, device: str, gpus: float | None
) -> Iterator[Local | OnRay]:
    """The executor `local` or `ray`, whose connection ends with the block; errors as `joined`, nothing was written.

    Args:
        jobs: trials at a time; None is as many as there is room for.
        device: as asked for: on Ray `auto` is looked up by each task on the machine that it runs on.
        gpus: share of a GPU for each task that needs one, on Ray; None is `SHARE` where there are GPUs.
    """
    with joined(name, device, gpus) as cluster:
        yield (Local(context, jobs) if cluster is None else OnRay(cluster[0], context, jobs, device, cluster[1]))


class Local:
    """Trials in processes of this machine: one a core, one where a GPU does the work."""

    def __init__(self, context: TrialContext, jobs: int | None) -> None:
        self._context, self._threads = context, jobs
        self._jobs = jobs or (workers.cores() if context.config.device == "cpu" else 1)

    def read(self, jobs: Sequence[FeatureJob]) -> None:
        """Extract the features, and keep where they lie in `TrialContext.features`; `--jobs` limits the threads."""
        if jobs:
            console.say(reading_words(self._context, jobs))
        with _threads(self._threads):
            for job in jobs:
                read = extract_features(self._context, job, f"features of {job.arm}")
                self._context.features.update(dict.fromkeys(job.keys, read))

    def do(self, todo: Sequence[tuple[Trial, Draw]]) -> Iterator[dict[str, Any]]:
        """Do the trials and yield their records as they come; in several processes where they are slow."""
        context = self._context
        by_gradient = any(MODES[trial.mode].by_gradient(context.config_of(trial)) for trial, _ in todo)
        slow = by_gradient or context.config.C == "cv"
        if self._jobs == 1 or len(todo) == 1 or not slow:  # a solved head takes less time than a process to start
            # One thread a trial by gradient, so that its sums do not depend on --jobs.
            with _threads(1 if by_gradient and context.config.device == "cpu" else None):
                yield from (do_trial(context, trial, draw) for trial, draw in todo)
            return
        jobs = min(self._jobs, len(todo))
        for _, record in workers.surviving_map(_do_one, todo, jobs, setup=partial(_start_worker, context)):
            yield record


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """For the time torch computes with `count` threads; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_shared: list[TrialContext] = []
"""The context of this worker process, set once when it starts."""


def _start_worker(context: TrialContext) -> None:
    _shared[:] = [context]
    torch.set_num_threads(1)  # sums do not depend on --jobs


def _do_one(planned: tuple[Trial, Draw]) -> dict[str, Any]:
    return do_trial(_shared[0], *planned)


SHARE = 0.25
"""GPU of a task unless told otherwise: the paper's batch of 16 images leaves most of one idle."""


def share_of_gpu(ray: Any, device: str, gpus: float | None) -> float:
    """The share of a GPU that a task takes; 0 is the CPU.

    Args:
        device: as asked for.
        gpus: as asked for; None is `SHARE` where the cluster has GPUs and the device may be one.

    Raises:
        InputError: a share that Ray does not know, or a GPU where there is none.
    """
    if device in ("cpu", "mps") and gpus:
        raise InputError(f"--gpus {gpus:g} and --device {device} contradict.", "Leave one of them out.")
    if device == "cuda" and gpus == 0:
        raise InputError("--gpus 0 and --device cuda contradict.", "Leave one of them out.")
    has_gpu = Cluster(ray).has("GPU")
    if (gpus or device == "cuda") and not has_gpu:
        raise InputError(
            "No machine of the Ray cluster has a GPU.", "Leave --gpus and --device out, or add such a machine."
        )
    if gpus is not None:
        return gpus
    return SHARE if has_gpu and device in ("auto", "cuda") else 0.0


class OnRay:
    """Trials over a cluster; `read` before `do`.

    Args:
        jobs: tasks at a time; None is what the cluster holds at the moment.
        device: as asked for; each task looks on its own machine.
        gpus: share of a GPU for training by gradient and for reading images, as `share_of_gpu` gives it; solved
            heads take none.
    """

    def __init__(self, ray: Any, context: TrialContext, jobs: int | None, device: str, gpus: float) -> None:
        self._ray, self._context, self._jobs, self._gpus = ray, context, jobs, gpus
        self._device = device if gpus or device == "mps" else "cpu"
        self._warned: set[str] = set()

    def read(self, jobs: Sequence[FeatureJob]) -> None:
        """Read the images, one task a pass, and keep where the features lie in `TrialContext.features`.

        On CPUs a pass takes as many threads as this process would: sums depend on them in the last bit.
        """
        if not jobs:
            return
        kind = "cuda" if self._gpus else self._device
        console.say(reading_words(_on_device(self._context, kind), jobs))
        cluster, shared = self._begin()
        threads = torch.get_num_threads()
        cpus = 1 if self._gpus else min([threads, *cluster.machines()])  # any machine that is left can do it
        tasks = [
            Task(
                job,
                _extract,
                (replace(job, source=_source(job.source)), self._device, threads),
                shared,
                cpus,
                self._gpus,
            )
            for job in jobs
        ]
        with (
            closing(cluster.run_unordered(tasks, self._jobs)) as answers,
            console.progress("features", len(jobs), "passes over the images") as bar,
        ):
            for job, answer in answers:
                read = self._kept(answer, f"the features of {job.arm}")
                self._context.features.update(dict.fromkeys(job.keys, read))
                bar.advance()

    def do(self, todo: Sequence[tuple[Trial, Draw]]) -> Iterator[dict[str, Any]]:
        """Do the trials and yield their records as they come."""
        cluster, shared = self._begin()
        tasks = []
        for trial, draw in todo:
            by_gradient = MODES[trial.mode].by_gradient(self._context.config_of(trial))
            # A solved head reads features, no images.
            gpus, device = (self._gpus, self._device) if by_gradient else (0.0, "cpu")
            tasks.append(Task(trial.id, _trial, (trial, draw, device), shared, gpus=gpus))
        with closing(cluster.run_unordered(tasks, self._jobs)) as answers:
            for trial, answer in answers:
                yield self._kept(answer, f"trial {trial}")

    def _begin(self) -> tuple[Cluster, tuple[Any]]:
        context = _rooted(self._context)
        cluster = Cluster(self._ray, _seen(context))
        return cluster, (cluster.broadcast(context),)

    def _kept(self, answer: Any, what: str) -> Any:
        """What a task has made, unless its process died each time; a machine without the GPU it says is named once."""
        if isinstance(answer, WorkerDied):
            raise RunError(
                f"The process that made {what} died {RETRIES + 1} times ({answer.reason}).\n  Memory may be short: "
                "take fewer at a time by --jobs or a larger --gpus, and run the same command again: what is done is "
                "kept."
            )
        made, no_gpu = answer
        if no_gpu and no_gpu not in self._warned:  # once a machine, not once a task
            self._warned.add(no_gpu)
            console.warn(f"Ray counts a GPU of {no_gpu}, and torch sees none there: its tasks run on the CPU.")
        return made


def _extract(context: TrialContext, job: FeatureJob, device: str, threads: int) -> tuple[ReadFeatures, str]:
    """In a task: the features of a pass, and this machine's name where it has no GPU and should."""
    context, no_gpu = _placed(context, device, threads)
    return extract_features(context, job), no_gpu


def _trial(context: TrialContext, trial: Trial, draw: Draw, device: str) -> tuple[dict[str, Any], str]:
    """In a task: a trial's record, and this machine's name where it has no GPU and should."""
    context, no_gpu = _placed(context, device, 1)  # one thread, as in local processes: the same sums
    return do_trial(context, trial, draw), no_gpu


def _placed(context: TrialContext, device: str, threads: int) -> tuple[TrialContext, str]:
    """The context on this machine's device."""
    torch.set_num_threads(threads)
    kind = pick_device(device).type
    # "auto" here means that Ray gave a share of a GPU.
    no_gpu = platform.node() if device == "auto" and kind == "cpu" else ""
    return _on_device(context, kind), no_gpu


def _on_device(context: TrialContext, kind: str) -> TrialContext:
    return replace(context, config=replace(context.config, device=kind))


def _rooted(context: TrialContext) -> TrialContext:
    """The same context by absolute paths: a task has another working folder."""

    def rooted(images: TargetData) -> TargetData:
        store = images.store
        return replace(images, store=Store.open(os.path.abspath(store.path), str(store.label_events)))

    train, cache = rooted(context.train), context.cache
    return replace(
        context,
        out=Path(os.path.abspath(context.out)),
        train=train,
        test=train if context.test is context.train else rooted(context.test),
        sources={key: tuple(map(_source, parts)) for key, parts in context.sources.items()},
        features={key: replace(kept, file=Path(os.path.abspath(kept.file))) for key, kept in context.features.items()},
        cache=FeatureCache(Path(os.path.abspath(cache.folder)), cache.shared and Path(os.path.abspath(cache.shared))),
    )


def _source(source: EncoderSource) -> EncoderSource:
    path = None if source.path is None else Path(os.path.abspath(source.path))
    return replace(source, path=path, files=tuple(Path(os.path.abspath(file)) for file in source.files))


def _seen(context: TrialContext) -> list[SharedPath]:
    """What a machine must see: this very study and its stores, and the encoders' files."""
    inputs = context.out / INPUTS  # its hash tells this study from another at the same path
    stores = {images.store.path: images.store.sha256 for images in (context.train, context.test)}
    seen = [SharedPath(f"the study folder {context.out}", inputs, sha256_file(inputs))]
    seen += [SharedPath(f"the store {path}", path / "manifest.json", sha256) for path, sha256 in stores.items()]
    for source in dict.fromkeys(source for parts in context.sources.values() for source in parts):
        files = source.files + (() if source.path is None else (source.path / "encoder.json",))
        seen += [SharedPath(f"the encoder {source.name} ({file})", file) for file in files]
    return seen
