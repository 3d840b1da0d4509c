from __future__ import annotations

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
def test_the_conclusion_follows_the_interval_whether_from_variance_or_replicates(difference, equal, inferior):
    drawn = np.random.default_rng(0).normal(difference, 0.01, 4000)
    for given_ in ({"variance": 0.01**2}, {"replicates_B": drawn}):
        both = metrics.equivalent(difference, 0.03, **given_)
        assert both.conclusion.startswith(equal)
        assert both.shown == (both.p < 0.05) == equal.startswith("equivalent")
        one = metrics.non_inferior(difference, 0.03, **given_)
        assert one.conclusion.startswith(inferior)
        assert one.shown == (one.p < 0.025) == inferior.startswith("not worse")


def test_the_interval_of_a_margin_test_is_at_1_less_2_alpha():
    drawn = np.random.default_rng(0).normal(0, 0.01, 999)
    for test, alpha in (
        (metrics.equivalent, 0.05),
        (metrics.non_inferior, 0.025),
        (metrics.equivalent, 0.01),
    ):
        found = test(0.0, 0.03, replicates_B=drawn, alpha=alpha)
        ends = np.percentile(drawn, [100 * alpha, 100 * (1 - alpha)])
        assert (found.low, found.high) == pytest.approx(tuple(ends), abs=1e-12)


def test_a_true_difference_at_the_margin_is_called_equivalent_one_time_in_twenty():
    differences = np.random.default_rng(2).normal(0.03, 0.01, 4000)
    shown = [metrics.equivalent(d, 0.03, variance=1e-4).shown for d in differences]
    assert np.mean(shown) == pytest.approx(0.05, abs=0.012)


def test_a_test_against_a_margin_needs_one_source_of_variance():
    with pytest.raises(ValueError, match="either"):
        metrics.equivalent(0.0, 0.1)
    with pytest.raises(ValueError, match="margin above 0"):
        metrics.non_inferior(0.0, 0.0, variance=1.0)
    with pytest.raises(UndefinedError, match="no variance"):
        metrics.non_inferior(0.0, 0.1, variance=0.0)
    with pytest.raises(UndefinedError, match="both classes"):
        metrics.equivalent(0.0, 0.1, replicates_B=[np.nan, np.nan])


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
    assert found.factor == pytest.approx(10**0.8, rel=1e-9)
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
    assert above.factor is None
    assert "with all 500 labels" in above.words
    below = metrics.labels_saved(50, 0.6, 0.6 + still, counts, curve, curve[:, None] + np.zeros((2, 20)))
    assert str(below.needed) == str(below.low) == "at most 50"
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


def test_a_flat_curve_below_the_target_needs_more_than_all_and_undefined_resamples_are_counted():
    drawn = np.full((3, 10), 0.7)
    drawn[1, :4] = np.nan
    found = metrics.labels_saved(10, 0.71, np.full(10, 0.71), [10, 20, 30], [0.7, 0.7, 0.7], drawn)
    assert str(found.needed) == "more than 30"
    assert (found.replicates, found.undefined) == (6, 4)
    with pytest.raises(UndefinedError, match="no resample"):
        metrics.labels_saved(10, 0.71, np.full(10, np.nan), [10, 20, 30], [0.7, 0.7, 0.7], drawn)
    with pytest.raises(ValueError, match="rising"):
        metrics.labels_saved(10, 0.71, np.full(10, 0.7), [10, 10, 30], [0.7, 0.7, 0.7], drawn)


def simulated(plan: metrics.Plan, correlation: float, rounds: int, low: float, high: float) -> float:
    """Share of simulated studies of the planned size in which DeLong's paired test finds the difference."""
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [plan.positives, plan.negatives])
    found = 0
    for _ in range(rounds):
        shared, own = rng.normal(size=labels.size), rng.normal(size=(2, labels.size))
        noise = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        a, b = noise + np.sqrt(2) * norm.ppf([[low], [high]]) * labels
        found += metrics.delong_paired(labels, b, a).p < 0.05
    return found / rounds


@pytest.mark.parametrize(("prevalence", "correlation"), [(0.5, 0.3), (0.15, 0.7)])
def test_the_planned_number_of_patients_has_the_wanted_power(prevalence, correlation):
    plan = metrics.patients_needed(0.75, 0.05, prevalence, correlation, power=0.8)
    assert simulated(plan, correlation, 700, 0.75, 0.8) == pytest.approx(0.8, abs=0.045)
    assert metrics.power_of(plan.patients, 0.75, 0.05, prevalence, correlation) == pytest.approx(
        0.8, abs=0.002
    )
    assert f"{plan.patients:,} test patients" in plan.words


def test_more_alike_scores_higher_prevalence_and_larger_differences_need_fewer_patients():
    base = metrics.patients_needed(0.8, 0.03, 0.1, 0.5).patients
    assert metrics.patients_needed(0.8, 0.03, 0.1, 0.8).patients < base
    assert metrics.patients_needed(0.8, 0.03, 0.4, 0.5).patients < base
    assert metrics.patients_needed(0.8, 0.06, 0.1, 0.5).patients < base / 3
    assert metrics.patients_needed(0.8, 0.03, 0.1, 0.5, power=0.9).patients > base


def test_a_pilot_gives_the_number_that_the_model_gives_where_the_model_holds():
    rng = np.random.default_rng(0)
    labels = (np.arange(20_000) < 6000).astype(int)
    noise = np.sqrt(0.6) * rng.normal(size=20_000) + np.sqrt(0.4) * rng.normal(size=(2, 20_000))
    a, b = noise + np.sqrt(2) * norm.ppf([[0.83], [0.8]]) * labels
    pilot = metrics.patients_needed_from(labels, a, b, 0.03, prevalence=0.2)
    assert pilot.patients == pytest.approx(metrics.patients_needed(0.8, 0.03, 0.2, 0.6).patients, rel=0.04)
    variance = metrics.delong_paired(labels, a, b).variance
    same = metrics.patients_needed_from(labels, a, b, 0.03)
    expected = (norm.ppf(0.975) + norm.ppf(0.8)) ** 2 * variance * 20_000 / 0.03**2
    assert same.patients == pytest.approx(expected, abs=1)


def test_a_plan_of_what_cannot_be_is_refused():
    for auroc, difference, correlation in (
        (0.98, 0.03, 0.5),
        (0.8, 0.0, 0.5),
        (0.8, 0.03, 1.0),
        (0.4, 0.1, 0.5),
    ):
        with pytest.raises(ValueError, match="needed"):
            metrics.patients_needed(auroc, difference, 0.2, correlation)
    with pytest.raises(ValueError, match="prevalence"):
        metrics.patients_needed(0.8, 0.03, 0.0)
    with pytest.raises(ValueError, match="alpha < power"):
        metrics.patients_needed(0.8, 0.03, 0.2, power=0.01)


def test_patients_like_those_of_a_study_are_counted_from_its_variance_and_agree_with_the_pilots_count():
    rng = np.random.default_rng(9)
    labels = np.repeat([1, 0], [60, 240])
    a = rng.normal(size=300) + labels
    b = a + 0.8 * rng.normal(size=300)
    found = metrics.clustered_paired(labels, a, b, np.arange(300))
    like = metrics.patients_needed_like(found.variance, 300, 60, 0.03)
    pilot = metrics.patients_needed_from(labels, a, b, 0.03)
    assert abs(like.patients - pilot.patients) <= 1
    assert like.positives == round(0.2 * like.patients)
    twice = metrics.patients_needed_like(found.variance, 300, 60, 0.06)
    assert like.patients == pytest.approx(4 * twice.patients, abs=4)
    with pytest.raises(ValueError, match="both classes"):
        metrics.patients_needed_like(found.variance, 300, 300, 0.03)
    with pytest.raises(ValueError, match="variance"):
        metrics.patients_needed_like(0.0, 300, 60, 0.03)
