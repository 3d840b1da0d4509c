from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

import mococxr.metrics as metrics
from mococxr.metrics.ranking import curve_of


def sample(seed: int, n: int = 60, digits: int = 1):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) < max(1, n // 3)).astype(int)
    return labels, np.round(rng.normal(size=n) + labels, digits)


def slow(labels: np.ndarray, scores: np.ndarray, steps: int = 20_000) -> float:
    """The mean specificity over sensitivities from 0.9 to 1, read off scikit-learn's curve in small steps."""
    false_alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    middles = 0.9 + (np.arange(steps) + 0.5) * 0.1 / steps
    mean = np.mean([1 - np.interp(middle, hits, false_alarms) for middle in middles])
    return 0.5 + 0.5 * (mean - 0.05) / 0.95


@pytest.mark.parametrize(("seed", "n", "digits"), [(0, 60, 1), (1, 200, 6), (2, 41, 0), (3, 12, 2)])
def test_it_is_the_mean_specificity_at_high_sensitivity_standardised_by_mcclish(seed, n, digits):
    labels, scores = sample(seed, n, digits)
    assert metrics.partial_auroc(labels, scores) == pytest.approx(slow(labels, scores), abs=1e-4)


@given(seed=st.integers(0, 10_000), n=st.integers(3, 50), digits=st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_it_equals_scikit_learns_of_the_classes_exchanged_with_weights_too(seed, n, digits):
    labels, scores = sample(seed, n, digits)
    oracle = roc_auc_score(1 - labels, -scores, max_fpr=0.1)
    assert metrics.partial_auroc(labels, scores) == pytest.approx(oracle, abs=1e-12)
    weights = np.random.default_rng(seed).integers(0, 4, n)
    weights[np.argmax(labels)] = weights[np.argmin(labels)] = 1
    weighted = metrics.partial_auroc_measure(curve_of(labels == 1, scores, np.arange(n))(weights[:, None] * 1.0))
    oracle = roc_auc_score(1 - labels, -scores, max_fpr=0.1, sample_weight=weights)
    assert weighted == pytest.approx(oracle, abs=1e-12)


def test_guessing_is_one_half_perfect_is_one_and_a_resample_of_one_class_is_undefined():
    assert metrics.partial_auroc([0, 1] * 20, np.ones(40)) == pytest.approx(0.5)
    assert metrics.partial_auroc([0] * 20 + [1] * 20, np.arange(40)) == pytest.approx(1.0)
    replicates = metrics.bootstrap([1, 0, 0], [[3, 1, 2]], np.arange(3), 300, 0, measure=metrics.partial_auroc_measure)
    assert np.isnan(replicates).mean() == pytest.approx(9 / 27, abs=0.08)
