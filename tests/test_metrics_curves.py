"""ROC and precision-recall curves and their bands, against scikit-learn on the same resamples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn

from mococxr import metrics


def drawn(ties: bool, n: int = 61) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.arange(n) < n // 3).astype(int)
    scores = rng.normal(size=n) + labels
    return labels, scores.round(0) if ties else scores, rng.integers(0, 25, n)


def points(x: np.ndarray, y: np.ndarray) -> set[tuple[float, float]]:
    return set(zip(x.round(12).tolist(), y.round(12).tolist(), strict=True))


@pytest.mark.parametrize("ties", [False, True])
def test_the_corners_are_those_of_scikit_learn(ties: bool) -> None:
    labels, scores, patients = drawn(ties)
    ours = metrics.roc_curve(labels, scores, patients, replicates=2)
    corners, every = (points(*sklearn.roc_curve(labels, scores, drop_intermediate=drop)[:2]) for drop in (True, False))
    assert corners <= points(ours.x, ours.y) <= every
    curve = metrics.precision_recall_curve(labels, scores, patients, replicates=2)
    precision, recall, _ = sklearn.precision_recall_curve(labels, scores)
    best = {float(r): float(precision[recall == r].max()) for r in np.unique(recall[recall > 0])}
    # of one recall the first threshold has the best precision
    assert points(curve.x, curve.y) == points(np.array(list(best)), np.array(list(best.values())))


def sensitivity(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, place: float) -> float:
    x, y, _ = sklearn.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    at = np.isclose(x, place)
    return float(y[at].max() if at.any() else np.interp(place, x, y))


def precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, place: float) -> float:
    p, r, _ = sklearn.precision_recall_curve(labels, scores, sample_weight=weights)
    reached = r[r >= place - 1e-9].min()
    return float(p[np.isclose(r, reached)].max())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("curve", "loop"), [(metrics.roc_curve, sensitivity), (metrics.precision_recall_curve, precision)]
)
def test_the_band_is_the_quantiles_over_resampled_patients(curve: Any, loop: Any, ties: bool) -> None:
    labels, scores, patients = drawn(ties)
    ours = curve(labels, scores, patients, replicates=60, seed=5, level=0.8)
    resamples = metrics.patient_resamples(patients, 60, 5)
    weights = resamples.weights_BU[:, resamples.unit_N]
    for k in (0, 7, 24, len(ours.at) - 1):
        slow = [loop(labels, scores, weight, ours.at[k]) for weight in weights]
        assert np.allclose(np.quantile(slow, [0.1, 0.9]), [ours.low[k], ours.high[k]])
    assert (ours.low <= ours.high).all()
