"""Calibration in the large as a ratio: the positives observed by those that the probabilities expect (O/E).

Letters: N rows, U patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats, as_labels, as_patients, as_scores, check_level, count_patients, numbered
from mococxr.metrics.intervals import Estimate


@dataclass(frozen=True)
class Ratio:
    """O/E, its variance over patients by its square, and the degrees of freedom of that."""

    value: float
    variance: float
    df: int
    method: str = "score test over patients, t"

    def ends(self, tail: float) -> tuple[float, float]:
        """The ratios r at which observed less r times expected is t standard errors, whose square grows with r as that of a
        count does; so the interval is symmetric on the scale of the logarithm.
        """
        if tail >= 0.5:  # `tail_at` begins at the interval of no coverage
            return self.value, self.value
        # Solves (value - r)^2 = t^2 variance value r for log r.
        half = 2 * np.arcsinh(float(-stdtrit(self.df, tail)) * np.sqrt(self.variance) / 2)
        return float(self.value * np.exp(-half)), float(self.value * np.exp(half))


def observed_expected(
    labels: ArrayLike, probabilities: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """Positive rows by the sum of the probabilities: 1 is right, above 1 the probabilities are too low.

    Args:
        labels: 1 or 0, both present, shape (N,).
        probabilities: 0 to 1, shape (N,).
        patients: patient of each row; None where each row is a patient of its own.
        level: coverage.

    >>> result = observed_expected([1, 0, 1, 0], [0.9, 0.2, 0.4, 0.1])
    >>> round(result.value, 3), round(result.low, 3), round(result.high, 3)
    (1.25, 0.079, 19.764)
    """
    check_level(level)
    p = as_scores(probabilities)
    y = as_labels(labels, p.size).astype(np.float64)
    try:
        ratio = ratio_of(y, p, numbered(as_patients(patients, p.size)))
    except UndefinedError as error:
        return Estimate(float(y.sum() / p.sum()) if p.any() else None, reason=str(error))
    return Estimate(ratio.value, *ratio.ends((1 - level) / 2), ratio.method)


def ratio_of(y: Floats, p: Floats, unit_N: NDArray[np.intp]) -> Ratio:
    """O/E with what its interval takes.

    Raises:
        UndefinedError: nothing is observed or expected, or there is nothing to tell the spread of the ratio.
    """
    observed, expected = float(y.sum()), float(p.sum())
    if not expected:
        raise UndefinedError("the probabilities are all 0: nothing is expected")
    if not observed:
        raise UndefinedError("no row is positive")
    few = min(count_patients(unit_N[y == label]) for label in (0, 1))
    spread = float((moved_by(y, p, unit_N) ** 2).sum())
    if few < 2 or spread < 1e-20:  # rounding leaves some 1e-32 where every patient is as expected
        raise UndefinedError(f"too few patients ({few} of a class), or every patient is as expected")
    return Ratio(observed / expected, spread * (expected / observed) ** 2, few - 1)


def moved_by(y: Floats, p: Floats, unit_N: NDArray[np.intp], size: int = 0) -> Floats:
    """What each of `size` patients moves O/E by (U,)."""
    expected = float(p.sum())
    return np.bincount(unit_N, weights=y - p * (float(y.sum()) / expected), minlength=size) / expected
