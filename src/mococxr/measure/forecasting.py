"""What more labels would give, from a learning curve: alike for a store, whose labels train heads, and for a study's cells.

Letters: F sizes of the curve.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.measure.measures import Block
from mococxr.metrics.checks import Floats
from mococxr.metrics.forecast import ROUGH, SPREAD, WIDEST, Forecast

AHEAD = (1, 2, 4)
"""Multiples of the labels there are for which the AUROC is forecast."""
LEVEL = 0.9


def curves_of(
    sizes_F: ArrayLike, values_F: ArrayLike, covariance_FF: ArrayLike, labels: float, seed: int = 0
) -> Forecast:
    """The curves that meet these points; `labels` is how many there are.

    Raises:
        UndefinedError: fewer than three sizes.
    """
    return metrics.forecast(sizes_F, values_F, covariance_FF, labels, spread=SPREAD / labels**0.5, seed=seed)


def point_rows(sizes_F: ArrayLike, values_F: ArrayLike, covariance_FF: ArrayLike) -> list[Block]:
    """The points of a curve: `labels, auroc, error`."""
    errors_F = np.sqrt(np.diag(np.asarray(covariance_FF)))
    points = zip(np.asarray(sizes_F), np.asarray(values_F), errors_F, strict=True)
    return [{"labels": float(size), "auroc": float(value), "error": float(error)} for size, value, error in points]


def ahead_blocks(curves: Forecast) -> list[Block]:
    """The AUROC now and further on: `labels, value, low, high`, and a `reason` where it cannot be said yet."""
    counts = [round(times * curves.labels) for times in AHEAD]
    return [{"labels": n, **curves.at(n, LEVEL).block()} for n in counts]


def covariance_of(replicates_FB: Floats, sizes_F: list[float], draws_F: list[int]) -> Floats:
    """Covariance (F, F) of mean AUROCs over other test patients and other draws of labels.

    Args:
        replicates_FB: over the same resamples of the test patients.
        sizes_F, draws_F: labels of each mean, and draws that it is of; one draw has the spread of `SPREAD`.
    """
    over_patients = np.atleast_2d(np.cov(replicates_FB))
    over_draws = SPREAD**2 / (np.array(sizes_F) * np.array(draws_F))
    return np.asarray(over_patients + np.diag(over_draws + ROUGH**2), dtype=np.float64)


def ahead_words(block: Block) -> str:
    """`with 160 labels: AUROC 0.783 (0.731 to 0.822, 90 %)`, or that it cannot be said yet."""
    number = f"AUROC {block['value']:.3f} ({block['low']:.3f} to {block['high']:.3f}, 90 %)"
    if block.get("reason"):
        number = f"cannot be said yet: 90 % from {block['low']:.2f} to {block['high']:.2f}, wider than {WIDEST:g}"
    return f"with {block['labels']:,} labels: {number}"


def why_not(error: UndefinedError) -> str:
    """The sentence where there is no curve."""
    return f"It cannot be said yet: {error}."
