"""How long a step takes on this machine: a few real steps on random pixels, through the code that the runs use."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import torch

from mococxr import commands
from mococxr.encoders import Encoder, EncoderSpec, build
from mococxr.features import features, pick_device
from mococxr.heads.classifier import TrainConfig, TrainData
from mococxr.heads.finetune import train_by_gradient
from mococxr.heads.targets import Target
from mococxr.pretraining.dataset import gather_images
from mococxr.pretraining.hardware import make_accelerator
from mococxr.pretraining.loader import make_loader
from mococxr.pretraining.pretrain import build_method
from mococxr.settings import PretrainSettings, make
from mococxr.store import Store

ENOUGH = 3.0
"""Seconds: a first step that took longer is not repeated."""
PRECISION = "no"
"""Mixed precision of pretraining: none, as on labels, on a GPU too."""
STEPS = 4
"""Steps that are averaged where one is short."""


@dataclass(frozen=True)
class Pace:
    """Seconds a step of each kind, and seconds an image in evaluation, of one backbone."""

    pretrain: float
    linear: float
    finetune: float
    image: float


def measure(
    backbones: tuple[str, ...], *, size: int, batch: int, queue: int, mean: float, std: float, device: str
) -> dict[str, Pace]:
    """Time the steps of each backbone, from random weights: weights do not change how long a step takes.

    Args:
        size: side of a frame, px.
        batch: images a step.
        queue: keys.
        device: `auto`, `cpu`, `cuda` or `mps`. On a CPU training on labels is timed on one thread, as its
            trials run.
    """
    with tempfile.TemporaryDirectory(prefix="mococxr-") as folder:
        store = _noise(Path(folder), size, images=max(3 * batch, 8))
        found = {}
        for name in backbones:
            spec = EncoderSpec(name, size, mean=mean, std=std)
            encoder = build(spec, seed=0)
            kept = torch.get_num_threads()
            pretrain = _pretrain(store, spec, batch, queue, device)
            place = pick_device(device)
            torch.set_num_threads(1 if place.type == "cpu" else kept)
            try:
                found[name] = Pace(
                    pretrain,
                    _by_gradient(encoder, store, batch, place, frozen=True),
                    _by_gradient(encoder, store, batch, place, frozen=False),
                    _evaluation(encoder, store, batch, place),
                )
            finally:
                torch.set_num_threads(kept)
    return found


def _noise(folder: Path, size: int, images: int) -> Store:
    """A store of random pixels, made by `prepare`: the shorter side is `size`, the longer a quarter more."""
    chance = np.random.default_rng(0)
    for i in range(images):
        image = chance.integers(0, 256, (round(1.22 * size), size), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    table = {"path": [f"{i}.png" for i in range(images)], "patient": [f"p{i}" for i in range(images)]}
    pl.DataFrame(table | {"Finding": [i % 2 for i in range(images)]}).write_csv(folder / "images.csv")
    given = {
        "source": folder / "images.csv",
        "out": folder / "store",
        "size": size,
        "split": (1, 0, 0),
        "jobs": 1,
    }
    with contextlib.redirect_stderr(io.StringIO()):  # what is said of these images is of no use to anyone
        return commands.run("prepare", given)


def _timed(do: Callable[[], Any], device: torch.device) -> float:
    started = time.perf_counter()
    do()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _pretrain(store: Store, spec: EncoderSpec, batch: int, queue: int, device: str) -> float:
    """Seconds of a step of pretraining, its views included."""
    given = {
        "stores": [store.path], "out": ".", "preset": "paper", "backbone": spec.architecture, "init": "random",
        "size": spec.size, "batch": batch, "queue": queue, "device": device,
        "precision": PRECISION,
    }  # fmt: skip
    settings = make(PretrainSettings, given)
    images = gather_images([store], spec.size, "train", None)
    accelerator = make_accelerator(settings.device, settings.precision)
    method = build_method(settings, accelerator)[0]
    batches = make_loader(settings, images, accelerator).run(0, 1 + STEPS)

    def step() -> None:
        method.step(next(batches)[1].to(accelerator.device), settings.lr)

    return _steady(step, accelerator.device)


def _steady(step: Callable[[], None], device: torch.device) -> float:
    """Seconds of a step: the mean of some after the first, or the first where that was long."""
    first = _timed(step, device)
    if first > ENOUGH:
        return first

    def steps() -> None:
        for _ in range(STEPS):
            step()

    return _timed(steps, device) / STEPS


def _by_gradient(encoder: Encoder, store: Store, batch: int, place: torch.device, frozen: bool) -> float:
    """Seconds of an update on labels: of one, or of some more less that one."""
    rows = np.arange(2 * batch)
    labels, none = (np.arange(len(store)) % 2).astype(np.int8), rows[:0]
    target = Target("timing", labels, rows, none, none, 0, 0)
    data = TrainData(
        store, target, rows, encoder.spec.size, lambda: encoder, lambda _: np.empty((0, 0), np.float32)
    )
    config = TrainConfig(batch=batch, checkpoints=0, device=str(place))

    def train(updates: int) -> float:
        return _timed(
            lambda: train_by_gradient(
                data, dataclasses.replace(config, epochs=updates * batch / len(rows)), frozen=frozen
            ),
            place,
        )  # fmt: skip

    first = train(1)
    return first if first > ENOUGH else max((train(1 + STEPS) - first) / STEPS, 1e-6)


def _evaluation(encoder: Encoder, store: Store, batch: int, place: torch.device) -> float:
    """Seconds an image, read from the store and encoded."""

    def read(images: int) -> float:
        rows = np.arange(images)
        return _timed(
            lambda: features(encoder, store, rows, size=encoder.spec.size, device=place, label=None), place
        )

    first = read(min(batch, len(store)))
    if first > ENOUGH:
        return first / min(batch, len(store))
    return read(len(store)) / len(store)


def as_record(paces: dict[str, Pace]) -> dict[str, dict[str, float]]:
    """The paces as plain numbers."""
    return {
        name: {k: round(v, 4) for k, v in dataclasses.asdict(pace).items()} for name, pace in paces.items()
    }
