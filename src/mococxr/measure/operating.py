"""Threshold and calibration: learned on validation rows, judged on others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.measure.measures import Block, Resampling, or_reason
from mococxr.metrics import OperatingPoint
from mococxr.metrics.checks import Floats

SENSITIVITY = 0.9
"""Sensitivity for which a threshold is chosen where no other is given."""

COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
RATES = ("sensitivity", "specificity", "ppv", "npv", "accuracy", "f1", "youden", "lr_positive", "lr_negative")
CALIBRATION = ("brier", "ece", "slope", "intercept", "observed_expected")
SHORT = {"ppv": "PPV", "npv": "NPV", "lr_positive": "LR+", "lr_negative": "LR−"}
"""Numbers that go by a short name in sentences."""
SHOWN_THRESHOLDS = (0.05, 0.1, 0.2, 0.5)
"""Thresholds of the probability whose net benefit is printed; files have that of all `THRESHOLDS`."""
THRESHOLDS = tuple(sorted((*SHOWN_THRESHOLDS, 0.01, 0.02, 0.15, 0.25, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)))
"""Thresholds of the probability at which the net benefit is measured."""

PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of positives for which predictive values are given."""

MAX_REPLICATES = 1000
"""Sets of labels that are drawn for the calibration error, at the most."""


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is chosen: `given` as `value`, by `youden`, or for a `sensitivity`."""

    by: str
    value: float | None = None
    sensitivity: float | None = None


def choose_threshold(
    rule: ThresholdRule, labels: NDArray, scores: Floats, patients: NDArray, weights: Floats | None = None,
    split: str = "validation",
) -> float:  # fmt: skip
    """The threshold by youden or for a sensitivity, from rows that did not train; `split` names them in errors.

    Raises:
        UndefinedError: a class has too few patients.
    """
    few = metrics.too_few(labels, patients, consequence="no threshold is chosen", split=split, weights=weights)
    if few is not None:
        raise UndefinedError(few)
    if rule.sensitivity is None:  # `given` has a value and is never chosen
        return metrics.threshold_by_youden(labels, scores, weights)
    return metrics.threshold_for_sensitivity(labels, scores, rule.sensitivity, weights)


def point_block(
    threshold: float, labels: NDArray, scores: Floats, patients: NDArray, how: Resampling, weights: Floats | None = None
) -> tuple[Block, OperatingPoint]:
    """What the threshold does on rows that did not choose it: counts, and the `RATES` with intervals."""
    point = metrics.operating_point(labels, scores, threshold, patients, how.level, weights)
    counts = {name: getattr(point, name) for name in COUNTS}
    return counts | {name: getattr(point, name).block() for name in RATES}, point


def paired_blocks(
    labels: NDArray, scores: tuple[Floats, Floats], thresholds: tuple[float, float], patients: NDArray, level: float
) -> dict[str, Block]:
    """`sensitivity` and `specificity` of the first score less those of the second, each at its own threshold."""
    few = metrics.too_few(labels, patients)  # both classes are asked for, whichever share is compared
    blocks = {}
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        rows = labels == label
        a, b = ((score[rows] >= threshold) == label for score, threshold in zip(scores, thresholds, strict=True))
        numbers = dataclasses.asdict(metrics.paired_shares(a, b, patients[rows], level))
        blocks[name] = {"value": numbers.pop("difference"), **numbers}
        if few is not None:
            blocks[name].update(p=None, reason=few)  # a p from a few patients would be quoted; the interval stays
    return blocks


def predictive_blocks(point: OperatingPoint, prevalences: Iterable[float]) -> list[Block]:
    """PPV and NPV where other shares of the patients have the finding; a `reason` in their blocks where undefined."""
    blocks = []
    for prevalence in prevalences:
        try:
            values = metrics.predictive_values(point, prevalence)
            ppv, npv = values.ppv.block(), values.npv.block()
        except UndefinedError as error:
            ppv = npv = {"value": None, "low": None, "high": None, "reason": str(error)}
        blocks.append({"prevalence": prevalence, "ppv": ppv, "npv": npv})
    return blocks


def why_undefined(blocks: Block, names: Iterable[str]) -> str | None:
    """Why some of the rates are undefined, `NPV: no row is called negative`; None where all are defined."""
    reasons = [f"{SHORT.get(name, name)}: {blocks[name]['reason']}" for name in names if blocks[name]["value"] is None]
    return "; ".join(reasons) or None


def calibration_block(labels: NDArray, probabilities: Floats, patients: NDArray, how: Resampling) -> Block:
    """How right probabilities are on rows that did not fit them: the numbers of `CALIBRATION`, `ece_if_perfect`,
    `curve` (the bins of the reliability curve), `smooth` (the curve without bins), `net_benefit` (the decision curve) and
    `replicates` (sets of labels drawn for the calibration error).

    Raises:
        UndefinedError: a class has too few patients.
    """
    few = metrics.too_few(labels, patients, consequence="no calibration is judged")
    if few is not None:
        raise UndefinedError(few)
    replicates = min(MAX_REPLICATES, how.on(labels.size).replicates)  # each draws a label for every image
    result = metrics.calibration(labels, probabilities, patients, replicates=replicates, seed=how.seed, level=how.level)
    numbers = {name: getattr(result, name).block() for name in CALIBRATION}
    curve = [
        {"mean_probability": point.mean_probability, **point.observed.block(), "rows": point.rows,
         "patients": point.patients}
        for point in result.curve
    ]  # fmt: skip
    points = metrics.net_benefit(labels, probabilities, THRESHOLDS, patients, how.level)
    benefit = [
        {"threshold": point.threshold, **{name: getattr(point, name).block() for name in BENEFITS}} for point in points
    ]
    smooth = or_reason(lambda: _smooth(labels, probabilities, patients, how.level), {"curve": []})
    return {
        **numbers, "ece_if_perfect": result.ece_if_perfect, "curve": curve, "smooth": smooth, "net_benefit": benefit,
        "replicates": replicates,
    }  # fmt: skip


BENEFITS = ("model", "all_positive", "gain")
"""Net benefits at a threshold: of the model, of calling every row positive, and of the one less the other."""


def _smooth(labels: NDArray, probabilities: Floats, patients: NDArray, level: float) -> Block:
    curve = metrics.smooth_calibration(labels, probabilities, patients, level)
    return {"curve": [dataclasses.asdict(point) for point in curve]}


@dataclass(frozen=True)
class ScoredRows:
    """Labelled rows with scores by heads that never saw their patients: what calibration and threshold are learned from.

    Args:
        labels, scores, patients: (N,); labels 1 or 0, scores 0 to 1.
        validation: which of them are validation rows, (N,); the others are training rows, cross-fitted.
        weights: one by the probability with which a row was chosen, (N,); None: 1 each.
        left_out: labels that are no part of them, since they were chosen by a rule with unknown probability.
        remedy: what helps where they are too few, as a sentence.
        how: how the scores were made; blank: `validation`, or `cross-fitted` where rows are no validation rows.
    """

    labels: NDArray
    scores: Floats
    patients: NDArray
    validation: NDArray[np.bool_]
    weights: Floats | None = None
    left_out: int = 0
    remedy: str = ""
    how: str = ""

    @property
    def split(self) -> str:
        """What their patients are called."""
        return "validation" if self.validation.all() and not self.how else "labelled"

    def counts(self) -> Block:
        """How the scores were made, and from how many images."""
        sizes = {
            prefix: {
                f"{prefix}images": int(rows.sum()),
                f"{prefix}patients": int(np.unique(self.patients[rows]).size),
                f"{prefix}positives": int((self.labels[rows] == 1).sum()),
            }
            for prefix, rows in (("validation_", self.validation), ("", np.ones_like(self.validation)))
        }
        how = self.how or ("validation" if self.validation.all() else "cross-fitted")
        return {"how": how, "weighted": self.weights is not None, **sizes["validation_"], **sizes[""],
                "left_out": self.left_out}  # fmt: skip

    def too_few(self, consequence: str) -> str | None:
        """Why they are too few, with the remedy; None where they are not."""
        reason = f"There are no labelled {self.split} images; {consequence}."
        if self.labels.size:
            split, weights = self.split, self.weights
            few = metrics.too_few(self.labels, self.patients, consequence=consequence, split=split, weights=weights)
            if few is None:
                return None
            reason = few
        return f"{reason} {self.remedy}".rstrip()


def fit_blocks(rows: ScoredRows, calibrate: str, rule: ThresholdRule | None) -> dict[str, Block]:
    """The blocks `calibration` and `threshold` of a fitted model (`model.json`), both learned on images that did not train.

    The calibrator maps the logit of the score; the threshold is of the score itself, so that a decision depends on
    neither calibration nor prevalence. The rates at the threshold are of the images that chose it.

    Args:
        calibrate: platt, isotonic, temperature or none.
        rule: None for no threshold.

    Returns:
        What was fitted, or None in its place and a `reason` in words.
    """
    counts = rows.counts()
    return {"calibration": {**_fitted(rows, calibrate), **counts}, "threshold": {**_chosen(rows, rule), **counts}}


def _fitted(rows: ScoredRows, calibrate: str) -> Block:
    empty = {"method": None, "parameters": None, "prevalence": None, "intervals": None}
    if calibrate == "none":
        return {**empty, "reason": "--calibrate none"}
    few = rows.too_few("no calibration is fitted")
    if few is not None:
        return {**empty, "reason": few}
    used = rows.labels, metrics.as_logits(rows.scores), rows.patients
    try:
        fitted = metrics.fit_calibrator(calibrate, *used, weights=rows.weights)
    except UndefinedError as error:
        return {**empty, "reason": f"No calibration is fitted: {error}."}
    # of images, as the calibrator saw them: `at_prevalence` starts from it
    unit_N = np.unique(rows.patients, return_inverse=True)[1]
    share = metrics.proportion(rows.labels == 1, unit_N, weights=rows.weights)
    intervals = {"prevalence": list(share.ends()[1:])}
    if calibrate == "platt":
        intervals |= metrics.platt_intervals(fitted, *used, weights=rows.weights)
    return {
        "method": fitted.kind, "parameters": fitted.parameters(), "prevalence": share.value, "intervals": intervals,
        "reason": None,
    }  # fmt: skip


def _chosen(rows: ScoredRows, rule: ThresholdRule | None) -> Block:
    names = ("sensitivity", "specificity", "ppv", "npv")
    by, sensitivity = (rule.by, rule.sensitivity) if rule else ("none", None)
    empty = {"value": None, "by": by, "wanted_sensitivity": sensitivity, **dict.fromkeys(names)}
    if rule is None:
        return {**empty, "reason": "--threshold-by none"}
    few = rows.too_few("no threshold is chosen")
    if few is not None:
        return {**empty, "reason": few}
    used = rows.labels, rows.scores, rows.patients
    value = choose_threshold(rule, *used, rows.weights, rows.split)
    # These rates are too good: they are of the images that chose the threshold.
    blocks, _ = point_block(value, *used, Resampling(), rows.weights)
    return {**empty, "value": value, **{name: blocks[name] for name in names}, "reason": None}
