"""What a threshold does: sensitivity, specificity, predictive values; how to choose it; another prevalence.

A row is called positive where its score is at or above the threshold. A threshold is chosen on validation rows and
judged on others. Letters: N rows, B replicates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from mococxr.metrics.checks import Floats, as_labels, as_patients, as_scores
from mococxr.metrics.intervals import Estimate, patient_resamples, percentile_estimate, resampled_sums, wilson
from mococxr.metrics.ranking import safe_divide

FLAT = "Wilson over patients: every resample gives the same"


@dataclass(frozen=True)
class OperatingPoint:
    """Counts at a threshold and what follows from them, each with its interval at `level`."""

    threshold: float
    level: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    accuracy: Estimate
    f1: Estimate
    youden: Estimate


@dataclass(frozen=True)
class PredictiveValues:
    """PPV and NPV where `prevalence` of the patients have the finding."""

    prevalence: float
    ppv: Estimate
    npv: Estimate


def operating_point(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    patients: ArrayLike | None = None,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> OperatingPoint:
    """Judge a threshold that was chosen elsewhere.

    One row a patient: Wilson's intervals; that of F1 is Wilson's of TP / (TP + FP + FN), of which F1 is a function;
    that of Youden's J is Newcombe's of a difference (Statistics in Medicine 17:873, 1998, method 10). Patients with
    several rows: the bootstrap over patients; where all resamples agree (100 % sensitivity) that would have no width,
    and Wilson's interval is given with each patient counted once.

    Args:
        labels: 1 or 0, both present, shape (N,).
        scores: shape (N,).
        threshold: of the score.
        patients: patient of each row; None where each row is a patient of its own.
        level: coverage.
        replicates, seed: of the bootstrap.

    >>> point = operating_point([1, 1, 1, 0, 0], [0.9, 0.8, 0.3, 0.4, 0.1], threshold=0.5)
    >>> point.true_positives, point.false_positives, round(point.sensitivity.value, 3), point.ppv.value
    (2, 0, 0.667, 1.0)
    """
    values = as_scores(scores)
    positive = as_labels(labels, values.size)
    ids = as_patients(patients, values.size)
    called = values >= threshold
    kinds_N4 = np.stack([positive & called, ~positive & called, ~positive & ~called, positive & ~called], axis=1)
    counts = kinds_N4.sum(axis=0)
    if np.unique(ids).size < ids.size:
        counted_B4 = resampled_sums(kinds_N4, patient_resamples(ids, replicates, seed))
        # Of each kind of row: where every resample agrees, a patient counts once.
        patients_4 = np.array([np.unique(ids[kind]).size for kind in kinds_N4.T])
        numbers = _clustered(counts, counted_B4, patients_4, level)
    else:
        numbers = _wilson_numbers(counts, level)
    tp, fp, tn, fn = (int(count) for count in counts)
    return OperatingPoint(float(threshold), level, tp, fp, tn, fn, **numbers)


def _shares(counts: Floats) -> dict[str, tuple[Floats, Floats]]:
    """Numerator and denominator of each proportion; the counts (tp, fp, tn, fn) on the last axis."""
    tp, fp, tn, fn = np.moveaxis(np.asarray(counts), -1, 0)
    return {
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
        "accuracy": (tp + tn, tp + fp + tn + fn),
        "f1": (tp, tp + fp + fn),
    }


def _f1(jaccard: Any) -> Any:
    """F1 as a function of TP / (TP + FP + FN)."""
    return 2 * jaccard / (1 + jaccard)


def _share(name: str, top: float, bottom: float, level: float, method: str = "Wilson") -> Estimate:
    if bottom == 0:
        reasons = {"ppv": "no row is called positive", "npv": "no row is called negative"}
        return Estimate(None, reason=reasons.get(name, "there are no such rows"))
    value, (low, high) = top / bottom, wilson(top, bottom, level)
    if name == "f1":
        name_of_method = method if method == FLAT else f"{method} of TP / (TP + FP + FN)"
        return Estimate(_f1(value), _f1(low), _f1(high), name_of_method)
    return Estimate(value, low, high, method)


def _wilson_numbers(counts: Floats, level: float) -> dict[str, Estimate]:
    numbers = {name: _share(name, float(t), float(b), level) for name, (t, b) in _shares(counts).items()}
    numbers["youden"] = _youden(numbers["sensitivity"], numbers["specificity"])
    return numbers


def _youden(sensitivity: Estimate, specificity: Estimate) -> Estimate:
    """Newcombe's interval of sensitivity + specificity - 1 from the intervals of the two."""
    (a, a_low, a_high), (b, b_low, b_high) = sensitivity.ends(), specificity.ends()
    value = a + b - 1
    low, high = value - np.hypot(a - a_low, b - b_low), value + np.hypot(a_high - a, b_high - b)
    return Estimate(value, float(low), float(high), "Newcombe")


def _clustered(counts: Floats, counted_B4: Floats, patients_4: Floats, level: float) -> dict[str, Estimate]:
    """Bootstrap intervals; `patients_4` counts the patients that have a row of each kind."""
    numbers = {}
    drawn, by_patient = _shares(counted_B4), _shares(patients_4)
    for name, (top, bottom) in _shares(counts).items():
        plain = _share(name, float(top), float(bottom), level)
        replicates_B = safe_divide(*drawn[name])
        if plain.value is None:
            numbers[name] = plain
        elif np.nanmin(replicates_B) == np.nanmax(replicates_B):  # 100 %: the bootstrap has no width
            flat = _share(name, float(by_patient[name][0]), float(by_patient[name][1]), level, FLAT)
            numbers[name] = replace(flat, value=plain.value)
        else:
            replicates_B = _f1(replicates_B) if name == "f1" else replicates_B
            numbers[name] = percentile_estimate(plain.value, replicates_B, level)
    youden = _youden(numbers["sensitivity"], numbers["specificity"])
    if FLAT not in (numbers["sensitivity"].method, numbers["specificity"].method):
        youden_B = safe_divide(*drawn["sensitivity"]) + safe_divide(*drawn["specificity"]) - 1
        youden = percentile_estimate(youden.ends()[0], youden_B, level)
    numbers["youden"] = youden
    return numbers


def threshold_for_sensitivity(labels: ArrayLike, scores: ArrayLike, sensitivity: float) -> float:
    """The highest threshold at or above which the share `sensitivity` of the positives lies.

    It lies halfway between two scores, so that no rounding moves a row across. Choose it on validation
    rows: on other rows the sensitivity will differ, and on few positives by much.

    Args:
        labels: 1 or 0, both present, shape (N,).
        scores: shape (N,).
        sensitivity: above 0 and up to 1.

    >>> threshold_for_sensitivity([1, 1, 0, 0], [0.75, 0.5, 0.25, 0.0], sensitivity=1.0)
    0.375
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"the sensitivity must lie above 0 and not above 1, not {sensitivity}")
    thresholds, reached, _ = _curve(labels, scores)
    # The tolerance: 9 / 10 must reach 0.9 whatever the last bit.
    return float(thresholds[np.argmax(reached >= sensitivity - 1e-12)])


def threshold_by_youden(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold at which sensitivity + specificity is greatest; the highest such where several are.

    Arguments as `threshold_for_sensitivity`.

    >>> threshold_by_youden([1, 1, 0, 0], [0.75, 0.5, 0.25, 0.0])
    0.375
    """
    thresholds, sensitivity, specificity = _curve(labels, scores)
    joint = sensitivity + specificity
    return float(thresholds[np.argmax(joint >= joint.max() - 1e-12)])


def _curve(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Thresholds just below every score, falling, with sensitivity and specificity at them.

    Each lies halfway to the next lower score; the last is the lowest score.
    """
    values = as_scores(scores)
    positive = as_labels(labels, values.size)
    falling, order = np.unique(-values, return_inverse=True)
    hits = np.cumsum(np.bincount(order, weights=positive))
    false_alarms = np.cumsum(np.bincount(order, weights=~positive))
    scores_down = -falling
    halfway = (scores_down[:-1] + scores_down[1:]) / 2
    # Neighbours among the floats have no middle: there the threshold is the score itself.
    between = np.where(halfway > scores_down[1:], halfway, scores_down[:-1])
    thresholds = np.append(between, scores_down[-1])
    return thresholds, hits / hits[-1], 1 - false_alarms / false_alarms[-1]


def predictive_values(point: OperatingPoint, prevalence: float) -> PredictiveValues:
    """PPV and NPV of an operating point where another share of the patients has the finding.

    Sensitivity and specificity are taken to stay as they are, which a change of setting may not grant. Odds of PPV =
    odds of the prevalence x sensitivity / (1 - specificity); the interval of the logarithm of that ratio is made from
    the intervals of its two parts (Zou and Donner, Statistics in Medicine 27:1693, 2008). Where that interval would
    be 0 to 1 (hardly a row is called negative, and none of them is positive), there is no number but a reason.

    Args:
        point: from `operating_point`.
        prevalence: between 0 and 1.

    >>> point = operating_point([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.3, 0.6, 0.4, 0.1], threshold=0.5)
    >>> round(predictive_values(point, prevalence=0.1).ppv.value, 3)
    0.182
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"the prevalence must lie between 0 and 1, not {prevalence}")
    sensitivity, specificity = point.sensitivity.ends(), point.specificity.ends()
    odds = float(logit(prevalence))
    return PredictiveValues(
        prevalence,
        _posterior(sensitivity, _complement(specificity), odds, "positive"),
        _posterior(specificity, _complement(sensitivity), -odds, "negative"),
    )


def _complement(ends: tuple[float, float, float]) -> tuple[float, float, float]:
    value, low, high = ends
    return 1 - value, 1 - high, 1 - low


def _posterior(
    right: tuple[float, float, float], wrong: tuple[float, float, float], odds: float, called: str
) -> Estimate:
    """The share of right calls, from the shares that are `called` so among the right and the wrong rows."""
    if right[0] <= 0 and wrong[0] <= 0:
        return Estimate(None, reason=f"no row is called {called}")
    with np.errstate(divide="ignore"):
        (a, a_low, a_high), (b, b_low, b_high) = np.log(right), np.log(wrong)
    if right[0] <= 0:  # the limits of the formulas below
        value, low, high = -np.inf, -np.inf, a_high - b_low
    elif wrong[0] <= 0:
        value, low, high = np.inf, a_low - b_high, np.inf
    else:
        value = a - b
        low, high = value - np.hypot(a - a_low, b_high - b), value + np.hypot(a_high - a, b - b_low)
    shares = expit(odds + np.array([value, low, high]))
    if shares[1] <= 0 and shares[2] >= 1:
        return Estimate(
            None, reason=f"too few rows are called {called}: any value from 0 to 100 % is compatible with them"
        )
    return Estimate(float(shares[0]), float(shares[1]), float(shares[2]), "from sensitivity and specificity")
