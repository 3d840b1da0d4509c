"""What an encoder saw before it met a label: the record of its run, with patients and files, or the sets of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from mococxr.encoders.spec import EncoderSource
from mococxr.encoders.training_data import TrainedOn, trained_on
from mococxr.files import read_json


def run_record(source: EncoderSource) -> dict[str, Any]:
    """`run.json`; empty where the encoder is no run, or a folder with an encoder alone."""
    record = source.path / "run.json" if source.path else None
    return dict(read_json(record)) if record and record.is_file() else {}


def published_of(source: EncoderSource) -> TrainedOn | None:
    """What the published weights that an encoder is, or that its run says it started from, were trained on."""
    if source.kind != "run":
        return trained_on(source.name)
    record = run_record(source)
    start = record.get("started_from")
    if start:
        return TrainedOn(start["known"], tuple(start["sets"]), start["labels"])
    return trained_on(record["init"]) if record.get("init") else None


def patients_seen(folder: Path, source: str) -> set[str] | None:
    """The patients of a source that a run was pretrained on; None where it does not say."""
    path = folder / "patients.csv"
    if not path.is_file():
        return None
    table = pl.read_csv(path, infer_schema=False)  # text: 007 stays 007
    # Numbers of other sources are other people.
    return set(table.filter(pl.col("source") == source)["patient"].to_list())


def files_seen(folder: Path) -> set[str] | None:
    """SHA-256 of the files that a run was pretrained on; None where it does not say."""
    path = folder / "images.parquet"
    return set(pl.read_parquet(path, columns=["sha256"])["sha256"].to_list()) if path.is_file() else None
