"""Partial AUROC: the part of the ROC curve with a high sensitivity, where a screening test works.

Letters: N rows, B weightings (bootstrap replicates), G distinct scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.metrics.checks import Floats
from mococxr.metrics.ranking import Weighted, safe_divide, value_of

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


def partial_auroc_measure(
    positive_N: NDArray[np.bool_], scores_N: Floats, unit_N: NDArray[np.intp]
) -> Weighted:
    """Prepare the partial AUROC of one score column for many weightings; arguments as `auroc_measure`."""
    order_N = np.argsort(scores_N, kind="stable")
    rising_N = scores_N[order_N]
    last_G = np.append(np.flatnonzero(np.diff(rising_N)), rising_N.size - 1)  # tied rows fall below together
    positive, units = positive_N[order_N][:, None], unit_N[order_N]
    reach = 1 - SENSITIVITY

    def weighted(weights_UB: Floats) -> Floats:
        weights_NB = weights_UB[units]
        missed_GB = _shares(np.where(positive, weights_NB, 0.0), last_G)  # 1 - sensitivity
        specificity_GB = _shares(np.where(positive, 0.0, weights_NB), last_G)
        start, width = missed_GB[:-1], np.diff(missed_GB, axis=0)
        inside = np.clip(reach - start, 0.0, width)
        rise = np.diff(specificity_GB, axis=0) * inside / np.where(width > 0, width, 1.0)
        area_B = (inside * (specificity_GB[:-1] + rise / 2)).sum(axis=0)
        guess = reach**2 / 2
        return (1 + (area_B - guess) / (reach - guess)) / 2

    return weighted


def _shares(weights_NB: Floats, last_G: NDArray[np.intp]) -> Floats:
    """The share of the weight at or below each distinct score, from 0 to 1, shape (1 + G, B)."""
    sums_GB = np.cumsum(weights_NB, axis=0)[last_G]
    return np.concatenate([np.zeros_like(sums_GB[:1]), safe_divide(sums_GB, sums_GB[-1])])
