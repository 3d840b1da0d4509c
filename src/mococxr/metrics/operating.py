"""What a threshold does: sensitivity, specificity, predictive values; how to choose it; another prevalence.

A row is called positive where its score is at or above the threshold. A threshold is chosen on validation rows and
judged on others. Letters: N rows, U patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from mococxr.metrics.checks import Floats, as_labels, as_patients, as_scores, numbered
from mococxr.metrics.intervals import Estimate
from mococxr.metrics.proportions import correlation_over, difference_ends, proportion, share_moved

Limits = tuple[float, float, float]
"""A number, its lower and its upper limit."""


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
    lr_positive: Estimate
    lr_negative: Estimate


@dataclass(frozen=True)
class PredictiveValues:
    """PPV and NPV where `prevalence` of the patients have the finding."""

    prevalence: float
    ppv: Estimate
    npv: Estimate


def operating_point(
    labels: ArrayLike, scores: ArrayLike, threshold: float, patients: ArrayLike | None = None, level: float = 0.95,
    weights: Floats | None = None,
) -> OperatingPoint:  # fmt: skip
    """Judge a threshold that was chosen elsewhere.

    Shares have Wilson's interval over patients (`proportion`); that of F1 is of TP / (TP + FP + FN), of which F1 is a
    function. Youden's J is the difference of two shares, by their intervals (Newcombe, Statistics in Medicine 17:873,
    1998, method 10) and, where patients have images of both classes, their correlation. Likelihood ratios are quotients of
    two shares, joined in the same way on the logarithm; one that is infinite has a reason with its lower limit.

    Args:
        labels: 1 or 0, both present, shape (N,).
        scores: shape (N,).
        threshold: of the score.
        patients: patient of each row; None where each row is a patient of its own.
        level: coverage.
        weights: of the rows in the shares, (N,); None is 1 each. Counts are of rows.

    >>> point = operating_point([1, 1, 1, 0, 0], [0.9, 0.8, 0.3, 0.4, 0.1], threshold=0.5)
    >>> point.true_positives, point.false_positives, round(point.sensitivity.value, 3), point.ppv.value
    (2, 0, 0.667, 1.0)
    """
    values = as_scores(scores)
    positive = as_labels(labels, values.size)
    unit_N = numbered(as_patients(patients, values.size))
    called = values >= threshold  # at the threshold is positive, everywhere in this package
    right, either = positive == called, positive | called
    rows_of = {"sensitivity": positive, "specificity": ~positive, "ppv": called, "npv": ~called, "f1": either}
    rows_of["accuracy"] = np.ones_like(right)

    def weights_of(rows: NDArray[np.bool_]) -> Floats | None:
        return None if weights is None else weights[rows]

    shares = {name: _share(name, right[rows], unit_N[rows], level, weights_of(rows)) for name, rows in rows_of.items()}
    sensitivity, specificity = shares["sensitivity"].ends(), shares["specificity"].ends()
    size = int(unit_N.max()) + 1
    correlation = correlation_over(
        *(share_moved(right[rows], unit_N[rows], size, weights_of(rows)) for rows in (positive, ~positive))
    )
    # J = sensitivity - (1 - specificity): the complement turns the sign.
    low, high = difference_ends(sensitivity, _complement(specificity), -correlation)
    shares["youden"] = Estimate(sensitivity[0] + specificity[0] - 1, low, high, "Newcombe")
    shares["lr_positive"] = _likelihood_ratio(sensitivity, _complement(specificity), -correlation, "positive")
    shares["lr_negative"] = _likelihood_ratio(_complement(sensitivity), specificity, -correlation, "negative")
    tp, tn = int((positive & called).sum()), int((~positive & ~called).sum())
    fp, fn = int(called.sum()) - tp, int(positive.sum()) - tp
    return OperatingPoint(float(threshold), level, tp, fp, tn, fn, **shares)


def _share(
    name: str, hits: NDArray[np.bool_], unit_N: NDArray[np.intp], level: float, weights: Floats | None
) -> Estimate:
    if not hits.size:
        reasons = {"ppv": "no row is called positive", "npv": "no row is called negative"}
        return Estimate(None, reason=reasons.get(name, "there are no such rows"))
    estimate = proportion(hits, unit_N, level, weights)
    if name != "f1":
        return estimate
    # F1 rises with the share, so that its ends are those of the share.
    value, low, high = (2 * share / (1 + share) for share in estimate.ends())
    return Estimate(value, low, high, f"{estimate.method} of TP / (TP + FP + FN)")


def _likelihood_ratio(of_positive: Limits, of_negative: Limits, correlation: float, called: str) -> Estimate:
    """The share of the positives that are called so by that of the negatives."""
    if of_positive[0] <= 0 and of_negative[0] <= 0:
        return Estimate(None, reason=f"no row is called {called}")
    value, low, high = (float(np.exp(end)) for end in _log_ratio(of_positive, of_negative, correlation))
    if of_negative[0] <= 0:
        reason = f"no negative row is called {called}: the ratio is infinite, at least {low:.3g}"
        return Estimate(None, reason=reason)
    return Estimate(value, low, high, "from sensitivity and specificity")


def threshold_for_sensitivity(
    labels: ArrayLike, scores: ArrayLike, sensitivity: float, weights: Floats | None = None
) -> float:
    """The highest threshold at or above which the share `sensitivity` of the positives lies.

    It lies halfway between two scores, so that no rounding moves a row across. Choose it on validation
    rows: on other rows the sensitivity will differ, and on few positives by much.

    Args:
        labels: 1 or 0, both present, shape (N,).
        scores: shape (N,).
        sensitivity: above 0 and up to 1.
        weights: of the rows, (N,); None is 1 each.

    >>> threshold_for_sensitivity([1, 1, 0, 0], [0.75, 0.5, 0.25, 0.0], sensitivity=1.0)
    0.375
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"the sensitivity must lie above 0 and not above 1, not {sensitivity}")
    thresholds, reached, _ = _curve(labels, scores, weights)
    # The tolerance: 9 / 10 must reach 0.9 whatever the last bit.
    return float(thresholds[np.argmax(reached >= sensitivity - 1e-12)])


def threshold_by_youden(labels: ArrayLike, scores: ArrayLike, weights: Floats | None = None) -> float:
    """The threshold at which sensitivity + specificity is greatest; the highest such where several are.

    Arguments as `threshold_for_sensitivity`.

    >>> threshold_by_youden([1, 1, 0, 0], [0.75, 0.5, 0.25, 0.0])
    0.375
    """
    thresholds, sensitivity, specificity = _curve(labels, scores, weights)
    joint = sensitivity + specificity
    # The first is the highest; equal sums may differ in the last bit.
    return float(thresholds[np.argmax(joint >= joint.max() - 1e-12)])


def _curve(labels: ArrayLike, scores: ArrayLike, weights: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Thresholds just below every score, falling, with sensitivity and specificity at them.

    Each lies halfway to the next lower score; the last is the lowest score.
    """
    values = as_scores(scores)
    positive = as_labels(labels, values.size)
    falling, order = np.unique(-values, return_inverse=True)
    rows = 1.0 if weights is None else weights
    hits = np.cumsum(np.bincount(order, weights=positive * rows))
    false_alarms = np.cumsum(np.bincount(order, weights=~positive * rows))
    scores_down = -falling
    halfway = (scores_down[:-1] + scores_down[1:]) / 2
    # Neighbours among the floats have no middle: there the threshold is the score itself.
    between = np.where(halfway > scores_down[1:], halfway, scores_down[:-1])
    thresholds = np.append(between, scores_down[-1])  # below the lowest score there is nothing to lie halfway to
    return thresholds, hits / hits[-1], 1 - false_alarms / false_alarms[-1]


def predictive_values(point: OperatingPoint, prevalence: float) -> PredictiveValues:
    """PPV and NPV of an operating point where another share of the patients has the finding.

    Sensitivity and specificity are taken to stay as they are, which a change of setting may not grant. Odds of PPV =
    odds of the prevalence x sensitivity / (1 - specificity); the interval of the logarithm of that ratio is made from
    the intervals of its two parts (Zou and Donner, Statistics in Medicine 27:1693, 2008).

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


def _complement(ends: Limits) -> Limits:
    value, low, high = ends
    return 1 - value, 1 - high, 1 - low


def _posterior(right: Limits, wrong: Limits, odds: float, called: str) -> Estimate:
    """The share of right calls, from the shares that are `called` so among the right and the wrong rows."""
    if right[0] <= 0 and wrong[0] <= 0:
        return Estimate(None, reason=f"no row is called {called}")
    shares = expit(odds + np.array(_log_ratio(right, wrong)))
    return Estimate(float(shares[0]), float(shares[1]), float(shares[2]), "from sensitivity and specificity")


def _log_ratio(a: Limits, b: Limits, correlation: float = 0.0) -> Limits:
    """The logarithm of a / b and its ends, infinite where one of the two is 0."""
    with np.errstate(divide="ignore"):
        (value_a, low_a, high_a), (value_b, low_b, high_b) = np.log(a), np.log(b)
    if a[0] <= 0:  # the limits of the formula below
        return -np.inf, -np.inf, high_a - low_b
    if b[0] <= 0:
        return np.inf, low_a - high_b, np.inf
    ends = difference_ends((value_a, low_a, high_a), (value_b, low_b, high_b), correlation)
    return value_a - value_b, *ends
