from __future__ import annotations

import numpy as np
import pytest

import mococxr.metrics as metrics
from mococxr.errors import UndefinedError


def trials(rng, spread, draws: int = 5, runs: int = 4, patients: int = 300, replicates: int = 200):
    """A study whose number of a trial is a mean over patients, so that every component is known.

    `spread`: standard deviations of draw, run, rest, patient, patient x draw, patient x run, patient x rest.
    """
    of_draw, of_run, of_rest, own, by_draw, by_run, by_rest = spread
    values = (
        rng.normal(0, of_draw, (draws, 1, 1))
        + rng.normal(0, of_run, (1, runs, 1))
        + rng.normal(0, of_rest, (draws, runs, 1))
        + rng.normal(0, own, (1, 1, patients))
        + rng.normal(0, by_draw, (draws, 1, patients))
        + rng.normal(0, by_run, (1, runs, patients))
        + rng.normal(0, by_rest, (draws, runs, patients))
    ).reshape(draws * runs, patients)
    weights = rng.multinomial(patients, np.full(patients, 1 / patients), size=replicates)
    names = [(d, s) for d in range(draws) for s in range(runs)]
    drawn = values @ weights.T / patients
    return [d for d, _ in names], [s for _, s in names], values.mean(axis=1), drawn


def test_the_known_components_of_simulated_studies_are_found():
    spread = np.array([0.03, 0.02, 0.01, 0.4, 0.2, 0.15, 0.1])
    rng = np.random.default_rng(0)
    found = [metrics.variance_split(*trials(rng, spread, draws=8, runs=6)) for _ in range(120)]
    expected = spread**2 / np.array([1, 1, 1, 300, 300, 300, 300])
    for name, truth in zip(("draws", "runs", "draw_x_run", "patients"), expected, strict=False):
        mean = np.mean([getattr(split, name) for split in found])
        assert mean == pytest.approx(truth, rel=0.2), name
    assert np.mean([split.patient_interactions for split in found]) == pytest.approx(expected[4:].sum(), rel=0.1)


@pytest.mark.parametrize(
    "spread",
    [(0.03, 0.02, 0.01, 0.4, 0.2, 0.1, 0.1), (0.0, 0.0, 0.0, 0.5, 0.1, 0.1, 0.1), (0.04, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0)],
)
def test_the_interval_over_patients_draws_and_runs_covers_the_truth_where_that_over_patients_alone_may_not(spread):
    rng = np.random.default_rng(1)
    held, narrow = [], []
    for _ in range(100):
        data = trials(rng, spread, draws=4, runs=3, replicates=150)
        split = metrics.variance_split(*data)
        held.append(split.low <= 0 <= split.high)
        alone = metrics.cell(metrics.Trials(data[0], data[2], data[3]))
        narrow.append(alone.low <= 0 <= alone.high)
    assert np.mean(held) >= 0.9
    assert (np.mean(narrow) < 0.9) == (spread[0] > 0)


def test_the_components_equal_the_analysis_of_variance_by_hand():
    table = np.array([[0.80, 0.82], [0.70, 0.76], [0.75, 0.79]])
    draws, runs = [0, 0, 1, 1, 2, 2], ["x", "y"] * 3
    still = table.ravel()[:, None] + np.linspace(-0.01, 0.01, 50)  # the patients move all trials alike
    found = metrics.variance_split(draws, runs, table.ravel(), still)
    by_draw, by_run = table.mean(axis=1), table.mean(axis=0)
    left = table - by_draw[:, None] - by_run + table.mean()
    ms_draw, ms_run, ms_rest = 2 * by_draw.var(ddof=1), 3 * by_run.var(ddof=1), (left**2).sum() / 2
    assert found.draws == pytest.approx((ms_draw - ms_rest) / 2)
    assert found.runs == pytest.approx((ms_run - ms_rest) / 3)
    assert found.draw_x_run == pytest.approx(ms_rest)
    assert found.patients == pytest.approx(np.linspace(-0.01, 0.01, 50).var(ddof=1))
    assert found.patient_interactions == pytest.approx(0, abs=1e-18)
    total = (ms_draw + ms_run - ms_rest) / 6 + found.patients
    assert found.standard_error == pytest.approx(np.sqrt(total))
    doubt = (ms_draw / 6) ** 2 / 2 + (ms_run / 6) ** 2 / 1 + (ms_rest / 6) ** 2 / 2
    assert found.df == pytest.approx(total**2 / doubt)
    assert found.words == ("2 pretraining runs are too few to estimate the variance between pretraining runs.",)


def test_what_one_draw_or_one_run_cannot_tell_is_none_and_said():
    rng = np.random.default_rng(2)
    data = trials(rng, (0.03, 0.02, 0.01, 0.4, 0.1, 0.1, 0.1), draws=5, runs=1)
    one_run = metrics.variance_split(*data)
    assert one_run.runs is None
    assert one_run.draw_x_run is None
    assert one_run.draws > 0
    assert "One pretraining run" in one_run.words[0]
    one_draw = metrics.variance_split(*trials(rng, (0.03, 0.02, 0.01, 0.4, 0.1, 0.1, 0.1), draws=1, runs=5))
    assert one_draw.draws is None
    assert one_draw.runs is not None
    single = metrics.variance_split([0], [0], [0.8], 0.8 + rng.normal(0, 0.02, (1, 4000)))
    assert (single.draws, single.runs, single.df) == (None, None, float("inf"))
    assert len(single.words) == 2
    assert (single.low, single.high) == pytest.approx((0.8 - 0.0392, 0.8 + 0.0392), abs=0.002)


def test_two_runs_that_agree_are_said_to_show_little():
    rng = np.random.default_rng(8)
    draws, runs, points, drawn = trials(rng, (0.03, 0, 0, 0.4, 0, 0, 0), draws=6, runs=2)
    alike = metrics.variance_split(draws, runs, points, drawn)
    assert alike.runs == 0
    assert "2 pretraining runs are too few" in alike.words[0]
    assert "estimate is 0, which does not show that there is none" in alike.words[0]
    many = metrics.variance_split(*trials(rng, (0.03, 0.02, 0, 0.4, 0, 0, 0), draws=6, runs=4))
    assert many.words == many.few == ()


def test_draws_that_lack_a_run_are_left_out_and_counted():
    rng = np.random.default_rng(3)
    draws, runs, points, drawn = trials(rng, (0.03, 0.02, 0.01, 0.4, 0.1, 0.1, 0.1), draws=4, runs=2)
    whole = metrics.variance_split(draws[:6], runs[:6], points[:6], drawn[:6])
    partial = metrics.variance_split(draws[:7], runs[:7], points[:7], drawn[:7])
    assert partial.words[0] == "1 of 4 label subsets lack a pretraining run and are left out."
    assert (partial.low, partial.high) == (whole.low, whole.high)
    order = rng.permutation(8)
    mixed = metrics.variance_split([draws[i] for i in order], [runs[i] for i in order], points[order], drawn[order])
    assert mixed.standard_error == pytest.approx(metrics.variance_split(draws, runs, points, drawn).standard_error)


def test_undefined_replicates_are_left_out_and_what_cannot_be_split_is_refused():
    rng = np.random.default_rng(4)
    draws, runs, points, drawn = trials(rng, (0.03, 0.02, 0.01, 0.4, 0.1, 0.1, 0.1))
    holed = drawn.copy()
    holed[3, :50] = np.nan
    kept = metrics.variance_split(draws, runs, points, drawn[:, 50:])
    assert metrics.variance_split(draws, runs, points, holed) == kept
    with pytest.raises(UndefinedError, match="two resamples"):
        metrics.variance_split(draws, runs, points, drawn[:, :1])
    with pytest.raises(UndefinedError, match="every pretraining run"):
        metrics.variance_split([0, 1], [0, 1], points[:2], drawn[:2])
    with pytest.raises(UndefinedError, match="no value"):
        metrics.variance_split([0], [0], [np.nan], drawn[:1])
    with pytest.raises(ValueError, match="occur twice"):
        metrics.variance_split([0, 0], [1, 1], points[:2], drawn[:2])
    with pytest.raises(ValueError, match="2 draws"):
        metrics.variance_split([0, 0], [1], points[:2], drawn[:2])


def arm(rng, draws: int, runs: int, replicates: int = 60):
    """Trials of one arm, in an order of their own."""
    names = [(d, r) for d in range(draws) for r in range(runs)]
    order = rng.permutation(len(names))
    points = rng.normal(0.8, 0.03, len(names))
    drawn = points[:, None] + rng.normal(0, 0.02, (len(names), replicates))
    return metrics.Trials([names[i][0] for i in order], points[order], drawn[order], [names[i][1] for i in order])


def by_hand(ours, theirs, pair):
    """`variance_split` of differences made in a loop; `pair` says which run of the reference a run stands against."""
    rows = []
    for draw, run, point, drawn in zip(ours.draws, ours.runs, ours.points, ours.replicates, strict=True):
        place = list(zip(theirs.draws, theirs.runs, strict=True)).index((draw, pair(run)))
        rows.append((draw, run, point - theirs.points[place], drawn - theirs.replicates[place]))
    return metrics.variance_split(*(list(column) for column in zip(*rows, strict=True)))


def assert_equal(found, expected):
    for name in ("value", "standard_error", "df", "low", "high", "draws", "runs", "draw_x_run", "patients"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9), name


def test_the_split_of_a_difference_pairs_runs_in_order_and_sets_a_single_run_against_each():
    rng = np.random.default_rng(5)
    three, other, single = arm(rng, 4, 3), arm(rng, 4, 3), arm(rng, 4, 1)
    assert_equal(metrics.split_difference(three, other), by_hand(three, other, lambda run: run))
    assert_equal(metrics.split_difference(three, single), by_hand(three, single, lambda _: 0))
    turned = metrics.split_difference(single, three)
    assert turned.value == pytest.approx(-metrics.split_difference(three, single).value)
    assert (turned.count_draws, turned.count_runs) == (4, 3)


def test_of_unequal_numbers_of_runs_the_fewer_are_averaged_and_it_is_said():
    rng = np.random.default_rng(6)
    three, two = arm(rng, 4, 3), arm(rng, 4, 2)
    found = metrics.split_difference(three, two)
    assert found.words == ("The 2 runs of the reference are averaged: the interval does not hold their variance.",)
    assert found.value == pytest.approx(np.mean(three.points) - np.mean(two.points))
    assert found.count_runs == 3


def test_draws_that_only_one_arm_has_do_not_count_and_lost_runs_are_refused():
    rng = np.random.default_rng(7)
    four, three = arm(rng, 4, 1), arm(rng, 3, 1)
    assert metrics.split_difference(four, three).count_draws == 3
    with pytest.raises(UndefinedError, match="no label subset in common"):
        metrics.split_difference(four, metrics.Trials(["x"], [0.5], four.replicates[:1]))
    lost = metrics.Trials([0, 0, 1], [0.1, 0.2, 0.3], four.replicates[:3], [0, 1, 0])
    with pytest.raises(UndefinedError, match="label subset 1 lacks the pretraining run 1"):
        metrics.split_difference(lost, lost)
    with pytest.raises(ValueError, match="occur twice"):
        metrics.split_difference(metrics.Trials([0, 0], [0.1, 0.2], four.replicates[:2]), four)
