"""Net benefit: what calls are worth where one false positive is worth pt / (1 - pt) of a true one (decision curve).

Source: Vickers and Elkin, Medical Decision Making 26:565 (2006). Letters: N rows, U patients.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.metrics.checks import Floats, as_labels, as_patients, as_scores, check_level, numbered
from mococxr.metrics.intervals import Estimate
from mococxr.metrics.proportions import correlation_over, difference_ends, share_of_counts


@dataclass(frozen=True)
class NetBenefit:
    """True positives less false ones at their price, by all rows, where rows at or above `threshold` are called positive.

    `all_positive`: the same where every row is called so (where none is, it is 0); `gain`: `model` less `all_positive`.
    """

    threshold: float
    model: Estimate
    all_positive: Estimate
    gain: Estimate


def net_benefit(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: Iterable[float],
    patients: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[NetBenefit, ...]:
    """The decision curve at some thresholds of the probability.

    A net benefit is the share of true positives less w times that of false ones, w = pt / (1 - pt); its interval joins the
    Wilson intervals of the two shares over patients by their correlation (Zou and Donner 2008), and so has a width where
    no row is called positive. That of `all_positive` follows from the share of positives, that of `gain` from the shares
    of true and false negatives.

    Args:
        labels: 1 or 0, both present, shape (N,).
        probabilities: 0 to 1, shape (N,).
        thresholds: between 0 and 1.
        patients: patient of each row; None where each row is a patient of its own.
        level: coverage.

    Raises:
        ValueError: a threshold that is not between 0 and 1.

    >>> point, = net_benefit([1, 1, 0, 0, 0], [0.9, 0.2, 0.6, 0.1, 0.1], [0.5])
    >>> point.model.value, round(point.all_positive.value, 3)
    (0.0, -0.2)
    """
    check_level(level)
    p = as_scores(probabilities)
    positive = as_labels(labels, p.size)
    rows = _Counted(numbered(as_patients(patients, p.size)), (1 - level) / 2)
    prevalence, _ = rows.share(positive)
    points = []
    for threshold in thresholds:
        if not 0 < threshold < 1:
            raise ValueError(f"a threshold of the probability must lie between 0 and 1, not {threshold}")
        price, called = threshold / (1 - threshold), p >= threshold
        model = Estimate(*rows.less(positive & called, called & ~positive, price), "true less false positives")
        value, low, high = ((1 + price) * end - price for end in prevalence)  # prevalence - price (1 - prevalence)
        all_positive = Estimate(value, low, high, "from the share of positives")
        # The model and calling all positive differ only in rows that the model calls negative.
        value, low, high = rows.less(positive & ~called, ~(positive | called), price)
        # Minus: a missed positive is what the model loses against calling all.
        gain = Estimate(-value, -high, -low, "true less false negatives")
        points.append(NetBenefit(float(threshold), model, all_positive, gain))
    return tuple(points)


@dataclass(frozen=True)
class _Counted:
    """Rows by patient, and the tail that intervals leave out."""

    unit_N: NDArray[np.intp]
    tail: float

    @cached_property
    def rows_U(self) -> Floats:
        """Rows of each patient."""
        return np.bincount(self.unit_N).astype(np.float64)

    def share(self, hits: NDArray[np.bool_]) -> tuple[tuple[float, float, float], Floats]:
        """A share of all rows with its interval, and what each patient moves it by (U,)."""
        hits_U = np.bincount(self.unit_N[hits], minlength=self.rows_U.size)
        share = share_of_counts(hits_U, self.rows_U)
        return (share.value, *share.ends(self.tail)), hits_U - share.value * self.rows_U

    def less(self, hits: NDArray[np.bool_], alarms: NDArray[np.bool_], price: float) -> tuple[float, float, float]:
        """The share of hits less the price times that of alarms."""
        (a, moved_a), (b, moved_b) = self.share(hits), self.share(alarms)
        paid = price * b[0], price * b[1], price * b[2]
        return a[0] - paid[0], *difference_ends(a, paid, correlation_over(moved_a, moved_b))
