"""Trials and passes over the images as tasks of a Ray cluster; their files are those of a local study.

A task gets numbers: rows, labels and where things lie. Images, names and predictions stay on the file system that
the machines share. A driver that dies leaves whole trials behind; started again it does those that are missing.
A task of the dead driver that still ends writes the bytes that the new one writes.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mococxr import console
from mococxr.cluster import RETRIES, Cluster, SharedPath, Task, WorkerDied
from mococxr.encoders import EncoderSource
from mococxr.errors import InputError, RunError
from mococxr.features import pick_device
from mococxr.files import sha256_file
from mococxr.heads import is_closed_form
from mococxr.store import Store
from mococxr.studies.folder import INPUTS
from mococxr.studies.passes import Pass, read_images
from mococxr.studies.plan import Draw, Trial
from mococxr.studies.trial import Images, Work, do_trial

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
    there = Cluster(ray).has("GPU")
    if (gpus or device == "cuda") and not there:
        raise InputError(
            "No machine of the Ray cluster has a GPU.",
            "Leave --gpus and --device out, or add such a machine.",
        )
    if gpus is not None:
        return gpus
    return SHARE if there and device in ("auto", "cuda") else 0.0


class OnRay:
    """Trials over a cluster; `read` before `do`.

    Args:
        jobs: tasks at a time; None is what the cluster holds at the moment.
        device: as asked for; each task looks on its own machine.
        gpus: share of a GPU for training by gradient and for reading images, as `share_of_gpu` gives it; solved
            heads take none.
    """

    def __init__(self, ray: Any, work: Work, jobs: int | None, device: str, gpus: float) -> None:
        self._ray, self._work, self._jobs, self._gpus = ray, work, jobs, gpus
        self._device = device if gpus or device == "mps" else "cpu"
        self._told: set[str] = set()

    def read(self, passes: Sequence[Pass]) -> None:
        """Read the images, one task a pass, and keep where the features lie in `Work.features`.

        On CPUs a pass takes as many threads as this process would: sums depend on them in the last bit.
        """
        if not passes:
            return
        cluster, shared = self._begin()
        threads = torch.get_num_threads()
        cpus = 1 if self._gpus else min([threads, *cluster.machines()])  # any machine that is left can do it
        tasks = [Task(one, _read, (one, self._device, threads), shared, cpus, self._gpus) for one in passes]
        with (
            closing(cluster.run_unordered(tasks, self._jobs)) as answers,
            console.progress("features", len(passes), "passes over the images") as bar,
        ):
            for one, answer in answers:
                self._work.features[one.key] = self._kept(answer, f"the features of {one.arm}")
                bar.advance()

    def do(self, todo: Sequence[tuple[Trial, Draw]]) -> Iterator[dict[str, Any]]:
        """Do the trials and yield their records as they come."""
        cluster, shared = self._begin()
        tasks = []
        for trial, draw in todo:
            on_cpu = is_closed_form(trial.mode, self._work.config)
            gpus, device = (0.0, "cpu") if on_cpu else (self._gpus, self._device)
            tasks.append(Task(trial.id, _trial, (trial, draw, device), shared, gpus=gpus))
        with closing(cluster.run_unordered(tasks, self._jobs)) as answers:
            for trial, answer in answers:
                yield self._kept(answer, f"trial {trial}")

    def _begin(self) -> tuple[Cluster, tuple[Any]]:
        work = _rooted(self._work)
        cluster = Cluster(self._ray, _seen(work))
        return cluster, (cluster.broadcast(work),)

    def _kept(self, answer: Any, what: str) -> Any:
        """What a task has made; a machine whose GPU torch does not see is named once.

        Raises:
            RunError: the task's process died each time.
        """
        if isinstance(answer, WorkerDied):
            raise RunError(
                f"The process that made {what} died {RETRIES + 1} times ({answer.reason}).\n  Memory may be short: "
                "take fewer at a time by --jobs or a larger --gpus, and run the same command again: what is done is "
                "kept."
            )
        made, blind = answer
        if blind and blind not in self._told:
            self._told.add(blind)
            console.warn(f"Ray counts a GPU of {blind}, and torch sees none there: its tasks run on the CPU.")
        return made


def _read(work: Work, one: Pass, device: str, threads: int) -> tuple[Path, str]:
    """In a task: the file of a pass, and this machine's name where it has no GPU and should."""
    work, blind = _placed(work, device, threads)
    return read_images(work, one), blind


def _trial(work: Work, trial: Trial, draw: Draw, device: str) -> tuple[dict[str, Any], str]:
    """In a task: a trial's record, and this machine's name where it has no GPU and should."""
    work, blind = _placed(work, device, 1)
    return do_trial(work, trial, draw), blind


def _placed(work: Work, device: str, threads: int) -> tuple[Work, str]:
    """The work on this machine's device."""
    torch.set_num_threads(threads)
    kind = pick_device(device).type
    blind = platform.node() if device == "auto" and kind == "cpu" else ""
    return replace(work, config=replace(work.config, device=kind)), blind


def _rooted(work: Work) -> Work:
    """The same work by absolute paths: a task has another working folder."""

    def rooted(images: Images) -> Images:
        return replace(images, store=Store.open(os.path.abspath(images.store.path)))

    train = rooted(work.train)
    return replace(
        work,
        out=Path(os.path.abspath(work.out)),
        train=train,
        test=train if work.test is work.train else rooted(work.test),
        sources={key: _source(source) for key, source in work.sources.items()},
        features={key: Path(os.path.abspath(file)) for key, file in work.features.items()},
    )


def _source(source: EncoderSource) -> EncoderSource:
    path = None if source.path is None else Path(os.path.abspath(source.path))
    return replace(source, path=path, files=tuple(Path(os.path.abspath(file)) for file in source.files))


def _seen(work: Work) -> list[SharedPath]:
    """What a machine must see: this very study and its stores, and the encoders' files."""
    inputs = work.out / INPUTS
    stores = {images.store.path: images.store.sha256 for images in (work.train, work.test)}
    seen = [SharedPath(f"the study folder {work.out}", inputs, sha256_file(inputs))]
    seen += [
        SharedPath(f"the store {path}", path / "manifest.json", sha256) for path, sha256 in stores.items()
    ]
    for source in dict.fromkeys(work.sources.values()):
        files = source.files + (() if source.path is None else (source.path / "encoder.json",))
        seen += [SharedPath(f"the encoder {source.name} ({file})", file) for file in files]
    return seen
