"""One classifier of a cell in use: its threshold and calibration from validation units, judged on the test units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.measure import operating
from mococxr.measure.measures import columns
from mococxr.measure.units import join_units, unit_numbers
from mococxr.results import Row as Record
from mococxr.studies.cells import LEVEL, Floats, Key, Measured, cell_names, pair_names
from mococxr.studies.trial import validation_path

METHOD = "platt"
RATES = ("sensitivity", "specificity", "ppv", "npv", "lr_positive", "lr_negative")


@dataclass(frozen=True)
class Classifier:
    """A trial with what its validation units gave: G test units.

    Args:
        record: of the trial; None where the cell has none that is done.
        scores: of the test units, (G,).
        n_validation, validation_positives: units that chose threshold and calibration.
        threshold, probabilities: of the score; calibrated, (G,); None where validation defines none.
        reason: why there is no threshold, or no calibration.
    """

    record: Record | None
    scores: Floats | None = None
    n_validation: int | None = None
    validation_positives: int | None = None
    threshold: float | None = None
    probabilities: Floats | None = None
    reason: str | None = None

    @property
    def called(self) -> NDArray[np.bool_] | None:
        """Which test units are called positive."""
        return None if self.threshold is None or self.scores is None else self.scores >= self.threshold


def classifiers_of(out: Path, key: Key, measured: Measured) -> list[Classifier]:
    """The classifiers of a cell by draw and run, one with the reason where no trial is done."""
    # The first is the one whose decisions are judged.
    records = sorted((measured.done[i] for i in measured.members(key)), key=lambda r: (r["draw"], r["run_index"]))
    return [fitted(out, record, measured) for record in records] or [Classifier(None, reason=measured.reason(key))]


SPREAD = ("threshold", "sensitivity", "specificity", "brier")
"""What is compared over the classifiers of a cell."""


def decision_row(key: Key, classifiers: Sequence[Classifier], measured: Measured) -> Record:
    """A row of `decisions.csv`: what the first classifier of a cell decides by, and the spread over all of them."""
    numbers = [_decisions(classifier, measured.labels == 1) for classifier in classifiers]
    row = cell_names(key) | {"classifiers": sum(each["threshold"] is not None for each in numbers)}
    for name in SPREAD:
        known = [value for each in numbers if (value := each[name]) is not None]
        row[name] = numbers[0][name]
        if known:
            ends = {"median": float(np.median(known)), "least": min(known), "most": max(known)}
            row |= {f"{name}_{end}": value for end, value in ends.items()}
    reasons = dict.fromkeys(classifier.reason for classifier in classifiers if classifier.reason)
    return row | {"reason": "; ".join(reasons) or None}


def _decisions(classifier: Classifier, positive: NDArray[np.bool_]) -> dict[str, float | None]:
    called, p = classifier.called, classifier.probabilities
    return {
        "threshold": classifier.threshold,
        "sensitivity": None if called is None else float(called[positive].mean()),
        "specificity": None if called is None else float(1 - called[~positive].mean()),
        "brier": None if p is None else float(((p - positive) ** 2).mean()),
    }


def fitted(out: Path, record: Record, measured: Measured) -> Classifier:
    """The classifier of a trial that is done."""
    how, scores = measured.how, measured.scores_TG[measured.done.index(record)]
    path = validation_path(out, record["id"])
    if not path.is_file():
        return Classifier(record, scores, reason="there are no validation images with a label and a score")
    images = pl.read_parquet(path)
    # Joined as the test images are: threshold and calibration are for units.
    labels, inputs, patients = join_units(images, images["score"].to_numpy(), how.unit, how.aggregate)
    sizes = int(labels.size), int(labels.sum())
    nothing = "neither calibration nor threshold is chosen"
    # The same rule for threshold and calibrator.
    few = metrics.too_few(labels, patients, consequence=nothing, split="validation")
    if few is not None:
        return Classifier(record, scores, *sizes, reason=few)
    # Of the score: a decision depends on no calibration.
    rule = operating.ThresholdRule("sensitivity", sensitivity=how.sensitivity)
    threshold = operating.choose_threshold(rule, labels, inputs, patients)
    try:
        calibrator = metrics.fit_calibrator(METHOD, labels, metrics.as_logits(inputs), patients)
    except UndefinedError as error:
        # A threshold is of the score and needs no calibration.
        return Classifier(record, scores, *sizes, threshold, reason=f"no calibration: {error}")
    return Classifier(record, scores, *sizes, threshold, calibrator.apply(metrics.as_logits(scores)))


def operating_rows(key: Key, classifier: Classifier, measured: Measured) -> dict[str, list[Record]]:
    """The rows of `calibration.csv`, `prevalence.csv` and of the curves about one cell."""
    row = cell_names(key) | {"method": METHOD, "wanted_sensitivity": measured.how.sensitivity}
    row |= {"n_validation": classifier.n_validation, "validation_positives": classifier.validation_positives}
    row |= {"threshold": classifier.threshold, "reason": classifier.reason}
    tables: dict[str, list[Record]] = {"calibration": [row], "prevalence": []}
    if classifier.record is None:
        return tables
    row |= {"draw": classifier.record["draw"], "prevalence": float(measured.labels.mean())}
    if classifier.threshold is not None and classifier.scores is not None:
        tested = measured.labels, classifier.scores, measured.patients, measured.resampling
        blocks, point = operating.point_block(classifier.threshold, *tested)
        row |= columns(blocks, RATES)
        row["reason"] = classifier.reason or operating.why_undefined(blocks, RATES)
        tables["prevalence"] = [
            cell_names(key) | {"prevalence": block["prevalence"]} | columns(block, ("ppv", "npv"))
            | {"reason": operating.why_undefined(block, ("ppv", "npv"))}
            for block in operating.predictive_blocks(point, operating.PREVALENCES)
        ]  # fmt: skip
    if classifier.probabilities is not None:
        try:
            tables |= _calibrated(row, key, classifier.probabilities, measured)
        except UndefinedError as error:
            row["reason"] = f"no calibration: {error}"
    return tables


def _calibrated(row: Record, key: Key, probabilities: Floats, measured: Measured) -> dict[str, list[Record]]:
    """The numbers of the calibration are put into the row; the rows of the curves."""
    block = operating.calibration_block(measured.labels, probabilities, measured.patients, measured.resampling)
    row |= {"ece_if_perfect": block["ece_if_perfect"]} | columns(block, operating.CALIBRATION)
    reasons = [row["reason"], *(f"{name}: {block[name]['reason']}" for name in WITH_REASON if "reason" in block[name])]
    row["reason"] = "; ".join(filter(None, reasons)) or None
    names = cell_names(key)
    bins = [
        names | {"bin": i, "mean_probability": point["mean_probability"], "observed": point["value"]}
        | {"low": point["low"], "high": point["high"], "count": point["rows"]}
        for i, point in enumerate(block["curve"])
    ]  # fmt: skip
    smooth = [names | {"point": i} | point for i, point in enumerate(block["smooth"]["curve"])]
    benefit = [
        names | {"threshold": point["threshold"]} | columns(point, operating.BENEFITS) for point in block["net_benefit"]
    ]
    return {"reliability": bins, "smooth_calibration": smooth, "decision_curve": benefit}


WITH_REASON = (*operating.CALIBRATION, "smooth")


ERRORS = 10
"""Errors of each kind and cell that are listed."""


def error_rows(key: Key, classifier: Classifier, measured: Measured) -> list[Record]:
    """Rows of `errors.csv` about one cell: the wrong calls whose scores are farthest from the threshold."""
    called, scores = classifier.called, classifier.scores
    if called is None or scores is None or measured.images is None:
        return []
    # The first image of each unit, which names its patient and study.
    first = np.unique(unit_numbers(measured.images, measured.how.unit), return_index=True)[1]
    positive, p = measured.labels == 1, classifier.probabilities
    rows = []
    for kind, wrong, falling in (("false negative", positive & ~called, 1), ("false positive", ~positive & called, -1)):
        units = np.flatnonzero(wrong)
        # `falling` 1: the lowest scores first; equal ones in the order of the units.
        for rank, unit in enumerate(units[np.argsort(falling * scores[units], kind="stable")][:ERRORS]):
            image = measured.images.row(int(first[unit]), named=True)
            of_unit = {name: image[name] for name in NAMES[measured.how.unit]}
            row = {"kind": kind, "rank": rank + 1, "score": scores[unit], "probability": None if p is None else p[unit]}
            rows.append(cell_names(key) | row | of_unit)
    return rows


NAMES = {"image": ("path", "patient", "study"), "study": ("patient", "study"), "patient": ("patient",)}
"""Unit -> what names it."""


def threshold_rows(key: Key, other: Key, measured: Measured, classifiers: Mapping[Key, Classifier]) -> list[Record]:
    """Rows of `threshold_differences.csv`: the arm of `key` less that of `other`, each at its own threshold."""
    a, b = classifiers[key], classifiers[other]
    names = pair_names(key, other)
    if a.threshold is None or b.threshold is None or a.scores is None or b.scores is None:
        reason = "an arm has no threshold (calibration.csv says why)"
        return [names | {"rate": rate, "reason": reason} for rate in RATES[:2]]
    blocks = operating.paired_blocks(
        measured.labels, (a.scores, b.scores), (a.threshold, b.threshold), measured.patients, LEVEL
    )
    renamed = {"value": "difference", "only_a": "only_arm", "only_b": "only_reference"}
    return [
        names | {"rate": rate} | {renamed.get(name, name): value for name, value in block.items()}
        for rate, block in blocks.items()
    ]
