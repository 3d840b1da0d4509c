"""Which image comes next: `STRATEGIES` is all that knows which ways there are.

N  candidates    M  images that are labelled or drawn already    T  targets
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR = 0.05
"""Share of all pairs of candidates that count as near each other."""
BANDS = 5
SAMPLE = 2000
"""Candidates whose distances tell what is near."""
Pick = Callable[[NDArray[np.bool_]], int]
"""Which candidates may be chosen, (N,) -> the one that is."""


@dataclass(frozen=True)
class Situation:
    """What is known when a list begins.

    Args:
        order: rank of each candidate in random order, (N,).
        cosines: of the angles between standardised features: of the candidates with each other (N, N), and with the images
            that are labelled or drawn already (N, M).
        logits: log odds of each target by the labels so far, (N, T).
    """

    order: NDArray[np.int64]
    cosines: Callable[[], tuple[NDArray[np.floating], NDArray[np.floating]]]
    logits: Callable[[], NDArray[np.float64]]


def first(values: NDArray, allowed: NDArray[np.bool_]) -> int:
    """The allowed candidate with the least value."""
    candidates = np.flatnonzero(allowed)
    return int(candidates[np.argmin(values[candidates])])


def random(situation: Situation) -> Pick:
    """In random order."""
    return lambda allowed: first(situation.order, allowed)


def coverage(situation: Situation) -> Pick:
    """ProbCover (Yehuda et al. 2022, arXiv 2205.11320): the candidate with most neighbours that nothing chosen is near.

    The paper takes the radius within which k-means clusters stay pure. Findings are no clusters of features, so
    here it is the `NEAR` quantile of distances. Where the paper ends, with all covered, another layer begins.
    """
    cosines_NN, known_NM = situation.cosines()
    sample = np.argsort(situation.order)[:SAMPLE]
    least = _least_near(cosines_NN[np.ix_(sample, sample)])
    near_NN = cosines_NN >= least
    covered_N: NDArray[np.bool_] = np.asarray((known_NM >= least).any(axis=1))
    gain_N = near_NN[~covered_N].sum(axis=0)

    def pick(allowed: NDArray[np.bool_]) -> int:
        nonlocal gain_N
        if not gain_N[allowed].any():
            covered_N[:] = False
            gain_N = near_NN.sum(axis=0)
        best = first(-gain_N + situation.order / len(situation.order), allowed)
        fresh_N = near_NN[best] & ~covered_N
        covered_N[fresh_N] = True
        gain_N = gain_N - near_NN[fresh_N].sum(axis=0)
        return best

    return pick


def _least_near(cosines_NN: NDArray[np.floating]) -> float:
    """The cosine that `NEAR` of all pairs reach; that of an image with itself where there is no pair."""
    pairs = cosines_NN[np.triu_indices(len(cosines_NN), 1)]
    return float(np.quantile(pairs, 1 - NEAR)) if len(pairs) else 1.0


def uncertainty(situation: Situation) -> Pick:
    """The least margin, of whichever target."""
    margins_N = np.abs(situation.logits()).min(axis=1)
    return lambda allowed: first(margins_N, allowed)


def balanced(situation: Situation) -> Pick:
    """Of `BANDS` equal parts of the range of log odds each in turn, from the highest, so that rare positives appear.

    Within a band at random; of several targets each in turn.
    """
    logits_NT = situation.logits()
    low, high = logits_NT.min(axis=0), logits_NT.max(axis=0)
    step = np.where(high > low, high - low, 1) / BANDS
    band_NT = np.minimum((high - logits_NT) // step, BANDS - 1)
    turns = iter(range(10**9))

    def pick(allowed: NDArray[np.bool_]) -> int:
        while True:
            band, target = divmod(next(turns), logits_NT.shape[1])
            here_N = allowed & (band_NT[:, target] == band % BANDS)
            if here_N.any():
                return first(situation.order, here_N)

    return pick


STRATEGIES: dict[str, Callable[[Situation], Pick]] = {
    "coverage": coverage,
    "uncertainty": uncertainty,
    "balanced": balanced,
    "random": random,
}
"""`--by` -> the strategy. `settings.labelling.Strategy` lists the same names, which a test compares."""
