"""Partial AUROC: the part of the ROC curve with a high sensitivity, where a screening test works.

Letters: P positives, M negatives, G distinct scores of the positives, B weightings (bootstrap replicates).
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
    negatives_M, positives_P = np.flatnonzero(~positive_N), np.flatnonzero(positive_N)
    negatives_M = negatives_M[np.argsort(scores_N[negatives_M], kind="stable")]
    positives_P = positives_P[np.argsort(scores_N[positives_P], kind="stable")]
    rising_P, rising_M = scores_N[positives_P], scores_N[negatives_M]
    last_G = np.append(
        np.flatnonzero(np.diff(rising_P)), rising_P.size - 1
    )  # tied positives are missed together
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
    return np.concatenate(
        [safe_divide(np.zeros_like(sums_XB[:1]), sums_XB[-1:]), safe_divide(sums_XB, sums_XB[-1:])]
    )
