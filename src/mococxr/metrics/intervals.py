"""Numbers with intervals: the bootstrap over patients.

Patients are drawn with replacement, and their images come with them. A replicate is a vector of integer weights (how
often each patient was drawn), so a replicate of a measure is the measure with these weights: no row is copied, and
every score column is judged on the same resamples (paired). A replicate in which one class is absent is undefined:
NaN, counted, never replaced by a number.

Letters: N rows, U patients, B replicates, T trials (score columns), C columns of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats, as_labels, as_scores, check_level
from mococxr.metrics.ranking import Measure, auroc_measure, curve_of

BLOCK = 1 << 16
"""Rows times replicates handled at a time: half a MiB of float64, which stays in the processor's cache."""

DRAWN = 1 << 20
"""Patients times replicates drawn at a time: 8 MiB."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and how that was made; None and a `reason` where the data do not define one.

    `variance` is that of the number over patients, where the method has one.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str | None = None
    reason: str | None = None
    variance: float | None = None

    def ends(self) -> tuple[float, float, float]:
        """Value, low and high.

        Raises:
            UndefinedError: one of them is not defined.
        """
        if self.value is None or self.low is None or self.high is None:
            raise UndefinedError(self.reason or "the number has no interval")
        return self.value, self.low, self.high

    def block(self) -> dict[str, Any]:
        """As JSON holds it; `reason` stands only where there is one."""
        names = ("value", "low", "high", "method", *(["reason"] if self.reason else []))
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Resamples:
    """`weights_BU[b, u]`: how often replicate b drew patient u; `unit_N`: the patient of each row, from 0.

    `patients_U` are the patients' ids, sorted: the draw does not depend on the order of the rows.
    """

    weights_BU: NDArray[np.unsignedinteger]
    unit_N: NDArray[np.intp]
    patients_U: NDArray


def patient_resamples(patients: ArrayLike, replicates: int, seed: int, strata: ArrayLike | None = None) -> Resamples:
    """Draw `replicates` resamples of the patients, each as large as the whole.

    Args:
        patients: patient of each row, shape (N,).
        replicates: number of resamples.
        seed: of the draw; the same patients and seed give the same resamples.
        strata: a value for each row, shape (N,), the same on all rows of a patient; each resample then has
            as many patients of each stratum as the data. None draws from all patients alike, as the paper
            does.

    Raises:
        ValueError: no rows, fewer than one replicate, or a patient in two strata.

    >>> patient_resamples(["a", "a", "b"], replicates=3, seed=0).weights_BU.sum(axis=1).tolist()
    [2, 2, 2]
    """
    patients_U, unit_N, groups = _units(patients, replicates, strata)
    # A byte a count: that of U patients one is drawn more than 255 times has a chance below 1 in 255!.
    weights_BU = np.concatenate([block.astype(np.uint8) for block in _drawn(groups, replicates, seed)])
    return Resamples(weights_BU, unit_N, patients_U)  # kept whole: groups and labels read the same resamples


def _units(
    patients: ArrayLike, replicates: int, strata: ArrayLike | None
) -> tuple[NDArray, NDArray[np.intp], list[NDArray[np.intp]]]:
    """The patients (U,), the patient of each row (N,), and the groups inside which patients are drawn."""
    ids = np.asarray(patients)
    if ids.ndim != 1 or not ids.size or replicates < 1:
        raise ValueError("the bootstrap needs at least one row and one replicate")
    # Sorted: rows may come in any order.
    patients_U, first_U, unit_N = np.unique(ids, return_index=True, return_inverse=True)
    if strata is None:
        return patients_U, unit_N, [np.arange(patients_U.size)]
    stratum_N = np.asarray(strata)
    stratum_U = stratum_N[first_U]  # of the first row; all others of the patient must agree
    if not np.array_equal(stratum_N, stratum_U[unit_N]):
        raise ValueError("a patient is in two strata")
    return patients_U, unit_N, [np.flatnonzero(stratum_U == value) for value in np.unique(stratum_U)]


def _drawn(groups: list[NDArray[np.intp]], replicates: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """The weights of all replicates, in blocks (b, U) of bounded size."""
    rng = np.random.default_rng(seed)  # same patients and seed: same resamples, which pairs separate calls
    size = sum(group.size for group in groups)
    step = max(1, DRAWN // size)
    for start in range(0, replicates, step):
        block = np.empty((min(step, replicates - start), size), dtype=np.intp)
        for group in groups:
            block[:, group] = _counts(rng, len(block), group.size)
        yield block


def _all_but_one(size: int) -> Iterator[NDArray[np.intp]]:
    """Weights that leave out each unit in turn, in blocks (b, U) of bounded size."""
    step = max(1, DRAWN // size)
    for start in range(0, size, step):
        left_out = np.arange(start, min(start + step, size))
        block = np.ones((left_out.size, size), dtype=np.intp)
        block[np.arange(left_out.size), left_out] = 0
        yield block


def _counts(rng: np.random.Generator, replicates: int, size: int) -> NDArray[np.intp]:
    """How often each of `size` things is drawn in `size` draws with replacement, shape (replicates, size)."""
    drawn = rng.integers(0, size, size=(replicates, size))  # which patients; counted below
    drawn += np.arange(replicates)[:, None] * size  # so that one bincount counts all replicates
    return np.bincount(drawn.ravel(), minlength=replicates * size).reshape(replicates, size)


def bootstrap(
    labels: ArrayLike,
    scores_TN: ArrayLike,
    patients: ArrayLike,
    replicates: int,
    seed: int,
    strata: ArrayLike | None = None,
    measure: Measure = auroc_measure,
) -> Floats:
    """A measure of T score columns on the same `replicates` resamples of the patients, shape (T, B).

    Args:
        labels: 1 or 0, shape (N,).
        scores_TN: a score for each row and trial, all finite.
        patients: patient of each row, shape (N,).
        replicates, seed, strata: as `patient_resamples`.
        measure: AUROC by default; with the same seed another measure is of the same resamples. One that gives K
            numbers, (K, B), makes the result (T, K, B).

    Raises:
        ValueError: shapes that differ, or a row that a trial did not score.
        UndefinedError: one class is absent from the data.

    >>> bootstrap([0, 0, 1, 1], [[0.1, 0.3, 0.2, 0.9]], [1, 2, 3, 4], replicates=100, seed=0).shape
    (1, 100)
    """
    _, unit_N, groups = _units(patients, replicates, strata)
    return _replicates(measure, labels, scores_TN, unit_N, _drawn(groups, replicates, seed))


def jackknife(labels: ArrayLike, scores_TN: ArrayLike, patients: ArrayLike, measure: Measure = auroc_measure) -> Floats:
    """A measure without each patient in turn (patients sorted), shape (T, U): what a BCa interval needs.

    Arguments and errors as `bootstrap`; NaN where a class is gone with the patient.
    """
    patients_U, unit_N, _ = _units(patients, 1, None)
    return _replicates(measure, labels, scores_TN, unit_N, _all_but_one(patients_U.size))


def resampled(
    measure: Measure, labels: ArrayLike, scores_TN: ArrayLike, resamples: Resamples, rows: NDArray[np.bool_]
) -> Floats:
    """A measure of some of the rows (a group, the rows with a known label) on resamples of all patients.

    So the numbers of two groups belong to the same resamples. Shape (T, B); errors as `bootstrap`.
    """
    units = resamples.unit_N[rows]
    blocks = iter([resamples.weights_BU])
    return _replicates(measure, np.asarray(labels)[rows], np.asarray(scores_TN)[:, rows], units, blocks)


def _replicates(
    measure: Measure,
    labels: ArrayLike,
    scores_TN: ArrayLike,
    unit_N: NDArray[np.intp],
    blocks: Iterator[NDArray[np.integer]],
) -> Floats:
    """A measure of every score column for every weighting of the units, shape (T, ..., B)."""
    scores = as_scores(scores_TN, ndim=2)
    positive = as_labels(labels, scores.shape[1])
    if unit_N.size != positive.size:
        raise ValueError(f"{unit_N.size} patients for {positive.size} rows")
    # Sorted once a column; a replicate is only new weights.
    curves = [curve_of(positive, row, unit_N) for row in scores]
    pieces = [
        np.stack([measure(weighted(weights_UB)) for weighted in curves])
        for block_BU in blocks
        for weights_UB in few_at_a_time(block_BU, positive.size)
    ]
    return np.concatenate(pieces, axis=-1)


def few_at_a_time(weights_BU: NDArray[np.integer], rows: int) -> Iterator[Floats]:
    """The weights as (U, b), of as many replicates b of that many rows as the processor's cache holds."""
    step = max(1, BLOCK // rows)
    for start in range(0, len(weights_BU), step):
        yield np.ascontiguousarray(weights_BU[start : start + step].T, dtype=np.float64)


def interval(
    replicates_B: ArrayLike,
    point: float,
    level: float = 0.95,
    method: str = "percentile",
    left_out: ArrayLike | None = None,
) -> Estimate:
    """The bootstrap interval of a number at `level`; `variance` is that of its replicates.

    `percentile`: the (1 - level) / 2 and (1 + level) / 2 quantiles of the defined replicates, interpolated
    linearly between order statistics (0 is the least, 1 the greatest replicate), as `numpy.quantile` does.
    `bca`: bias-corrected and accelerated (Efron 1987); needs the jackknife values.

    Args:
        replicates_B: bootstrap replicates, NaN where undefined.
        point: the number computed from the data.
        level: coverage, between 0 and 1.
        method: `percentile` or `bca`.
        left_out: the number without each patient in turn (`jackknife`), for `bca`.

    Raises:
        UndefinedError: no replicate is defined, all are one number (then they tell of no spread, as where the classes
            are separated fully), or `bca` has no finite correction.

    >>> result = interval(range(101), point=50)
    >>> round(result.low, 3), round(result.high, 3)
    (2.5, 97.5)
    """
    values = np.asarray(replicates_B, dtype=np.float64)
    defined = values[~np.isnan(values)]
    check_level(level)
    if not defined.size:
        raise UndefinedError(f"none of the {values.size} resamples holds both classes")
    if np.ptp(defined) == 0:  # an interval without a width would look certain
        raise UndefinedError("every resample gives the same number, so that they tell of no interval")
    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        shares = _bca_shares(defined, point, shares, left_out)
    elif method != "percentile":
        raise ValueError(f"no interval named {method!r}: percentile or bca")
    low, high = np.quantile(defined, shares, method="linear")
    variance = float(defined.var(ddof=1)) if defined.size > 1 else None
    return Estimate(point, float(low), float(high), method, None, variance)


def percentile_estimate(value: float, replicates_B: Floats, level: float) -> Estimate:
    """A number with the percentile interval of its replicates over patients, or the reason why it has none."""
    try:
        _, low, high = interval(replicates_B, value, level).ends()
    except UndefinedError as error:
        return Estimate(value, reason=str(error))
    return Estimate(value, low, high, "bootstrap over patients")


def _bca_shares(defined_B: Floats, point: float, shares: Floats, left_out: ArrayLike | None) -> Floats:
    """The quantiles that the BCa interval reads instead of `shares`."""
    values = np.asarray([] if left_out is None else left_out, dtype=np.float64)
    if values.size < 2 or np.isnan(values).any():
        raise UndefinedError("a BCa interval needs the number without each patient, defined for every one")
    below = ((defined_B < point).mean() + (defined_B <= point).mean()) / 2  # a tie counts one half
    if not 0 < below < 1:
        raise UndefinedError("every replicate lies on one side of the number: BCa has no finite correction")
    influence = values.mean() - values  # skewed where a few patients decide
    spread = (influence**2).sum()
    acceleration = (influence**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0  # Efron 1987: from the jackknife
    bias = ndtri(below)
    moved = bias + ndtri(shares)
    return ndtr(bias + moved / (1 - acceleration * moved))
