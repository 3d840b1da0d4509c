"""Runs with planted faults, one for each verdict of `pretraining.diagnostics`; by flags where a flag can plant it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from mococxr.commands import run
from mococxr.pretraining import loader, moco
from mococxr.pretraining.pretrain import run as pretrain
from mococxr.settings import PretrainSettings
from mococxr.synthetic import write_synthetic

STEPS, TENTH = 520, 52
SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet", "init": "random", "channels": 1, "size": 32, "epochs": 40, "batch": 16, "queue": 128,
    "dim": 64, "lr": 1e-3, "momentum": 0.99, "schedule": "cosine", "warmup": 0.02, "crop": (0.6, 1.0), "log_every": 4,
    "save_every": 10**6, "device": "cpu", "workers": 1,
}  # fmt: skip
"""A run of 520 steps over 219 images, of which the tests make the first tenth; the queue is full after 8."""


def make_square_store(folder: Path) -> Path:
    """219 training images of 48 x 48 px: square, so that `--crop 1 1 --rotation 0 --flip 0` gives two equal views."""
    write_synthetic(folder / "images", 300, size=64, jobs=1)
    for path in sorted((folder / "images" / "images").glob("*.png")):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        side = min(image.shape)
        cv2.imwrite(str(path), image[:side, :side])
    out = folder / "store"
    run(
        "prepare",
        {"source": folder / "images", "out": out, "size": 48, "jobs": 1, "split": (0.7, 0.15, 0.15), "stratify": True},
    )
    return out


class Enough(Exception):
    """The first tenth is over."""


def _frozen_head(change: Callable[[torch.Tensor], object]) -> Any:
    class Frozen(moco.Projector):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            weight = self.head[-1].weight.requires_grad_(False)
            change(weight)

    return Frozen


def _one_direction(weight: torch.Tensor) -> None:
    weight.copy_(8 * weight[:, :1] * weight[:1])


def _shuffled(make: Any) -> Any:
    def views(self: Any, epoch: int, images: Any) -> torch.Tensor:
        both = make(self, epoch, images)
        both[1] = both[1].roll(1, dims=0)
        return both

    return views


def _own_keys_first(descend: Any) -> Any:
    """A step that enqueues the keys before the loss and not after it."""

    def wrong(method: Any, views: Any, lr: float, groups: Any, metadata: Any) -> Any:
        queue, contrast = method.queue, moco.info_nce
        taken: list[torch.Tensor] = []
        real = type(queue).enqueue

        def early(q: Any, k: Any, keys: torch.Tensor, temperature: float, same: torch.Tensor) -> Any:
            real(queue, k, groups)
            taken.append(k)
            return contrast(q, k, keys.clone(), temperature, same)  # the queue's own tensor, which now holds k

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(moco, "info_nce", early)
            patch.setattr(type(queue), "enqueue", lambda _, *keys: None if taken else real(queue, *keys))
            return descend(method, views, lr, groups, metadata)

    return wrong


FLAGS: dict[str, dict[str, Any]] = {
    "diverging": {"lr": 10.0},
    "too easy": {"crop": (1.0, 1.0), "rotation": 0.0, "flip": 0.0},
    "stale keys": {"momentum": 1.0},
}
FAULTS = [
    "learning", "diverging", "too easy", "stale keys", "collapsed", "dimensional collapse", "stuck",
    "self-negative, enqueued first",
]  # fmt: skip


def plant(fault: str, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Plant a fault by its flags, or in the code where no flag can."""
    if fault == "collapsed":
        patch.setattr(moco, "Projector", _frozen_head(torch.Tensor.zero_))
    elif fault == "dimensional collapse":
        patch.setattr(moco, "Projector", _frozen_head(_one_direction))
    elif fault == "stuck":
        patch.setattr(loader.BatchLoader, "views", _shuffled(loader.BatchLoader.views))
    elif fault.endswith("first"):
        patch.setattr(moco.MoCo, "step", _own_keys_first(moco.MoCo.step))
    return FLAGS.get(fault, {})


def first_tenth(store: Path, out: Path, fault: str, seed: int, patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The log of the first tenth of a run with a fault."""
    run_on = loader.BatchLoader.run

    def stopping(self: loader.BatchLoader, start: int, stop: int) -> Iterator[Any]:
        for step_number, views in run_on(self, start, stop):
            if step_number == TENTH:
                raise Enough
            yield step_number, views

    given = {**SETTINGS, **plant(fault, patch), "stores": (store,), "out": out, "seed": seed}
    patch.setattr(loader.BatchLoader, "run", stopping)
    with pytest.raises(Enough):
        pretrain(PretrainSettings(**given))
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
