"""Differences between the arms of a study: paired by the bootstrap, against a margin, several at once, and planned.

The paper (section 4 of its protocol): in each resample of the test patients, the AUROC of every label subset,
averaged over the subsets; the difference is the mean of one arm less the mean of the other. Spread between
subsets and between pretraining runs is not in that interval: the spread is given apart, and `variance` makes
the interval over subsets and runs as well.

Letters: T trials, D label subsets (draws), B replicates, C comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from mococxr.errors import UndefinedError
from mococxr.metrics.auroc_difference import Difference
from mococxr.metrics.checks import Floats
from mococxr.metrics.intervals import Estimate, interval
from mococxr.metrics.proportions import tail_at


@dataclass(frozen=True)
class Trials:
    """The trials of one arm in one cell (mode, target, fraction), all on the same test rows and resamples.

    Args:
        draws: label subset of each trial, shape (T,); several trials of one are pretraining runs of the arm.
        points: AUROC (or another measure) of each trial, shape (T,).
        replicates: its bootstrap replicates, shape (T, B), from one call of `bootstrap` for all arms,
            or from calls with the same patients and seed; NaN where undefined.
        runs: pretraining run of each trial, shape (T,); None where there is one.
    """

    draws: Sequence[Hashable]
    points: ArrayLike
    replicates: ArrayLike
    runs: Sequence[Hashable] | None = None

    def mean(self) -> tuple[float, Floats]:
        """The mean over label subsets (each the mean of its runs), and its replicates (B,).

        Raises:
            UndefinedError: no trial, or one without a value.
        """
        points_D, replicates_DB = self.by_draw(sorted(set(self.draws), key=str))
        return float(points_D.mean()), replicates_DB.mean(axis=0)

    def spread(self) -> float | None:
        """The standard deviation between label subsets; None where there is one. Errors as `mean`."""
        # Runs are averaged first: their spread is another source.
        points_D, _ = self.by_draw(sorted(set(self.draws), key=str))
        return float(points_D.std(ddof=1)) if points_D.size > 1 else None

    def by_draw(self, draws: Sequence[Hashable]) -> tuple[Floats, Floats]:
        """Points (D,) and replicates (D, B) of these label subsets, averaged over the runs of each."""
        points_T = np.asarray(self.points, dtype=np.float64)
        replicates_TB = np.asarray(self.replicates, dtype=np.float64)
        if replicates_TB.ndim != 2 or not len(self.draws) == points_T.size == len(replicates_TB):
            raise ValueError(f"{len(self.draws)} draws, {points_T.size} points, replicates {replicates_TB.shape}")
        if not draws:
            raise UndefinedError("the arms have no label subset in common")
        if np.isnan(points_T).any():
            raise UndefinedError("a trial has no value: leave it out, with the reason")
        members = [[t for t, of_trial in enumerate(self.draws) if of_trial == draw] for draw in draws]
        return (
            np.array([points_T[trials].mean() for trials in members]),
            np.stack([replicates_TB[trials].mean(axis=0) for trials in members]),
        )


def cell(trials: Trials, level: float = 0.95) -> Estimate:
    """Average an arm over its runs and label subsets, with the percentile interval at `level`.

    Raises:
        UndefinedError: no trial, or no defined replicate.
    """
    value, replicates_B = trials.mean()
    return interval(replicates_B, value, level)


def paired_differences(arm: Trials, reference: Trials, level: float = 0.95) -> Difference:
    """Mean over label subsets of the arm less that of the reference, on the same resamples; p from the replicates.

    Only subsets that both arms have are counted. Several runs of a subset are averaged first, so that each subset
    weighs the same.

    Raises:
        UndefinedError: no subset in common, or no defined replicate.
        ValueError: different numbers of replicates (then they are not the same resamples).

    >>> arm, reference = Trials([0], [0.8], [[0.7, 0.8, 0.9]]), Trials([0], [0.7], [[0.6, 0.7, 0.8]])
    >>> round(paired_differences(arm, reference).difference, 3)
    0.1
    """
    difference, replicates_B = paired_replicates(arm, reference)
    if not difference and not np.nan_to_num(replicates_B).any() and np.nan_to_num(np.ptp(arm.replicates, axis=1)).any():
        return Difference(0.0, 0.0, 0.0, 1.0)  # the two are alike in every resample, and are not alike in all of them
    _, low, high = interval(replicates_B, difference, level).ends()
    return Difference(difference, low, high, bootstrap_p(replicates_B))


def paired_replicates(arm: Trials, reference: Trials) -> tuple[float, Floats]:
    """The difference of `paired_differences` and its replicates (B,). Errors as there, but for undefined replicates."""
    # Other subsets would add their spread to the difference.
    common = sorted(set(arm.draws) & set(reference.draws), key=str)
    points_a, replicates_a = arm.by_draw(common)
    points_b, replicates_b = reference.by_draw(common)
    if replicates_a.shape != replicates_b.shape:
        raise ValueError("the two arms were not judged on the same resamples")
    return float(points_a.mean() - points_b.mean()), replicates_a.mean(axis=0) - replicates_b.mean(axis=0)


def bootstrap_p(differences_B: ArrayLike) -> float:
    """Two-sided p of "no difference": twice the smaller share of replicates at or beyond 0, at most 1.

    One is added to counts and total (Davison and Hinkley 1997), so p is never 0. NaN replicates are left out.

    Raises:
        UndefinedError: no replicate is defined.

    >>> bootstrap_p([0.1, 0.2, 0.3])
    0.5
    """
    values = np.asarray(differences_B, dtype=np.float64)
    defined = values[~np.isnan(values)]
    if not defined.size:
        raise UndefinedError("no resample holds both classes")
    smaller = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (1 + smaller) / (defined.size + 1))


@dataclass(frozen=True)
class MarginTest:
    """A difference compared with a margin; `low` and `high` are its interval at `level` = 1 - 2 alpha.

    `p` is one-sided, of "the difference is as large as the margin"; below alpha `shown` is true.
    """

    conclusion: str
    shown: bool
    p: float
    low: float
    high: float
    level: float


def non_inferior(
    difference: Difference | float, margin: float, variance: float | None = None, alpha: float = 0.025
) -> MarginTest:
    """Is the arm not worse than the reference by `margin` or more? The margin must be fixed before looking.

    Args:
        difference: arm less reference, from `clustered_paired` or `clustered_unpaired`: the test is that of its
            interval. Or a number, with its `variance`: the normal test, too sure with few positives.
        margin: above 0.
        variance: of a difference that is a number.
        alpha: one-sided level.

    Raises:
        UndefinedError: the difference has no interval.

    >>> non_inferior(0.01, margin=0.05, variance=0.02**2).conclusion
    'not worse by 0.05 or more'
    """
    p_below, _, low, high = _tails(difference, margin, variance, alpha)
    if low > -margin:
        words = f"not worse by {margin:g} or more"
    elif high < -margin:
        words = f"worse by more than {margin:g}"
    else:
        words = f"not shown: a loss of {margin:g} is within the interval"
    return MarginTest(words, low > -margin, p_below, low, high, 1 - 2 * alpha)


def equivalent(
    difference: Difference | float, margin: float, variance: float | None = None, alpha: float = 0.05
) -> MarginTest:
    """Do two arms differ by less than `margin` either way? Two one-sided tests (Schuirmann 1987).

    Arguments and errors as `non_inferior`; the interval is at 1 - 2 alpha, 90 % as a rule.

    >>> equivalent(0.01, margin=0.05, variance=0.02**2).conclusion
    'equivalent within 0.05'
    """
    p_below, p_above, low, high = _tails(difference, margin, variance, alpha)
    shown = -margin < low and high < margin
    if shown:
        words = f"equivalent within {margin:g}"
    elif high < -margin or low > margin:
        words = f"different by more than {margin:g}"
    else:
        words = f"not shown: a difference of {margin:g} is within the interval"
    return MarginTest(words, shown, max(p_below, p_above), low, high, 1 - 2 * alpha)


def _tails(
    difference: Difference | float, margin: float, variance: float | None, alpha: float
) -> tuple[float, float, float, float]:
    """P of "at or below -margin", p of "at or above margin", and the interval at 1 - 2 alpha."""
    if not margin > 0 or not 0 < alpha < 0.5:
        raise ValueError("a margin above 0 and alpha below 0.5 are needed")
    if isinstance(difference, Difference):
        value, ends = difference.difference, difference.ends
    else:
        value, error = difference, float(np.sqrt(variance or 0.0))
        ends = (
            (lambda tail: (value + error * float(ndtri(tail)), value - error * float(ndtri(tail)))) if error else None
        )
    if ends is None:
        raise UndefinedError("the difference has no variance: no test against a margin")
    below, above = tail_at(ends, value, -margin), tail_at(ends, value, margin)
    # tail_at knows only the end on the limit's side, up to 0.5.
    p_below, p_above = below if value > -margin else 1 - below, above if value < margin else 1 - above
    return p_below, p_above, *ends(alpha)


def holm(p_C: ArrayLike) -> Floats:
    """Holm's adjusted p (Scand J Statist 6:65, 1979): controls the chance of any false positive.

    NaN (a comparison that was not made) stays NaN and does not count.

    >>> holm([0.01, 0.04, np.nan]).tolist()
    [0.02, 0.04, nan]
    """

    def step_down(p: Floats) -> Floats:
        order = np.argsort(p, kind="stable")
        adjusted = np.empty_like(p)
        # A larger p never gets a smaller adjusted one.
        adjusted[order] = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
        return np.minimum(1.0, adjusted)

    return _adjusted(p_C, step_down)


def gatekeeping(primary: float | None, p_C: ArrayLike) -> Floats:
    """Adjusted p of further comparisons that are looked at only where a primary one, tested alone first, is shown.

    Holm's over the further ones, and no smaller than the primary's p (serial gatekeeping, Dmitrienko and Tamhane,
    Pharmaceutical Statistics 6:171, 2007): the chance of any false positive among all stays at the level at which the
    primary is tested. Where the primary has no p, nothing further can be shown: 1.

    >>> gatekeeping(0.03, [0.01, 0.04, np.nan]).tolist(), gatekeeping(0.2, [0.01]).tolist()
    ([0.03, 0.04, nan], [0.2])
    """
    # What the primary's test has not let through is not shown.
    return np.maximum(holm(p_C), 1.0 if primary is None else primary)


def benjamini_hochberg(p_C: ArrayLike) -> Floats:
    """Benjamini and Hochberg's adjusted p (JRSS B 57:289, 1995): the expected share of false positives; NaN as `holm`.

    >>> benjamini_hochberg([0.01, 0.04, np.nan]).tolist()
    [0.02, 0.04, nan]
    """

    def step_up(p: Floats) -> Floats:
        order = np.argsort(-p, kind="stable")
        adjusted = np.empty_like(p)
        # From the largest p down, so that the order is kept.
        adjusted[order] = np.minimum.accumulate(p[order] * p.size / np.arange(p.size, 0, -1))
        return np.minimum(1.0, adjusted)

    return _adjusted(p_C, step_up)


def _adjusted(p_C: ArrayLike, method: Callable[[Floats], Floats]) -> Floats:
    values = np.asarray(p_C, dtype=np.float64)
    made = ~np.isnan(values)
    if values.ndim != 1 or ((values[made] < 0) | (values[made] > 1)).any():
        raise ValueError("p must be a list of numbers from 0 to 1, NaN where no comparison was made")
    adjusted = np.full(values.shape, np.nan)
    if made.any():
        adjusted[made] = method(values[made])
    return adjusted


@dataclass(frozen=True)
class Plan:
    """Test patients that show a difference with the asked power; and what that rests on."""

    patients: int
    positives: int
    negatives: int
    difference: float
    prevalence: float
    power: float
    alpha: float
    words: str


def patients_needed(
    variance: float, patients: int, positives: int, difference: float, power: float = 0.8, alpha: float = 0.05
) -> Plan:
    """Test patients that a paired comparison needs, from one that was made on patients like them.

    As many images each, as many positive, the same label subsets: then the variance of the difference is that of the
    study, in inverse proportion to the number of patients.

    Args:
        variance: of the study's difference over patients (`clustered_paired`), above 0.
        patients, positives: test patients of the study.
        difference: to be seen, above 0; need not be the study's.
        power: chance of seeing the difference, above alpha.
        alpha: two-sided level.

    >>> patients_needed(variance=0.02**2, patients=300, positives=60, difference=0.03).patients
    1047
    """
    if not variance > 0 or not 0 < positives < patients:
        raise ValueError("needed: a variance above 0, and patients of both classes")
    if not difference > 0 or not 0 < alpha < power < 1:
        raise ValueError("needed: a difference above 0, and 0 < alpha < power < 1")
    prevalence = positives / patients
    # The difference must lie this many standard errors from 0; the variance falls as 1 / patients.
    standard_errors = float(ndtri(1 - alpha / 2) + ndtri(power))
    count = int(np.ceil(standard_errors**2 * variance * patients / difference**2))
    count_positive = round(count * prevalence)
    words = (
        f"To see a difference of {difference:g} in AUROC with {100 * power:g} % power (two-sided {100 * alpha:g} %), "
        f"{count:,} test patients are needed, {count_positive:,} of them positive."
    )
    return Plan(count, count_positive, count - count_positive, difference, prevalence, power, alpha, words)
