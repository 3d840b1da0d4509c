"""What a first user would do with a cell: probabilities and a threshold from validation images, judged on test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.errors import UndefinedError
from mococxr.metrics import (
    Calibration,
    Number,
    OperatingPoint,
    as_logits,
    calibration,
    fit_calibrator,
    operating_point,
    predictive_values,
    threshold_for_sensitivity,
    too_few,
)
from mococxr.metrics.calibration import affordable
from mococxr.results import Row as Record
from mococxr.studies.results import LEVEL, Floats, Key, Measured, cell_names
from mococxr.studies.trial import validation_path
from mococxr.studies.units import join_units

METHOD = "platt"
ELSEWHERE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of positives for which `prevalence.csv` says what a call would be worth."""
Rows = list[Record]


def operating_rows(out: Path, key: Key, measured: Measured) -> tuple[Record, Rows, Rows]:
    """A row of `calibration.csv`, and the rows of `reliability.csv` and `prevalence.csv`, of the cell's first draw."""
    row = cell_names(key) | {"method": METHOD, "wanted_sensitivity": measured.how.sensitivity}
    first = measured.first(key)
    if first is None:
        return row | {"reason": measured.reason(key)}, [], []
    row.update(draw=first["draw"], prevalence=float(measured.labels.mean()))
    validated = _validation(out, first["id"], measured)
    if validated is None:
        return row | {"reason": "there are no validation images with a label and a score"}, [], []
    labels, scores, patients = validated
    row.update(validation_images=int(labels.size), validation_positives=int(labels.sum()))
    nothing = "neither calibration nor threshold is chosen"
    few = too_few(labels, patients, consequence=nothing, split="validation")
    if few is not None:
        return row | {"reason": few}, [], []
    tested = measured.scores_TG[measured.done.index(first)]
    threshold = threshold_for_sensitivity(labels, scores, measured.how.sensitivity)
    point = _point(threshold, tested, measured)
    row.update(_point_columns(point))
    prevalence = _elsewhere(key, point)
    try:
        probabilities = fit_calibrator(METHOD, labels, as_logits(scores), patients).apply(as_logits(tested))
        found = _calibration(probabilities, measured)
    except UndefinedError as error:
        return row | {"reason": f"no calibration: {error}"}, [], prevalence
    row.update(_calibration_columns(found))
    return row, _curve(key, found), prevalence


def _validation(
    out: Path, trial: str, measured: Measured
) -> tuple[NDArray[np.int64], Floats, NDArray] | None:
    """Labels, scores and patients of the validation units of a trial; None where there are none."""
    path = validation_path(out, trial)
    if not path.is_file():
        return None
    images = pl.read_parquet(path)
    return join_units(images, images["score"].to_numpy(), measured.how.unit, measured.how.vote)


def _point(threshold: float, tested: Floats, measured: Measured) -> OperatingPoint:
    how = measured.how
    return operating_point(
        measured.labels, tested, threshold, measured.patients, LEVEL, how.replicates, how.seed
    )


def _calibration(probabilities: Floats, measured: Measured) -> Calibration:
    few = too_few(measured.labels, measured.patients, consequence="no calibration is judged")
    if few is not None:
        raise UndefinedError(few)
    how = measured.how
    replicates = affordable(how.replicates, measured.labels.size)
    return calibration(
        measured.labels, probabilities, measured.patients, replicates=replicates, seed=how.seed, level=LEVEL
    )


def _columns(name: str, number: Number) -> Record:
    return {name: number.value, f"{name}_low": number.low, f"{name}_high": number.high}


def _reasons(numbers: dict[str, Number]) -> str | None:
    """Why some of the numbers are not there: `NPV: no row is called negative`."""
    found = [f"{name.upper()}: {one.reason}" for name, one in numbers.items() if one.value is None]
    return "; ".join(found) or None


def _point_columns(point: OperatingPoint) -> Record:
    row: Record = {"threshold": point.threshold}
    numbers = {name: getattr(point, name) for name in ("sensitivity", "specificity", "ppv", "npv")}
    for name, number in numbers.items():
        row |= _columns(name, number)
    return row | {"reason": _reasons(numbers)}


def _calibration_columns(found: Calibration) -> Record:
    row: Record = {"ece_if_perfect": found.ece_if_perfect}
    for name in ("brier", "ece", "slope", "intercept"):
        row |= _columns(name, getattr(found, name))
    return row


def _curve(key: Key, found: Calibration) -> Rows:
    return [
        cell_names(key)
        | {"bin": i, "mean_probability": one.mean_probability, "share": one.observed.value, "n": one.rows}
        | {"low": one.observed.low, "high": one.observed.high}
        for i, one in enumerate(found.curve)
    ]


def _elsewhere(key: Key, point: OperatingPoint) -> Rows:
    """What a call would be worth where another share of the patients has the finding."""
    rows = []
    for share in ELSEWHERE:
        try:
            found = predictive_values(point, share)
        except UndefinedError:
            return []
        numbers = {"ppv": found.ppv, "npv": found.npv}
        row = cell_names(key) | {"prevalence": share, "reason": _reasons(numbers)}
        rows.append(row | _columns("ppv", found.ppv) | _columns("npv", found.npv))
    return rows
