from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, t

import mococxr.metrics as metrics
from mococxr.errors import UndefinedError
from mococxr.metrics.area import _effective, _likeness, _sameness
from mococxr.metrics.binormal import binormal_variance, score_interval, shared_covariance


def images(seed: int = 0, patients: int = 60, mixed: bool = False):
    """Labels, two score columns and patients with one to four images; `mixed` patients have both classes."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    labels = (rng.random(patients) < 0.4).astype(int)[ids]
    if mixed:
        labels = np.where(rng.random(ids.size) < 0.3, 1 - labels, labels)
    own = rng.normal(size=(2, patients))[:, ids]
    scores = np.round(own + rng.normal(size=(2, ids.size)) + labels, 1)
    return labels, scores, ids


def slow_clustered(labels, columns, ids):
    """Obuchowski (1997), as the paper writes it: sums over patients and pairs."""
    sides = []
    for scores in columns:
        kernel = [
            [float(p > q) + 0.5 * float(p == q) for q in scores[labels == 0]] for p in scores[labels == 1]
        ]
        sides.append((np.mean(kernel, axis=1), np.mean(kernel, axis=0)))
    rows_1, rows_0 = (labels == 1).sum(), (labels == 0).sum()
    units = np.unique(ids)
    with_1, with_0 = np.unique(ids[labels == 1]).size, np.unique(ids[labels == 0]).size
    area = [side[0].mean() for side in sides]
    dev1 = [
        [(s[0][ids[labels == 1] == u] - a).sum() for u in units] for s, a in zip(sides, area, strict=True)
    ]
    dev0 = [
        [(s[1][ids[labels == 0] == u] - a).sum() for u in units] for s, a in zip(sides, area, strict=True)
    ]
    found = np.empty((2, 2))
    for j in range(2):
        for k in range(2):
            s10 = with_1 / ((with_1 - 1) * rows_1) * np.dot(dev1[j], dev1[k])
            s01 = with_0 / ((with_0 - 1) * rows_0) * np.dot(dev0[j], dev0[k])
            s11 = units.size / (units.size - 1) * (np.dot(dev1[j], dev0[k]) + np.dot(dev1[k], dev0[j]))
            found[j, k] = s10 / rows_1 + s01 / rows_0 + s11 / (rows_1 * rows_0)
    return found


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_covariance_over_patients_equals_the_sums_of_obuchowski(seed, mixed):
    labels, scores, ids = images(seed, mixed=mixed)
    areas, covariance = metrics.clustered_covariance(labels, scores, ids)
    np.testing.assert_allclose(covariance, slow_clustered(labels, scores, ids), rtol=1e-11)
    assert areas[0] == pytest.approx(metrics.auroc(labels, scores[0]), abs=1e-14)


def test_one_image_a_patient_gives_delongs_covariance():
    labels, scores, _ = images(1)
    plain = metrics.delong_covariance(labels, scores)[1]
    apart = metrics.clustered_covariance(labels, scores, np.arange(labels.size))[1]
    np.testing.assert_allclose(apart, plain, rtol=1e-12)


def test_a_patient_copied_five_times_is_still_one_patient():
    labels, scores, _ = images(2)
    ids = np.arange(labels.size)
    plain = metrics.delong_covariance(labels, scores)[1]
    copied = metrics.clustered_covariance(np.tile(labels, 5), np.tile(scores, 5), np.tile(ids, 5))[1]
    np.testing.assert_allclose(copied, plain, rtol=1e-12)
    once = metrics.auroc_interval(labels, scores[0])
    again = metrics.auroc_interval(np.tile(labels, 5), np.tile(scores[0], 5), np.tile(ids, 5))
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=0.01)


def test_the_variance_over_patients_agrees_with_the_bootstrap_over_patients():
    labels, scores, ids = images(3, patients=400, mixed=True)
    replicates = metrics.bootstrap_auroc(labels, scores[:1], ids, 4000, 0)[0]
    variance = metrics.clustered_covariance(labels, scores, ids)[1][0, 0]
    assert variance == pytest.approx(replicates.var(), rel=0.08)
    assert variance > 1.2 * metrics.delong_variance(labels, scores[0])


@pytest.mark.parametrize(
    ("a", "b", "r"), [(1, 0.5, 0.5), (0, 0, 0.5), (2, 2.2, 0.45), (-1, 1.5, 0.8), (3, 3, 0)]
)
def test_the_covariance_of_two_comparisons_equals_the_bivariate_normal(a, b, r):
    both = multivariate_normal.cdf([a, b], cov=[[1, r], [r, 1]])
    apart = multivariate_normal.cdf(a) * multivariate_normal.cdf(b)
    assert shared_covariance(a, b, r) == pytest.approx(both - apart, abs=1e-7)


def test_the_binormal_variance_is_that_of_simulated_areas():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4000, 12)) + 1.2, rng.normal(size=(4000, 25))
    areas = (x[:, :, None] > y[:, None, :]).mean(axis=(1, 2))
    true = 0.8019  # Phi(1.2 / sqrt 2)
    assert areas.mean() == pytest.approx(true, abs=0.005)
    assert binormal_variance(true, 12, 25) == pytest.approx(areas.var(), rel=0.07)


def test_the_ends_of_the_score_interval_lie_at_z_standard_errors():
    low, high = score_interval(0.9, 10, 40, 1.96)
    for end in (low, high):
        assert abs(end - 0.9) / np.sqrt(binormal_variance(end, 10, 40)) == pytest.approx(1.96, abs=1e-6)
    full = score_interval(1.0, 10, 10, 1.96)
    assert full[1] == 1
    assert 0.75 < full[0] < 0.85
    assert score_interval(0.0, 10, 10, 1.96) == pytest.approx((0, 1 - full[0]))


def test_classes_that_are_fully_separated_still_have_an_interval():
    found = metrics.auroc_interval([1] * 12 + [0] * 30, np.arange(42)[::-1])
    assert (found.value, found.high, found.variance) == (1, 1, 0)
    assert 0.85 < found.low < 0.95
    assert found.warning is None


def test_the_default_interval_holds_the_plain_one_on_the_logit_scale_and_turns_round_with_the_scores():
    labels, scores, ids = images(4)
    found = metrics.auroc_interval(labels, scores[0], ids)
    turned = metrics.auroc_interval(labels, -scores[0], ids)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)
    wide = metrics.auroc_interval(labels, scores[0], ids, level=0.99)
    assert wide.low < found.low < found.value < found.high < wide.high


@pytest.mark.parametrize(("area", "plain_fails"), [(0.75, False), (0.95, True)])
def test_the_default_interval_covers_where_delongs_plain_one_does_not(area, plain_fails):
    rng = np.random.default_rng(7)
    distance = {0.75: 0.9539, 0.95: 2.3262}[area]
    labels = np.repeat([1, 0], [10, 60])
    held = np.zeros((2, 400), dtype=bool)
    for i, noise in enumerate(rng.normal(size=(400, 70))):
        scores = noise + distance * labels
        for row, found in enumerate(
            (metrics.auroc_interval(labels, scores), metrics.delong_interval(labels, scores))
        ):
            held[row, i] = found.low <= area <= found.high
    assert held[0].mean() > 0.93
    assert (held[1].mean() < 0.88) == plain_fails


def test_too_few_patients_are_said_beside_the_interval():
    found = metrics.auroc_interval([1, 1, 1, 0, 0, 0, 0], [3, 5, 1, 0, 2, 2, 1])
    assert "3 positive test patients" in found.warning
    assert "rough" in found.warning
    with pytest.raises(UndefinedError, match="1 patient"):
        metrics.auroc_interval([1, 1, 0, 0], [1, 2, 3, 4], ["a", "a", "b", "c"])
    with pytest.raises(ValueError, match="level"):
        metrics.auroc_interval([1, 1, 0, 0], [1, 2, 3, 4], level=95)
    with pytest.raises(ValueError, match="patients have the shape"):
        metrics.auroc_interval([1, 1, 0, 0], [1, 2, 3, 4], ["a"])


@pytest.mark.parametrize("alike", [0.0, 0.3, 0.8])
def test_how_alike_the_images_of_a_patient_are_is_estimated(alike):
    rng = np.random.default_rng(1)
    ids = np.repeat(np.arange(3000), rng.integers(1, 6, 3000))
    labels = (rng.random(3000) < 0.3)[ids]
    own = rng.normal(size=3000)[ids]
    scores = np.exp(np.sqrt(alike) * own + np.sqrt(1 - alike) * rng.normal(size=ids.size) + labels)
    assert _likeness(scores, labels, ids) == pytest.approx(alike, abs=0.04)
    images = np.bincount(ids[labels])
    worth, _ = _effective(scores[None], labels, ids)
    assert worth == pytest.approx(images.sum() / (1 + (images @ images / images.sum() - 1) * alike), rel=0.05)
    assert _effective(np.arange(6.0)[None], np.array([1, 1, 1, 0, 0, 0]) == 1, np.arange(6)).tolist() == [
        3,
        3,
    ]


def test_the_paired_test_over_patients_is_delongs_where_each_has_one_image_and_wider_where_images_are_copies():
    labels, (a, b), _ = images(5)
    ids = np.arange(labels.size)
    plain, found = metrics.delong_paired(labels, a, b), metrics.clustered_paired(labels, a, b, ids)
    for name in ("difference", "low", "high", "z", "p", "variance", "variance_a", "covariance"):
        assert getattr(found, name) == pytest.approx(getattr(plain, name), rel=1e-9), name
    copied = metrics.clustered_paired(np.tile(labels, 4), np.tile(a, 4), np.tile(b, 4), np.tile(ids, 4))
    assert copied.p == pytest.approx(plain.p, rel=1e-9)
    by_image = metrics.delong_paired(np.tile(labels, 4), np.tile(a, 4), np.tile(b, 4))
    assert abs(by_image.z) > 1.9 * abs(copied.z)
    same = metrics.clustered_paired(labels, a, 2 * a + 1, ids)
    assert (same.difference, same.variance, same.z, same.p) == (0, 0, 0, 1)
    with pytest.raises(UndefinedError, match="no variance"):
        metrics.clustered_paired([1, 1, 0, 0], [3, 4, 1, 2], [1, 2, 3, 4], [0, 1, 2, 3])


@pytest.mark.parametrize(("seed", "wider"), [(0, "logit"), (7, "score")])
def test_each_end_of_the_default_interval_is_the_wider_of_the_two(seed, wider):
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [12, 80])
    scores = rng.normal(size=92) + {"logit": 0.5, "score": 2.0}[wider] * labels
    if wider == "logit":
        scores[labels == 1] *= 3
    found = metrics.auroc_interval(labels, scores)
    beaten = (scores[labels == 1][:, None] > scores[labels == 0]).astype(float)
    parts = beaten.mean(axis=1).var(ddof=1) / 12, beaten.mean(axis=0).var(ddof=1) / 80
    df = sum(parts) ** 2 / (parts[0] ** 2 / 11 + parts[1] ** 2 / 79)
    value = beaten.mean()
    half = t.ppf(0.975, df) * np.sqrt(sum(parts)) / (value * (1 - value))
    logits = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + np.array([-half, half]))))
    score = score_interval(value, 12, 80, 1.959963984540054)
    assert (found.low, found.high) == pytest.approx(
        (min(logits[0], score[0]), max(logits[1], score[1])), abs=1e-9
    )
    assert (logits[0] < score[0]) == (wider == "logit")


def several(seed: int = 0, trials: int = 3, patients: int = 60):
    """Labels, `trials` score columns that share a part, and patients with one to four images, some of both classes."""
    labels, (shared, _), ids = images(seed, patients, mixed=True)
    rng = np.random.default_rng(seed + 100)
    return labels, shared + rng.normal(size=(trials, labels.size)), ids


def test_the_mean_of_one_trial_or_of_copies_of_it_is_that_trial():
    labels, (a, b), ids = images(6)
    alone = metrics.auroc_interval(labels, a, ids)
    assert metrics.auroc_interval(labels, a[None], ids) == alone
    copies = metrics.auroc_interval(labels, np.tile(a, (4, 1)), ids)
    for name in ("value", "low", "high", "variance"):
        assert getattr(copies, name) == pytest.approx(getattr(alone, name), rel=1e-9), name
    one = metrics.clustered_paired(labels, a, b, ids)
    many = metrics.clustered_paired(labels, np.tile(a, (3, 1)), np.tile(b, (2, 1)), ids)
    for name in ("difference", "low", "high", "p", "variance", "covariance"):
        assert getattr(many, name) == pytest.approx(getattr(one, name), rel=1e-9), name


def test_copies_of_a_trial_share_all_their_variance_and_the_score_interval_is_that_of_the_trial():
    rng = np.random.default_rng(7)  # as below: here the score interval is the wider one
    labels = np.repeat([1, 0], [12, 80])
    scores = rng.normal(size=92) + 2.0 * labels
    alone = metrics.auroc_interval(labels, scores)
    copies = metrics.auroc_interval(labels, np.tile(scores, (4, 1)))
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high), rel=1e-9)
    assert _sameness(np.array([[4.0, 1.0], [1.0, 2.0]])) == pytest.approx(2 / 3)
    assert _sameness(np.diag([1.0, 1.0, 1.0])) == pytest.approx(1 / 3)
    assert _sameness(np.array([[1.0, -2.0], [-2.0, 1.0]])) == 0.5
    assert _sameness(np.array([[1.0, 0.0], [0.0, 0.0]])) == 1
    full = metrics.auroc_interval(labels, np.stack([labels, 2 * labels]))
    one = metrics.auroc_interval(labels, labels)
    assert (full.low, full.high) == (one.low, one.high)


def test_the_variance_of_a_mean_over_trials_is_the_mean_of_the_slow_covariances():
    labels, scores, ids = several()
    total = np.mean([[slow_clustered(labels, scores[[j, k]], ids)[0, 1] for k in range(3)] for j in range(3)])
    found = metrics.auroc_interval(labels, scores, ids)
    assert found.variance == pytest.approx(total, rel=1e-10)
    assert found.value == pytest.approx(np.mean([metrics.auroc(labels, row) for row in scores]), abs=1e-14)
    single = metrics.auroc_interval(labels, scores[0], ids)
    assert found.high - found.low < single.high - single.low


def test_the_variance_of_a_difference_of_means_agrees_with_the_jackknife_over_patients():
    labels, ours, ids = several(1, 3, patients=300)
    theirs = several(1, 2, patients=300)[1] + np.random.default_rng(0).normal(size=labels.size)
    found = metrics.clustered_paired(labels, ours, theirs, ids)
    left_out = [
        np.mean([metrics.auroc(labels[ids != u], row[ids != u]) for row in ours])
        - np.mean([metrics.auroc(labels[ids != u], row[ids != u]) for row in theirs])
        for u in np.unique(ids)
    ]
    count = len(left_out)
    assert found.variance == pytest.approx((count - 1) / count * np.var(left_out) * count, rel=0.03)
    point = np.mean([metrics.auroc(labels, row) for row in ours]) - np.mean(
        [metrics.auroc(labels, row) for row in theirs]
    )
    assert found.difference == pytest.approx(point, abs=1e-13)
    same = metrics.clustered_paired(labels, ours, 3 * ours[::-1] + 1, ids)
    assert (same.difference, same.z, same.p) == (0, 0, 1)


@pytest.mark.parametrize(("same", "area"), [(0.2, 0.92), (0.9, 0.75)])
def test_the_interval_of_a_mean_over_trials_covers_and_is_narrower_the_less_they_share(same, area):
    rng = np.random.default_rng(3)
    labels, distance = np.repeat([1, 0], [12, 40]), {0.75: 0.9539, 0.92: 1.9871}[area]
    held, wide = [], []
    for _ in range(200):
        own, shared = rng.normal(size=(5, 52)), rng.normal(size=52)
        scores = np.sqrt(same) * shared + np.sqrt(1 - same) * own + distance * labels
        found = metrics.auroc_interval(labels, scores)
        held.append(found.low <= area <= found.high)
        one = metrics.auroc_interval(labels, scores[0])
        wide.append((found.high - found.low) / (one.high - one.low))
    assert np.mean(held) >= 0.93
    assert (np.mean(wide) < 0.75) == (same < 0.5)
