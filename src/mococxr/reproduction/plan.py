"""How long a step takes on this machine: a few real steps on random pixels, through the code that the runs use."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import polars as pl
import torch

from mococxr import commands
from mococxr.encoders import Encoder, EncoderSpec, build
from mococxr.features import features, pick_device
from mococxr.files import write_csv
from mococxr.heads.classifier import TrainConfig, TrainData
from mococxr.heads.finetune import EVALUATIONS, count_updates, train_by_gradient
from mococxr.heads.targets import Target
from mococxr.pretraining.dataset import gather_images
from mococxr.pretraining.hardware import make_accelerator
from mococxr.pretraining.loader import make_loader
from mococxr.pretraining.pretrain import build_method
from mococxr.reproduction.data import Data, Rows, labelled
from mococxr.reproduction.recipe import STUDY, Run, Study
from mococxr.settings import PretrainSettings, ReproduceSettings, make
from mococxr.store import Store
from mococxr.studies.design import slug

ENOUGH = 3.0
"""Seconds: a first step that took longer is not repeated."""
PRECISION = "no"
"""Mixed precision of pretraining: none, as on labels, on a GPU too."""
STEPS = 4
"""Steps that are averaged where one is short."""
RATIO = 1.22
"""Longer side of an image by its shorter one: 390 to 320, as CheXpert's small release."""


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
        store = noise_store(Path(folder), size, images=max(3 * batch, 8))
        paces = {}
        for name in backbones:
            spec = EncoderSpec(name, size, mean=mean, std=std)
            encoder = build(spec, seed=0)
            kept = torch.get_num_threads()
            pretrain = _pretrain(store, spec, batch, queue, device)
            compute = pick_device(device)
            torch.set_num_threads(1 if compute.type == "cpu" else kept)  # as trials run, side by side
            try:
                paces[name] = Pace(
                    pretrain,
                    _by_gradient(encoder, store, batch, compute, frozen=True),
                    _by_gradient(encoder, store, batch, compute, frozen=False),
                    _evaluation(encoder, store, batch, compute),
                )
            finally:
                torch.set_num_threads(kept)
    return paces


def noise_store(folder: Path, size: int, images: int) -> Store:
    """A store of random pixels, made by `prepare`: the shorter side is `size`, the longer `RATIO` of it."""
    chance = np.random.default_rng(0)
    for i in range(images):
        image = chance.integers(0, 256, (round(RATIO * size), size), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    table = {"path": [f"{i}.png" for i in range(images)], "patient": [f"p{i}" for i in range(images)]}
    pl.DataFrame(table | {"Finding": [i % 2 for i in range(images)]}).write_csv(folder / "images.csv")
    settings = {"source": folder / "images.csv", "out": folder / "store", "size": size, "split": (1, 0, 0), "jobs": 1}
    with contextlib.redirect_stderr(io.StringIO()):  # what is said of these images is of no use to anyone
        return commands.run("prepare", settings)


def _timed(do: Callable[[], Any], device: torch.device) -> float:
    started = time.perf_counter()
    do()
    if device.type == "cuda":
        torch.cuda.synchronize()  # a GPU's step is only queued when the call returns
    return time.perf_counter() - started


def _pretrain(store: Store, spec: EncoderSpec, batch: int, queue: int, device: str) -> float:
    """Seconds of a step of pretraining with the preset `paper`, its views included."""
    options = {
        "stores": [store.path], "out": ".", "preset": "paper", "backbone": spec.architecture, "init": "random",
        "size": spec.size, "batch": batch, "queue": queue, "device": device,
        "precision": PRECISION,
    }  # fmt: skip
    return pretrain_seconds(make(PretrainSettings, options), store)


def pretrain_seconds(settings: PretrainSettings, store: Store) -> float:
    """Seconds of a step of pretraining with these settings on the images of a store, its views included."""
    images = gather_images([store], (settings.size,), "train")
    accelerator = make_accelerator(settings.device, settings.precision)
    method = build_method(settings, accelerator)[0]  # not settled: the run's queue, which so few images would not allow
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


def _not_asked(*_: object) -> NoReturn:
    raise AssertionError("training by gradient asks for no features of the frozen encoder")


def _by_gradient(encoder: Encoder, store: Store, batch: int, compute: torch.device, frozen: bool) -> float:
    """Seconds of an update on labels: of one, or of some more less that one."""
    rows = np.arange(2 * batch)
    labels, none = (np.arange(len(store)) % 2).astype(np.int8), rows[:0]
    target = Target("timing", labels, rows, none, none, 0, 0, np.zeros_like(labels))
    data = TrainData(store, target, rows, encoder.spec.size, lambda: encoder, _not_asked, _not_asked)
    config = TrainConfig(batch=batch, checkpoints=0, device=str(compute))

    def train(updates: int) -> float:
        return _timed(
            lambda: train_by_gradient(
                data, dataclasses.replace(config, epochs=updates * batch / len(rows)), frozen=frozen
            ),
            compute,
        )  # fmt: skip

    first = train(1)  # setting up is in both times, and cancels
    return first if first > ENOUGH else max((train(1 + STEPS) - first) / STEPS, 1e-6)


def _evaluation(encoder: Encoder, store: Store, batch: int, compute: torch.device) -> float:
    """Seconds an image, read from the store and encoded."""

    def read(images: int) -> float:
        rows = np.arange(images)
        return _timed(
            lambda: features(encoder, store, rows, size=encoder.spec.size, device=compute, label=None), compute
        )

    first = read(min(batch, len(store)))
    if first > ENOUGH:
        return first / min(batch, len(store))
    return read(len(store)) / len(store)


def as_record(paces: dict[str, Pace]) -> dict[str, dict[str, float]]:
    """The paces as plain numbers."""
    return {name: {k: round(v, 4) for k, v in dataclasses.asdict(pace).items()} for name, pace in paces.items()}


SCHEMA = {
    "cell": pl.String, "trial": pl.String, "train_images": pl.Int64, "steps": pl.Int64,
    "seconds_per_step": pl.Float64, "hours": pl.Float64, "evaluation_hours": pl.Float64,
}  # fmt: skip
"""`hours` are those of the steps; reading validation and test images comes on top."""
KEPT = {"resnet18": 46e6, "densenet121": 32e6}
"""Bytes of an encoder's weights in float32."""
_EACH = ("train_images", "steps", "seconds_per_step")
Row = dict[str, Any]


def plan_rows(
    settings: ReproduceSettings,
    data: Data,
    runs: Sequence[Run],
    studies: Sequence[Study],
    draws: Mapping[float, list[Rows]],
    paces: Mapping[str, Pace],
) -> list[Row]:
    """A row for each pretraining run and each trial."""
    images, batch = len(data.images), settings.batch
    steps = images // batch * settings.epochs
    rows = [_row(run.id, run.name, images, steps, paces[run.backbone].pretrain, 0.0) for run in runs]
    for study in studies:
        for i, drawn in enumerate(draws[study.first.fraction]):
            rows += _trials(settings, data, study, i, drawn, paces[study.first.backbone])
    return rows


def _trials(settings: ReproduceSettings, data: Data, study: Study, draw: int, drawn: Rows, pace: Pace) -> Iterable[Row]:
    """The trials of one draw of a study, in every mode and arm."""
    cell = study.first
    images, positives = labelled(data, cell.task, drawn)
    both = 0 < positives < images
    solved = study.variant == "lbfgs"
    steps = count_updates(images, settings.batch, settings.train_epochs or cell.epochs) if both and not solved else 0
    # images read: validation at each look, test by each checkpoint
    read = min(EVALUATIONS, steps) * data.images_of["val"] + min(STUDY["checkpoints"], steps) * data.images_of["test"]
    if solved and draw == 0:  # features are read once for all draws
        read = len(data.images) + data.images_of["test"]
    for member in study.cells:
        trial = "-".join(map(slug, (member.task, member.mode, member.arm))) + f"-0-{member.fraction:g}-{draw}"
        step = pace.finetune if member.mode == "finetune" else pace.linear
        yield _row(member.id, f"{study.name}/{trial}", images, steps, 0.0 if solved else step, read * pace.image)


def _row(cell: str, trial: str, images: int, steps: int, pace: float, evaluation: float) -> Row:
    values = (cell, trial, images, steps, pace, steps * pace / 3600, evaluation / 3600)
    return dict(zip(SCHEMA, values, strict=True))


def write_plan(path: Path, rows: Sequence[Row]) -> pl.DataFrame:
    """Write plan.csv; returns it."""
    table = pl.DataFrame(rows, schema=SCHEMA)
    write_csv(path, table)
    return table


def disk_bytes(settings: ReproduceSettings, data: Data, runs: Sequence[Run]) -> dict[str, float]:
    """Bytes that the stores and the checkpoints of pretraining take; predictions are small."""
    images = len(data.images) + sum(data.images_of.values())
    # A checkpoint holds query, key and Adam's two moments; two of them are kept, and the encoder itself.
    checkpoints = sum((2 * 4 + 1) * KEPT.get(run.backbone, 100e6) for run in runs)
    return {"stores": images * settings.size**2 * RATIO, "checkpoints": checkpoints}


def summary(table: pl.DataFrame, disk: Mapping[str, float], jobs: int) -> str:
    """The plan as text: a line for each run and for each study and mode, and the sums."""
    hours = pl.col("hours") + pl.col("evaluation_hours")
    runs = table.filter(pl.col("cell").str.starts_with("pretraining/"))
    trials = table.filter(~pl.col("cell").str.starts_with("pretraining/"))
    parts = pl.col("cell").str.split("/")
    groups = trials.with_columns(
        folder=pl.col("trial").str.split("/").list.first(), mode=parts.list.get(2), hours=hours
    )
    joined = groups.group_by("folder", "mode", maintain_order=True).agg(
        pl.len().alias("trials"), pl.col("train_images").mean(), pl.col("steps").mean(),
        pl.col("seconds_per_step").first(), pl.col("hours").sum(),
    )  # fmt: skip
    lines = [_line("", "trials", "images each", "steps each", "s a step", "hours")]
    for row in runs.iter_rows(named=True):
        lines.append(_numbers(row["cell"], 1, *(row[name] for name in (*_EACH, "hours"))))
    for folder, mode, count, images, steps, pace, spent in joined.iter_rows():
        lines.append(_numbers(f"{folder} {mode}", count, images, steps, pace, spent))
    first, then = float(runs["hours"].sum()), float(trials.select(hours).sum().item())
    lines.append(
        f"pretraining {_hours(first)} hours, {len(trials):,} trials {_hours(then)} hours"
        + (f" ({_hours(then / jobs)} with {jobs} at a time)" if jobs > 1 else "")
        + f": {_hours(first + then / jobs)} hours in all, without decoding images"
    )
    need = ", ".join(f"{name} {size / 1e9:.3g} GB" for name, size in disk.items())
    lines.append(f"disk: {need}")
    return "\n".join(lines)


def _numbers(name: str, count: int, images: float, steps: float, pace: float, hours: float) -> str:
    return _line(name, f"{count:,}", f"{images:,.0f}", f"{steps:,.0f}", f"{pace:.3g}", _hours(hours))


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(name: str, *values: str) -> str:
    return f"{name:46}" + "".join(f"{value:>13}" for value in values)
