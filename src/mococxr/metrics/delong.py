"""DeLong's variance of the AUROC, and the tests that rest on it.

Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44:837 (1988). The placement of a positive is the
share of the negatives that it outranks (a tie counts one half), that of a negative the share of the
positives that outrank it; both come from sorted scores in O(N log N) (Sun and Xu, IEEE Signal Processing
Letters 21:1389, 2014).

Letters: K score columns, N rows, P positives, M negatives. Every row counts as one independent patient: where
patients repeat, use the patient-cluster bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats, as_labels, as_scores


@dataclass(frozen=True)
class Estimate:
    """An AUROC with DeLong's variance and normal interval, cut at 0 and 1."""

    value: float
    variance: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Difference:
    """AUROC a - AUROC b, with normal interval and two-sided test.

    `variance` is that of the difference; `covariance` that of the two areas (0 for different patients).
    `df` is None where `p` comes from the normal distribution, else the degrees of freedom of Student's t.
    """

    difference: float
    low: float
    high: float
    z: float
    p: float
    variance: float
    variance_a: float
    variance_b: float
    covariance: float
    level: float
    df: float | None = None


def delong_covariance(labels: ArrayLike, scores_KN: ArrayLike) -> tuple[Floats, Floats]:
    """AUROC (K,) of score columns on the same rows, and the covariance matrix (K, K) of these areas.

    Raises:
        UndefinedError: a class has fewer than two rows.
    """
    outranked_KP, outranking_KM = placements(labels, scores_KN)
    areas_K = outranked_KP.mean(axis=1)
    return areas_K, _covariance(outranked_KP) + _covariance(outranking_KM)


def delong_variance(labels: ArrayLike, scores: ArrayLike) -> float:
    """DeLong's variance of the AUROC of one score column; errors as `delong_covariance`."""
    return float(delong_covariance(labels, as_scores(scores)[None])[1][0, 0])


def delong_interval(labels: ArrayLike, scores: ArrayLike, level: float = 0.95) -> Estimate:
    """AUROC with DeLong's variance and its normal interval at `level`; errors as `delong_covariance`."""
    areas, covariance = delong_covariance(labels, as_scores(scores)[None])
    value, variance = float(areas[0]), float(covariance[0, 0])
    half = _normal_half_width(variance, level)
    return Estimate(value, variance, max(0.0, value - half), min(1.0, value + half), level)


def delong_paired(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, level: float = 0.95
) -> Difference:
    """Compare two score columns on the same patients; z = (a - b) / standard error.

    Two columns that rank the rows alike differ by exactly 0 with variance 0: z is 0 and p is 1.

    Raises:
        UndefinedError: a class has fewer than two rows, or the difference is not 0 but has no variance.
    """
    scores_2N = np.stack([as_scores(scores_a), as_scores(scores_b)])
    outranked_2P, outranking_2M = placements(labels, scores_2N)
    covariance = _covariance(outranked_2P) + _covariance(outranking_2M)
    areas = outranked_2P.mean(axis=1)
    # The variance of the difference of placements, so that equal rankings give exactly 0.
    apart_P, apart_M = outranked_2P[0] - outranked_2P[1], outranking_2M[0] - outranking_2M[1]
    variance = float(apart_P.var(ddof=1) / apart_P.size + apart_M.var(ddof=1) / apart_M.size)
    difference = float(areas[0] - areas[1])
    z = _z(difference, variance)
    half = _normal_half_width(variance, level)
    return Difference(
        difference,
        difference - half,
        difference + half,
        z,
        float(2 * ndtr(-abs(z))),
        variance,
        float(covariance[0, 0]),
        float(covariance[1, 1]),
        float(covariance[0, 1]),
        level,
    )


def delong_unpaired(
    labels_a: ArrayLike, scores_a: ArrayLike, labels_b: ArrayLike, scores_b: ArrayLike, level: float = 0.95
) -> Difference:
    """Compare the AUROC of two score columns on different patients; errors as `delong_paired`.

    The statistic is read from Student's t with the degrees of freedom of Welch and Satterthwaite, as pROC
    does.
    """
    a, b = delong_interval(labels_a, scores_a), delong_interval(labels_b, scores_b)
    variance = a.variance + b.variance
    z = _z(a.value - b.value, variance)
    parts = [(a.variance, np.size(scores_a)), (b.variance, np.size(scores_b))]
    spread = sum(part**2 / (size - 1) for part, size in parts)
    df = variance**2 / spread if spread > 0 else float("inf")
    difference, half = a.value - b.value, _normal_half_width(variance, level)
    p = float(2 * stdtr(df, -abs(z))) if np.isfinite(df) else float(2 * ndtr(-abs(z)))
    low, high = difference - half, difference + half
    return Difference(difference, low, high, z, p, variance, a.variance, b.variance, 0.0, level, df)


def placements(labels: ArrayLike, scores_KN: ArrayLike) -> tuple[Floats, Floats]:
    """Placements of the positives (K, P) and of the negatives (K, M); errors as `delong_covariance`."""
    scores = as_scores(scores_KN, ndim=2)
    positive = as_labels(labels, scores.shape[1])
    count, rest = int(positive.sum()), int((~positive).sum())
    if min(count, rest) < 2:
        raise UndefinedError(
            f"DeLong's variance needs two rows of each class: {count} positive, {rest} negative"
        )
    outranked = np.stack([share_below(row[positive], row[~positive]) for row in scores])
    outranking = np.stack([1.0 - share_below(row[~positive], row[positive]) for row in scores])
    return outranked, outranking


def share_below(values: Floats, others: Floats) -> Floats:
    """The share of `others` below each value, ties counting one half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left")
    upto = np.searchsorted(ordered, values, side="right")
    return (below + upto) / (2.0 * others.size)


def _covariance(placements_KX: NDArray[np.float64]) -> Floats:
    """Covariance matrix (K, K) of the mean placement."""
    return np.atleast_2d(np.cov(placements_KX, ddof=1)) / placements_KX.shape[1]


def _normal_half_width(variance: float, level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, not {level}")
    return float(ndtri(0.5 + level / 2) * np.sqrt(variance))


def _z(difference: float, variance: float) -> float:
    if variance > 0:
        return float(difference / np.sqrt(variance))
    if difference == 0:
        return 0.0
    raise UndefinedError("the difference has no variance: each column separates the classes fully")
