"""ROC and precision-recall curves, each with a pointwise band over resampled patients.

Letters: N rows, G steps of the ROC curve, B replicates, P points of a curve, K places of a band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mococxr.metrics.checks import Floats, as_labels, as_patients, as_scores, check_level
from mococxr.metrics.intervals import bootstrap
from mococxr.metrics.ranking import Curve, Measure, curve_of, safe_divide
from mococxr.metrics.readers import sensitivity_at

PLACES = np.arange(1, 51) / 50
"""Where a band is measured, besides 0 of the ROC curve."""


@dataclass(frozen=True)
class BandedCurve:
    """A curve through points (`x`, `y`), (P,) each, and its interval from `low` to `high` at places `at`, (K,) each."""

    x: Floats
    y: Floats
    at: Floats
    low: Floats
    high: Floats


def roc_curve(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> BandedCurve:
    """Sensitivity (`y`) against 1 - specificity (`x`); over tied scores it is straight.

    The band holds, at each share of false alarms for itself, the sensitivities of resampled patients.

    Args:
        labels: 1 or 0, both present, shape (N,).
        scores: shape (N,).
        patients: patient of each row; None where each row is a patient of its own.
        replicates, seed: of the resamples.
        level: coverage at each place.

    >>> curve = roc_curve([1, 0, 1, 0], [0.9, 0.6, 0.5, 0.1], replicates=200)
    >>> sorted(set(zip(curve.x.tolist(), curve.y.tolist())))
    [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]
    """
    curve = _whole(labels, scores)
    x = np.stack([curve.above_GB, curve.false_GB], axis=1).ravel() / curve.negatives_B
    y = np.stack([curve.hits_GB - curve.steps_GB, curve.hits_GB], axis=1).ravel() / curve.hits_GB[-1]
    band = _band(_sensitivities, labels, scores, patients, replicates, seed, level)
    return BandedCurve(np.array([0.0, *x, 1.0]), np.array([0.0, *y, 1.0]), np.append(0.0, PLACES), *band)


def precision_recall_curve(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> BandedCurve:
    """Precision (`y`) at each recall that a threshold reaches (`x`), not interpolated; arguments as `roc_curve`.

    >>> curve = precision_recall_curve([1, 0, 1, 0], [0.9, 0.6, 0.5, 0.1], replicates=200)
    >>> curve.x.tolist(), curve.y.round(3).tolist()
    ([0.5, 1.0], [1.0, 0.667])
    """
    curve = _whole(labels, scores)
    hits, false = curve.hits_GB[:, 0], curve.false_GB[:, 0]
    band = _band(_precisions, labels, scores, patients, replicates, seed, level)
    return BandedCurve(hits / hits[-1], hits / (hits + false), PLACES, *band)


def _whole(labels: ArrayLike, scores: ArrayLike) -> Curve:
    """The curve of all rows, each of weight 1."""
    values = as_scores(scores)
    positive = as_labels(labels, values.size)
    return curve_of(positive, values, np.arange(values.size))(np.ones((values.size, 1)))


def _sensitivities(curve: Curve) -> Floats:
    """The sensitivity of each weighting at 0 and `PLACES` of the negatives, (K, B)."""
    positives_B = np.where(curve.negatives_B > 0, curve.hits_GB[-1], 0.0)
    alarms_KB = np.append(0.0, PLACES)[:, None] * curve.negatives_B
    return np.stack([safe_divide(sensitivity_at(curve, alarms_B), positives_B) for alarms_B in alarms_KB])


def _precisions(curve: Curve) -> Floats:
    """The precision of each weighting at the first step that reaches each recall of `PLACES`, (K, B)."""
    called_GB = curve.hits_GB + curve.false_GB
    called_GB[:, curve.negatives_B == 0] = 0.0  # undefined, as the average precision is there
    wanted_KB = PLACES[:, None] * curve.hits_GB[-1] - 1e-9  # the last digit of a product must not skip a step
    first_K1B = np.stack([(curve.hits_GB >= wanted_B).argmax(axis=0) for wanted_B in wanted_KB])[:, None]
    rows = [np.take_along_axis(values_GB, first_1B, axis=0)[0] for first_1B in first_K1B
            for values_GB in (curve.hits_GB, called_GB)]  # fmt: skip
    return safe_divide(np.stack(rows[::2]), np.stack(rows[1::2]))


def _band(
    measure: Measure, labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None, replicates: int, seed: int,
    level: float,
) -> tuple[Floats, Floats]:  # fmt: skip
    check_level(level)
    columns = np.asarray(scores)[None]
    ids = as_patients(patients, columns.size)
    values_KB = bootstrap(labels, columns, ids, replicates, seed, measure=measure)[0]
    low, high = np.nanquantile(values_KB, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return low, high
