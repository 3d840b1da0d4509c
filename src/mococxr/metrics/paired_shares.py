"""Two classifiers at their thresholds on the same images: the difference of a share (sensitivity, specificity)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, ndtr

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import as_patients, count_patients, numbered
from mococxr.metrics.proportions import correlation_over, difference_ends, proportion, share_moved


@dataclass(frozen=True)
class ShareDifference:
    """A share of a less that of b; `only_a`, `only_b`: rows that are right by one of the two alone."""

    difference: float
    low: float
    high: float
    p: float
    method: str
    only_a: int
    only_b: int


def paired_shares(
    right_a: ArrayLike, right_b: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> ShareDifference:
    """The difference of two shares of the same rows, a less b, over patients.

    The interval joins those of the two shares (`proportion`) by their correlation over patients (Newcombe, Statistics in
    Medicine 17:2635, 1998; Zou and Donner 2008). p: exact McNemar where each row is a patient, else Obuchowski's test
    (Statistics in Medicine 17:1495, 1998), in which a patient's rows are summed before they are squared.

    Args:
        right_a, right_b: 1 or 0, of the rows with the finding (sensitivity) or of those without (specificity), (N,).
        patients: patient of each row; None where each row is a patient of its own.
        level: coverage.

    Raises:
        UndefinedError: no rows.

    >>> result = paired_shares([1] * 9 + [0], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    >>> round(result.difference, 2), result.only_a, result.only_b, round(result.p, 4)
    (0.5, 5, 0, 0.0625)
    """
    a_N, b_N = (np.asarray(right, dtype=np.float64) for right in (right_a, right_b))
    if not a_N.size:
        raise UndefinedError("there are no such rows")
    ids = as_patients(patients, a_N.size)
    unit_N = numbered(ids)
    ends_a, ends_b = (proportion(right, unit_N, level).ends() for right in (a_N, b_N))
    correlation = correlation_over(*(share_moved(right, unit_N) for right in (a_N, b_N)))
    low, high = difference_ends(ends_a, ends_b, correlation)
    only_a, only_b = int((a_N > b_N).sum()), int((b_N > a_N).sum())
    gained_U = np.bincount(unit_N, weights=a_N - b_N)
    if count_patients(unit_N) == unit_N.size:  # McNemar's binomial takes rows as independent
        # Where the two counts are equal twice the tail is above 1.
        p, test = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))), "exact McNemar"
    else:
        # About 0, not about the mean: the variance where there is no difference, as McNemar's.
        squares = float((gained_U**2).sum())
        p, test = 2 * float(ndtr(-abs(gained_U.sum()) / np.sqrt(squares))) if squares else 1.0, "Obuchowski"
    return ShareDifference(
        ends_a[0] - ends_b[0], low, high, p, f"{test}; intervals joined by correlation", only_a, only_b
    )
