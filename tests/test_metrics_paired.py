from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mococxr.errors import UndefinedError
from mococxr.metrics import Trials, auroc, bootstrap, bootstrap_p, cell, paired_differences, patient_resamples, too_few


def arms(gain: float = 0.6, draws: int = 4, n: int = 150, replicates: int = 400):
    """An arm and a reference with the same draws on the same test images, two a patient."""
    rng = np.random.default_rng(0)
    labels, patients = rng.integers(0, 2, n), np.arange(n) // 2
    image = rng.normal(size=n)
    scores = image + rng.normal(size=(2 * draws, n)) + 0.5 * labels
    scores[:draws] += gain * labels
    points = [auroc(labels, row) for row in scores]
    found = bootstrap(labels, scores, patients, replicates, seed=1)
    arm = Trials(range(draws), points[:draws], found[:draws])
    return labels, patients, scores, arm, Trials(range(draws), points[draws:], found[draws:])


def test_the_difference_equals_the_loop_that_the_paper_describes():
    labels, patients, scores, arm, reference = arms(replicates=60)
    resamples = patient_resamples(patients, 60, 1)
    slow = []
    for weights in resamples.weights_BU:
        areas = [roc_auc_score(labels, row, sample_weight=weights[resamples.unit_N]) for row in scores]
        slow.append(np.mean(areas[:4]) - np.mean(areas[4:]))
    found = paired_differences(arm, reference)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=1e-12)
    assert found.difference == pytest.approx(np.mean(arm.points) - np.mean(reference.points), abs=1e-12)


def test_pairing_makes_the_interval_narrower_than_that_of_separate_resamples():
    labels, patients, scores, arm, reference = arms()
    found = paired_differences(arm, reference)
    other = bootstrap(labels, scores[4:], patients, 400, seed=2)
    apart = paired_differences(arm, Trials(range(4), reference.points, other))
    assert found.high - found.low < 0.9 * (apart.high - apart.low)


def test_an_arm_does_not_differ_from_itself():
    *_, arm, _ = arms()
    found = paired_differences(arm, arm)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_only_draws_that_both_arms_have_are_compared():
    *_, arm, reference = arms()
    partial = Trials([3, 1], [arm.points[3], arm.points[1]], arm.replicates[[3, 1]])
    found = paired_differences(partial, reference)
    expected = np.mean([arm.points[1], arm.points[3]]) - np.mean([reference.points[1], reference.points[3]])
    assert found.difference == pytest.approx(expected, abs=1e-12)
    with pytest.raises(UndefinedError, match="no label subset in common"):
        paired_differences(Trials([9], [0.5], arm.replicates[:1]), reference)


def test_several_pretraining_runs_of_a_draw_are_averaged_before_the_draws():
    *_, arm, reference = arms()
    runs = Trials([0, 0, 1], arm.points[:3], arm.replicates[:3])
    found = paired_differences(runs, reference)
    mean = (np.mean(arm.points[:2]) + arm.points[2]) / 2
    assert found.difference == pytest.approx(mean - np.mean(reference.points[:2]), abs=1e-12)
    assert cell(runs).value == pytest.approx(mean, abs=1e-12)


def test_the_spread_between_draws_stands_apart_from_the_interval():
    *_, arm, _ = arms()
    found = cell(arm)
    assert arm.spread() == pytest.approx(np.std(arm.points, ddof=1))
    assert found.low < found.value < found.high
    assert Trials([0], arm.points[:1], arm.replicates[:1]).spread() is None


def test_undefined_replicates_are_left_out():
    *_, arm, reference = arms()
    holed = arm.replicates.copy()
    holed[:, :30] = np.nan
    found = paired_differences(Trials(range(4), arm.points, holed), reference)
    kept = paired_differences(
        Trials(range(4), arm.points, arm.replicates[:, 30:]),
        Trials(range(4), reference.points, reference.replicates[:, 30:]),
    )
    assert (found.low, found.high, found.p) == (kept.low, kept.high, kept.p)


def test_a_trial_without_a_value_is_never_averaged_in():
    *_, arm, reference = arms()
    with pytest.raises(UndefinedError, match="no value"):
        paired_differences(Trials([0, 1], [np.nan, 0.5], arm.replicates[:2]), reference)
    with pytest.raises(ValueError, match="same resamples"):
        paired_differences(Trials([0], [0.5], arm.replicates[:1, :9]), reference)
    with pytest.raises(ValueError, match="2 draws, 1 points"):
        cell(Trials([0, 1], [0.5], arm.replicates[:1]))


def test_p_counts_the_replicates_beyond_0_and_is_never_0():
    assert bootstrap_p(np.full(99, 0.1)) == pytest.approx(2 / 100)
    assert bootstrap_p([-0.1, *[0.1] * 98]) == pytest.approx(4 / 100)
    assert bootstrap_p([-0.1, np.nan, 0.1]) == 1
    assert bootstrap_p([0.0] * 50) == 1
    with pytest.raises(UndefinedError):
        bootstrap_p([np.nan])


def test_fewer_than_ten_patients_of_a_class_get_a_sentence_and_no_verdict():
    labels = np.array([1] * 30 + [0] * 30)
    assert too_few(labels, np.arange(60)) is None
    assert "9 positive test patients" in too_few(labels[21:], np.arange(39))
    crowded = np.concatenate([np.zeros(30), np.arange(1, 31)])  # thirty positive images of one patient
    assert "1 positive test patient, fewer than 10" in too_few(labels, crowded)
