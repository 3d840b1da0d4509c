"""Several tests at once, and tests against a margin: Holm, Benjamini-Hochberg, equivalence, non-inferiority.

Letters: C comparisons, B replicates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from mococxr.errors import UndefinedError
from mococxr.metrics.bootstrap import interval
from mococxr.metrics.checks import Floats


def holm(p_C: ArrayLike) -> Floats:
    """Holm's adjusted p (Scand J Statist 6:65, 1979): the chance of any false find stays below the level.

    NaN (a comparison that was not made) stays NaN and does not count.
    """
    return _adjusted(p_C, lambda ordered: np.maximum.accumulate(ordered * np.arange(ordered.size, 0, -1)))


def benjamini_hochberg(p_C: ArrayLike) -> Floats:
    """Benjamini and Hochberg's adjusted p (JRSS B 57:289, 1995): the expected share of false finds; NaN as `holm`."""

    def step(ordered: Floats) -> Floats:
        scaled = ordered * ordered.size / np.arange(1, ordered.size + 1)
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _adjusted(p_C, step)


def _adjusted(p_C: ArrayLike, step: Callable[[Floats], Floats]) -> Floats:
    values = np.asarray(p_C, dtype=np.float64)
    made = np.flatnonzero(~np.isnan(values))
    if values.ndim != 1 or ((values[made] < 0) | (values[made] > 1)).any():
        raise ValueError("p must be a list of numbers from 0 to 1, NaN where no comparison was made")
    order = made[np.argsort(values[made], kind="stable")]
    found = np.full(values.shape, np.nan)
    found[order] = np.minimum(1.0, step(values[order]))
    return found


@dataclass(frozen=True)
class MarginTest:
    """A difference held against a margin; `low` and `high` are its interval at `level` = 1 - 2 alpha.

    `p` is one-sided, of "the difference is as large as the margin"; below alpha the `conclusion` is the wanted one.
    """

    conclusion: str
    shown: bool
    p: float
    low: float
    high: float
    level: float
    margin: float


def non_inferior(
    difference: float,
    margin: float,
    variance: float | None = None,
    replicates_B: ArrayLike | None = None,
    alpha: float = 0.025,
) -> MarginTest:
    """Is the arm not worse than the reference by `margin` or more? The margin is to be named before looking.

    Args:
        difference: arm less reference.
        margin: above 0.
        variance: of the difference, for the normal test (DeLong); or
        replicates_B: bootstrap replicates of the difference, for the test by counting. Give one of the two.
        alpha: one-sided level.

    Raises:
        UndefinedError: no replicate is defined.
    """
    p_below, _, low, high = _tails(difference, margin, variance, replicates_B, alpha)
    if low > -margin:
        words = f"not worse by {margin:g} or more"
    elif high < -margin:
        words = f"worse by more than {margin:g}"
    else:
        words = f"not shown: a loss of {margin:g} is within the interval"
    return MarginTest(words, low > -margin, p_below, low, high, 1 - 2 * alpha, margin)


def equivalent(
    difference: float,
    margin: float,
    variance: float | None = None,
    replicates_B: ArrayLike | None = None,
    alpha: float = 0.05,
) -> MarginTest:
    """Do two arms differ by less than `margin` either way? Two one-sided tests (Schuirmann 1987).

    Arguments and errors as `non_inferior`; the interval is at 1 - 2 alpha, 90 % as a rule.
    """
    p_below, p_above, low, high = _tails(difference, margin, variance, replicates_B, alpha)
    shown = -margin < low and high < margin
    if shown:
        words = f"equivalent within {margin:g}"
    elif high < -margin or low > margin:
        words = f"different by more than {margin:g}"
    else:
        words = f"not shown: a difference of {margin:g} is within the interval"
    return MarginTest(words, shown, max(p_below, p_above), low, high, 1 - 2 * alpha, margin)


def _tails(
    difference: float, margin: float, variance: float | None, replicates_B: ArrayLike | None, alpha: float
) -> tuple[float, float, float, float]:
    """P of "at or below -margin", p of "at or above margin", and the interval at 1 - 2 alpha."""
    if not margin > 0 or not 0 < alpha < 0.5 or (variance is None) == (replicates_B is None):
        raise ValueError("a margin above 0, alpha below 0.5, and either a variance or replicates are needed")
    if variance is not None:
        error = float(np.sqrt(variance))
        if error == 0:
            raise UndefinedError("the difference has no variance: no test against a margin")
        half = float(ndtri(1 - alpha)) * error
        p_below, p_above = (float(ndtr(-(margin + sign * difference) / error)) for sign in (1, -1))
        return p_below, p_above, difference - half, difference + half
    ends = interval(replicates_B if replicates_B is not None else [], difference, 1 - 2 * alpha)
    values = np.asarray(replicates_B, dtype=np.float64)
    defined = values[~np.isnan(values)]
    beyond = [int((defined <= -margin).sum()), int((defined >= margin).sum())]
    p_below, p_above = ((1 + count) / (defined.size + 1) for count in beyond)
    return p_below, p_above, ends.low, ends.high
