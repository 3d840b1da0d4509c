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
