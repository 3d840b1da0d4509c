"""Predictions of trials -> scores and resamples of one target, and the cells they give.

In each resample of the test patients: the AUROC of every draw, averaged over draws (arXiv 2010.05352). Nothing is
drawn anew between arms, so that all numbers of a target can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.errors import RunError, UndefinedError
from mococxr.measure.measures import MEASURES, Resampling, every, quoted_auroc
from mococxr.measure.units import join_units
from mococxr.metrics import Trials, bootstrap, cell, values_of
from mococxr.results import UNDEFINED
from mococxr.results import Row as Record
from mococxr.settings import StudySettings
from mococxr.studies.trial import predictions_path

LEVEL = 0.95
Floats = NDArray[np.float64]
Key = tuple[str, str, str, float]
"""arm, mode, target, fraction"""


@dataclass(frozen=True)
class Measured:
    """All trials of one target, those that are done on the same units and resamples: T trials, G units, B replicates.

    Args:
        records: every trial; one that is not done says in `status` why.
        done: the trials that the arrays are about, in their order.
        how: settings of how predictions are judged; with others nothing is trained again.
        images: the test images, `path, patient, study, label`.
        labels, patients: of the units; empty where no trial is done.
        replicates: of every metric (a key of `MEASURES`), shape (T, B).
    """

    records: list[Record]
    done: list[Record]
    how: StudySettings
    images: pl.DataFrame | None = None
    labels: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    scores_TG: Floats = field(default_factory=lambda: np.empty((0, 0)))
    patients: NDArray = field(default_factory=lambda: np.empty(0))
    replicates: dict[str, Floats] = field(default_factory=dict)

    @property
    def resampling(self) -> Resampling:
        """How patients are resampled."""
        return Resampling(self.how.replicates, self.how.seed, LEVEL)

    def members(self, key: Key) -> list[int]:
        """The trials of one cell, by their place in `done`."""
        return [i for i, record in enumerate(self.done) if key_of(record) == key]

    def trials(self, key: Key, measure: str = "auroc") -> Trials:
        """The trials of one cell by a metric."""
        members = self.members(key)
        records = [self.done[i] for i in members]  # in the order of `scores_TG` and `replicates`
        replicates = self.replicates[measure][members] if members else np.empty((0, 0))
        points, runs = [r[measure] for r in records], [r["run_index"] for r in records]
        return Trials([r["draw"] for r in records], points, replicates, runs)

    def scores(self, key: Key, draws: Sequence[int] | None = None) -> Floats:
        """The scores of the trials of one cell, (T, G); of some draws only."""
        return self.scores_TG[[i for i in self.members(key) if draws is None or self.done[i]["draw"] in draws]]

    def reason(self, key: Key) -> str:
        """Why a cell has no number: what its first undefined trial says."""
        reasons = [r["status"] for r in self.records if key_of(r) == key and r["status"] != "done"]
        return reasons[0].removeprefix(UNDEFINED) if reasons else "no resample of the test patients has both classes"


def key_of(record: Record) -> Key:
    """The cell that a trial belongs to."""
    return record["arm"], record["mode"], record["target"], record["fraction"]


def cell_names(key: Key) -> Record:
    """The first columns of a row about one cell."""
    return dict(zip(("arm", "mode", "target", "fraction"), key, strict=True))


def pair_names(key: Key, other: Key) -> Record:
    """The first columns of a row about one cell less another."""
    return cell_names(key) | {"against": other[0], "against_mode": other[1]}


def measure(out: Path, records: Sequence[Record], how: StudySettings) -> Measured:
    """Judge all finished trials of one target on the same resamples of its test patients.

    Args:
        records: the trials of one target; each gets `auroc` and `average_precision` here, None where it is
            undefined, with the reason in `status`.

    Raises:
        RunError: two trials were not judged on the same images (a file was exchanged).
    """
    trials = list(records)
    for record in trials:
        record.update(dict.fromkeys(MEASURES))
    done = [record for record in trials if record["status"] == "done"]
    if not done:
        return Measured(trials, [], how)
    images, by_image = _predictions(out, done)
    # Units are judged and resampled, not images.
    labels, scores_TG, patients = join_units(images, by_image, how.unit, how.aggregate)
    try:
        for record, scores in zip(done, scores_TG, strict=True):
            record.update(zip(MEASURES, values_of(every, labels, scores).tolist(), strict=True))
    except UndefinedError as error:  # by this unit the test labels are of one class: so it is for every trial
        for record in done:
            record["status"] = f"{UNDEFINED}{error}"
        return Measured(trials, [], how, images, labels, patients=patients)
    # All metrics at once, as `evaluate` does: the rows are sorted once a column.
    values_TKB = bootstrap(labels, scores_TG, patients, how.replicates, how.seed, measure=every)
    replicates = dict(zip(MEASURES, values_TKB.swapaxes(0, 1), strict=True))
    return Measured(trials, done, how, images, labels, scores_TG, patients, replicates)


def _predictions(out: Path, done: Sequence[Record]) -> tuple[pl.DataFrame, Floats]:
    """The test images, which all trials share, and the trials' scores of them, (T, N)."""
    tables = [pl.read_parquet(predictions_path(out, record["id"])) for record in done]
    images = tables[0].drop("score")  # same rows and order in all, which is checked
    for record, table in zip(done, tables, strict=True):
        if not table.drop("score").equals(images):  # scores are paired by their place
            raise RunError(
                f"{predictions_path(out, record['id'])} is not about the test images of the other trials: "
                f"remove it and trials/{record['id']}.json, and run the study again."
            )
    return images, np.stack([table["score"].to_numpy() for table in tables])


def cell_row(key: Key, measured: Measured) -> tuple[Record, int]:
    """A row of `cells.csv`, and how many of its resamples are undefined; where there is no number, `reason`."""
    row = cell_names(key) | _sizes(measured)
    trials = measured.trials(key)
    if not trials.draws:
        return row | {"reason": measured.reason(key)}, 0
    row.update({name: measured.trials(key, name).mean()[0] for name in MEASURES})
    row["draws"] = len(set(trials.draws))
    undefined = int(np.isnan(trials.mean()[1]).sum())
    row["draw_sd"] = trials.spread()  # beside the interval, which is over test patients alone
    for name, words in MEASURES.items():
        try:
            _, low, high = cell(measured.trials(key, name), LEVEL).ends()
        except UndefinedError as error:
            row["reason"] = f"no bootstrap interval: {error}"
            continue
        suffix = "_bootstrap" if name == "auroc" else ""  # its own low and high are by DeLong
        row.update({f"{words.prefix}low{suffix}": low, f"{words.prefix}high{suffix}": high})
    try:
        area = quoted_auroc(measured.labels, measured.scores(key), measured.patients, LEVEL)
        row.update({name: area[name] for name in ("low", "high", "method", "warning")})
    except UndefinedError as error:
        row["reason"] = f"no interval: {error}"
    return row, undefined


def _sizes(measured: Measured) -> Record:
    """How many units and patients are judged; blank where no trial is done."""
    labels, patients = measured.labels, measured.patients
    if not labels.size:
        return {}
    sizes = {"n_units": int(labels.size), "positives": int(labels.sum()), "patients": np.unique(patients).size}
    return sizes | {
        f"{word}_patients": int(np.unique(patients[labels == value]).size)
        for word, value in (("positive", 1), ("negative", 0))
    }


def undefined_entries(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What stands in `undefined` of study.json: one entry a draw, or one for a cell without any."""
    cells: dict[Key, list[Record]] = {}
    for record in records:
        cells.setdefault(key_of(record), []).append(record)
    entries = []
    for key, members in cells.items():
        lost = [r for r in members if r["status"] != "done"]
        whole = len(lost) == len(members)
        for record in lost[:1] if whole else lost:  # a cell without any number has one reason
            reason = record["status"].removeprefix(UNDEFINED)
            entries.append(cell_names(key) | {"draw": None if whole else record["draw"], "reason": reason})
    return entries
