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
from mococxr.metrics import (
    Trials,
    auroc,
    average_precision,
    bootstrap_auroc,
    bootstrap_average_precision,
    cell,
    paired_differences,
    with_draws,
)
from mococxr.study.trial import predictions_path
from mococxr.study.units import join_units

LEVEL = 0.95
METHOD = "paired bootstrap over test patients"
UNDEFINED = "undefined: "
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
    "reason": pl.String,
}  # fmt: skip
DIFFERENCE_SCHEMA = {
    "arm": pl.String, "against": pl.String, "mode": pl.String, "target": pl.String, "fraction": pl.Float64,
    "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64, "p": pl.Float64, "method": pl.String,
    "low_draws": pl.Float64, "high_draws": pl.Float64,
    "ap_difference": pl.Float64, "ap_low": pl.Float64, "ap_high": pl.Float64, "reason": pl.String,
}  # fmt: skip
ACROSS_SCHEMA = {**DIFFERENCE_SCHEMA, "against_mode": pl.String}


@dataclass(frozen=True)
class Measured:
    """All trials of one target, those that are done on the same units and resamples: T trials, B replicates.

    Args:
        records: every trial; one that is not done says in `status` why.
        done: the trials that the arrays are about, in their order.
        n_test, positives: units; None where no trial is done.
    """

    records: list[Record]
    done: list[Record]
    auroc_TB: NDArray[np.float64]
    precision_TB: NDArray[np.float64]
    n_test: int | None
    positives: int | None
    seed: int

    def trials(self, key: Key, measure: str) -> Trials:
        """The trials of one cell by `auroc` or `average_precision`."""
        members = [i for i, record in enumerate(self.done) if key_of(record) == key]
        replicates = self.auroc_TB if measure == "auroc" else self.precision_TB
        chosen = [self.done[i] for i in members]
        return Trials([r["draw"] for r in chosen], [r[measure] for r in chosen], replicates[members])

    def reason(self, key: Key) -> str:
        """Why a cell has no number: what its first undefined trial says."""
        said = [r["status"] for r in self.records if key_of(r) == key and r["status"] != "done"]
        return (
            said[0].removeprefix(UNDEFINED) if said else "no resample of the test patients has both classes"
        )


def key_of(record: Record) -> Key:
    """The cell that a trial belongs to."""
    return record["arm"], record["mode"], record["target"], record["fraction"]


def measure(
    out: Path, records: Sequence[Record], unit: str, vote: str, replicates: int, seed: int
) -> Measured:
    """Judge all finished trials of one target on the same resamples of its test patients.

    Args:
        records: the trials of one target; each gets `auroc` and `average_precision` here, None where it is
            undefined, with the reason in `status`.

    Raises:
        RunError: two trials were not judged on the same films (a file was exchanged).
    """
    every, nothing = list(records), np.empty((0, replicates))
    for record in every:
        record.update(auroc=None, average_precision=None)
    done = [record for record in every if record["status"] == "done"]
    if not done:
        return Measured(every, [], nothing, nothing, None, None, seed)
    labels, scores_TG, patients = join_units(*_predictions(out, done), unit, vote)
    try:
        for record, scores in zip(done, scores_TG, strict=True):
            record.update(auroc=auroc(labels, scores), average_precision=average_precision(labels, scores))
    except UndefinedError as error:  # by this unit the test labels are of one class: so it is for every trial
        for record in done:
            record["status"] = f"{UNDEFINED}{error}"
        return Measured(every, [], nothing, nothing, len(labels), int(labels.sum()), seed)
    arguments = (labels, scores_TG, patients, replicates, seed)
    aurocs, precisions = bootstrap_auroc(*arguments), bootstrap_average_precision(*arguments)
    return Measured(every, done, aurocs, precisions, len(labels), int(labels.sum()), seed)


def _predictions(out: Path, done: Sequence[Record]) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """The test films, which all trials share, and the trials' scores of them, (T, N)."""
    tables = [pl.read_parquet(predictions_path(out, record["id"])) for record in done]
    films = tables[0].drop("score")
    for record, table in zip(done, tables, strict=True):
        if not table.drop("score").equals(films):
            raise RunError(
                f"{predictions_path(out, record['id'])} is not about the test films of the other trials: "
                f"remove it and trials/{record['id']}.json, and run the study again."
            )
    return films, np.stack([table["score"].to_numpy() for table in tables])


def cell_row(key: Key, measured: Measured) -> tuple[Record, int]:
    """A row of `cells.csv`, and how many of its resamples are undefined; where there is no number, `reason`."""
    row: Record = dict(zip(("arm", "mode", "target", "fraction"), key, strict=True))
    row.update(n_test=measured.n_test, positives=measured.positives)
    try:
        found = cell(measured.trials(key, "auroc"), LEVEL)
        precision = cell(measured.trials(key, "average_precision"), LEVEL)
    except UndefinedError:
        return row | {"reason": measured.reason(key)}, 0
    row.update(auroc=found.value, low=found.low, high=found.high, draw_sd=found.draw_sd, draws=found.draws)
    row.update(average_precision=precision.value, ap_low=precision.low, ap_high=precision.high)
    return row, found.undefined


def difference_row(key: Key, reference: str, measured: Measured, against_mode: str | None = None) -> Record:
    """A row of `differences.csv`: the arm of `key` less the reference arm in the same cell.

    Args:
        against_mode: a row of `across.csv`: less the reference arm trained in this mode.
    """
    arm, mode, target, fraction = key
    other = (reference, against_mode or mode, target, fraction)
    row: Record = {"arm": arm, "against": reference, "mode": mode, "target": target, "fraction": fraction}
    row.update(method=METHOD, against_mode=other[1])
    ours, theirs = measured.trials(key, "auroc"), measured.trials(other, "auroc")
    try:
        found = paired_differences(ours, theirs, LEVEL)
        honest = with_draws(ours, theirs, measured.seed, LEVEL)
        by_precision = [measured.trials(one, "average_precision") for one in (key, other)]
        precision = paired_differences(by_precision[0], by_precision[1], LEVEL)
    except UndefinedError as error:
        lost = [measured.reason(one) for one in (key, other) if not measured.trials(one, "auroc").draws]
        return row | {"reason": lost[0] if lost else str(error)}
    row.update(difference=found.difference, low=found.low, high=found.high, p=found.p)
    row.update(ap_difference=precision.difference, ap_low=precision.low, ap_high=precision.high)
    return row | ({"low_draws": honest.low, "high_draws": honest.high} if honest else {})


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
            reason = record["status"].removeprefix(UNDEFINED)
            entries.append(base | {"draw": None if whole else record["draw"], "reason": reason})
    return entries


def table(rows: Sequence[Record], schema: dict[str, Any]) -> pl.DataFrame:
    """Rows as a frame with exactly the schema's columns; absent numbers are null."""
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
