"""The patient-cluster bootstrap: patients are drawn with replacement, and their images come with them.

A replicate is a vector of integer weights (how often each patient was drawn), so a replicate of a measure
is the measure with these weights: no row is copied, and every score column is judged on the same resamples
(paired). A replicate in which one class is absent is undefined: NaN, counted, never replaced by a number.

Letters: N rows, U patients, B replicates, T trials (score columns).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats, as_labels, as_scores
from mococxr.metrics.ranking import Measure, auroc_measure, average_precision_measure

BLOCK = 1 << 16
"""Rows times replicates handled at a time: half a MiB of float64, which stays in the processor's cache."""

DRAWN = 1 << 20
"""Patients times replicates drawn at a time: 8 MiB."""


@dataclass(frozen=True)
class Resamples:
    """`weights_BU[b, u]`: how often replicate b drew patient u; `unit_N`: the patient of each row, from 0.

    `patients_U` are the patients' ids, sorted: the draw does not depend on the order of the rows.
    """

    weights_BU: NDArray[np.unsignedinteger]
    unit_N: NDArray[np.intp]
    patients_U: NDArray


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval: its ends, how it was made, and how many replicates were defined and undefined."""

    low: float
    high: float
    method: str
    replicates: int
    undefined: int


def patient_resamples(
    patients: ArrayLike, replicates: int, seed: int, strata: ArrayLike | None = None
) -> Resamples:
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
    """
    patients_U, unit_N, groups = _units(patients, replicates, strata)
    kind = np.uint16 if unit_N.size < 1 << 16 else np.uint32
    weights_BU = np.concatenate([block.astype(kind) for block in _drawn(groups, replicates, seed)])
    return Resamples(weights_BU, unit_N, patients_U)


def _units(
    patients: ArrayLike, replicates: int, strata: ArrayLike | None
) -> tuple[NDArray, NDArray[np.intp], list[NDArray[np.intp]]]:
    """The patients (U,), the patient of each row (N,), and the groups inside which patients are drawn."""
    ids = np.asarray(patients)
    if ids.ndim != 1 or not ids.size or replicates < 1:
        raise ValueError("the bootstrap needs at least one row and one replicate")
    patients_U, first_U, unit_N = np.unique(ids, return_index=True, return_inverse=True)
    if strata is None:
        return patients_U, unit_N, [np.arange(patients_U.size)]
    stratum_N = np.asarray(strata)
    stratum_U = stratum_N[first_U]
    if not np.array_equal(stratum_N, stratum_U[unit_N]):
        raise ValueError("a patient stands in two strata")
    return patients_U, unit_N, [np.flatnonzero(stratum_U == value) for value in np.unique(stratum_U)]


def _drawn(groups: list[NDArray[np.intp]], replicates: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """The weights of all replicates, in blocks (b, U) of bounded size."""
    rng = np.random.default_rng(seed)
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
    drawn = rng.integers(0, size, size=(replicates, size))
    drawn += np.arange(replicates)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=replicates * size).reshape(replicates, size)


def bootstrap_auroc(
    labels: ArrayLike,
    scores_TN: ArrayLike,
    patients: ArrayLike,
    replicates: int,
    seed: int,
    strata: ArrayLike | None = None,
) -> Floats:
    """AUROC of T score columns on the same `replicates` resamples of the patients, shape (T, B).

    Args:
        labels: 1 or 0, shape (N,).
        scores_TN: a score for each row and trial, all finite.
        patients: patient of each row, shape (N,).
        replicates, seed, strata: as `patient_resamples`.

    Raises:
        ValueError: shapes that differ, or a row that a trial did not score.
        UndefinedError: one class is absent from the data.
    """
    _, unit_N, groups = _units(patients, replicates, strata)
    return _bootstrap(auroc_measure, labels, scores_TN, unit_N, _drawn(groups, replicates, seed))


def bootstrap_average_precision(
    labels: ArrayLike,
    scores_TN: ArrayLike,
    patients: ArrayLike,
    replicates: int,
    seed: int,
    strata: ArrayLike | None = None,
) -> Floats:
    """Average precision on the same resamples as `bootstrap_auroc` with that seed; arguments as there."""
    _, unit_N, groups = _units(patients, replicates, strata)
    return _bootstrap(average_precision_measure, labels, scores_TN, unit_N, _drawn(groups, replicates, seed))


def jackknife_auroc(labels: ArrayLike, scores_TN: ArrayLike, patients: ArrayLike) -> Floats:
    """AUROC without each patient in turn (patients sorted), shape (T, U): what a BCa interval needs.

    Arguments and errors as `bootstrap_auroc`; NaN where a class is gone with the patient.
    """
    patients_U, unit_N, _ = _units(patients, 1, None)
    return _bootstrap(auroc_measure, labels, scores_TN, unit_N, _all_but_one(patients_U.size))


def jackknife_average_precision(labels: ArrayLike, scores_TN: ArrayLike, patients: ArrayLike) -> Floats:
    """`jackknife_auroc` of the average precision."""
    patients_U, unit_N, _ = _units(patients, 1, None)
    return _bootstrap(average_precision_measure, labels, scores_TN, unit_N, _all_but_one(patients_U.size))


def resampled(
    make: Callable[[NDArray[np.bool_], Floats, NDArray[np.intp]], Measure],
    labels: ArrayLike,
    scores_TN: ArrayLike,
    resamples: Resamples,
    rows: NDArray[np.bool_],
) -> Floats:
    """A measure of some of the rows (a group, the rows with a known label) on resamples of all patients.

    So the numbers of two groups belong to the same resamples. Shape (T, B); errors as `bootstrap_auroc`.
    """
    chosen, units = np.asarray(labels)[rows], resamples.unit_N[rows]
    return _bootstrap(make, chosen, np.asarray(scores_TN)[:, rows], units, iter([resamples.weights_BU]))


def _bootstrap(
    make: Callable[[NDArray[np.bool_], Floats, NDArray[np.intp]], Measure],
    labels: ArrayLike,
    scores_TN: ArrayLike,
    unit_N: NDArray[np.intp],
    blocks: Iterator[NDArray[np.integer]],
) -> Floats:
    """A measure of every score column for every weighting of the units, shape (T, B)."""
    scores = as_scores(scores_TN, ndim=2)
    positive = as_labels(labels, scores.shape[1])
    if unit_N.size != positive.size:
        raise ValueError(f"{unit_N.size} patients for {positive.size} rows")
    measures = [make(positive, row, unit_N) for row in scores]
    step = max(1, BLOCK // positive.size)
    found = []
    for block_BU in blocks:
        for start in range(0, len(block_BU), step):
            weights_UB = np.ascontiguousarray(block_BU[start : start + step].T, dtype=np.float64)
            found.append(np.stack([measure(weights_UB) for measure in measures]))
    return np.concatenate(found, axis=1)


def interval(
    replicates_B: ArrayLike,
    point: float,
    level: float = 0.95,
    method: str = "percentile",
    jackknife: ArrayLike | None = None,
) -> Interval:
    """The bootstrap interval of a number at `level`.

    `percentile`: the (1 - level) / 2 and (1 + level) / 2 quantiles of the defined replicates, interpolated
    linearly between order statistics (0 is the least, 1 the greatest replicate), as `numpy.quantile` does.
    `bca`: bias-corrected and accelerated (Efron 1987); needs the jackknife values.

    Args:
        replicates_B: bootstrap replicates, NaN where undefined.
        point: the number computed from the data (used by `bca` only).
        level: coverage, between 0 and 1.
        method: `percentile` or `bca`.
        jackknife: the number without each patient in turn, for `bca`.

    Raises:
        UndefinedError: no replicate is defined, or `bca` has no finite correction.
    """
    values = np.asarray(replicates_B, dtype=np.float64)
    defined = values[~np.isnan(values)]
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, not {level}")
    if not defined.size:
        raise UndefinedError(f"none of the {values.size} resamples holds both classes")
    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        shares = _bca_shares(defined, point, shares, jackknife)
    elif method != "percentile":
        raise ValueError(f"no interval named {method!r}: percentile or bca")
    low, high = np.quantile(defined, shares, method="linear")
    return Interval(float(low), float(high), method, int(defined.size), int(values.size - defined.size))


def _bca_shares(defined_B: Floats, point: float, shares: Floats, jackknife: ArrayLike | None) -> Floats:
    """The quantiles that the BCa interval reads instead of `shares`."""
    left_out = np.asarray([] if jackknife is None else jackknife, dtype=np.float64)
    if left_out.size < 2 or np.isnan(left_out).any():
        raise UndefinedError("a BCa interval needs the number without each patient, defined for every one")
    below = ((defined_B < point).mean() + (defined_B <= point).mean()) / 2  # a tie counts one half
    if not 0 < below < 1:
        raise UndefinedError("every replicate lies on one side of the number: BCa has no finite correction")
    apart = left_out.mean() - left_out
    spread = (apart**2).sum()
    acceleration = (apart**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    bias = ndtri(below)
    moved = bias + ndtri(shares)
    return ndtr(bias + moved / (1 - acceleration * moved))
