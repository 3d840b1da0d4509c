from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, norm, ttest_1samp
from sklearn.isotonic import IsotonicRegression

import mococxr.metrics as metrics
import proc_oracle
from mococxr.errors import UndefinedError
from mococxr.metrics.labels_saved import _rising


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=80, deadline=None)
def test_benjamini_hochberg_equals_scipy_and_holm_the_step_down(p):
    np.testing.assert_allclose(metrics.benjamini_hochberg(p), false_discovery_control(p), atol=1e-12)
    slow, highest = np.empty(len(p)), 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable")):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        slow[place] = highest
    np.testing.assert_allclose(metrics.holm(p), slow, atol=1e-12)


def test_holm_and_benjamini_hochberg_equal_r(tmp_path):
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.04, 0.6, 0.9])
    script = 'say(p.adjust(p[,1], "holm")); say(p.adjust(p[,1], "BH"))'
    holm, hochberg = proc_oracle.ask({"p": p[:, None]}, script, tmp_path).reshape(2, -1)
    np.testing.assert_allclose(metrics.holm(p), holm, atol=1e-12)
    np.testing.assert_allclose(metrics.benjamini_hochberg(p), hochberg, atol=1e-12)


@pytest.mark.parametrize("adjust", [metrics.holm, metrics.benjamini_hochberg])
def test_a_comparison_that_was_not_made_does_not_count(adjust):
    found = adjust([0.01, np.nan, 0.04])
    np.testing.assert_allclose(found[[0, 2]], adjust([0.01, 0.04]))
    assert np.isnan(found[1])
    with pytest.raises(ValueError, match="0 to 1"):
        adjust([1.2])


def test_holm_keeps_the_chance_of_any_false_find_and_no_adjustment_does_not():
    p = np.random.default_rng(0).random((3000, 6))
    adjusted = np.array([metrics.holm(row) for row in p])
    assert (adjusted < 0.05).any(axis=1).mean() == pytest.approx(0.05, abs=0.012)
    assert (p < 0.05).any(axis=1).mean() > 0.2


def test_the_tests_against_a_margin_equal_two_shifted_one_sample_tests():
    values = np.random.default_rng(1).normal(0.004, 0.05, 4000)
    mean, variance = values.mean(), values.var(ddof=1) / values.size
    below = ttest_1samp(values, -0.01, alternative="greater").pvalue
    above = ttest_1samp(values, 0.01, alternative="less").pvalue
    found = metrics.equivalent(mean, 0.01, variance=variance)
    assert found.p == pytest.approx(max(below, above), rel=0.01)
    assert metrics.non_inferior(mean, 0.01, variance=variance).p == pytest.approx(below, rel=0.01, abs=1e-12)
    assert found.level == pytest.approx(0.9)
    half = norm.ppf(0.95) * np.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))


@pytest.mark.parametrize(
    ("difference", "equal", "inferior"),
    [
        (0.0, "equivalent within 0.03", "not worse by 0.03 or more"),
        (0.025, "not shown", "not worse by 0.03 or more"),
        (-0.025, "not shown", "not shown"),
        (-0.06, "different by more than 0.03", "worse by more than 0.03"),
        (0.06, "different by more than 0.03", "not worse by 0.03 or more"),
    ],
)
def test_the_conclusion_follows_the_interval(difference, equal, inferior):
    both = metrics.equivalent(difference, 0.03, 0.01**2)
    assert both.conclusion.startswith(equal)
    assert both.shown == (both.p < 0.05) == equal.startswith("equivalent")
    one = metrics.non_inferior(difference, 0.03, 0.01**2)
    assert one.conclusion.startswith(inferior)
    assert one.shown == (one.p < 0.025) == inferior.startswith("not worse")


def test_a_true_difference_at_the_margin_is_called_equivalent_one_time_in_twenty():
    differences = np.random.default_rng(2).normal(0.03, 0.01, 4000)
    shown = [metrics.equivalent(d, 0.03, variance=1e-4).shown for d in differences]
    assert np.mean(shown) == pytest.approx(0.05, abs=0.012)


def test_a_test_against_a_margin_needs_a_margin_and_a_variance():
    with pytest.raises(ValueError, match="margin above 0"):
        metrics.non_inferior(0.0, 0.0, variance=1.0)
    with pytest.raises(UndefinedError, match="no variance"):
        metrics.non_inferior(0.0, 0.1, variance=0.0)


def test_every_column_is_made_rising_as_scikit_learn_does():
    curves = np.random.default_rng(0).normal(size=(6, 40)) + np.arange(6)[:, None] / 3
    found = _rising(curves)
    for b in range(40):
        oracle = IsotonicRegression().fit_transform(np.arange(6), curves[:, b])
        np.testing.assert_allclose(found[:, b], oracle, atol=1e-12)


def test_labels_saved_read_a_straight_curve_exactly():
    counts = np.array([10, 100, 1000, 10_000])
    curve = 0.6 + 0.1 * np.log10(counts / 10)
    noise = np.random.default_rng(0).normal(0, 0.005, 4001)
    found = metrics.labels_saved(100, 0.78, 0.78 + noise, counts, curve, np.tile(curve[:, None], 4001))
    assert found.needed.count == pytest.approx(10**2.8, rel=1e-9)
    assert found.needed.side == "exactly"
    ends = 10 ** (1 + (0.18 + np.percentile(noise, [2.5, 97.5])) / 0.1)
    assert (found.low.count, found.high.count) == pytest.approx(tuple(ends), rel=0.01)
    assert "takes the reference 631" in found.words


def test_joint_resamples_that_move_both_curves_alike_leave_no_doubt():
    counts, curve = np.array([10, 100, 1000]), np.array([0.6, 0.7, 0.8])
    shared = np.random.default_rng(0).normal(0, 0.05, 300)
    found = metrics.labels_saved(10, 0.75, 0.75 + shared, counts, curve, curve[:, None] + shared)
    assert found.low.count == pytest.approx(found.high.count) == pytest.approx(10**2.5)


def test_the_interval_equals_a_loop_over_resamples_with_numpys_interpolation():
    rng = np.random.default_rng(3)
    counts, curve = np.array([20, 80, 300, 1500]), np.array([0.62, 0.7, 0.69, 0.82])
    drawn, reached = curve[:, None] + rng.normal(0, 0.01, (4, 401)), 0.75 + rng.normal(0, 0.01, 401)
    found = metrics.labels_saved(40, 0.75, reached, counts, curve, drawn)
    slow = []
    for b in range(401):
        rising = IsotonicRegression().fit_transform(np.arange(4), drawn[:, b])
        slow.append(np.exp(np.interp(reached[b], rising, np.log(counts))))
    slow.sort()
    assert (found.low.count, found.high.count) == pytest.approx((slow[10], slow[390]), rel=1e-9)


def test_outside_the_measured_range_the_answer_is_a_bound():
    counts, curve = [50, 500], np.array([0.7, 0.8])
    still = np.zeros(20)
    above = metrics.labels_saved(50, 0.9, 0.9 + still, counts, curve, curve[:, None] + np.zeros((2, 20)))
    assert str(above.needed) == str(above.high) == "more than 500"
    assert "with all 500 labels (95 % interval over test patients: more than 500)." in above.words
    below = metrics.labels_saved(50, 0.6, 0.6 + still, counts, curve, curve[:, None] + np.zeros((2, 20)))
    assert str(below.needed) == str(below.low) == "at most 50"
    assert below.words == "No saving: the reference reaches it with the fewest labels measured (50)."
    mixed = metrics.labels_saved(
        50, 0.79, np.where(np.arange(20) < 4, 0.81, 0.79), counts, curve, curve[:, None] + np.zeros((2, 20))
    )
    assert str(mixed.high) == "more than 500"
    assert mixed.needed.side == "exactly"


def test_a_curve_that_hardly_rises_is_read_without_overflow():
    curve = np.array([0.7, 0.7 + 1e-13, 0.7 + 2e-13])
    drawn = np.tile(curve[:, None], (1, 6))
    reached = np.array([0.1, 0.7, 0.7, 0.9, 0.9, 0.9])
    found = metrics.labels_saved(10, 0.9, reached, [10, 20, 30], curve, drawn)
    assert (str(found.low), str(found.high)) == ("at most 10", "more than 30")
    assert found.words.startswith("Not determined: anything from 10 to more than 30 labels")


def test_a_flat_curve_below_the_target_needs_more_than_all_and_undefined_resamples_do_not_count():
    drawn = np.full((3, 10), 0.7)
    drawn[1, :4] = np.nan
    found = metrics.labels_saved(10, 0.71, np.full(10, 0.71), [10, 20, 30], [0.7, 0.7, 0.7], drawn)
    assert str(found.needed) == "more than 30"
    with pytest.raises(UndefinedError, match="no resample"):
        metrics.labels_saved(10, 0.71, np.full(10, np.nan), [10, 20, 30], [0.7, 0.7, 0.7], drawn)
    with pytest.raises(ValueError, match="rising"):
        metrics.labels_saved(10, 0.71, np.full(10, 0.7), [10, 10, 30], [0.7, 0.7, 0.7], drawn)


def pilot(patients: int, prevalence: float, correlation: float, rng: np.random.Generator):
    """Labels and two score columns whose true AUROC are 0.75 and 0.85."""
    labels = (np.arange(patients) < round(prevalence * patients)).astype(int)
    shared, noise = rng.normal(size=patients), rng.normal(size=(2, patients))
    scores = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * noise
    return labels, scores + np.sqrt(2) * norm.ppf([[0.75], [0.85]]) * labels


@pytest.mark.parametrize(("prevalence", "correlation"), [(0.5, 0.3), (0.15, 0.7)])
def test_the_planned_number_of_patients_has_the_asked_power(prevalence, correlation):
    rng = np.random.default_rng(0)
    labels, (a, b) = pilot(40_000, prevalence, correlation, rng)
    variance = metrics.clustered_paired(labels, b, a).variance
    plan = metrics.patients_needed(variance, 40_000, labels.sum(), 0.1, power=0.8)
    assert plan.positives == round(plan.patients * prevalence)
    assert f"{plan.patients:,} test patients" in plan.words
    seen = 0
    for _ in range(700):
        labels, (a, b) = pilot(plan.patients, prevalence, correlation, rng)
        seen += metrics.delong_paired(labels, b, a).p < 0.05
    assert seen / 700 == pytest.approx(0.8, abs=0.055)
    twice = metrics.patients_needed(variance, 40_000, labels.sum(), 0.2)
    assert plan.patients == pytest.approx(4 * twice.patients, abs=4)


def test_a_plan_of_what_cannot_be_is_refused():
    for arguments, words in (
        ((0.01, 300, 300, 0.03), "both classes"),
        ((0.0, 300, 60, 0.03), "variance"),
        ((0.01, 300, 60, 0.0), "difference above 0"),
        ((0.01, 300, 60, 0.03, 0.01), "alpha < power"),
    ):
        with pytest.raises(ValueError, match=words):
            metrics.patients_needed(*arguments)


@pytest.mark.parametrize("seed", range(20))
def test_gatekeeping_is_the_closed_test_in_which_the_primary_decides_for_all(seed):
    p = np.random.default_rng(seed).random(4) * (0.1 if seed % 2 else 1)
    intersections = [some for size in range(1, 5) for some in combinations(range(4), size)]

    def local(some: tuple[int, ...]) -> float:
        """The p of an intersection: the primary's where it is in it, else Bonferroni's."""
        return p[0] if 0 in some else min(1.0, len(some) * min(p[i] for i in some))

    oracle = [max(local(some) for some in intersections if i in some) for i in range(4)]
    assert oracle[0] == p[0]
    assert metrics.gatekeeping(p[0], p[1:]) == pytest.approx(oracle[1:])


def test_behind_a_primary_without_a_p_nothing_is_shown():
    assert metrics.gatekeeping(None, [0.001, np.nan]).tolist()[0] == 1.0
    assert np.isnan(metrics.gatekeeping(None, [0.001, np.nan])[1])
