"""Are the probabilities right? Brier score, expected calibration error, reliability curve, slope and intercept.

Letters: N rows, B replicates, G bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.metrics.bootstrap import Resamples, patient_resamples
from mococxr.metrics.calibrators import as_logits
from mococxr.metrics.checks import Floats, as_labels, as_scores
from mococxr.metrics.logistic import logistic_fits, resampled_fits
from mococxr.metrics.proportions import Number, bootstrapped, ratio, repeats, resampled_sums, wilson

MOST, LEAST, ROWS = 1000, 200, 2_000_000
"""Resamples behind the numbers of calibration, each of which takes two logistic regressions: at the most, and on many
rows as many as make that many rows together, but not fewer than the least."""


@dataclass(frozen=True)
class Bin:
    """One point of the reliability curve: rows whose probability lies in a bin, and how many were positive."""

    mean_probability: float
    observed: Number
    rows: int
    patients: int


@dataclass(frozen=True)
class Calibration:
    """How right the probabilities are, each number with its interval over patients.

    `ece`: mean distance between probability and observed share over the bins. It is above 0 for perfect probabilities
    too: `ece_if_perfect` is its mean if every row were positive with just its probability (all rows of a patient by one
    throw), so compare the two.
    `slope`: 1 is right, below 1 too sure; `intercept`: 0 is right, above 0 too low throughout (slope fixed at 1).
    """

    brier: Number
    ece: Number
    ece_if_perfect: float
    slope: Number
    intercept: Number
    curve: tuple[Bin, ...]


def calibration(
    labels: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike | None = None,
    bins: int = 10,
    how: str = "mass",
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Calibration:
    """Judge probabilities on test rows.

    Args:
        labels: 1 or 0, both present, shape (N,).
        probabilities: 0 to 1, shape (N,).
        patients: patient of each row; None where each row is a patient of its own.
        bins: of the curve; equal probabilities stay in one bin, and empty bins are left out.
        how: `mass` (as many rows in each) or `width` (steps of equal width from 0 to 1).
        replicates, seed, level: of the intervals; the bins are those of all rows in every resample.

    Raises:
        ValueError: a probability outside 0 to 1.
    """
    p = as_scores(probabilities)
    y = as_labels(labels, p.size).astype(np.float64)
    logits = as_logits(p)
    ids = np.arange(p.size) if patients is None else np.asarray(patients)
    clustered = repeats(patients, p.size)
    drawn = patient_resamples(ids, replicates, seed)
    place_N = bin_of(p, bins, how)
    member_NG = place_N[:, None] == np.arange(place_N.max() + 1)
    rows_G = member_NG.sum(axis=0)
    columns = np.concatenate(
        [member_NG, member_NG * y[:, None], member_NG * p[:, None], (p - y)[:, None] ** 2], axis=1
    )
    sums_B = resampled_sums(columns, drawn)
    count_BG, positive_BG, total_BG = np.split(sums_B[:, :-1], 3, axis=1)
    size_B = count_BG.sum(axis=1)
    curve = tuple(
        Bin(
            float(p[member].mean()),
            _observed(y[member], ratio(positive_BG[:, g], count_BG[:, g]), clustered, level),
            int(rows_G[g]),
            int(np.unique(ids[member]).size),
        )
        for g, member in enumerate(member_NG.T)
    )
    gaps_B = np.abs(total_BG - positive_BG).sum(axis=1) / size_B
    perfect_B = _if_perfect(p, member_NG, drawn.unit_N, replicates, seed)
    intercept, slope = _lines(logits, y, drawn, level)
    return Calibration(
        bootstrapped(float(((p - y) ** 2).mean()), sums_B[:, -1] / size_B, level),
        _shifted(_gap(p, y, member_NG), gaps_B, perfect_B, level),
        float(perfect_B.mean()),
        slope,
        intercept,
        curve,
    )


def affordable(replicates: int, rows: int) -> int:
    """How many of the wanted `replicates` the commands take for `calibration` on so many rows (see `MOST`)."""
    return min(replicates, MOST, max(LEAST, ROWS // rows))


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared distance between probability and label."""
    p = as_scores(probabilities)
    return float(((p - as_labels(labels, p.size)) ** 2).mean())


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10, how: str = "mass"
) -> float:
    """ECE as in `calibration`."""
    p = as_scores(probabilities)
    y = as_labels(labels, p.size).astype(np.float64)
    place_N = bin_of(p, bins, how)
    return _gap(p, y, place_N[:, None] == np.arange(place_N.max() + 1))


def bin_of(probabilities: Floats, bins: int, how: str) -> NDArray[np.intp]:
    """The bin of each row, from 0, empty ones left out; a bin holds its upper edge, the first one 0 too."""
    if bins < 1 or how not in ("mass", "width"):
        raise ValueError(f"{bins} bins of equal {how!r}: at least 1, mass or width")
    steps = np.linspace(0, 1, bins + 1)[1:-1]
    edges = steps if how == "width" else np.quantile(probabilities, steps)
    return np.unique(np.searchsorted(edges, probabilities, side="left"), return_inverse=True)[1]


def _gap(p: Floats, y: Floats, member_NG: NDArray[np.bool_]) -> float:
    return float(np.abs((p - y) @ member_NG).sum() / p.size)


def _if_perfect(
    p: Floats, member_NG: NDArray[np.bool_], unit_N: NDArray[np.intp], replicates: int, seed: int
) -> Floats:
    """ECE (B,) of labels that are drawn with the probabilities themselves, by one throw a patient."""
    rng = np.random.default_rng(seed)
    size, step = int(unit_N.max()) + 1, max(1, (1 << 20) // p.size)
    found = []
    for start in range(0, replicates, step):
        thrown = rng.random((min(step, replicates - start), size))[:, unit_N]
        found.append(np.abs((p - (thrown < p)) @ member_NG).sum(axis=1) / p.size)
    return np.concatenate(found)


def _observed(y: Floats, replicates_B: Floats, clustered: bool, level: float) -> Number:
    share = float(y.mean())
    if clustered and 0 < share < 1:
        return bootstrapped(share, replicates_B, level)
    return Number(share, *wilson(float(y.sum()), y.size, level), "Wilson")


def _shifted(value: float, replicates_B: Floats, perfect_B: Floats, level: float) -> Number:
    """The bootstrap interval turned over (basic): a resample's ECE lies as far above that of the data as the ECE of
    the data lies above the true one. It begins at 0 where perfect probabilities would show as much.
    """
    plain = bootstrapped(value, replicates_B, level)
    if plain.low is None or plain.high is None:
        return plain
    usual = value <= float(np.quantile(perfect_B, 0.5 + level / 2))
    low = 0.0 if usual else max(0.0, 2 * value - plain.high)
    return Number(
        value, low, max(value if usual else 0.0, 2 * value - plain.low), "basic bootstrap over patients"
    )


def _lines(logits: Floats, y: Floats, drawn: Resamples, level: float) -> tuple[Number, Number]:
    """Intercept (slope fixed at 1) and slope."""
    one = np.ones((y.size, 1))
    shift, slope = float(logistic_fits(logits, y, one, 1.0)[0][0]), float(logistic_fits(logits, y, one)[1][0])
    shift_B, slope_B = resampled_fits(logits, y, drawn, 1.0)[0], resampled_fits(logits, y, drawn)[1]
    alike = "all probabilities are equal: no slope is defined"
    reason = (
        alike if np.ptp(logits) == 0 else "the probabilities separate the classes fully: no slope is finite"
    )
    steep = Number(None, reason=reason) if np.isnan(slope) else bootstrapped(slope, slope_B, level)
    return bootstrapped(shift, shift_B, level), steep
