"""Which image comes next: `STRATEGIES` is all that knows which ways there are.

N  candidates
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pick = Callable[[NDArray[np.bool_]], int]
"""Which candidates may be chosen, (N,) -> the one that is."""


@dataclass(frozen=True)
class Situation:
    """What is known when a list begins.

    Args:
        order: rank of each candidate in random order, (N,).
    """

    order: NDArray[np.int64]


def first(values: NDArray, allowed: NDArray[np.bool_]) -> int:
    """The allowed candidate with the least value."""
    candidates = np.flatnonzero(allowed)
    return int(candidates[np.argmin(values[candidates])])


def random(situation: Situation) -> Pick:
    """In random order."""
    return lambda allowed: first(situation.order, allowed)


STRATEGIES: dict[str, Callable[[Situation], Pick]] = {"random": random}
"""`--by` -> the strategy. `settings.labelling.Strategy` lists the same names, which a test compares."""
