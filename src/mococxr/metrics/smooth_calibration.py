"""The reliability curve without bins: observed against predicted probability, by restricted cubic splines.

Letters: N rows, K coefficients, U patients, P points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, stdtrit

from mococxr.errors import UndefinedError
from mococxr.metrics.calibration import as_logits
from mococxr.metrics.checks import Floats, as_labels, as_patients, as_scores, check_level, count_patients, numbered
from mococxr.metrics.logistic import coefficients, moved_coefficients

KNOTS = {3: (0.1, 0.5, 0.9), 4: (0.05, 0.35, 0.65, 0.95)}
"""Number of knots -> the quantiles of the logits at which they lie (Harrell)."""
ENOUGH = 50
"""Patients of each class from which on there are four knots."""

VALUES = 5
"""Different probabilities below which there are bins and no curve."""


@dataclass(frozen=True)
class SmoothPoint:
    """The share of positives among rows of this predicted probability, with its pointwise interval."""

    probability: float
    observed: float
    low: float
    high: float


def smooth_calibration(
    labels: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike | None = None,
    level: float = 0.95,
    points: int = 25,
) -> tuple[SmoothPoint, ...]:
    """The reliability curve by logistic regression on a restricted cubic spline of the logits.

    Three knots, four with 50 patients of each class, at fixed quantiles (Harrell, Regression Modeling Strategies, 2nd ed.,
    2015, section 2.4.6). The band is the sandwich over patients, each left out in turn to first order, with Student's t; it
    is pointwise, and of the curve that such a spline can follow.

    Args:
        labels: 1 or 0, both present, shape (N,).
        probabilities: 0 to 1, shape (N,).
        patients: patient of each row; None where each row is a patient of its own.
        level: coverage at each point.
        points: of the curve, evenly from the 1st to the 99th percentile of the probabilities.

    Raises:
        UndefinedError: too few patients or too few values of the probabilities, or they separate the classes fully.

    >>> curve = smooth_calibration([0, 1, 0, 0, 1, 0, 1, 1] * 4, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] * 4, points=2)
    >>> [(round(point.probability, 2), round(point.observed, 2)) for point in curve]
    [(0.1, 0.3), (0.8, 0.94)]
    """
    check_level(level)
    p = as_scores(probabilities)
    y, logits = as_labels(labels, p.size).astype(np.float64), as_logits(p)
    unit_N = numbered(as_patients(patients, p.size))
    few = min(count_patients(unit_N[y == label]) for label in (0, 1))
    if few < 2:  # no degree of freedom for Student's t
        raise UndefinedError(f"too few patients ({few} of a class)")
    # Tied scores may put two knots in one place, and the terms divide by their distance.
    knots = np.unique(np.quantile(logits, KNOTS[4 if few >= ENOUGH else 3]))
    if knots.size < 3 or np.unique(p).size < VALUES:
        raise UndefinedError("the probabilities take too few values for a curve")
    design_NK = _spline(logits, knots)
    fitted_K = coefficients(design_NK, y)
    if np.isnan(fitted_K).any():
        raise UndefinedError("the probabilities separate the classes fully: no curve is finite")
    moved_UK = moved_coefficients(design_NK, y, fitted_K, unit_N)
    low, high = np.quantile(p, (0.01, 0.99))  # beyond these the spline is a straight line through hardly any row
    at_P = np.linspace(low, high, points)
    design_PK = _spline(as_logits(at_P), knots)
    half_P = float(-stdtrit(few - 1, (1 - level) / 2)) * np.sqrt(((design_PK @ moved_UK.T) ** 2).sum(axis=1))
    line_P = design_PK @ fitted_K
    ends = np.stack([at_P, expit(line_P), expit(line_P - half_P), expit(line_P + half_P)], axis=1)
    return tuple(SmoothPoint(*row) for row in ends.tolist())


def _spline(x: Floats, knots: Floats) -> Floats:
    """1, x and the cubic terms, which are straight lines beyond the first and the last knot; on the scale of the knots."""
    first, before, last = knots[0], knots[-2], knots[-1]
    size = last - first
    columns = [np.ones_like(x), (x - first) / size]
    end, inner = np.maximum(x - last, 0) ** 3, np.maximum(x - before, 0) ** 3
    for knot in knots[:-2]:
        cubic = np.maximum(x - knot, 0) ** 3
        cubic += (end * (before - knot) - inner * (last - knot)) / (last - before)
        columns.append(cubic / size**3)  # Newton's steps need columns of about one size
    return np.stack(columns, axis=1)
