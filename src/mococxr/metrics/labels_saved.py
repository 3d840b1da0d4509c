"""How many labels the reference needs to reach what another arm reaches with few.

Letters: F label counts on the learning curve, B replicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats


@dataclass(frozen=True)
class Labels:
    """A number of labels, or a bound where the answer lies outside what was measured."""

    count: float
    side: str = "exactly"

    def __str__(self) -> str:
        """In words: `1,200`, `at most 50`, `more than 9,000`."""
        return f"{self.count:,.0f}" if self.side == "exactly" else f"{self.side} {self.count:,.0f}"


@dataclass(frozen=True)
class LabelsSaved:
    """Labels that the reference `needed` to reach the arm's number, with an interval; `words` is one sentence."""

    needed: Labels
    low: Labels
    high: Labels
    words: str


def labels_saved(
    labels: float,
    reached: float,
    reached_B: ArrayLike,
    counts_F: ArrayLike,
    curve_F: ArrayLike,
    curve_FB: ArrayLike,
    level: float = 0.95,
) -> LabelsSaved:
    """Read the reference's learning curve backwards, in the data and in each joint resample.

    The curve is first made rising (isotonic regression, equal weights), then joined by straight lines over the
    logarithm of the label count. Nothing is read beyond its ends: below the first count the answer is "at most" that
    count, above the last "more than" that. The interval's ends are replicates themselves, so it may end outside too.

    Args:
        labels: label count of the arm.
        reached: the arm's number (AUROC) there, the mean over draws.
        reached_B: its replicates.
        counts_F: label counts of the reference, rising, at least two.
        curve_F: the reference's numbers.
        curve_FB: their replicates, on the same resamples.
        level: coverage.

    Raises:
        UndefinedError: no replicate is defined throughout.

    >>> curve = [[0.6, 0.6], [0.7, 0.7], [0.8, 0.8]]
    >>> str(labels_saved(10, 0.7, [0.7, 0.7], [10, 100, 1000], [0.6, 0.7, 0.8], curve).needed)
    '100'
    """
    counts, curve = np.asarray(counts_F, dtype=np.float64), np.asarray(curve_F, dtype=np.float64)
    drawn_FB, target_B = np.asarray(curve_FB, dtype=np.float64), np.asarray(reached_B, dtype=np.float64)
    if counts.size < 2 or (np.diff(counts) <= 0).any() or counts[0] <= 0 or curve.shape != counts.shape:
        raise ValueError("the curve needs two or more rising label counts, and a number for each")
    if drawn_FB.shape != (counts.size, target_B.size) or not 0 < level < 1:
        raise ValueError(f"replicates {drawn_FB.shape} and {target_B.shape} do not match, or level {level}")
    if np.isnan(curve).any() or np.isnan(reached):
        raise UndefinedError("a point of the curve has no value: leave it out, with the reason")
    defined = ~(np.isnan(drawn_FB).any(axis=0) | np.isnan(target_B))
    if not defined.any():
        raise UndefinedError("no resample holds both classes")
    needed = _read(np.array([reached]), curve[:, None], counts)[0]
    needed_B = np.sort(_read(target_B[defined], drawn_FB[:, defined], counts))
    last = needed_B.size - 1
    # Order statistics, not interpolated ones: between a number and "more than all" there is nothing.
    low = needed_B[int(np.floor((1 - level) / 2 * last))]
    high = needed_B[int(np.ceil((1 + level) / 2 * last))]
    estimate, first, final = (_bounded(float(value), counts) for value in (needed, low, high))
    over = f"{100 * level:g} % interval over test patients"
    reach = (
        f"What the arm reaches with {labels:,.0f} labels takes the reference {estimate} ({over}: {first} to {final})."
    )
    words = _beyond(estimate, first, final, over) or reach
    return LabelsSaved(estimate, first, final, words)


def _beyond(estimate: Labels, first: Labels, final: Labels, over: str) -> str | None:
    """The sentence where an end lies outside what was measured."""
    if first.side == "at most" and final.side == "more than":
        return f"Not determined: anything from {first.count:,.0f} to more than {final.count:,.0f} labels ({over})."
    if final.side == "at most":
        return f"No saving: the reference reaches it with the fewest labels measured ({final.count:,.0f})."
    if estimate.side == "more than":
        at_least = first if first.side == "more than" else f"{first} or more"
        return f"The reference does not reach it with all {estimate.count:,.0f} labels ({over}: {at_least})."
    return None


def _bounded(value: float, counts: Floats) -> Labels:
    if value == np.inf:
        return Labels(float(counts[-1]), "more than")
    # A target below the first point was reached with fewer labels than were tried.
    # exp(log(count)) may miss the count by rounding.
    return Labels(float(counts[0]), "at most") if value <= counts[0] * (1 + 1e-12) else Labels(value)


def _read(target_B: Floats, curve_FB: Floats, counts: Floats) -> Floats:
    """The least count at which the rising curve reaches the target: never below the first, inf beyond the last."""
    rising = _rising(curve_FB)
    reached_FB = rising >= target_B - 1e-15  # a mean of equal numbers may lose its last bit
    after = np.clip(reached_FB.argmax(axis=0), 1, None)  # reached at the first count: the left end of the first stretch
    columns = np.arange(target_B.size)
    below, above = rising[after - 1, columns], rising[after, columns]
    gap = np.where(above > below, above - below, 1.0)  # a level stretch is reached at its left end
    logs = np.log(counts)  # learning curves are near straight over the logarithm
    share = np.clip((target_B - below) / gap, 0.0, 1.0)
    inside = np.exp(logs[after - 1] + share * (logs[after] - logs[after - 1]))
    return np.where(reached_FB.any(axis=0), inside, np.inf)


def _rising(curve_FB: Floats) -> Floats:
    """Isotonic regression of each column: the highest, over starts, of the least mean over ends (F^2 steps)."""
    size = len(curve_FB)
    sums = np.concatenate([np.zeros_like(curve_FB[:1]), np.cumsum(curve_FB, axis=0)])
    rising = np.full_like(curve_FB, -np.inf)
    for start in range(size):
        # Of counts start..end: the max-min formula of isotonic regression.
        means = (sums[start + 1 :] - sums[start]) / np.arange(1, size - start + 1)[:, None]
        least = np.minimum.accumulate(means[::-1], axis=0)[::-1]
        rising[start:] = np.maximum(rising[start:], least)
    return rising
