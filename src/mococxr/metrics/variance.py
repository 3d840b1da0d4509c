"""Where the variance of a study's number comes from: test patients, label subsets (draws), pretraining runs.

A number y of draw d and run s on one set of test patients is taken to be

    mean + draw_d + run_s + rest_ds + patients + patients x draw_d + patients x run_s + patients x rest_ds

with independent random parts. The first four come from the table of numbers (analysis of variance of a two-way table
with one number a cell), the others from what the same resamples of the patients do to that table. What the table
shows between draws holds the patients' interaction too (a draw may be good on these very patients); it is taken out.

Letters: T trials, D draws, S runs, B replicates.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats
from mococxr.metrics.differences import Trials


@dataclass(frozen=True)
class VarianceSplit:
    """Mean over draws and runs, with the variance of that mean by its sources, and what one trial varies by.

    `patients`, `draws`, `runs`, `draw_x_run`: variance of one trial's number from each source (interactions of the patients
    are in `patient_interactions`); None where there is one draw, or one run, which cannot tell. `low` and `high` are the
    interval of the mean over new patients, new draws and new runs, by Student's t with `df` degrees of freedom
    (Satterthwaite); sources that are None are not in it, and `words` says so.
    """

    value: float
    standard_error: float
    df: float
    low: float
    high: float
    level: float
    patients: float
    draws: float | None
    runs: float | None
    draw_x_run: float | None
    patient_interactions: float
    count_draws: int
    count_runs: int
    words: tuple[str, ...]

    @property
    def p(self) -> float:
        """Two-sided p of "the mean is 0" over all of the sources."""
        if not self.standard_error:
            return 1.0 if not self.value else 0.0
        z = -abs(self.value) / self.standard_error
        return float(2 * (stdtr(self.df, z) if np.isfinite(self.df) else ndtr(z)))

    @property
    def few(self) -> tuple[str, ...]:
        """A sentence for each source with two values only, or three without variance (it is in `words` too)."""
        sources = (("label subsets", self.count_draws, self.draws), ("pretraining runs", self.count_runs, self.runs))
        return tuple(
            f"{count} {name} are too few to estimate the variance between {name}"
            + (": the estimate is 0, which does not show that there is none." if not variance else ".")
            for name, count, variance in sources
            if count == 2 or (count == 3 and not variance)
        )


@dataclass(frozen=True)
class _Squares:
    """Mean squares of a two-way table; NaN where a side has length 1. Shapes are those of the leading axes."""

    draws: Floats
    runs: Floats
    rest: Floats


def variance_split(
    draws: Sequence[Hashable],
    runs: Sequence[Hashable],
    points_T: ArrayLike,
    replicates_TB: ArrayLike,
    level: float = 0.95,
    over_patients: float = 0.0,
) -> VarianceSplit:
    """Split the variance of a mean over trials; for a difference of two arms, give the differences as trials.

    Args:
        draws, runs: label subset and pretraining run of each trial, length T. Subsets that lack a run are left out,
            and `words` says how many.
        points_T: the number of each trial.
        replicates_TB: its bootstrap replicates, all trials on the same resamples of the patients; NaN where undefined.
        level: coverage of the interval.
        over_patients: variance of the mean over patients by another method (DeLong's): that of the resamples is taken to
            be no less, so that the interval over all sources is no narrower than that over patients.

    Raises:
        UndefinedError: no draw has all runs, or fewer than two replicates are defined.
    """
    points_DS, replicates_DSB, words = _table(draws, runs, points_T, replicates_TB)
    count_draws, count_runs = points_DS.shape
    cells = count_draws * count_runs
    observed = _mean_squares(points_DS)
    moved_BDS = np.moveaxis(replicates_DSB - points_DS[..., None], -1, 0)
    moved_BDS = moved_BDS - moved_BDS.mean(axis=0)  # a bootstrap's bias is no variance
    by_patients = _mean_squares(moved_BDS)
    interaction = [float(np.mean(part)) for part in _components(by_patients, count_draws, count_runs)]
    total = [float(part) for part in _components(observed, count_draws, count_runs)]
    # NaN: a side of length 1; what the table shows holds the patients' interaction, which is taken out.
    draw, run, rest = (max(0.0, a - b) if a == a else None for a, b in zip(total, interaction, strict=True))
    mean_B = moved_BDS.mean(axis=(1, 2))  # what all trials have in common: the test patients
    shared = max(float(mean_B.var(ddof=1)), over_patients)
    inside = [max(0.0, part) if part == part else 0.0 for part in interaction]
    # The mean over trials still holds a share of what the patients do to single draws and runs.
    patients = max(0.0, shared - inside[0] / count_draws - inside[1] / count_runs - inside[2] / cells)
    standard_error, df = _of_mean(observed, patients, shared, count_draws, count_runs)
    quantile = float(stdtrit(df, 0.5 + level / 2)) if np.isfinite(df) else float(ndtri(0.5 + level / 2))
    value = float(points_DS.mean())
    half = quantile * standard_error
    split = VarianceSplit(
        value, standard_error, df, value - half, value + half, level, patients, draw, run, rest, sum(inside),
        count_draws, count_runs, (*words, *_missing(count_draws, count_runs)),
    )  # fmt: skip
    return replace(split, words=(*split.words, *split.few))


def split_difference(arm: Trials, reference: Trials, level: float = 0.95, over_patients: float = 0.0) -> VarianceSplit:
    """`variance_split` of arm less reference, over the draws that both have.

    Runs of two arms have nothing in common: as many runs on both sides are paired in their order; where one
    side has one run, it is compared with each of the other; otherwise the side with fewer is averaged first, and
    `words` says so.

    Raises:
        UndefinedError: no draw in common, or as `variance_split`.
    """
    draws = sorted(set(arm.draws) & set(reference.draws), key=str)
    if not draws:
        raise UndefinedError("the arms have no label subset in common")
    sides = {"arm": _by_run(arm, draws), "reference": _by_run(reference, draws)}
    size, words = max(map(len, sides.values())), []
    for name, runs_SD in sides.items():
        if 1 < len(runs_SD) < size:  # one run is broadcast against each of the other side's
            words.append(
                f"The {len(runs_SD)} runs of the {name} are averaged: the interval does not hold their variance."
            )
            sides[name] = runs_SD.mean(axis=0, keepdims=True)
    difference_SD = sides["arm"] - sides["reference"]
    table_T = difference_SD.reshape(size * len(draws), -1)
    names = [(run, draw) for run in range(size) for draw in draws]  # in the order of the reshape above
    draws_T, runs_T = [d for _, d in names], [r for r, _ in names]
    split = variance_split(draws_T, runs_T, table_T[:, 0], table_T[:, 1:], level, over_patients)
    return replace(split, words=(*words, *split.words))


def _by_run(trials: Trials, draws: Sequence[Hashable]) -> Floats:
    """Point and replicates of each run and draw, (S, D, 1 + B)."""
    columns = np.concatenate(
        [np.asarray(trials.points, dtype=np.float64)[:, None], np.asarray(trials.replicates)], axis=1
    )
    runs = list(trials.runs) if trials.runs is not None else [0] * len(columns)
    trial_of = {pair: t for t, pair in enumerate(zip(trials.draws, runs, strict=True))}
    if len(trial_of) < len(columns):
        raise ValueError("a draw and run occur twice: give `runs` where an arm has several")
    names = sorted(set(runs), key=str)
    if missing := [(d, r) for d in draws for r in names if (d, r) not in trial_of]:
        raise UndefinedError(f"label subset {missing[0][0]} lacks the pretraining run {missing[0][1]}")
    return np.stack([columns[[trial_of[draw, run] for draw in draws]] for run in names])


def _missing(count_draws: int, count_runs: int) -> list[str]:
    words = []
    if count_draws == 1:
        words.append("One label subset: the variance between subsets is not in the interval.")
    if count_runs == 1:
        words.append("One pretraining run: the variance between runs is not in the interval.")
    return words


def _table(
    draws: Sequence[Hashable], runs: Sequence[Hashable], points_T: ArrayLike, replicates_TB: ArrayLike
) -> tuple[Floats, Floats, list[str]]:
    """Points (D, S), defined replicates (D, S, B), and what was left out."""
    points = np.asarray(points_T, dtype=np.float64)
    replicates = np.asarray(replicates_TB, dtype=np.float64)
    if replicates.ndim != 2 or not len(draws) == len(runs) == points.size == len(replicates):
        raise ValueError(f"{len(draws)} draws, {len(runs)} runs, {points.size} points, {replicates.shape} replicates")
    trial_of = {pair: t for t, pair in enumerate(zip(draws, runs, strict=True))}
    if len(trial_of) < len(points):
        raise ValueError("a draw and run occur twice")
    if np.isnan(points).any():
        raise UndefinedError("a trial has no value: leave it out, with the reason")
    all_runs = sorted(set(runs), key=str)
    all_draws = sorted(set(draws), key=str)
    whole = [draw for draw in all_draws if all((draw, run) in trial_of for run in all_runs)]
    if not whole:
        raise UndefinedError("no label subset was tried with every pretraining run")
    members = np.array([[trial_of[draw, run] for run in all_runs] for draw in whole])
    defined = ~np.isnan(replicates[members.ravel()]).any(axis=0)
    if defined.sum() < 2:
        raise UndefinedError("fewer than two resamples hold both classes")
    incomplete = len(all_draws) - len(whole)
    words = [f"{incomplete} of {len(all_draws)} label subsets lack a pretraining run and are left out."]
    words = words if incomplete else []  # the analysis of variance needs a full table
    return points[members], replicates[members][..., defined], words


def _mean_squares(table: Floats) -> _Squares:
    """Of the last two axes (draws, runs)."""
    count_draws, count_runs = table.shape[-2:]
    grand = table.mean(axis=(-2, -1), keepdims=True)
    by_draw, by_run = table.mean(axis=-1, keepdims=True), table.mean(axis=-2, keepdims=True)
    residual = table - by_draw - by_run + grand
    undefined = np.full(table.shape[:-2], np.nan)

    def mean_square(parts: Floats, times: int, df: int) -> Floats:
        return times * (parts**2).sum(axis=(-2, -1)) / df if df else undefined

    return _Squares(
        mean_square(by_draw - grand, count_runs, count_draws - 1),
        mean_square(by_run - grand, count_draws, count_runs - 1),
        mean_square(residual, 1, (count_draws - 1) * (count_runs - 1)),
    )


def _components(squares: _Squares, count_draws: int, count_runs: int) -> tuple[Floats, Floats, Floats]:
    """Variance components of draws, runs and the rest, NaN where the table has no such side."""
    rest = squares.rest if count_draws > 1 and count_runs > 1 else np.zeros_like(squares.draws)
    return (squares.draws - rest) / count_runs, (squares.runs - rest) / count_draws, squares.rest


def _of_mean(
    observed: _Squares, patients: float, shared: float, count_draws: int, count_runs: int
) -> tuple[float, float]:
    """Standard error of the mean over the table, and Satterthwaite's degrees of freedom.

    The variance between draws and runs as observed holds their interaction with the patients; only the patients' part
    that all trials share is added. It is never less than that of the patients alone.
    """
    cells = count_draws * count_runs
    sides = [
        (float(square), df)
        for square, df in (
            (observed.draws, count_draws - 1),
            (observed.runs, count_runs - 1),
            # (draws + runs - rest) / cells estimates the variance of the mean: both hold the rest once.
            (-observed.rest, (count_draws - 1) * (count_runs - 1)),
        )
        if df
    ]
    trained = max(0.0, sum(square for square, _ in sides) / cells)
    if trained + patients <= shared:  # draws and runs may seem to vary less than nothing: patients alone remain
        return float(np.sqrt(shared)), float("inf")
    spread = sum((square / cells) ** 2 / df for square, df in sides)
    return float(np.sqrt(trained + patients)), float((trained + patients) ** 2 / spread)
