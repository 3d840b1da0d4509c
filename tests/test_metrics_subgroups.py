from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import mococxr.metrics as metrics
from mococxr.errors import UndefinedError


def images(seed: int = 0, n: int = 400, gain: tuple[float, float, float] = (1.0, 1.0, 1.0)):
    """Labels, scores, group a, b or c (the fewest) and patients; `gain` is how well each group is told apart."""
    rng = np.random.default_rng(seed)
    group = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    labels = rng.integers(0, 2, n)
    scores = rng.normal(size=n) + np.array(gain)[group] * labels
    return labels, scores, np.array(["a", "b", "c"])[group], np.arange(n)


def test_the_numbers_of_a_group_are_those_of_its_rows_alone():
    labels, scores, groups, ids = images()
    found = metrics.subgroups(labels, scores, groups, ids // 2)
    assert [group.name for group in found.groups] == ["a", "b", "c"]
    assert found.against == "a"
    for group in found.groups:
        rows = groups == group.name
        alone = metrics.auroc_interval(labels[rows], scores[rows], ids[rows] // 2)
        assert group.auroc.ends() == (alone.value, alone.low, alone.high)
        assert (group.rows, group.patients) == (rows.sum(), np.unique(ids[rows] // 2).size)
        assert group.positives == np.unique(ids[rows & (labels == 1)] // 2).size


def test_groups_that_begin_with_a_number_are_in_its_order():
    labels, scores, _, ids = images()
    names = np.array(["12 to 17", "80 and over", "2 to 11", "not known"])[ids % 4]
    found = metrics.subgroups(labels, scores, names)
    assert [group.name for group in found.groups] == ["2 to 11", "12 to 17", "80 and over", "not known"]


def test_a_gap_joins_the_intervals_of_its_groups_by_their_correlation_over_all_patients():
    labels, scores, groups, _ = images(1, 200)
    ids = np.random.default_rng(2).integers(0, 90, 200)  # a patient has images in several groups
    found = metrics.subgroups(labels, scores, groups, ids)
    slow = np.array(  # the AUROC of each group without each patient in turn
        [[roc_auc_score(labels[g], scores[g]) for u in np.unique(ids) for g in [(groups == name) & (ids != u)]]
         for name in "abc"]
    )  # fmt: skip
    interval_of = {group.name: group.auroc.ends() for group in found.groups}
    for gap, replicates in zip(found.gaps, slow[1:], strict=True):
        correlation = np.corrcoef(replicates, slow[0])[0, 1]
        (x, low_x, high_x), (y, low_y, high_y) = interval_of[gap.group], interval_of["a"]
        down, up = (x - low_x, high_y - y), (high_x - x, y - low_y)
        reach = [np.sqrt(p**2 + q**2 - 2 * correlation * p * q) for p, q in (down, up)]
        assert (gap.low, gap.high) == pytest.approx((x - y - reach[0], x - y + reach[1]), abs=2e-3)
        assert gap.flagged == (gap.low > 0 or gap.high < 0) == (gap.p < 0.05)


def test_the_gap_of_separate_patients_agrees_with_delongs_unpaired_test():
    labels, scores, groups, ids = images(2, 3000, (1.2, 0.8, 1.2))
    found = metrics.subgroups(labels, scores, groups, ids)
    rows, rest = groups == "b", groups == "a"
    oracle = metrics.clustered_unpaired(labels[rows], scores[rows], None, labels[rest], scores[rest], None)
    gap = found.gaps[0]
    assert gap.difference == pytest.approx(oracle.difference, abs=1e-12)
    assert (gap.low, gap.high) == pytest.approx((oracle.low, oracle.high), abs=0.004)
    assert gap.flagged
    assert not found.gaps[1].flagged


def test_a_small_group_is_not_flagged_for_being_small():
    rng = np.random.default_rng(12)
    labels, groups = np.repeat([1, 0, 1, 0], [10, 40, 200, 800]), np.repeat(["a", "b"], [50, 1000])
    # By the percentiles of resamples 14 to 15 % were flagged; in 400 rounds of this, 2.3 %.
    rounds = [
        metrics.subgroups(labels, rng.normal(size=1050) + 2.33 * labels, groups).gaps[0].flagged for _ in range(150)
    ]
    assert np.mean(rounds) < 0.09


def test_where_there_is_no_gap_one_in_twenty_is_flagged_and_holm_flags_fewer():
    flagged, adjusted = [], []
    for seed in range(60):
        found = metrics.subgroups(*images(seed)[:3])
        flagged += [gap.flagged for gap in found.gaps]
        adjusted.append(any(gap.p_holm < 0.05 for gap in found.gaps))
    assert np.mean(flagged) == pytest.approx(0.05, abs=0.04)
    assert np.mean(adjusted) < 0.1


def test_a_group_with_too_few_patients_gets_words_and_no_number():
    labels, scores, groups, ids = images()
    groups[:40] = "f"
    labels[:40] = 0
    labels[:9] = 1
    found = metrics.subgroups(labels, scores, groups, ids)
    few = next(group for group in found.groups if group.name == "f")
    assert few.auroc.value is None
    assert few.auroc.reason == (
        "Too few to judge: 9 positive test patients, fewer than 10; no AUROC of this group is computed."
    )
    gap = next(gap for gap in found.gaps if gap.group == "f")
    assert (gap.difference, gap.p, gap.flagged) == (None, None, False)
    assert gap.reason == few.auroc.reason
    crowded = metrics.subgroups(labels, scores, groups, np.where(groups == "c", 9999, ids))
    assert "1 positive test patient," in crowded.groups[2].auroc.reason


def test_the_reference_is_the_group_with_most_patients_or_the_one_named():
    labels, scores, groups, ids = images()
    named = metrics.subgroups(labels, scores, groups, ids, against="c")
    usual = metrics.subgroups(labels, scores, groups, ids)
    assert [gap.group for gap in named.gaps] == ["a", "b"]
    assert named.gaps[0].difference == pytest.approx(-usual.gaps[1].difference)
    with pytest.raises(ValueError, match="no group named 'd'"):
        metrics.subgroups(labels, scores, groups, ids, against="d")
    alone = metrics.subgroups(labels, scores, np.full(400, "a"), ids)
    assert alone.gaps == ()
    tiny = metrics.subgroups([1, 0, 1, 0], [1, 2, 3, 4], ["x", "x", "y", "y"])
    assert tiny.against is None
    assert all(group.auroc.value is None for group in tiny.groups)
    with pytest.raises(UndefinedError, match="one class"):
        metrics.subgroups([1, 1], [1, 2], ["x", "y"])


def test_the_mean_over_trials_of_a_group_and_its_gap_are_those_of_a_loop_over_trials():
    labels, scores, groups, ids = images(4, 300)
    rng = np.random.default_rng(5)
    trials = scores + rng.normal(size=(3, 300))
    found = metrics.subgroups(labels, trials, groups, ids // 2)
    alone = [metrics.subgroups(labels, row, groups, ids // 2) for row in trials]
    for i, group in enumerate(found.groups):
        assert group.auroc.value == pytest.approx(np.mean([one.groups[i].auroc.value for one in alone]))
    for i, gap in enumerate(found.gaps):
        assert gap.difference == pytest.approx(np.mean([one.gaps[i].difference for one in alone]))
        assert gap.high - gap.low < max(one.gaps[i].high - one.gaps[i].low for one in alone)


def in_use(seed: int = 6, n: int = 600):
    """As `images`, with the calls of a classifier and its probabilities, which are too low in group b."""
    labels, scores, groups, ids = images(seed, n, (1.4, 1.4, 1.4))
    probabilities = 1 / (1 + np.exp(-1.4 * scores + 1.0 + (groups == "b")))
    return labels, scores, groups, ids, scores > 0.5, probabilities


def test_the_rates_of_a_group_are_those_of_its_rows_alone():
    labels, scores, groups, ids, called, probabilities = in_use()
    found = metrics.subgroups(labels, scores, groups, ids // 2, called=called, probabilities=probabilities)
    for group in found.groups:
        rows = groups == group.name
        point = metrics.operating_point(labels[rows], called[rows].astype(float), 0.5, ids[rows] // 2)
        ratio = metrics.observed_expected(labels[rows], probabilities[rows], ids[rows] // 2)
        for name, alone in (("sensitivity", point.sensitivity), ("specificity", point.specificity)):
            assert group.rates[name].ends() == pytest.approx(alone.ends(), abs=1e-12)
        assert group.rates["observed_expected"].ends() == pytest.approx(ratio.ends(), abs=1e-12)
    assert set(found.rate_gaps) == {"sensitivity", "specificity", "observed_expected"}
    without = metrics.subgroups(labels, scores, groups, ids // 2)
    assert (without.groups[0].rates, without.rate_gaps, without.gaps) == ({}, {}, found.gaps)


def test_the_gap_of_a_rate_is_newcombes_where_groups_share_no_patient():
    labels, scores, groups, ids, called, probabilities = in_use()
    found = metrics.subgroups(labels, scores, groups, ids, called=called, probabilities=probabilities)
    for name, value in (("sensitivity", 1), ("specificity", 0)):
        counts = {}
        for group in "ab":
            rows = (groups == group) & (labels == value)
            counts[group] = int((called == labels)[rows].sum()), int(rows.sum())
        (x, m), (y, n) = counts["b"], counts["a"]
        (low_b, high_b), (low_a, high_a) = metrics.wilson(x, m), metrics.wilson(y, n)
        b, a = x / m, y / n
        oracle = (b - a - np.hypot(b - low_b, high_a - a), b - a + np.hypot(high_b - b, a - low_a))
        gap = found.rate_gaps[name][0]
        assert (gap.group, gap.against) == ("b", "a")
        assert (gap.low, gap.high) == pytest.approx(oracle, abs=1e-12)
        assert gap.flagged == (gap.p < 0.05)
    ratio = found.rate_gaps["observed_expected"][0]  # b was given probabilities that are too low
    assert ratio.low > 0
    assert ratio.flagged
    assert ratio.p < 0.05


def test_the_gap_of_a_rate_in_groups_that_share_patients_takes_their_correlation():
    labels, scores, *_ = in_use(7, 300)
    rng = np.random.default_rng(8)
    ids, groups = rng.integers(0, 90, 300), rng.choice(["PA", "AP"], 300, p=[0.6, 0.4])
    scores = scores + 2 * rng.normal(size=90)[ids]
    called, probabilities = scores > 0.5, 1 / (1 + np.exp(1 - scores))
    found = metrics.subgroups(labels, scores, groups, ids, called=called, probabilities=probabilities)
    assert found.against == "PA"

    def number(name: str, rows: np.ndarray) -> float:
        if name == "observed_expected":
            return labels[rows].sum() / probabilities[rows].sum()
        rows = rows & (labels == (name == "sensitivity"))
        return (called == labels)[rows].mean()

    for name, gaps in found.rate_gaps.items():
        slow = np.array(
            [[number(name, (groups == view) & (ids != one)) for one in np.unique(ids)] for view in ("AP", "PA")]
        )
        (x, low_x, high_x), (y, low_y, high_y) = (group.rates[name].ends() for group in found.groups)
        correlation = np.corrcoef(slow)[0, 1]
        assert abs(correlation) > 0.02
        down, up = (x - low_x, high_y - y), (high_x - x, y - low_y)
        reach = [np.sqrt(p**2 + q**2 - 2 * correlation * p * q) for p, q in (down, up)]
        assert (gaps[0].low, gaps[0].high) == pytest.approx((x - y - reach[0], x - y + reach[1]), abs=2e-3)


def test_a_rate_that_is_not_defined_has_its_reason_in_the_group_and_in_the_gap():
    labels, scores, groups, ids, _, probabilities = in_use()
    labels[groups == "c"] = 0
    never = np.where(groups == "b", 0.0, probabilities)
    found = metrics.subgroups(labels, scores, groups, ids, called=np.full(600, True), probabilities=never)
    by_name = {group.name: group for group in found.groups}
    assert by_name["a"].rates["sensitivity"].value == 1
    assert by_name["a"].rates["sensitivity"].low < 1
    assert by_name["a"].rates["specificity"].high > 0 == by_name["a"].rates["specificity"].value
    gaps = {name: {gap.group: gap for gap in of_rate} for name, of_rate in found.rate_gaps.items()}
    assert gaps["sensitivity"]["b"].low < 0 < gaps["sensitivity"]["b"].high
    assert gaps["observed_expected"]["b"].reason == "the probabilities are all 0: nothing is expected"
    for rate, words in (("sensitivity", "no sensitivity"), ("observed_expected", "no ratio of observed")):
        assert by_name["c"].rates[rate].value is None
        assert f"0 positive test patients, fewer than 10; {words}" in by_name["c"].rates[rate].reason
        assert gaps[rate]["c"].reason == by_name["c"].rates[rate].reason


def test_a_small_group_is_flagged_no_more_often_for_its_rates():
    rng = np.random.default_rng(12)
    groups = np.repeat(["a", "b"], [60, 1000])
    flagged = {"sensitivity": [], "specificity": [], "observed_expected": []}
    for _ in range(100):
        logits = rng.normal(size=1060) - 1.5
        truth = rng.random(1060) < 1 / (1 + np.exp(-logits))
        found = metrics.subgroups(truth, logits, groups, called=logits > -1.5, probabilities=1 / (1 + np.exp(-logits)))
        for rate, gaps in found.rate_gaps.items():
            flagged[rate] += [gap.flagged for gap in gaps if gap.reason is None]
    assert all(np.mean(values) < 0.1 for values in flagged.values())
