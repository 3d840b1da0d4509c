"""A tiny synthetic store and a tiny run over it: what the tests of pretraining are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.commands import run
from mococxr.pretraining.pretrain import run as pretrain
from mococxr.settings import PretrainSettings
from mococxr.synthetic import write_synthetic

TIMES = ("seconds", "images_per_s")
"""Fields of the log that no rerun repeats."""

TINY: dict[str, Any] = {
    "backbone": "test_efficientnet",  # with batch norm; 0.1 million weights
    "init": "random",
    "size": 32,
    "epochs": 3,
    "batch": 8,
    "queue": 16,
    "dim": 32,
    "lr": 1e-3,
    "schedule": "cosine",
    "warmup": 0.2,
    "save_every": 4,
    "log_every": 3,
    "device": "cpu",
    "precision": "no",  # auto depends on the machine
}


def make_synthetic_store(folder: Path, images: int = 60) -> Path:
    """Prepare synthetic images of 96 px at 64 px; a patient's one to three images are one study, 0.7 0.1 0.2 split."""
    table = write_synthetic(folder / "images", images, size=96, jobs=1)
    frame = pl.read_csv(table, infer_schema=False)
    frame.with_columns(study="s-" + pl.col("patient")).write_csv(table)
    out = folder / "store"
    run(
        "prepare",
        {"source": folder / "images", "out": out, "size": 64, "jobs": 1, "split": (0.7, 0.1, 0.2), "stratify": True},
    )
    return out


def tiny(store: Path, out: Path, **others: Any) -> PretrainSettings:
    """Settings of a run of seconds: 15 steps on 40-odd images."""
    return PretrainSettings(**{**TINY, "stores": (store,), "out": out, **others})


def tiny_run(store: Path, out: Path, **others: Any) -> Path:
    """Pretrain with them."""
    return pretrain(tiny(store, out, **others))


def read_log(run_folder: Path, without: tuple[str, ...] = TIMES) -> list[dict[str, float]]:
    """The log without its times."""
    entries = map(json.loads, (run_folder / "log.jsonl").read_text().splitlines())
    return [{name: value for name, value in entry.items() if name not in without} for entry in entries]
