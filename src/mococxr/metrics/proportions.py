"""Shares of rows over patients, and numbers that are joined: Wilson's interval, the difference of two numbers by theirs.

Letters: N rows, U patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtrit

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import check_level, kish
from mococxr.metrics.intervals import Estimate

Ends = Callable[[float], tuple[float, float]]
"""The ends of an interval that leaves out `tail` (0 to 0.5) on either side."""


def wilson(successes: float, total: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (JASA 22:209, 1927).

    Raises:
        UndefinedError: the total is 0.
        ValueError: successes outside 0 to total, or a level outside 0 to 1.

    >>> low, high = wilson(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    check_level(level)
    if total == 0 == successes:
        raise UndefinedError("the proportion of zero rows is undefined")
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} of {total} is no proportion")
    # By formula: the import of scipy.stats alone takes as long as all numbers of a small table.
    return _wilson(successes / total, total, float(ndtri(0.5 + level / 2)))


def _wilson(share: float, total: float, z: float) -> tuple[float, float]:
    z2 = z**2 / total
    middle, half = share + z2 / 2, np.sqrt(z2 * (share * (1 - share) + z2 / 4))
    # At 0 and at the total the ends are 0 and 1, which the formula would miss by rounding.
    low = 0.0 if share == 0 else float((middle - half) / (1 + z2))
    return low, 1.0 if share == 1 else float((middle + half) / (1 + z2))


class Number(Protocol):
    """A number with its interval at any level."""

    @property
    def value(self) -> float:
        """The number."""

    @property
    def method(self) -> str:
        """How its interval is made."""

    def ends(self, tail: float) -> tuple[float, float]:
        """The interval that leaves out `tail` (0 to 0.5) on either side."""


@dataclass(frozen=True)
class Share:
    """A share of rows: it counts for `rows` independent ones, an estimate with `df` (None: as many as patients)."""

    value: float
    rows: float
    df: int | None
    method: str

    def ends(self, tail: float) -> tuple[float, float]:
        """Wilson's interval, with Student's t where the number of independent rows is an estimate."""
        if tail >= 0.5:
            return self.value, self.value
        z, rows = float(-ndtri(tail)), self.rows
        if self.df is not None:
            # Korn and Graubard 1998: fewer rows in place of a wider quantile.
            rows *= (z / float(-stdtrit(self.df, tail))) ** 2
        return _wilson(self.value, rows, z)


def share_of(hits: ArrayLike, patients: ArrayLike, weights: NDArray | None = None) -> Share:
    """A share of rows and how many independent rows it counts for; arguments and errors as `proportion`."""
    hit_N, unit_N = np.asarray(hits, dtype=bool), np.asarray(patients, dtype=np.intp)
    rows_U = np.bincount(unit_N, weights)
    of_hits = None if weights is None else weights[hit_N]
    hits_U = np.bincount(unit_N[hit_N], of_hits, minlength=rows_U.size)
    return share_of_counts(hits_U, rows_U, None if weights is None else kish(rows_U))


def share_of_counts(hits_U: NDArray, rows_U: NDArray, worth: float | None = None) -> Share:
    """The same from the hits and the rows of each patient (U,); one without rows is none.

    Args:
        worth: how many equal weights they are worth, where `hits_U` and `rows_U` are sums of weights.
    """
    size, count = float(rows_U.sum()), int(np.count_nonzero(rows_U))
    if not size:
        raise UndefinedError("the proportion of zero rows is undefined")
    share = float(hits_U.sum() / size)
    if count == size and worth is None:  # one row a patient: the rows are independent as they are
        return Share(share, float(count), None, "Wilson")
    method = "Wilson over patients" if worth is None else "Wilson over patients, weighted"
    variance = count / max(1, count - 1) * float(((hits_U - share * rows_U) ** 2).sum()) / size**2
    if 0 < share < 1 and variance > 0 and count > 1:
        # Rows of a patient never count for more than there are.
        return Share(share, min(worth or size, share * (1 - share) / variance), count - 1, method)
    return Share(share, worth or float(count), None, method)  # no spread to be seen: each patient counts once


def share_moved(
    hits: ArrayLike, patients: NDArray[np.intp], size: int = 0, weights: NDArray | None = None
) -> NDArray[np.float64]:
    """What each of `size` patients moves a share of rows by (U,), but for the factor of all rows."""
    hit_N = np.asarray(hits, dtype=np.float64)
    moved_N = hit_N - hit_N.mean() if weights is None else weights * (hit_N - np.average(hit_N, weights=weights))
    return np.asarray(np.bincount(patients, weights=moved_N, minlength=size), dtype=np.float64)


def proportion(hits: ArrayLike, patients: ArrayLike, level: float = 0.95, weights: NDArray | None = None) -> Estimate:
    """A share of rows with Wilson's interval over patients.

    Where patients have several rows, the share counts for as many independent rows as have its variance over patients
    (Korn and Graubard, Survey Methodology 24:193, 1998, with Student's t); at 0 and at 1, for one row a patient.

    Args:
        hits: 1 or 0, shape (N,).
        patients: patient of each row, numbered from 0.
        level: coverage.
        weights: of the rows, for rows that were chosen with known probabilities; their variance is that of a ratio of sums
            over patients, and they count for no more than `kish` says.

    Raises:
        UndefinedError: no rows.

    >>> estimate = proportion([1, 1, 1, 1, 0, 1], [0, 0, 1, 1, 2, 2])
    >>> round(estimate.low, 3), round(estimate.high, 3)
    (0.149, 0.993)
    """
    check_level(level)
    share = share_of(hits, patients, weights)
    return Estimate(share.value, *share.ends((1 - level) / 2), share.method)


def difference_ends(
    a: tuple[float, float, float], b: tuple[float, float, float], correlation: float = 0.0
) -> tuple[float, float]:
    """The interval of a less b from their values and ends (value, low, high), by the method of variance estimates recovery.

    Zou and Donner (Statistics in Medicine 27:1693, 2008); of two shares, Newcombe's (17:873 and 17:2635, 1998).

    >>> [round(end, 3) for end in difference_ends((0.9, 0.8, 0.95), (0.7, 0.6, 0.8))]
    [0.059, 0.312]
    """
    (value_a, low_a, high_a), (value_b, low_b, high_b) = a, b

    def reach(x: float, y: float) -> float:
        return float(np.sqrt(max(0.0, x * x + y * y - 2 * correlation * x * y)))  # rounding, at a correlation of 1

    difference = value_a - value_b
    # a - b is least where a is low and b high.
    return difference - reach(value_a - low_a, high_b - value_b), difference + reach(high_a - value_a, value_b - low_b)


def correlation_over(a_U: NDArray, b_U: NDArray) -> float:
    """Correlation of two estimates over patients, from what each patient moves them by (U,); 0 where one does not move."""
    length = float(np.sqrt((a_U @ a_U) * (b_U @ b_U)))
    return float(a_U @ b_U) / length if length > 0 else 0.0  # not centred: the deviations sum to 0 over patients


def mover(a: Number, b: Number, correlation: float, tail: float) -> tuple[float, float]:
    """The interval of a less b from those of a and b (`difference_ends`)."""
    return difference_ends((a.value, *a.ends(tail)), (b.value, *b.ends(tail)), correlation)


def tail_at(ends: Ends, value: float, limit: float) -> float:
    """The tail (0 to 0.5) at which the interval about `value` has its end at `limit`: a one-sided p."""
    if value == limit:
        return 0.5
    side = 0 if value > limit else 1

    def inside(z: float) -> float:
        return (ends(float(ndtr(-z)))[side] - limit) * (1 - 2 * side)

    most = 30.0  # standard errors: a tail of 5e-198
    if inside(0.0) <= 0:
        return 0.5
    return float(ndtr(-(brentq(inside, 0.0, most, xtol=1e-9) if inside(most) < 0 else most)))
