"""The plan: every trial with its images, steps, seconds per step and hours, before any image is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.files import write_csv
from mococxr.heads.finetune import EVALUATIONS, count_updates
from mococxr.reproduction.data import Data, Rows, labelled
from mococxr.reproduction.recipe import STUDY, Run, Study
from mococxr.reproduction.timing import Pace
from mococxr.settings import ReproduceSettings
from mococxr.studies.design import slug

SCHEMA = {
    "cell": pl.String, "trial": pl.String, "train_images": pl.Int64, "steps": pl.Int64,
    "seconds_per_step": pl.Float64, "hours": pl.Float64, "evaluation_hours": pl.Float64,
}  # fmt: skip
"""`hours` are those of the steps; reading validation and test images comes on top."""
RATIO = 1.22
"""Longer side of an image by its shorter one: 390 to 320, as CheXpert's small release."""
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


def _trials(
    settings: ReproduceSettings, data: Data, study: Study, draw: int, drawn: Rows, pace: Pace
) -> Iterable[Row]:
    """The trials of one draw of a study, in every mode and arm."""
    cell = study.first
    images, positives = labelled(data, cell.task, drawn)
    both = 0 < positives < images
    solved = study.variant == "solved"
    steps = (
        count_updates(images, settings.batch, settings.train_epochs or cell.epochs)
        if both and not solved
        else 0
    )
    read = (
        min(EVALUATIONS, steps) * data.images_of["val"]
        + min(STUDY["checkpoints"], steps) * data.images_of["test"]
    )
    if solved and draw == 0:  # features are read once for all draws
        read = len(data.images) + data.images_of["test"]
    for one in study.cells:
        trial = "-".join(map(slug, (one.task, one.mode, one.arm))) + f"-0-{one.fraction:g}-{draw}"
        step = pace.finetune if one.mode == "finetune" else pace.linear
        yield _row(one.id, f"{study.name}/{trial}", images, steps, 0.0 if solved else step, read * pace.image)


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
