from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from scipy.stats import t as student
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_score, recall_score, roc_curve

import mococxr.metrics as metrics
import proc_oracle
from mococxr.errors import UndefinedError

RATES = ("sensitivity", "specificity", "ppv", "npv", "accuracy", "f1", "youden")


def just_below(scores, score):
    """Halfway from a score to the next lower one; the lowest score itself."""
    lower = np.asarray(scores)[np.asarray(scores) < score]
    return (score + lower.max()) / 2 if lower.size else score


def images(seed: int = 0, n: int = 120, digits: int = 1):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) < n // 3).astype(int)
    return labels, np.round(rng.normal(size=n) + labels, digits)


@given(successes=st.integers(0, 60), more=st.integers(0, 60), level=st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=80, deadline=None)
def test_wilson_equals_scipy(successes, more, level):
    total = successes + more
    if total == 0:
        with pytest.raises(UndefinedError):
            metrics.wilson(0, 0)
        return
    oracle = binomtest(successes, total).proportion_ci(level, method="wilson")
    assert metrics.wilson(successes, total, level) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


@pytest.mark.parametrize("threshold", [-0.5, 0.3, 1.1])
def test_every_rate_at_a_threshold_equals_scikit_learn(threshold):
    labels, scores = images()
    called = scores >= threshold
    found = metrics.operating_point(labels, scores, threshold)
    assert found.sensitivity.value == pytest.approx(recall_score(labels, called), abs=1e-12)
    assert found.specificity.value == pytest.approx(recall_score(1 - labels, ~called), abs=1e-12)
    assert found.ppv.value == pytest.approx(precision_score(labels, called), abs=1e-12)
    assert found.npv.value == pytest.approx(precision_score(1 - labels, ~called), abs=1e-12)
    assert found.accuracy.value == pytest.approx(accuracy_score(labels, called), abs=1e-12)
    assert found.f1.value == pytest.approx(f1_score(labels, called), abs=1e-12)
    joint = 2 * balanced_accuracy_score(labels, called) - 1
    assert found.youden.value == pytest.approx(joint, abs=1e-12)
    for name in RATES:
        number = getattr(found, name)
        assert number.low < number.value < number.high


def test_a_score_at_the_threshold_is_called_positive():
    found = metrics.operating_point([1, 0, 1, 0], [0.5, 0.5, 0.4, 0.1], 0.5)
    counts = (found.true_positives, found.false_positives, found.true_negatives, found.false_negatives)
    assert counts == (1, 1, 1, 1)


def test_newcombes_interval_of_a_difference_is_the_published_example():
    # Newcombe (1998), method 10, 56/70 - 48/80: 0.0524 to 0.3339
    labels = np.repeat([1, 0], [70, 80])
    scores = np.r_[np.ones(56), np.zeros(14), np.ones(48), np.zeros(32)]
    found = metrics.operating_point(labels, scores, 0.5).youden
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_the_intervals_at_a_threshold_cover_the_truth():
    rng = np.random.default_rng(3)
    sick = rng.random((500, 80)) < 0.4
    called = rng.random((500, 80)) < np.where(sick, 0.8, 0.3)
    ppv = 0.32 / (0.32 + 0.18)
    truth = {"f1": 2 * ppv * 0.8 / (ppv + 0.8), "youden": 0.5, "ppv": ppv}
    held = {name: [] for name in truth}
    for labels, scores in zip(sick.astype(int), called.astype(float), strict=True):
        point = metrics.operating_point(labels, scores, 0.5)
        for name, value in truth.items():
            held[name].append(getattr(point, name).low <= value <= getattr(point, name).high)
    for name, inside in held.items():
        assert 0.925 < np.mean(inside) < 0.985, name


def test_images_of_one_patient_widen_every_interval():
    labels, scores = images(n=90)
    ids = np.arange(90)
    alone = metrics.operating_point(labels, scores, 0.5)
    copied = metrics.operating_point(np.tile(labels, 4), np.tile(scores, 4), 0.5, np.tile(ids, 4))
    for name in RATES:
        one, four = getattr(alone, name), getattr(copied, name)
        assert four.value == pytest.approx(one.value, abs=1e-12)
        assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.08)


def test_a_share_over_patients_counts_as_many_rows_as_a_loop_over_patients_gives_its_variance():
    rng = np.random.default_rng(0)
    ids, hits = rng.integers(0, 40, 120), rng.random(120) < 0.7
    patients, share = np.unique(ids), hits.mean()
    squares = sum(((hits[ids == one] - share).sum()) ** 2 for one in patients)
    variance = patients.size / (patients.size - 1) * squares / 120**2
    rows = share * (1 - share) / variance * (norm.ppf(0.975) / student.ppf(0.975, patients.size - 1)) ** 2
    found = metrics.proportion(hits, ids)
    assert (found.low, found.high) == pytest.approx(metrics.wilson(share * rows, rows), abs=1e-12)
    assert found.high - found.low > np.subtract(*metrics.wilson(hits.sum(), 120)[::-1])


def test_youdens_index_of_patients_with_images_of_both_classes_has_the_spread_of_its_resamples():
    rng = np.random.default_rng(1)
    ids = np.repeat(np.arange(150), 2)
    labels, hard = np.tile([1, 0], 150), rng.normal(size=150)[ids]
    scores = labels + hard + 0.5 * rng.normal(size=300)  # a patient's two images are called alike
    found = metrics.operating_point(labels, scores, 0.5, ids).youden
    drawn = [np.concatenate([[2 * i, 2 * i + 1] for i in rng.integers(0, 150, 150)]) for _ in range(1000)]
    slow = [metrics.operating_point(labels[rows], scores[rows], 0.5).youden.value for rows in drawn]
    low, high = np.percentile(slow, [2.5, 97.5])
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)


def test_a_sensitivity_of_one_hundred_percent_has_an_interval_that_counts_patients():
    labels = np.repeat([1, 0], [30, 40])
    scores = np.r_[np.ones(30), np.random.default_rng(0).normal(size=40)]
    ids = np.r_[np.arange(30) % 6, 100 + np.arange(40)]
    found = metrics.operating_point(labels, scores, 0.9, ids)
    assert (found.sensitivity.value, found.sensitivity.high) == (1, 1)
    assert found.sensitivity.low == pytest.approx(metrics.wilson(6, 6)[0])


def test_a_threshold_above_every_score_has_no_ppv_and_says_why():
    found = metrics.operating_point([1, 0, 0], [1, 2, 3], 9)
    assert found.ppv.value is None
    assert found.ppv.reason == "no row is called positive"
    assert found.f1.value == 0
    below = metrics.operating_point([1, 0, 0, 1], [1, 2, 3, 1], 0, ["a", "b", "c", "a"])
    assert below.npv.reason == "no row is called negative"


@given(seed=st.integers(0, 999), wanted=st.sampled_from([0.5, 0.8, 0.9, 1.0]), digits=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_threshold_for_a_sensitivity_is_the_highest_that_reaches_it(seed, wanted, digits):
    labels, scores = images(seed, 40, digits)
    threshold = metrics.threshold_for_sensitivity(labels, scores, wanted)
    reached = [s for s in np.unique(scores) if (scores[labels == 1] >= s).mean() >= wanted - 1e-12]
    assert threshold == pytest.approx(just_below(scores, max(reached)), rel=1e-12)
    assert (scores >= threshold).tolist() == (scores >= max(reached)).tolist()
    whole = metrics.threshold_for_sensitivity(np.repeat(labels, 2), np.repeat(scores, 2), wanted)
    assert threshold == whole


def test_youdens_threshold_equals_scikit_learn_and_proc(tmp_path):
    tables = {f"case{seed}": np.stack(images(seed, 60, 1 + seed % 3), axis=1) for seed in range(5)}
    for labels, scores in (table.T for table in tables.values()):
        alarms, hits, thresholds = roc_curve(labels, scores, drop_intermediate=False)
        found = metrics.threshold_by_youden(labels, scores)
        best = thresholds[np.flatnonzero(hits - alarms >= (hits - alarms).max() - 1e-12)[0]]
        assert found == pytest.approx(just_below(scores, best), rel=1e-12)
    script = "".join(
        f"""say(max(coords(roc({name}[,1], {name}[,2], levels=c(0,1), direction="<"), "best",
            best.method="youden", ret=c("sensitivity", "specificity"))[1,]
            %*% c(1, 1) - 1))\n""".replace("%*% c(1, 1) - 1)", "|> sum() - 1)")
        for name in tables
    )
    answers = proc_oracle.ask(tables, script, tmp_path)
    for (labels, scores), answer in zip((table.T for table in tables.values()), answers, strict=True):
        threshold = metrics.threshold_by_youden(labels, scores)
        joint = metrics.operating_point(labels, scores, threshold).youden.value
        assert joint == pytest.approx(answer, abs=1e-9)


def test_the_predictive_values_at_the_prevalence_of_the_data_are_those_of_the_data():
    labels, scores = images(2)
    point = metrics.operating_point(labels, scores, 0.6)
    found = metrics.predictive_values(point, labels.mean())
    assert found.ppv.value == pytest.approx(point.ppv.value, abs=1e-12)
    assert found.npv.value == pytest.approx(point.npv.value, abs=1e-12)
    rare = metrics.predictive_values(point, 0.01)
    sensitivity, alarm = point.sensitivity.value, 1 - point.specificity.value
    assert rare.ppv.value == pytest.approx(0.01 * sensitivity / (0.01 * sensitivity + 0.99 * alarm))
    assert rare.ppv.low < rare.ppv.value < rare.ppv.high < point.ppv.low


def test_the_predictive_values_at_another_prevalence_cover_the_truth():
    rng = np.random.default_rng(5)
    truth = {"ppv": 0.1 * 0.85 / (0.1 * 0.85 + 0.9 * 0.1), "npv": 0.9 * 0.9 / (0.9 * 0.9 + 0.1 * 0.15)}
    held = {"ppv": [], "npv": []}
    labels = np.repeat([1, 0], [40, 60])
    for drawn in rng.random((400, 100)):
        called = (drawn < np.where(labels == 1, 0.85, 0.1)).astype(float)
        found = metrics.predictive_values(metrics.operating_point(labels, called, 0.5), 0.1)
        for name, number in (("ppv", found.ppv), ("npv", found.npv)):
            held[name].append(number.low <= truth[name] <= number.high)
    for inside in held.values():
        assert 0.925 <= np.mean(inside) <= 0.985  # 0.95 and less or more than three standard errors of 400 rounds


def test_the_predictive_values_at_the_ends_of_the_scale_have_one_sided_intervals():
    perfect = metrics.operating_point([1] * 20 + [0] * 20, np.arange(40)[::-1], 20)
    found = metrics.predictive_values(perfect, 0.1)
    assert (found.ppv.value, found.ppv.high) == (1, 1)
    assert 0 < found.ppv.low < 1
    silent = metrics.operating_point([1] * 20 + [0] * 20, np.arange(40), 99)
    reason = metrics.predictive_values(silent, 0.1).ppv.reason
    assert reason == "no row is called positive"
    wrong = metrics.predictive_values(metrics.operating_point([1] * 20 + [0] * 20, np.arange(40), 20), 0.1)
    assert (wrong.ppv.value, wrong.ppv.low) == (0, 0)
    assert 0 < wrong.ppv.high < 0.5
    with pytest.raises(ValueError, match="prevalence"):
        metrics.predictive_values(perfect, 1.0)


def test_where_one_image_is_called_negative_its_value_elsewhere_is_nearly_anything():
    patients, scores = np.repeat(np.arange(40), 2), np.full(80, 0.9)
    scores[79] = 0.1  # a negative image, so that none of the images called negative is positive
    point = metrics.operating_point(np.repeat([1, 0], 40), scores, 0.5, patients)
    assert point.npv.value == 1
    assert 0 < point.specificity.low < 0.01
    found = metrics.predictive_values(point, 0.1)
    assert found.npv.low < 0.35
    assert found.npv.high == 1
    assert 0 < found.ppv.low < found.ppv.high < 1


@pytest.mark.parametrize("sure", ["sensitivity", "specificity"])
def test_where_one_rate_is_known_the_predictive_values_end_where_the_other_does(sure):
    given_ = {"sensitivity": (0.8, 0.7, 0.86), "specificity": (0.9, 0.82, 0.93)}
    given_[sure] = (given_[sure][0],) * 3
    point = metrics.operating_point([1, 0, 1, 0], [1, 0, 1, 0], 0.5)
    point = dataclasses.replace(point, **{name: metrics.Estimate(*ends) for name, ends in given_.items()})
    found = metrics.predictive_values(point, 0.05)
    for place, name in ((1, "low"), (2, "high")):
        sensitivity, specificity = given_["sensitivity"][place], given_["specificity"][place]
        ppv = 0.05 * sensitivity / (0.05 * sensitivity + 0.95 * (1 - specificity))
        npv = 0.95 * specificity / (0.95 * specificity + 0.05 * (1 - sensitivity))
        assert getattr(found.ppv, name) == pytest.approx(ppv, abs=1e-12)
        assert getattr(found.npv, name) == pytest.approx(npv, abs=1e-12)


def test_likelihood_ratios_join_the_intervals_of_sensitivity_and_specificity_on_the_logarithm():
    labels, scores = images(3)
    point = metrics.operating_point(labels, scores, 0.4)
    tp, fn = point.true_positives, point.false_negatives
    fp, tn = point.false_positives, point.true_negatives
    for number, hits, alarms in ((point.lr_positive, tp, fp), (point.lr_negative, fn, tn)):
        logs = [
            np.log([count / total, *binomtest(count, total).proportion_ci(method="wilson")])
            for count, total in ((hits, tp + fn), (alarms, fp + tn))
        ]
        (a, low_a, high_a), (b, low_b, high_b) = logs
        oracle = a - b, a - b - np.hypot(a - low_a, high_b - b), a - b + np.hypot(high_a - a, b - low_b)
        assert number.ends() == pytest.approx(np.exp(oracle), rel=1e-9)


@pytest.mark.parametrize(
    ("threshold", "positive", "negative"),
    [
        (9.0, "no row is called positive", 1.0),
        (0.0, 1.0, "no row is called negative"),
        (2.5, "no negative row is called positive: the ratio is infinite, at least", 0.5),
        (1.0, 1.5, 0.0),
    ],
)
def test_a_likelihood_ratio_without_a_number_has_a_reason_and_others_have_a_width(threshold, positive, negative):
    point = metrics.operating_point([1, 1, 1, 1, 0, 0, 0], [1, 2, 3, 4, 0.5, 2, 2], threshold)
    for number, expected in ((point.lr_positive, positive), (point.lr_negative, negative)):
        if isinstance(expected, str):
            assert (number.value, number.low, number.high) == (None, None, None)
            assert expected in number.reason
        else:
            assert number.value == pytest.approx(expected)
            assert number.low < number.high < np.inf
