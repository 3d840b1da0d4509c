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

from mococxr.errors import UndefinedError
from mococxr.metrics.bootstrap import patient_resamples
from mococxr.metrics.checks import Floats, as_labels, as_scores, as_weights
from mococxr.metrics.proportions import Number, bootstrapped, ratio, repeats, resampled_sums, wilson

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
    sensitivity: Number
    specificity: Number
    ppv: Number
    npv: Number
    accuracy: Number
    f1: Number
    youden: Number


@dataclass(frozen=True)
class PredictiveValues:
    """PPV and NPV where `prevalence` of the patients have the finding."""

    prevalence: float
    ppv: Number
    npv: Number


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
    """
    values = as_scores(scores)
    positive = as_labels(labels, values.size)
    called = values >= threshold
    kinds_N4 = np.stack(
        [positive & called, ~positive & called, ~positive & ~called, positive & ~called], axis=1
    )
    counts = kinds_N4.sum(axis=0)
    if repeats(patients, values.size):
        ids = np.asarray(patients)
        counted_B4 = resampled_sums(kinds_N4, patient_resamples(ids, replicates, seed))
        each = np.array([np.unique(ids[kind]).size for kind in kinds_N4.T])
        numbers = _clustered(counts, counted_B4, each, level)
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


def _share(name: str, top: float, bottom: float, level: float, method: str = "Wilson") -> Number:
    if bottom == 0:
        called = {"ppv": "no row is called positive", "npv": "no row is called negative"}
        return Number(None, reason=called.get(name, "there are no such rows"))
    value, (low, high) = top / bottom, wilson(top, bottom, level)
    if name == "f1":
        how = method if method == FLAT else f"{method} of TP / (TP + FP + FN)"
        return Number(_f1(value), _f1(low), _f1(high), how)
    return Number(value, low, high, method)


def _wilson_numbers(counts: Floats, level: float) -> dict[str, Number]:
    found = {name: _share(name, float(t), float(b), level) for name, (t, b) in _shares(counts).items()}
    found["youden"] = _youden(found["sensitivity"], found["specificity"])
    return found


def _youden(sensitivity: Number, specificity: Number) -> Number:
    """Newcombe's interval of sensitivity + specificity - 1 from the intervals of the two."""
    (a, a_low, a_high), (b, b_low, b_high) = sensitivity.ends(), specificity.ends()
    value = a + b - 1
    low, high = value - np.hypot(a - a_low, b - b_low), value + np.hypot(a_high - a, b_high - b)
    return Number(value, float(low), float(high), "Newcombe")


def _clustered(counts: Floats, counted_B4: Floats, each: Floats, level: float) -> dict[str, Number]:
    """Bootstrap intervals; `each` counts the patients that have a row of each kind."""
    found = {}
    drawn, once = _shares(counted_B4), _shares(each)
    for name, (top, bottom) in _shares(counts).items():
        plain = _share(name, float(top), float(bottom), level)
        replicates_B = ratio(*drawn[name])
        if plain.value is None:
            found[name] = plain
        elif np.nanmin(replicates_B) == np.nanmax(replicates_B):
            flat = _share(name, float(once[name][0]), float(once[name][1]), level, FLAT)
            found[name] = replace(flat, value=plain.value)
        else:
            shown_B = _f1(replicates_B) if name == "f1" else replicates_B
            found[name] = bootstrapped(plain.value, shown_B, level)
    joint = _youden(found["sensitivity"], found["specificity"])
    if FLAT not in (found["sensitivity"].method, found["specificity"].method):
        joint_B = ratio(*drawn["sensitivity"]) + ratio(*drawn["specificity"]) - 1
        joint = bootstrapped(joint.ends()[0], joint_B, level)
    found["youden"] = joint
    return found


def threshold_for_sensitivity(
    labels: ArrayLike, scores: ArrayLike, wanted: float, weights: ArrayLike | None = None
) -> float:
    """The highest threshold at or above which the share `wanted` of the positives lies.

    It stands halfway between two scores, so that no rounding moves a row across. Choose it on validation
    rows: on other rows the sensitivity will differ, and on few positives by much.

    Args:
        labels: 1 or 0, both present, shape (N,).
        scores: shape (N,).
        wanted: sensitivity, above 0 and up to 1.
        weights: of the rows.
    """
    if not 0 < wanted <= 1:
        raise ValueError(f"the sensitivity must lie above 0 and not above 1, not {wanted}")
    thresholds, sensitivity, _ = _curve(labels, scores, weights)
    return float(thresholds[np.argmax(sensitivity >= wanted - 1e-12)])


def threshold_by_youden(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The threshold at which sensitivity + specificity is greatest; the highest such where several are.

    Arguments as `threshold_for_sensitivity`.
    """
    thresholds, sensitivity, specificity = _curve(labels, scores, weights)
    joint = sensitivity + specificity
    return float(thresholds[np.argmax(joint >= joint.max() - 1e-12)])


def _curve(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Thresholds just below every score, falling, with sensitivity and specificity at them.

    Each stands halfway to the next lower score; the last is the lowest score.
    """
    values = as_scores(scores)
    positive = as_labels(labels, values.size)
    heavy = as_weights(weights, values.size)
    falling, place = np.unique(-values, return_inverse=True)
    hits = np.cumsum(np.bincount(place, weights=heavy * positive))
    alarms = np.cumsum(np.bincount(place, weights=heavy * ~positive))
    if hits[-1] == 0 or alarms[-1] == 0:
        raise UndefinedError("one class has no weight")
    scores_down = -falling
    halfway = (scores_down[:-1] + scores_down[1:]) / 2
    between = np.where(
        halfway > scores_down[1:], halfway, scores_down[:-1]
    )  # neighbours among the floats have no middle
    return np.append(between, scores_down[-1]), hits / hits[-1], 1 - alarms / alarms[-1]


def predictive_values(point: OperatingPoint, prevalence: float) -> PredictiveValues:
    """PPV and NPV of an operating point where another share of the patients has the finding.

    Sensitivity and specificity are taken to stay as they are, which a change of setting may not grant. Odds of PPV =
    odds of the prevalence x sensitivity / (1 - specificity); the interval of the logarithm of that ratio is made from
    the intervals of its two parts (Zou and Donner, Statistics in Medicine 27:1693, 2008). Where that interval would
    be 0 to 1 (hardly a row is called negative, and none of them is positive), there is no number but a reason.

    Args:
        point: from `operating_point`.
        prevalence: between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"the prevalence must lie between 0 and 1, not {prevalence}")
    found, alarmed = point.sensitivity.ends(), _rest(point.specificity.ends())
    missed, cleared = _rest(point.sensitivity.ends()), point.specificity.ends()
    odds = float(logit(prevalence))
    return PredictiveValues(
        prevalence,
        _posterior(found, alarmed, odds, "positive"),
        _posterior(cleared, missed, -odds, "negative"),
    )


def _rest(ends: tuple[float, float, float]) -> tuple[float, float, float]:
    value, low, high = ends
    return 1 - value, 1 - high, 1 - low


def _posterior(
    right: tuple[float, float, float], wrong: tuple[float, float, float], odds: float, called: str
) -> Number:
    """The share of right calls, from the shares that are `called` so among the right and the wrong rows."""
    if right[0] <= 0 and wrong[0] <= 0:
        return Number(None, reason=f"no row is called {called}")
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
        return Number(
            None, reason=f"too few rows are called {called}: anything from 0 to 100 % would fit them"
        )
    return Number(float(shares[0]), float(shares[1]), float(shares[2]), "from sensitivity and specificity")
