"""Predictions of trials -> cells and differences, with intervals over test patients (arXiv 2010.05352).

In each resample of the test patients: the AUROC of every draw, averaged over draws; a difference is that of
two arms on the same resamples. Nothing is drawn anew between arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.errors import RunError, UndefinedError
from mococxr.metrics import Trials, bootstrap_auroc, bootstrap_average_precision, cell, paired_differences
from mococxr.study.trial import predictions_path
from mococxr.study.units import join_units

LEVEL = 0.95
METHOD = "paired bootstrap over test patients"
Record = dict[str, Any]
Key = tuple[str, str, str, float]
"""arm, mode, target, fraction"""

TRIAL_SCHEMA = {
    "trial": pl.String, "arm": pl.String, "run": pl.String, "mode": pl.String, "target": pl.String,
    "fraction": pl.Float64, "draw": pl.Int64, "train_films": pl.Int64, "train_patients": pl.Int64,
    "train_positives": pl.Int64, "auroc": pl.Float64, "average_precision": pl.Float64, "status": pl.String,
    "seconds": pl.Float64,
}  # fmt: skip
CELL_SCHEMA = {
    "arm": pl.String, "mode": pl.String, "target": pl.String, "fraction": pl.Float64, "auroc": pl.Float64,
    "low": pl.Float64, "high": pl.Float64, "draw_sd": pl.Float64, "n_test": pl.Int64, "positives": pl.Int64,
    "average_precision": pl.Float64, "ap_low": pl.Float64, "ap_high": pl.Float64, "draws": pl.Int64,
}  # fmt: skip
DIFFERENCE_SCHEMA = {
    "arm": pl.String, "against": pl.String, "mode": pl.String, "target": pl.String, "fraction": pl.Float64,
    "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64, "p": pl.Float64, "method": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """All finished trials of one target on the same units and resamples: T trials, B replicates."""

    records: list[Record]
    auroc_TB: NDArray[np.float64]
    precision_TB: NDArray[np.float64]
    n_test: int
    positives: int

    def trials(self, key: Key, measure: str) -> Trials:
        """The trials of one cell by `auroc` or `average_precision`."""
        members = [i for i, record in enumerate(self.records) if key_of(record) == key]
        replicates = self.auroc_TB if measure == "auroc" else self.precision_TB
        chosen = [self.records[i] for i in members]
        return Trials([r["draw"] for r in chosen], [r[measure] for r in chosen], replicates[members])


def key_of(record: Record) -> Key:
    """The cell that a trial belongs to."""
    return record["arm"], record["mode"], record["target"], record["fraction"]


def measure(
    out: Path, records: Sequence[Record], unit: str, vote: str, replicates: int, seed: int
) -> Measured | None:
    """Judge all finished trials of one target on the same resamples of its test patients.

    Returns:
        None where no trial of the target is defined.

    Raises:
        RunError: two trials were not judged on the same films (a file was exchanged).
    """
    done = [record for record in records if record["status"] == "done"]
    if not done:
        return None
    tables = [pl.read_parquet(predictions_path(out, record["id"])) for record in done]
    films = tables[0].drop("score")
    for record, table in zip(done, tables, strict=True):
        if not table.drop("score").equals(films):
            raise RunError(
                f"{predictions_path(out, record['id'])} is not about the test films of the other trials: "
                f"remove it and trials/{record['id']}.json, and run the study again."
            )
    scores_TN = np.stack([table["score"].to_numpy() for table in tables])
    labels, joined_TG, patients = join_units(films, scores_TN, unit, vote)
    arguments = (labels, joined_TG, patients, replicates, seed)
    return Measured(
        done,
        bootstrap_auroc(*arguments),
        bootstrap_average_precision(*arguments),
        len(labels),
        int(labels.sum()),
    )


def cell_row(key: Key, measured: Measured | None) -> tuple[Record, int]:
    """A row of `cells.csv`, and how many of its resamples are undefined; numbers blank where undefined."""
    row: Record = dict(zip(("arm", "mode", "target", "fraction"), key, strict=True))
    if measured is None:
        return row, 0
    row.update(n_test=measured.n_test, positives=measured.positives)
    try:
        found = cell(measured.trials(key, "auroc"), LEVEL)
        precision = cell(measured.trials(key, "average_precision"), LEVEL)
    except UndefinedError:
        return row, 0
    row.update(auroc=found.value, low=found.low, high=found.high, draw_sd=found.draw_sd, draws=found.draws)
    row.update(average_precision=precision.value, ap_low=precision.low, ap_high=precision.high)
    return row, found.undefined


def difference_row(key: Key, reference: str, measured: Measured | None) -> Record:
    """A row of `differences.csv`: the arm of `key` less the reference arm in the same cell."""
    arm, mode, target, fraction = key
    row: Record = {"arm": arm, "against": reference, "mode": mode, "target": target, "fraction": fraction}
    row["method"] = METHOD
    if measured is None:
        return row
    ours = measured.trials(key, "auroc")
    theirs = measured.trials((reference, mode, target, fraction), "auroc")
    try:
        found = paired_differences(ours, theirs, LEVEL)
    except UndefinedError:
        return row
    return row | {"difference": found.difference, "low": found.low, "high": found.high, "p": found.p}


def undefined_entries(records: Sequence[Record]) -> list[Record]:
    """What stands in `undefined` of study.json: one entry a draw, or one for a cell without any."""
    cells: dict[Key, list[Record]] = {}
    for record in records:
        cells.setdefault(key_of(record), []).append(record)
    entries = []
    for key, members in cells.items():
        lost = [r for r in members if r["status"] != "done"]
        base = dict(zip(("arm", "mode", "target", "fraction"), key, strict=True))
        whole = len(lost) == len(members)
        for record in lost[:1] if whole else lost:
            reason = record["status"].removeprefix("undefined: ")
            entries.append(base | {"draw": None if whole else record["draw"], "reason": reason})
    return entries


def table(rows: Sequence[Record], schema: dict[str, Any]) -> pl.DataFrame:
    """Rows as a frame with exactly the schema's columns; absent numbers are null."""
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
