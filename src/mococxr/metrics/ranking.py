"""AUROC and average precision of one score column: of all rows, or on many weightings of the patients at once.

Letters: N rows, P positives, M negatives, B weightings (bootstrap replicates). The order of the rows is
worked out once per score column; a weighting then costs one running sum over the rows, whatever the ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.metrics.checks import Floats, as_labels, as_scores

Weighted: TypeAlias = Callable[[Floats], Floats]
"""Weights of the units (U, B) -> the measure of each weighting (B,); NaN where a class has no weight."""

Measure: TypeAlias = Callable[[NDArray[np.bool_], Floats, NDArray[np.intp]], Weighted]
"""Which rows are positive (N,), their scores (N,), the unit of each row (N,) -> the measure of any weighting."""


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, a tie counting one half.

    Args:
        labels: 1 or 0, shape (N,).
        scores: higher means more likely positive, shape (N,).

    Raises:
        UndefinedError: one class is absent.

    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return value_of(auroc_measure, labels, scores)


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: the sum over thresholds of precision times the step in recall, not interpolated.

    Arguments and errors as `auroc`.

    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    return value_of(average_precision_measure, labels, scores)


def value_of(measure: Measure, labels: ArrayLike, scores: ArrayLike) -> float:
    """A measure of all rows, each counted once; arguments and errors as `auroc`."""
    scores_N = as_scores(scores)
    positive_N = as_labels(labels, scores_N.size)
    return float(measure(positive_N, scores_N, np.arange(scores_N.size))(np.ones((scores_N.size, 1)))[0])


def auroc_measure(positive_N: NDArray[np.bool_], scores_N: Floats, unit_N: NDArray[np.intp]) -> Weighted:
    """Prepare the AUROC of one score column for many weightings.

    Args:
        positive_N: which rows are positive.
        scores_N: finite scores.
        unit_N: the unit (patient) of each row, an index into the weights.
    """
    positives_P, negatives_M = _rising(positive_N, scores_N)
    below_P = np.searchsorted(scores_N[negatives_M], scores_N[positives_P], side="left")
    upto_P = np.searchsorted(scores_N[negatives_M], scores_N[positives_P], side="right")
    tied_P = np.flatnonzero(below_P != upto_P)
    negative_units, positive_units = unit_N[negatives_M], unit_N[positives_P]

    def weighted(weights_UB: Floats) -> Floats:
        beaten = np.zeros((negatives_M.size + 1, weights_UB.shape[1]))
        np.cumsum(weights_UB[negative_units], axis=0, out=beaten[1:])
        weights_PB = weights_UB[positive_units]
        below_PB = beaten[below_P]
        if tied_P.size:  # scores without ties, the usual case, skip this second look-up
            below_PB[tied_P] = (below_PB[tied_P] + beaten[upto_P[tied_P]]) / 2
        below_PB *= weights_PB
        return safe_divide(below_PB.sum(axis=0), weights_PB.sum(axis=0) * beaten[-1])

    return weighted


def _rising(positive_N: NDArray[np.bool_], scores_N: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The positive and the negative rows, each in the order of their scores: neighbours then read neighbours."""
    order_N = np.argsort(scores_N, kind="stable")
    return order_N[positive_N[order_N]], order_N[~positive_N[order_N]]


def average_precision_measure(positive_N: NDArray[np.bool_], scores_N: Floats, unit_N: NDArray[np.intp]) -> Weighted:
    """Prepare the average precision of one score column for many weightings; arguments as `auroc_measure`."""
    order_N = np.argsort(-scores_N, kind="stable")
    positives_P = order_N[positive_N[order_N]]
    falling_N, falling_P = -scores_N[order_N], -scores_N[positives_P]
    # A threshold admits every row that is tied with it: look up the running sums at the end of the tie.
    last_of_all_P = np.searchsorted(falling_N, falling_P, side="right") - 1
    last_positive_P = np.searchsorted(falling_P, falling_P, side="right") - 1
    tied = bool((last_positive_P != np.arange(falling_P.size)).any())
    all_units, positive_units = unit_N[order_N], unit_N[positives_P]

    def weighted(weights_UB: Floats) -> Floats:
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
        return safe_divide(true_PB.sum(axis=0), np.where(missed_B > 0, total_B, 0.0))

    return weighted


def safe_divide(top: ArrayLike, bottom: ArrayLike) -> Floats:
    """`top / bottom`, NaN where `bottom` is 0 or less: such a replicate is undefined."""
    over, under = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    empty = np.full(np.broadcast_shapes(over.shape, under.shape), np.nan)
    return np.divide(over, under, out=empty, where=under > 0)


SENSITIVITY = 0.9
"""Where the measured part of the curve begins."""


def partial_auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area over sensitivities of 0.9 and more, standardised by McClish: 0.5 is guessing, 1 is perfect.

    The mean specificity over sensitivities from 0.9 to 1, mapped linearly so that guessing (0.05) becomes 0.5
    (McClish, Medical Decision Making 9:190, 1989). Arguments and errors as `auroc`.

    >>> round(partial_auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.7368
    """
    return value_of(partial_auroc_measure, labels, scores)


def partial_auroc_measure(positive_N: NDArray[np.bool_], scores_N: Floats, unit_N: NDArray[np.intp]) -> Weighted:
    """Prepare the partial AUROC of one score column for many weightings; arguments as `auroc_measure`."""
    positives_P, negatives_M = _rising(positive_N, scores_N)
    rising_P, rising_M = scores_N[positives_P], scores_N[negatives_M]
    last_G = np.append(np.flatnonzero(np.diff(rising_P)), rising_P.size - 1)  # tied positives are missed together
    below_G = np.searchsorted(rising_M, rising_P[last_G], side="left")
    upto_G = np.searchsorted(rising_M, rising_P[last_G], side="right")
    negative_units, positive_units = unit_N[negatives_M], unit_N[positives_P]
    reach = 1 - SENSITIVITY
    guess = reach**2 / 2

    def weighted(weights_UB: Floats) -> Floats:
        missed_GB = _shares(weights_UB[positive_units])[np.append(0, last_G + 1)]  # 1 - sensitivity
        specificity_MB = _shares(weights_UB[negative_units])
        start_GB, width_GB = missed_GB[:-1], np.diff(missed_GB, axis=0)
        inside_GB = np.clip(reach - start_GB, 0.0, width_GB)
        low_GB, high_GB = specificity_MB[below_G], specificity_MB[upto_G]
        # The curve is straight over tied scores; the step that crosses the reach counts up to it.
        share_GB = inside_GB / np.where(width_GB > 0, width_GB, 1.0)
        area_B = (inside_GB * (low_GB + (high_GB - low_GB) * share_GB / 2)).sum(axis=0)
        return (1 + (area_B - guess) / (reach - guess)) / 2

    return weighted


def _shares(weights_XB: Floats) -> Floats:
    """The share of the weight in the first 0, 1, ... rows, shape (1 + X, B); NaN where there is no weight."""
    sums_XB = np.cumsum(weights_XB, axis=0)
    return np.concatenate([safe_divide(np.zeros_like(sums_XB[:1]), sums_XB[-1:]), safe_divide(sums_XB, sums_XB[-1:])])
