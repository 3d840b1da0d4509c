"""AUROC, average precision and partial AUROC: of all rows, or on many weightings of the patients at once.

Letters: N rows, P positives, M negatives, G steps of the ROC curve, B weightings (bootstrap replicates). The order of the
rows is worked out once per score column; a weighting then costs one running sum over the rows, whatever the ties, and
every measure reads the same curve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.metrics.checks import Floats, as_labels, as_scores


@dataclass(frozen=True)
class Curve:
    """The ROC curve of B weightings: a step for each score that a positive has, from the highest score to the lowest.

    `steps_GB`: weight of the positives of the step; `hits_GB`: of those at or above it; `above_GB`, `false_GB`: of the
    negatives above it, and at or above it (a tie is one step, along which the curve is straight); `negatives_B`: of all.
    """

    steps_GB: Floats
    hits_GB: Floats
    above_GB: Floats
    false_GB: Floats
    negatives_B: Floats


Measure: TypeAlias = Callable[[Curve], Floats]
"""The curve of each weighting -> a number of each (B,); NaN where a class has no weight."""


def curve_of(positive_N: NDArray[np.bool_], scores_N: Floats, unit_N: NDArray[np.intp]) -> Callable[[Floats], Curve]:
    """Prepare the ROC curve of one score column for many weightings of the units, (U, B).

    Args:
        positive_N: which rows are positive.
        scores_N: finite scores.
        unit_N: the unit (patient) of each row, an index into the weights.
    """
    order_N = np.argsort(-scores_N, kind="stable")  # once a column; resamples only change weights
    positives_P, negatives_M = order_N[positive_N[order_N]], order_N[~positive_N[order_N]]
    falling_P, falling_M = -scores_N[positives_P], -scores_N[negatives_M]
    last_G = np.append(np.flatnonzero(np.diff(falling_P)), falling_P.size - 1)
    above_G = np.searchsorted(falling_M, falling_P[last_G], side="left")
    upto_G = np.searchsorted(falling_M, falling_P[last_G], side="right")
    tied, tied_across = last_G.size < falling_P.size, bool((above_G != upto_G).any())
    positive_units, negative_units = unit_N[positives_P], unit_N[negatives_M]

    # The negatives between two steps are summed at once; a last, empty stretch may begin behind them all.
    bounds_S = np.unique(np.concatenate([[0], above_G, upto_G]))
    starts_S = bounds_S[bounds_S < negative_units.size]
    above_S, upto_S = np.searchsorted(bounds_S, above_G), np.searchsorted(bounds_S, upto_G)

    def weighted(weights_UB: Floats) -> Curve:
        false_SB = np.zeros((starts_S.size + 1, weights_UB.shape[1]))
        np.cumsum(np.add.reduceat(weights_UB[negative_units], starts_S, axis=0), axis=0, out=false_SB[1:])
        steps = weights_UB[positive_units]
        hits = np.cumsum(steps, axis=0)
        if tied:  # scores without ties, the usual case, skip these look-ups
            hits = hits[last_G]
            steps = np.diff(hits, axis=0, prepend=0.0)
        above = false_SB[above_S]
        return Curve(steps, hits, above, false_SB[upto_S] if tied_across else above, false_SB[-1])

    return weighted


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


def value_of(measure: Measure, labels: ArrayLike, scores: ArrayLike) -> float:
    """A measure of all rows, each counted once; arguments and errors as `auroc`."""
    return float(values_of(measure, labels, scores))


def values_of(measure: Measure, labels: ArrayLike, scores: ArrayLike) -> Floats:
    """The same of a measure that gives K numbers (K,)."""
    scores_N = as_scores(scores)
    positive_N = as_labels(labels, scores_N.size)
    # Each row its own unit, of weight 1: one code for data and resamples.
    curve = curve_of(positive_N, scores_N, np.arange(scores_N.size))
    return measure(curve(np.ones((scores_N.size, 1))))[..., 0]


def auroc_measure(curve: Curve) -> Floats:
    """The AUROC of each weighting (B,)."""
    passed_GB = curve.above_GB + curve.false_GB  # twice, since a tie counts one half
    outranked_B = curve.negatives_B * curve.hits_GB[-1] - (curve.steps_GB * passed_GB).sum(axis=0) / 2
    return safe_divide(outranked_B, curve.negatives_B * curve.hits_GB[-1])


def average_precision_measure(curve: Curve) -> Floats:
    """The average precision of each weighting (B,)."""
    called_GB = curve.hits_GB + curve.false_GB
    called_GB[called_GB == 0] = 1.0  # nothing is called: no positive weight either, the term is 0
    precision_GB = np.divide(curve.hits_GB, called_GB, out=called_GB)  # in place: blocks are cut to fit the cache
    precision_GB *= curve.steps_GB
    # Without negatives precision is 1 whatever the scores: undefined.
    return safe_divide(precision_GB.sum(axis=0), np.where(curve.negatives_B > 0, curve.hits_GB[-1], 0.0))


def partial_auroc_measure(curve: Curve) -> Floats:
    """The partial AUROC of each weighting (B,)."""
    positives_B, negatives_B = curve.hits_GB[-1], curve.negatives_B
    missed_GB = positives_B - curve.hits_GB  # from here on in weight, as the curve is
    reach_B = (1 - SENSITIVITY) * positives_B
    first = int(np.argmax((missed_GB < reach_B).any(axis=1)))  # steps before it lie outside in every weighting
    width_GB, missed_GB = curve.steps_GB[first:], missed_GB[first:]
    inside_GB = np.clip(reach_B - missed_GB, 0.0, width_GB)
    # The curve is straight over tied scores; of the step that crosses the reach, the lower end is inside.
    share_GB = inside_GB / np.where(width_GB > 0, width_GB, 1.0)
    above_GB, false_GB = curve.above_GB[first:], curve.false_GB[first:]
    false_alarms_B = (inside_GB * (false_GB + (above_GB - false_GB) * share_GB / 2)).sum(axis=0)
    reach = 1 - SENSITIVITY
    area_B = reach - safe_divide(false_alarms_B, positives_B * negatives_B)
    guess = reach**2 / 2  # the diagonal over the same sensitivities
    return (1 + (area_B - guess) / (reach - guess)) / 2


def safe_divide(top: ArrayLike, bottom: ArrayLike) -> Floats:
    """`top / bottom`, NaN where `bottom` is 0 or less: such a replicate is undefined."""
    over, under = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    # np.divide leaves what `where` excludes as it finds it.
    empty = np.full(np.broadcast_shapes(over.shape, under.shape), np.nan)
    return np.divide(over, under, out=empty, where=under > 0)
