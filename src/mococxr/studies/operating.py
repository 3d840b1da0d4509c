"""Calibration and threshold of a cell, from validation images, judged on test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.measure import operating
from mococxr.measure.measures import Block, columns
from mococxr.results import Row as Record
from mococxr.studies.results import Floats, Key, Measured, cell_names
from mococxr.studies.trial import validation_path
from mococxr.studies.units import join_units

METHOD = "platt"
PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of positives for which `prevalence.csv` has the predictive values."""
RATES = ("sensitivity", "specificity", "ppv", "npv")
Rows = list[Record]


def operating_rows(out: Path, key: Key, measured: Measured) -> tuple[Record, Rows, Rows]:
    """A row of `calibration.csv`, and the rows of `reliability.csv` and `prevalence.csv`, of the cell's first draw."""
    how = measured.how
    row = cell_names(key) | {"method": METHOD, "wanted_sensitivity": how.sensitivity}
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
    few = metrics.too_few(labels, patients, consequence=nothing, split="validation")
    if few is not None:
        return row | {"reason": few}, [], []
    tested = measured.labels, measured.scores_TG[measured.done.index(first)], measured.patients
    rule = operating.ThresholdRule("sensitivity", sensitivity=how.sensitivity)
    threshold = operating.choose_threshold(rule, labels, scores, patients)
    blocks, point = operating.point_block(threshold, *tested, how.resampling)
    row |= {"threshold": threshold} | columns(blocks, RATES)
    row["reason"] = operating.why_undefined(blocks, RATES)
    prevalence = [
        cell_names(key) | {"prevalence": block["prevalence"]} | columns(block, ("ppv", "npv"))
        | {"reason": operating.why_undefined(block, ("ppv", "npv"))}
        for block in operating.predictive_blocks(point, PREVALENCES)
    ]  # fmt: skip
    try:
        calibrator = metrics.fit_calibrator(METHOD, labels, metrics.as_logits(scores), patients)
        probabilities = calibrator.apply(metrics.as_logits(tested[1]))
        block = operating.calibration_block(tested[0], probabilities, tested[2], how.resampling)
    except UndefinedError as error:
        return row | {"reason": f"no calibration: {error}"}, [], prevalence
    row |= {"ece_if_perfect": block["ece_if_perfect"]} | columns(block, operating.CALIBRATION)
    return row, _curve(key, block), prevalence


def _validation(
    out: Path, trial: str, measured: Measured
) -> tuple[NDArray[np.int64], Floats, NDArray] | None:
    """Labels, scores and patients of the validation units of a trial; None where there are none."""
    path = validation_path(out, trial)
    if not path.is_file():
        return None
    images = pl.read_parquet(path)
    return join_units(images, images["score"].to_numpy(), measured.how.unit, measured.how.vote)


def _curve(key: Key, block: Block) -> Rows:
    return [
        cell_names(key)
        | {
            "bin": i,
            "mean_probability": point["mean_probability"],
            "share": point["value"],
            "n": point["rows"],
        }
        | {"low": point["low"], "high": point["high"]}
        for i, point in enumerate(block["curve"])
    ]
