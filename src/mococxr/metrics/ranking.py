"""AUROC and average precision for one weighting of the rows, or for many at once.

Letters: N rows, P positives, M negatives, B weightings (bootstrap replicates). The order of the rows is
worked out once per score column; a weighting then costs one running sum over the rows, whatever the ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats, as_labels, as_scores, as_weights

Measure: TypeAlias = Callable[[Floats], Floats]
"""Weights of the units (U, B) -> the measure of each weighting (B,); NaN where a class has no weight."""


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, a tie counting one half.

    Args:
        labels: 1 or 0, shape (N,).
        scores: higher means more likely positive, shape (N,).
        weights: row weights >= 0, shape (N,); all 1 by default.

    Raises:
        UndefinedError: one class is absent or has no weight.
    """
    return _one(auroc_measure, labels, scores, weights)


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Average precision: the sum over thresholds of precision times the step in recall, not interpolated.

    Arguments and errors as `auroc`.
    """
    return _one(average_precision_measure, labels, scores, weights)


def _one(
    make: Callable[[NDArray[np.bool_], Floats], Measure],
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None,
) -> float:
    scores_N = as_scores(scores)
    positive_N = as_labels(labels, scores_N.size)
    weights_N = as_weights(weights, scores_N.size)
    value = float(make(positive_N, scores_N)(weights_N[:, None])[0])
    if np.isnan(value):
        raise UndefinedError("one class has no weight")
    return value


def auroc_measure(
    positive_N: NDArray[np.bool_], scores_N: Floats, unit_N: NDArray[np.intp] | None = None
) -> Measure:
    """Prepare the AUROC of one score column for many weightings.

    Args:
        positive_N: which rows are positive.
        scores_N: finite scores.
        unit_N: the unit (patient) of each row, an index into the weights; each row its own by default.
    """
    units = np.arange(scores_N.size) if unit_N is None else unit_N
    negatives_M = np.flatnonzero(~positive_N)
    negatives_M = negatives_M[np.argsort(scores_N[negatives_M], kind="stable")]
    positives_P = np.flatnonzero(positive_N)
    positives_P = positives_P[np.argsort(scores_N[positives_P], kind="stable")]  # neighbours read neighbours
    below_P = np.searchsorted(scores_N[negatives_M], scores_N[positives_P], side="left")
    upto_P = np.searchsorted(scores_N[negatives_M], scores_N[positives_P], side="right")
    tied_P = np.flatnonzero(below_P != upto_P)
    negative_units, positive_units = units[negatives_M], units[positives_P]

    def measure(weights_UB: Floats) -> Floats:
        beaten = np.zeros((negatives_M.size + 1, weights_UB.shape[1]))
        np.cumsum(weights_UB[negative_units], axis=0, out=beaten[1:])
        weights_PB = weights_UB[positive_units]
        below_PB = beaten[below_P]
        if tied_P.size:
            below_PB[tied_P] = (below_PB[tied_P] + beaten[upto_P[tied_P]]) / 2
        below_PB *= weights_PB
        return _ratio(below_PB.sum(axis=0), weights_PB.sum(axis=0) * beaten[-1])

    return measure


def average_precision_measure(
    positive_N: NDArray[np.bool_], scores_N: Floats, unit_N: NDArray[np.intp] | None = None
) -> Measure:
    """Prepare the average precision of one score column for many weightings; arguments as `auroc_measure`."""
    units = np.arange(scores_N.size) if unit_N is None else unit_N
    order_N = np.argsort(-scores_N, kind="stable")
    positives_P = order_N[positive_N[order_N]]
    falling_N, falling_P = -scores_N[order_N], -scores_N[positives_P]
    # A threshold admits every row that is tied with it: look up the running sums at the end of the tie.
    last_of_all_P = np.searchsorted(falling_N, falling_P, side="right") - 1
    last_positive_P = np.searchsorted(falling_P, falling_P, side="right") - 1
    tied = bool((last_positive_P != np.arange(falling_P.size)).any())
    all_units, positive_units = units[order_N], units[positives_P]

    def measure(weights_UB: Floats) -> Floats:
        admitted_PB = np.cumsum(weights_UB[all_units], axis=0)[last_of_all_P]
        weights_PB = weights_UB[positive_units]
        true_PB = np.cumsum(weights_PB, axis=0)
        total_B = true_PB[-1].copy()
        missed_B = weights_UB[all_units].sum(axis=0) - total_B
        if tied:
            true_PB = true_PB[last_positive_P]
        admitted_PB[admitted_PB == 0] = 1.0  # nothing admitted: no positive weight either, the term is 0
        true_PB /= admitted_PB
        true_PB *= weights_PB
        return _ratio(true_PB.sum(axis=0), np.where(missed_B > 0, total_B, 0.0))

    return measure


def _ratio(top_B: Floats, bottom_B: Floats) -> Floats:
    """`top / bottom`, NaN where `bottom` is 0: the replicate is undefined."""
    return np.divide(top_B, bottom_B, out=np.full(top_B.shape, np.nan), where=bottom_B > 0)
