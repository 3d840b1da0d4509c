"""Arms of a study: means over draws, and paired differences between two arms, as the paper makes them.

The paper (section 4 of its protocol): in each resample of the test patients, the AUROC of every draw,
averaged over the draws; the difference is the mean of one arm less the mean of the other. Spread between
draws and between pretraining runs is not in that interval: the spread is given apart, and `variance` makes
the interval over draws and runs as well.

Letters: T trials, D draws, B replicates.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mococxr.errors import UndefinedError
from mococxr.metrics.bootstrap import interval
from mococxr.metrics.checks import Floats

TOO_FEW = 10
"""Patients of a class below which no test is shown."""


@dataclass(frozen=True)
class Trials:
    """The trials of one arm in one cell (mode, target, fraction), all on the same test rows and resamples.

    Args:
        draws: draw of each trial, shape (T,); several trials of one draw are pretraining runs of the arm.
        points: AUROC (or average precision) of each trial, shape (T,).
        replicates: its bootstrap replicates, shape (T, B), from one call of `bootstrap_auroc` for all arms,
            or from calls with the same patients and seed; NaN where undefined.
        runs: pretraining run of each trial, shape (T,); None where there is one.
    """

    draws: Sequence[Hashable]
    points: ArrayLike
    replicates: ArrayLike
    runs: Sequence[Hashable] | None = None

    def mean(self) -> tuple[float, Floats]:
        """The mean over draws (each the mean of its runs), and its replicates (B,).

        Raises:
            UndefinedError: no trial, or one without a value.
        """
        points_D, replicates_DB = _by_draw(self, sorted(set(self.draws), key=str))
        return float(points_D.mean()), replicates_DB.mean(axis=0)


@dataclass(frozen=True)
class Cell:
    """Mean over draws with its interval over test patients; `draw_sd` is None where there is one draw."""

    value: float
    low: float
    high: float
    draw_sd: float | None
    draws: int
    replicates: int
    undefined: int


@dataclass(frozen=True)
class PairedDifference:
    """Arm less reference, over the `draws` that both have; `p` is two-sided from the replicates."""

    difference: float
    low: float
    high: float
    p: float
    draws: int
    replicates: int
    undefined: int
    method: str = "bootstrap"


def cell(trials: Trials, level: float = 0.95) -> Cell:
    """Average an arm over its runs and draws, with the percentile interval at `level`.

    Raises:
        UndefinedError: no trial, or no defined replicate.
    """
    draws = sorted(set(trials.draws), key=str)
    points_D, _ = _by_draw(trials, draws)
    value, replicates_B = trials.mean()
    ends = interval(replicates_B, value, level)
    spread = float(points_D.std(ddof=1)) if len(draws) > 1 else None
    return Cell(value, ends.low, ends.high, spread, len(draws), ends.replicates, ends.undefined)


def paired_differences(arm: Trials, reference: Trials, level: float = 0.95) -> PairedDifference:
    """Mean over draws of the arm less mean over draws of the reference, on the same resamples.

    Only draws that both arms have are counted. Several runs of a draw are averaged first, so that each draw
    weighs the same.

    Raises:
        UndefinedError: no draw in common, or no defined replicate.
        ValueError: different numbers of replicates (then they are not the same resamples).
    """
    common = sorted(set(arm.draws) & set(reference.draws), key=str)
    points_a, replicates_a = _by_draw(arm, common)
    points_b, replicates_b = _by_draw(reference, common)
    if replicates_a.shape != replicates_b.shape:
        raise ValueError("the two arms were not judged on the same resamples")
    difference = float(points_a.mean() - points_b.mean())
    replicates_B = replicates_a.mean(axis=0) - replicates_b.mean(axis=0)
    ends = interval(replicates_B, difference, level)
    p = bootstrap_p(replicates_B)
    return PairedDifference(difference, ends.low, ends.high, p, len(common), ends.replicates, ends.undefined)


def bootstrap_p(differences_B: ArrayLike) -> float:
    """Two-sided p of "no difference": twice the smaller share of replicates at or beyond 0, at most 1.

    One is added to counts and total (Davison and Hinkley 1997), so p is never 0. NaN replicates are left out.

    Raises:
        UndefinedError: no replicate is defined.
    """
    values = np.asarray(differences_B, dtype=np.float64)
    defined = values[~np.isnan(values)]
    if not defined.size:
        raise UndefinedError("no resample holds both classes")
    smaller = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (1 + smaller) / (defined.size + 1))


def too_few(
    labels: ArrayLike,
    patients: ArrayLike,
    minimum: int = TOO_FEW,
    consequence: str = "no test is made of the difference",
    split: str = "test",
) -> str | None:
    """The sentence that stands in place of a verdict when a class has fewer than `minimum` patients, else
    None; it ends in the `consequence`. The patients are called by the `split` that they are of.

    A patient counts for each class of which it has a row.
    """
    values, ids = np.asarray(labels), np.asarray(patients)
    counts = {
        name: np.unique(ids[values == label]).size for name, label in (("positive", 1), ("negative", 0))
    }
    name = min(counts, key=lambda key: counts[key])
    if counts[name] >= minimum:
        return None
    return (
        f"Too few to judge: {counts[name]} {name} {split} patient{'' if counts[name] == 1 else 's'}, "
        f"fewer than {minimum}; {consequence}."
    )


def _by_draw(trials: Trials, draws: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Points (D,) and replicates (D, B) of the given draws, averaged over the runs of each draw."""
    points_T = np.asarray(trials.points, dtype=np.float64)
    replicates_TB = np.asarray(trials.replicates, dtype=np.float64)
    if replicates_TB.ndim != 2 or not len(trials.draws) == points_T.size == len(replicates_TB):
        raise ValueError(
            f"{len(trials.draws)} draws, {points_T.size} points, replicates {replicates_TB.shape}"
        )
    if not draws:
        raise UndefinedError("the arms have no draw in common")
    if np.isnan(points_T).any():
        raise UndefinedError("a trial has no value: leave it out, with the reason")
    members = [[t for t, own in enumerate(trials.draws) if own == draw] for draw in draws]
    return (
        np.array([points_T[of_draw].mean() for of_draw in members]),
        np.stack([replicates_TB[of_draw].mean(axis=0) for of_draw in members]),
    )
