from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

import mococxr.metrics as metrics
from mococxr.errors import UndefinedError


@pytest.mark.parametrize(("only_a", "only_b"), [(7, 2), (0, 0), (0, 6), (15, 15)])
def test_one_image_a_patient_has_the_exact_test_of_mcnemar(only_a, only_b):
    a = np.repeat([1, 0, 1, 0], [only_a, only_b, 30, 4])
    b = np.repeat([0, 1, 1, 0], [only_a, only_b, 30, 4])
    found = metrics.paired_shares(a, b)
    oracle = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert found.p == pytest.approx(oracle, abs=1e-12)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.difference == pytest.approx((only_a - only_b) / a.size)
    assert found.low <= found.difference <= found.high
    turned = metrics.paired_shares(b, a)
    assert (turned.low, turned.high, turned.p) == pytest.approx((-found.high, -found.low, found.p))


def test_the_interval_of_one_image_a_patient_is_newcombes_with_the_phi_of_the_table():
    both, only_a, only_b, neither = 36, 12, 2, 5
    a, b = (np.repeat(calls, [both, only_a, only_b, neither]) for calls in ([1, 1, 0, 0], [1, 0, 1, 0]))
    total, n_a, n_b = a.size, both + only_a, both + only_b
    phi = (both * neither - only_a * only_b) / np.sqrt(n_a * (total - n_a) * n_b * (total - n_b))
    (low_a, high_a), (low_b, high_b) = metrics.wilson(n_a, total), metrics.wilson(n_b, total)
    down, up = (n_a / total - low_a, high_b - n_b / total), (high_a - n_a / total, n_b / total - low_b)
    reach = [np.sqrt(x * x + y * y - 2 * phi * x * y) for x, y in (down, up)]
    found = metrics.paired_shares(a, b)
    assert (found.low, found.high) == pytest.approx((10 / total - reach[0], 10 / total + reach[1]), abs=1e-12)


def test_images_of_one_patient_are_summed_before_they_are_squared():
    rng = np.random.default_rng(0)
    ids, a, b = rng.integers(0, 30, 90), rng.random(90) < 0.8, rng.random(90) < 0.6
    gained = [float((a[ids == one].astype(int) - b[ids == one]).sum()) for one in np.unique(ids)]
    z = sum(gained) / np.sqrt(sum(gain**2 for gain in gained))
    assert metrics.paired_shares(a, b, ids).p == pytest.approx(2 * norm.sf(abs(z)), abs=1e-12)
    four = metrics.paired_shares(np.tile(a, 4), np.tile(b, 4), np.tile(np.arange(90), 4))
    once = metrics.paired_shares(a, b)
    assert four.high - four.low == pytest.approx(once.high - once.low, rel=0.08)


def test_where_there_is_no_difference_one_in_twenty_is_found_and_the_interval_holds_0():
    rng = np.random.default_rng(1)
    found, held = [], []
    for _ in range(300):
        hard = rng.normal(size=60)[np.repeat(np.arange(60), 2)]
        a, b = (hard + rng.normal(size=120) > -0.8 for _ in range(2))
        result = metrics.paired_shares(a, b, np.repeat(np.arange(60), 2))
        found.append(result.p < 0.05)
        held.append(result.low <= 0 <= result.high)
    assert np.mean(found) < 0.09
    assert np.mean(held) > 0.92


def test_no_rows_have_no_difference():
    with pytest.raises(UndefinedError, match="no such rows"):
        metrics.paired_shares([], [])
