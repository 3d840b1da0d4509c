"""The difference of two AUROC over patients, on the same rows or on different patients, with its interval and p.

Letters: N rows, T trials (label subsets, runs) whose mean AUROC is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from mococxr.metrics.auroc import Parts, area, area_of, delong_interval, parts_of
from mococxr.metrics.checks import Floats, as_columns, as_labels, as_patients, check_level, count_patients
from mococxr.metrics.proportions import Ends, mover, tail_at

ROUNDING = 1e-14
"""Variance of a difference of AUROC below which the two score columns rank the rows alike."""


@dataclass(frozen=True)
class DeLong:
    """DeLong's plain test of a difference, as other programs print it; `df` of Student's t, None for the normal test."""

    low: float
    high: float
    z: float
    p: float
    variance: float
    variance_a: float
    variance_b: float
    covariance: float
    df: float | None = None


@dataclass(frozen=True)
class Difference:
    """A number of a less that of b, with the interval to quote and the two-sided p of "no difference" that belongs to it.

    `p` is twice the tail at which the interval's end meets 0: it is below 0.05 where the 95 % interval leaves 0 out, and
    nowhere else. Of AUROC there are also `ends`, the interval at any level, and `delong`, the plain test, None where the
    classes are separated fully and so there is none. By the bootstrap there are the first four alone.
    """

    difference: float
    low: float
    high: float
    p: float
    delong: DeLong | None = None
    ends: Ends | None = field(default=None, repr=False, compare=False)

    @property
    def variance(self) -> float | None:
        """DeLong's variance of the difference; None where it has none."""
        return self.delong.variance if self.delong else None


def clustered_paired(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> Difference:
    """The difference of the AUROC of two score columns on the same rows, a less b, over patients.

    Its interval takes the wider end, on either side, of DeLong's and of MOVER's (Zou and Donner, Statistics in Medicine
    27:1693, 2008), which joins the intervals of the two AUROC by DeLong's correlation: DeLong's alone holds 77 to 92 %
    with 10 to 50 positives and an AUROC near 1 (`docs/statistics.md`). `delong` is DeLong's own test.
    Two columns that rank the rows alike differ by exactly 0, and p is 1.

    Args:
        labels: 1 or 0, shape (N,).
        scores_a, scores_b: shape (N,), or (T, N) for the mean AUROC of T trials; T may differ between the two.
        patients: patient of each row, shape (N,); None where each row is a patient of its own.
        level: coverage.

    Raises:
        UndefinedError: a class has rows of fewer than two patients.

    >>> result = clustered_paired([1, 1, 1, 0, 0, 0], [3, 2, 1, 2, 0, 0], [1, 3, 0, 2, 1, 0], list("abcdef"))
    >>> round(result.difference, 3), round(result.delong.p, 3), round(result.p, 3)
    (0.278, 0.264, 0.359)
    """
    check_level(level)
    columns_a, columns_b = as_columns(scores_a), as_columns(scores_b)
    parts, difference, variances = _paired(labels, columns_a, columns_b, patients)
    variance, first, second, shared = variances
    correlation = 0.0
    # Two that separate the classes fully have no variance either, and yet an interval.
    if variance == 0 and _rank_alike(columns_a, columns_b):
        same = DeLong(0.0, 0.0, 0.0, 1.0, *variances)
        return Difference(0.0, 0.0, 0.0, 1.0, same, lambda _: (0.0, 0.0))
    if variance > 0 and first > 0 and second > 0:
        correlation = float(np.clip(shared / np.sqrt(first * second), -1, 1))  # rounding may leave 1 + 1e-16
    size, positive, ids = len(columns_a), as_labels(labels), as_patients(patients, columns_a.shape[1])
    a = area_of(parts.some(slice(size)), positive, columns_a, ids)
    b = area_of(parts.some(slice(size, None)), positive, columns_b, ids)
    return _compared(difference, level, lambda tail: mover(a, b, correlation, tail), variances)


def delong_paired(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> DeLong | None:
    """DeLong's plain test alone, the `delong` of `clustered_paired`; arguments and errors as there.

    >>> round(delong_paired([1, 1, 1, 0, 0, 0], [3, 2, 1, 2, 0, 0], [1, 3, 0, 2, 1, 0]).p, 3)
    0.264
    """
    check_level(level)
    columns_a, columns_b = as_columns(scores_a), as_columns(scores_b)
    _, difference, variances = _paired(labels, columns_a, columns_b, patients)
    if variances[0] == 0 and _rank_alike(columns_a, columns_b):
        return DeLong(0.0, 0.0, 0.0, 1.0, *variances)
    return _delong(difference, (1 - level) / 2, variances)


def delong_unpaired(
    labels_a: ArrayLike, scores_a: ArrayLike, labels_b: ArrayLike, scores_b: ArrayLike, level: float = 0.95
) -> DeLong | None:
    """DeLong's plain test alone where each row is a patient, the `delong` of `clustered_unpaired`; errors as there.

    >>> labels, scores = [1, 1, 1, 0, 0, 0], [3, 2, 0, 1, 1, 0]
    >>> round(delong_unpaired(labels, scores, labels, [1, 2, 0, 1, 2, 0]).p, 3)
    0.584
    """
    check_level(level)
    a, b = (delong_interval(*table) for table in ((labels_a, scores_a), (labels_b, scores_b)))
    sides, sizes = (a.variance or 0.0, b.variance or 0.0), (np.size(scores_a), np.size(scores_b))
    variances = (sum(sides), *sides, 0.0)
    return _delong(a.ends()[0] - b.ends()[0], (1 - level) / 2, variances, _welch(sides, sizes))


def _welch(variances: tuple[float, float], patients: tuple[int, int]) -> float | None:
    """Degrees of freedom of a difference on different patients; they count patients, not rows, as pROC counts its rows."""
    spread = sum(variance**2 / (size - 1) for variance, size in zip(variances, patients, strict=True))
    return sum(variances) ** 2 / spread if spread else None


Variances = tuple[float, float, float, float]
"""Of the difference, of a, of b, and the covariance of a and b."""


def _paired(
    labels: ArrayLike, columns_a: Floats, columns_b: Floats, patients: ArrayLike | None
) -> tuple[Parts, float, Variances]:
    """The parts of all columns, a first; the difference of the means; its variances."""
    shares = np.zeros((2, len(columns_a) + len(columns_b)))
    shares[0, : len(columns_a)], shares[1, len(columns_a) :] = 1 / len(columns_a), 1 / len(columns_b)
    # Together: the covariance of a and b is needed.
    parts = parts_of(labels, np.concatenate([columns_a, columns_b]), patients)
    mean = parts.mean(shares)
    (first, second), shared = mean.covariance_KK.diagonal().tolist(), float(mean.covariance_KK[0, 1])
    variance = first + second - 2 * shared
    # Equal rankings must give exactly 0 and p = 1, not 1e-17 over 1e-9.
    variances = 0.0 if variance <= ROUNDING else variance, first, second, shared
    return parts, float(mean.areas_K[0] - mean.areas_K[1]), variances


def clustered_unpaired(
    labels_a: ArrayLike,
    scores_a: ArrayLike,
    patients_a: ArrayLike | None,
    labels_b: ArrayLike,
    scores_b: ArrayLike,
    patients_b: ArrayLike | None,
    level: float = 0.95,
) -> Difference:
    """The difference of AUROC on different patients, a less b: interval as `clustered_paired`, by Welch's t.

    Args:
        labels_a, labels_b: 1 or 0, each of its own length.
        scores_a, scores_b: finite.
        patients_a, patients_b: patient of each row, nobody in both; None where each row is a patient of its own.
        level: coverage.

    Raises:
        UndefinedError: a class has rows of fewer than two patients.

    >>> labels, scores = [1, 1, 1, 0, 0, 0], [3, 2, 0, 1, 1, 0]
    >>> result = clustered_unpaired(labels, scores, None, labels, [1, 2, 0, 1, 2, 0], None)
    >>> round(result.difference, 3), round(result.delong.p, 3)
    (0.222, 0.584)
    """
    check_level(level)
    tables = ((labels_a, as_columns(scores_a), patients_a), (labels_b, as_columns(scores_b), patients_b))
    a, b = (area(*table) for table in tables)
    # Patients of both classes, as pROC's df counts rows of both.
    first, second = (count_patients(as_patients(ids, columns.shape[1])) for _, columns, ids in tables)
    variances = (a.variance + b.variance, a.variance, b.variance, 0.0)  # different patients: no covariance
    df = _welch((a.variance, b.variance), (first, second))
    return _compared(a.value - b.value, level, lambda tail: mover(a, b, 0.0, tail), variances, df)


def _delong(difference: float, tail: float, variances: Variances, df: float | None = None) -> DeLong | None:
    """DeLong's test (normal, or by Student's t with `df`); None where the difference has no variance."""
    error = float(np.sqrt(variances[0]))
    if not error:
        return None
    z = difference / error
    half = error * float(-ndtri(tail) if df is None else -stdtrit(df, tail))
    p = float(2 * ndtr(-abs(z)) if df is None else 2 * stdtr(df, -abs(z)))
    return DeLong(difference - half, difference + half, z, p, *variances, df)


def _compared(
    difference: float, level: float, wider: Ends, variances: Variances, df: float | None = None
) -> Difference:
    """DeLong's interval joined with a wider one."""

    def ends(tail: float) -> tuple[float, float]:
        low, high = wider(tail)
        plain = _delong(difference, tail, variances, df)
        return (min(low, plain.low), max(high, plain.high)) if plain else (low, high)

    delong = _delong(difference, (1 - level) / 2, variances, df)
    p = 2 * tail_at(wider, difference, 0.0)
    if delong:
        p = max(p, delong.p)  # an interval that joins two leaves 0 out only where both do
    return Difference(difference, *ends((1 - level) / 2), p, delong, ends)


def _rank_alike(a_TN: Floats, b_TN: Floats) -> bool:
    """Whether two sets of score columns order the rows in the same ways."""
    # As sets: the order of the trials does not count.
    a, b = (np.unique([np.unique(row, return_inverse=True)[1] for row in columns], axis=0) for columns in (a_TN, b_TN))
    return np.array_equal(a, b)
