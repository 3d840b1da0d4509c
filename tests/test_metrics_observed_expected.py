from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import t

import mococxr.metrics as metrics


def probabilities(seed: int = 0, n: int = 300, patients: int = 120):
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-rng.normal(-1.2, 1.2, n)))
    return (rng.random(n) < p).astype(int), p, rng.integers(0, patients, n)


def test_the_ratio_is_that_of_sums_and_its_ends_solve_the_score_equation():
    labels, p, ids = probabilities()
    found = metrics.observed_expected(labels, p, ids)
    observed, expected = labels.sum(), p.sum()
    assert found.value == pytest.approx(observed / expected, abs=1e-14)
    sums = [(labels - found.value * p)[ids == one].sum() for one in np.unique(ids)]
    variance = float(np.sum(np.square(sums)))
    few = min(np.unique(ids[labels == label]).size for label in (0, 1))
    most = t.ppf(0.975, few - 1)

    def score(ratio: float) -> float:
        """Observed less expected in standard errors; its variance grows with the ratio, as that of a count does."""
        return (observed - ratio * expected) / np.sqrt(variance * ratio / found.value)

    low = brentq(lambda ratio: score(ratio) - most, 1e-6, found.value)
    high = brentq(lambda ratio: score(ratio) + most, found.value, 100)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.value / found.low == pytest.approx(found.high / found.value)


def test_copies_of_an_image_tell_no_more_than_one():
    labels, p, _ = probabilities()
    ids = np.arange(300)
    once = metrics.observed_expected(labels, p, ids)
    five = metrics.observed_expected(np.tile(labels, 5), np.tile(p, 5), np.tile(ids, 5))
    assert five.ends() == pytest.approx(once.ends())


@pytest.mark.parametrize(
    ("labels", "p", "value", "why"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 1.0, "every patient is as expected"),
        ([1, 0, 1, 0], [0, 0, 0, 0], None, "nothing is expected"),
        ([1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], 0.5, "1 of a class"),
    ],
)
def test_what_tells_no_spread_has_a_reason_and_no_interval(labels, p, value, why):
    found = metrics.observed_expected(labels, p)
    assert (found.value, found.low, found.high) == (value, None, None)
    assert why in found.reason


def test_hard_scores_have_an_interval_with_a_width():
    found = metrics.observed_expected([1, 1, 0, 0, 1, 0], [1, 1, 0, 1, 0, 0])
    assert found.low < 1 == found.value < found.high
