from __future__ import annotations

import numpy as np
import pytest

import mococxr.metrics as metrics

THRESHOLDS = (0.05, 0.2, 0.5, 0.9)


def scored(seed: int = 0, n: int = 240, patients: int = 90):
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-rng.normal(-1, 1.2, n)))
    return (rng.random(n) < p).astype(int), p, rng.integers(0, patients, n)


@pytest.mark.parametrize("seed", range(3))
def test_the_net_benefit_is_that_of_a_loop_over_rows(seed):
    labels, p, ids = scored(seed)
    for point in metrics.net_benefit(labels, p, THRESHOLDS, ids):
        price = point.threshold / (1 - point.threshold)
        model = everyone = 0.0
        for y, chance in zip(labels, p, strict=True):
            worth = 1.0 if y else -price
            everyone += worth / labels.size
            model += worth / labels.size if chance >= point.threshold else 0.0
        assert point.model.value == pytest.approx(model, abs=1e-12)
        assert point.all_positive.value == pytest.approx(everyone, abs=1e-12)
        assert point.gain.value == pytest.approx(model - everyone, abs=1e-12)
        for number in (point.model, point.all_positive, point.gain):
            assert number.low < number.value < number.high


def test_the_interval_of_one_row_a_patient_joins_the_intervals_of_two_shares_of_a_multinomial():
    labels, p, _ = scored(4)
    n = labels.size
    for point in metrics.net_benefit(labels, p, (0.1, 0.3)):
        price, called = point.threshold / (1 - point.threshold), p >= point.threshold
        hits, alarms = int((called & (labels == 1)).sum()), int((called & (labels == 0)).sum())
        a, b = hits / n, alarms / n
        (low_a, high_a), (low_b, high_b) = metrics.wilson(hits, n), metrics.wilson(alarms, n)
        r = -np.sqrt(a * b / ((1 - a) * (1 - b)))  # a row is in one cell only
        down, up = (a - low_a, price * (high_b - b)), (high_a - a, price * (b - low_b))
        reach = [np.sqrt(x * x + y * y - 2 * r * x * y) for x, y in (down, up)]
        value = a - price * b
        assert point.model.ends() == pytest.approx((value, value - reach[0], value + reach[1]), abs=1e-12)
        share = metrics.wilson(int(labels.sum()), n)
        ends = [end - price * (1 - end) for end in share]
        assert (point.all_positive.low, point.all_positive.high) == pytest.approx(ends, abs=1e-12)


def test_the_width_over_patients_is_that_of_patients_resampled():
    labels, p, ids = scored(5, 600, 200)
    drawn = metrics.patient_resamples(ids, 3000, 0)
    weights_BN = drawn.weights_BU[:, drawn.unit_N].astype(float)
    for point in metrics.net_benefit(labels, p, (0.1, 0.3), ids):
        worth = np.where(labels == 1, 1.0, -point.threshold / (1 - point.threshold)) * (p >= point.threshold)
        replicates_B = weights_BN @ worth / weights_BN.sum(axis=1)
        half = (point.model.high - point.model.low) / 2
        assert half == pytest.approx(1.96 * replicates_B.std(), rel=0.1)


def test_copies_of_a_row_under_one_patient_tell_no_more_than_one():
    labels, p, _ = scored(6)
    ids = np.arange(240)
    once = metrics.net_benefit(labels, p, THRESHOLDS, ids)
    four = metrics.net_benefit(np.tile(labels, 4), np.tile(p, 4), THRESHOLDS, np.tile(ids, 4))
    for a, b in zip(once, four, strict=True):
        assert b.model.value == pytest.approx(a.model.value)
        assert b.model.high - b.model.low == pytest.approx(a.model.high - a.model.low, rel=0.05)


def test_where_no_row_or_every_row_is_called_positive_there_is_still_an_interval_with_a_width():
    labels, p, ids = scored(7)
    none, every = metrics.net_benefit(labels, np.clip(p, 0.3, 0.8), (0.9, 0.1), ids)
    assert none.model.value == 0
    assert none.model.low < 0 < none.model.high
    assert every.gain.value == 0
    assert every.gain.low < 0 < every.gain.high
    assert every.model.value == pytest.approx(every.all_positive.value, abs=1e-12)
    hard = metrics.net_benefit([1, 1, 0, 0, 1, 0], [1, 1, 0, 0, 1, 0], (0.5,))[0]
    assert hard.model.low < hard.model.value == 0.5 < hard.model.high


@pytest.mark.parametrize("threshold", [0, 1, 1.5])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.net_benefit([1, 0], [0.5, 0.5], [threshold])
