from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.special import expit, logit
from scipy.stats import t
from sklearn.linear_model import LogisticRegression

import mococxr.metrics as metrics
from mococxr.errors import UndefinedError


def scored(seed: int = 0, n: int = 500, patients: int = 500, slope: float = 0.6):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.8, 1.4, n)
    ids = rng.permutation(np.arange(n) % patients)
    luck = rng.random(patients)[ids]
    return (luck < expit(0.2 + slope * logits)).astype(int), expit(logits), ids


def natural(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Natural cubic splines through the unit vectors at the knots, straight beyond: the same functions, another basis."""
    columns = []
    for unit in np.eye(knots.size):
        curve = CubicSpline(knots, unit, bc_type="natural")
        inside = curve(np.clip(x, knots[0], knots[-1]))
        below, above = np.minimum(x - knots[0], 0), np.maximum(x - knots[-1], 0)
        columns.append(inside + below * curve(knots[0], 1) + above * curve(knots[-1], 1))
    return np.stack(columns, axis=1)


def fitted(labels: np.ndarray, design: np.ndarray, at: np.ndarray) -> np.ndarray:
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=5000).fit(design, labels)
    return model.decision_function(at)


@pytest.mark.parametrize(("n", "quantiles"), [(500, (0.05, 0.35, 0.65, 0.95)), (90, (0.1, 0.5, 0.9))])
def test_the_curve_is_a_logistic_regression_on_natural_cubic_splines(n, quantiles):
    labels, p, _ = scored(1, n, n)
    curve = metrics.smooth_calibration(labels, p, points=9)
    at = np.linspace(*np.quantile(p, (0.01, 0.99)), 9)
    assert [point.probability for point in curve] == pytest.approx(at)
    knots = np.quantile(logit(p), quantiles)
    oracle = expit(fitted(labels, natural(logit(p), knots), natural(logit(at), knots)))
    assert [point.observed for point in curve] == pytest.approx(oracle, abs=1e-4)


def test_the_band_is_that_of_leaving_out_each_patient_in_turn():
    labels, p, ids = scored(2, 400, 120)
    curve = metrics.smooth_calibration(labels, p, ids, points=5)
    knots = np.quantile(logit(p), (0.05, 0.35, 0.65, 0.95))
    at = natural(logit(np.linspace(*np.quantile(p, (0.01, 0.99)), 5)), knots)
    design = natural(logit(p), knots)
    whole = fitted(labels, design, at)
    moved = np.array([fitted(labels[ids != one], design[ids != one], at) for one in np.unique(ids)]) - whole
    few = min(np.unique(ids[labels == label]).size for label in (0, 1))
    half = t.ppf(0.975, few - 1) * np.sqrt((moved**2).sum(axis=0))
    for point, middle, reach in zip(curve, whole, half, strict=True):
        assert logit(point.high) - logit(point.low) == pytest.approx(2 * reach, rel=0.1)
        assert (logit(point.high) + logit(point.low)) / 2 == pytest.approx(middle, abs=1e-3)


def test_copies_of_a_row_under_one_patient_tell_no_more_than_one():
    labels, p, _ = scored(3, 200, 200)
    once = metrics.smooth_calibration(labels, p, np.arange(200))
    five = metrics.smooth_calibration(np.tile(labels, 5), np.tile(p, 5), np.tile(np.arange(200), 5))
    for a, b in zip(once, five, strict=True):
        assert (b.observed, b.low, b.high) == pytest.approx((a.observed, a.low, a.high), abs=2e-3)


@pytest.mark.parametrize(
    ("labels", "p", "why"),
    [
        ([0, 1] * 20, [0.0, 1.0] * 20, "too few values"),
        ([0, 1] * 20, [0.4] * 40, "too few values"),
        ([0] * 20 + [1] * 20, list(np.linspace(0.05, 0.95, 40)), "separate the classes"),
        ([1] + [0] * 39, list(np.linspace(0.05, 0.95, 40)), "too few patients"),
    ],
)
def test_where_there_is_no_curve_there_is_a_reason(labels, p, why):
    with pytest.raises(UndefinedError, match=why):
        metrics.smooth_calibration(labels, p)


def test_probabilities_of_0_and_1_among_others_have_a_finite_curve():
    labels, p, ids = scored(4)
    p = np.where(ids % 50 == 0, 0.0, np.where(ids % 50 == 1, 1.0, p))
    curve = metrics.smooth_calibration(labels, p)
    assert all(0 <= point.low < point.observed < point.high <= 1 for point in curve)
