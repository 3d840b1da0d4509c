from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm, t

import mococxr.metrics as metrics
import proc_oracle
from mococxr.errors import UndefinedError
from mococxr.metrics.auroc import (
    _effective_n,
    _intraclass_correlation,
    _trial_correlation,
    binormal_variance,
    score_interval,
)


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


def sample(seed: int, n: int = 60, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two correlated score columns; few digits make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) < max(2, n // 3)).astype(int)
    common = rng.normal(size=n)
    a = np.round(common + rng.normal(size=n) + 0.8 * labels, digits)
    return labels, a, np.round(common + rng.normal(size=n) + 0.5 * labels, digits)


def slow_clustered(labels, columns, ids):
    """Obuchowski (1997), as the paper writes it: sums over patients and pairs."""
    sides = []
    for scores in columns:
        kernel = [[float(p > q) + 0.5 * float(p == q) for q in scores[labels == 0]] for p in scores[labels == 1]]
        sides.append((np.mean(kernel, axis=1), np.mean(kernel, axis=0)))
    rows_1, rows_0 = (labels == 1).sum(), (labels == 0).sum()
    units = np.unique(ids)
    with_1, with_0 = np.unique(ids[labels == 1]).size, np.unique(ids[labels == 0]).size
    area = [side[0].mean() for side in sides]
    dev1 = [[(s[0][ids[labels == 1] == u] - a).sum() for u in units] for s, a in zip(sides, area, strict=True)]
    dev0 = [[(s[1][ids[labels == 0] == u] - a).sum() for u in units] for s, a in zip(sides, area, strict=True)]
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
    labels, (a, b), ids = images(seed, mixed=mixed)
    result, slow = metrics.clustered_paired(labels, a, b, ids), slow_clustered(labels, (a, b), ids)
    plain = result.delong
    parts = [[plain.variance_a, plain.covariance], [plain.covariance, plain.variance_b]]
    np.testing.assert_allclose(parts, slow, rtol=1e-11)
    assert result.difference == pytest.approx(metrics.auroc(labels, a) - metrics.auroc(labels, b), abs=1e-14)
    unpaired = metrics.clustered_unpaired(labels, a, ids, labels, b, ids)
    assert unpaired.variance == pytest.approx(slow[0, 0] + slow[1, 1], rel=1e-11)


@given(seed=st.integers(0, 10_000), n=st.integers(6, 50), digits=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_one_row_a_patient_gives_delongs_covariance_as_a_loop_over_all_pairs_does(seed, n, digits):
    labels, a, b = sample(seed, n, digits)
    slow = slow_clustered(labels, (a, b), np.arange(n))
    assume(slow.trace() > 0)  # else both columns separate the classes fully
    unpaired = metrics.clustered_unpaired(labels, a, None, labels, b, None)
    assert metrics.delong_interval(labels, a).variance == pytest.approx(slow[0, 0], abs=1e-14)
    assert unpaired.variance == pytest.approx(slow[0, 0] + slow[1, 1], abs=1e-14)
    named = metrics.clustered_unpaired(labels, a, np.arange(n), labels, b, np.arange(n)[::-1].astype(str))
    assert (named.p, named.low) == pytest.approx((unpaired.p, unpaired.low), rel=1e-9)


def test_a_patient_copied_five_times_is_still_one_patient():
    labels, (a, b), _ = images(2)
    ids = np.tile(np.arange(labels.size), 5)
    plain = metrics.clustered_paired(labels, a, b).delong
    copied = metrics.clustered_paired(np.tile(labels, 5), np.tile(a, 5), np.tile(b, 5), ids).delong
    for name in ("low", "p", "variance", "variance_a", "covariance"):
        assert getattr(copied, name) == pytest.approx(getattr(plain, name), rel=1e-9), name
    by_row = metrics.clustered_paired(np.tile(labels, 5), np.tile(a, 5), np.tile(b, 5)).delong
    assert abs(by_row.z) > 2 * abs(copied.z)
    once, again = (metrics.auroc_interval(labels, a), metrics.auroc_interval(np.tile(labels, 5), np.tile(a, 5), ids))
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=0.01)


def test_the_variance_over_patients_agrees_with_the_bootstrap_over_patients():
    labels, scores, ids = images(3, patients=400, mixed=True)
    replicates = metrics.bootstrap(labels, scores[:1], ids, 4000, 0)[0]
    variance = metrics.delong_interval(labels, scores[0], ids).variance
    assert variance == pytest.approx(replicates.var(), rel=0.08)
    assert variance > 1.2 * metrics.delong_interval(labels, scores[0]).variance


@pytest.mark.parametrize("d", [0, 1, 2, -1, 3])
def test_the_binormal_variance_holds_the_covariance_of_two_comparisons_of_the_bivariate_normal(d):
    both = multivariate_normal.cdf([d, d], cov=[[1, 0.5], [0.5, 1]])
    area = multivariate_normal.cdf(d)
    shared = both - area**2
    expected = ((20 + 30 - 2) * shared + area * (1 - area)) / 600
    assert binormal_variance(area, 20, 30) == pytest.approx(expected, abs=1e-8)


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
    held = np.zeros((2, 160), dtype=bool)
    for i, noise in enumerate(rng.normal(size=(160, 70))):
        scores = noise + distance * labels
        for row, found in enumerate((metrics.auroc_interval(labels, scores), metrics.delong_interval(labels, scores))):
            held[row, i] = found.low <= area <= found.high
    assert held[0].mean() > 0.93
    assert (held[1].mean() < 0.88) == plain_fails


def test_an_interval_needs_two_patients_of_each_class_a_level_and_a_patient_for_each_row():
    with pytest.raises(UndefinedError, match="1 patient"):
        metrics.auroc_interval([1, 1, 0, 0], [1, 2, 3, 4], ["a", "a", "b", "c"])
    with pytest.raises(ValueError, match="level"):
        metrics.auroc_interval([1, 1, 0, 0], [1, 2, 3, 4], level=95)
    with pytest.raises(ValueError, match="1 patients for 4 rows"):
        metrics.auroc_interval([1, 1, 0, 0], [1, 2, 3, 4], ["a"])


@pytest.mark.parametrize("alike", [0.0, 0.3, 0.8])
def test_how_alike_the_images_of_a_patient_are_is_estimated(alike):
    rng = np.random.default_rng(1)
    ids = np.repeat(np.arange(3000), rng.integers(1, 6, 3000))
    labels = (rng.random(3000) < 0.3)[ids]
    own = rng.normal(size=3000)[ids]
    scores = np.exp(np.sqrt(alike) * own + np.sqrt(1 - alike) * rng.normal(size=ids.size) + labels)
    assert _intraclass_correlation(scores, labels, ids) == pytest.approx(alike, abs=0.04)
    images = np.bincount(ids[labels])
    worth, _ = _effective_n(scores[None], labels, ids)
    assert worth == pytest.approx(images.sum() / (1 + (images @ images / images.sum() - 1) * alike), rel=0.05)
    assert _effective_n(np.arange(6.0)[None], np.array([1, 1, 1, 0, 0, 0]) == 1, np.arange(6)).tolist() == [3, 3]


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
    assert (found.low, found.high) == pytest.approx((min(logits[0], score[0]), max(logits[1], score[1])), abs=1e-9)
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
    for name in ("difference", "low", "high", "p", "variance"):
        assert getattr(many, name) == pytest.approx(getattr(one, name), rel=1e-7), name


def test_copies_of_a_trial_share_all_their_variance_and_the_score_interval_is_that_of_the_trial():
    rng = np.random.default_rng(7)  # as below: here the score interval is the wider one
    labels = np.repeat([1, 0], [12, 80])
    scores = rng.normal(size=92) + 2.0 * labels
    alone = metrics.auroc_interval(labels, scores)
    copies = metrics.auroc_interval(labels, np.tile(scores, (4, 1)))
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high), rel=1e-9)
    assert _trial_correlation(np.array([[4.0, 1.0], [1.0, 2.0]])) == pytest.approx(2 / 3)
    assert _trial_correlation(np.diag([1.0, 1.0, 1.0])) == pytest.approx(1 / 3)
    assert _trial_correlation(np.array([[1.0, -2.0], [-2.0, 1.0]])) == 0.5
    assert _trial_correlation(np.array([[1.0, 0.0], [0.0, 0.0]])) == 1
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
    assert (same.difference, same.delong.z, same.p) == (0, 0, 1)


@pytest.mark.parametrize(("same", "area"), [(0.2, 0.92), (0.9, 0.75)])
def test_the_interval_of_a_mean_over_trials_covers_and_is_narrower_the_less_they_share(same, area):
    rng = np.random.default_rng(3)
    labels, distance = np.repeat([1, 0], [12, 40]), {0.75: 0.9539, 0.92: 1.9871}[area]
    held, wide = [], []
    for _ in range(80):
        own, shared = rng.normal(size=(5, 52)), rng.normal(size=52)
        scores = np.sqrt(same) * shared + np.sqrt(1 - same) * own + distance * labels
        found = metrics.auroc_interval(labels, scores)
        held.append(found.low <= area <= found.high)
        one = metrics.auroc_interval(labels, scores[0])
        wide.append((found.high - found.low) / (one.high - one.low))
    assert np.mean(held) >= 0.93
    assert (np.mean(wide) < 0.75) == (same < 0.5)


@pytest.mark.parametrize("digits", [0, 1, 6])
@pytest.mark.parametrize("seed", range(4))
def test_the_paired_test_equals_mlstatkit(seed, digits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = pytest.importorskip("MLstatkit").Delong_test
    labels, a, b = sample(seed, 80, digits)
    z, p, ci_a, ci_b, auc_a, auc_b, info = oracle(labels, a, b)
    assert info["method"] == "delong"
    found = metrics.clustered_paired(labels, a, b)
    assert found.delong.z == pytest.approx(-z, abs=1e-9)  # MLstatkit takes B less A
    assert found.delong.p == pytest.approx(p, abs=1e-9)
    assert found.variance == pytest.approx(info["var_diff"], abs=1e-9)
    assert found.difference == pytest.approx(auc_a - auc_b, abs=1e-9)
    for scores, ends in ((a, ci_a), (b, ci_b)):
        ours = metrics.delong_interval(labels, scores)
        assert (ours.low, ours.high) == pytest.approx(tuple(ends), abs=1e-9)


def test_everything_of_delong_equals_proc_ties_included(tmp_path):
    cases = {f"case{seed}": np.stack(sample(seed, 40 + 7 * seed, seed % 3), axis=1) for seed in range(6)}
    script = "".join(
        f"""
        r1 <- roc({name}[,1], {name}[,2], levels=c(0,1), direction="<")
        r2 <- roc({name}[,1], {name}[,3], levels=c(0,1), direction="<")
        paired <- roc.test(r1, r2, method="delong", paired=TRUE, conf.level=.9)
        say(auc(r1)); say(var(r1)); say(cov(r1, r2)); say(paired$statistic); say(paired$p.value)
        say(paired$conf.int); say(ci.auc(r1, method="delong"))
        half <- {name}[seq(1, nrow({name}), 2),]; rest <- {name}[seq(2, nrow({name}), 2),]
        h <- roc(half[,1], half[,2], levels=c(0,1), direction="<")
        o <- roc(rest[,1], rest[,3], levels=c(0,1), direction="<")
        apart <- roc.test(h, o, method="delong", paired=FALSE)
        say(apart$statistic); say(apart$parameter); say(apart$p.value)
        """
        for name in cases
    )
    answers = proc_oracle.ask(cases, script, tmp_path).reshape(len(cases), -1)
    for table, answer in zip(cases.values(), answers, strict=True):
        labels, a, b = table.T
        found, alone = metrics.clustered_paired(labels, a, b, level=0.9).delong, metrics.delong_interval(labels, a)
        apart = metrics.clustered_unpaired(labels[::2], a[::2], None, labels[1::2], b[1::2], None).delong
        ours = [alone.value, alone.variance, found.covariance, found.z, found.p, found.low, found.high]
        ours += [alone.low, alone.value, alone.high, apart.z, apart.df, apart.p]
        np.testing.assert_allclose(ours, answer, rtol=0, atol=1e-9)


def test_columns_that_rank_alike_do_not_differ():
    labels, a, _ = sample(0)
    found = metrics.clustered_paired(labels, a, 3 * a + 1)
    assert (found.difference, found.variance, found.delong.z, found.p) == (0, 0, 0, 1)
    assert (found.low, found.high) == (0, 0)


@given(seed=st.integers(0, 10_000), n=st.integers(12, 60), level=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=40, deadline=None)
def test_p_is_below_alpha_where_the_interval_leaves_0_out_and_nowhere_else(seed, n, level):
    labels, a, b = sample(seed, n, 2)
    half = np.arange(n) % 2 == 0
    assume(1 < labels[half].sum() < half.sum() - 1)
    assume(1 < labels[~half].sum() < n - half.sum() - 1)
    paired = metrics.clustered_paired(labels, a, b, level=level)
    unpaired = metrics.clustered_unpaired(labels[half], a[half], None, labels[~half], b[~half], None, level)
    for result in (paired, unpaired):
        assert (result.p < 1 - level) == (result.low > 0 or result.high < 0)
        if 1e-12 < result.p < 1:
            assert min(map(abs, result.ends(result.p / 2))) < 1e-6
        if result.delong:
            assert result.low <= result.delong.low <= result.delong.high <= result.high
            assert result.p >= result.delong.p - 1e-12


def test_the_wider_ends_are_those_of_mover():
    labels = np.repeat([1, 0], [12, 60])
    noise = np.random.default_rng(4).normal(size=(3, 72))
    a, b = (0.9 * noise[0] + 0.45 * noise[i] + d * labels for i, d in ((1, 3.0), (2, 2.0)))
    result, plain = metrics.clustered_paired(labels, a, b), metrics.clustered_paired(labels, a, b).delong
    correlation = plain.covariance / np.sqrt(plain.variance_a * plain.variance_b)
    (x, low_x, high_x), (y, low_y, high_y) = (metrics.auroc_interval(labels, scores).ends() for scores in (a, b))
    down, up = ((x - low_x, high_y - y), (high_x - x, y - low_y))
    reach = [np.sqrt(p**2 + q**2 - 2 * correlation * p * q) for p, q in (down, up)]
    assert result.low == pytest.approx(min(plain.low, x - y - reach[0]), abs=1e-12)
    assert result.high == pytest.approx(max(plain.high, x - y + reach[1]), abs=1e-12)
    assert result.low < plain.low  # else the case shows nothing


def test_full_separation_has_an_interval_with_a_width_and_no_plain_test():
    labels = np.repeat([1, 0], [20, 40])
    a, b = labels + 0.1 * np.random.default_rng(1).random((2, 60))
    for result in (
        metrics.clustered_paired(labels, a, b),
        metrics.clustered_unpaired(labels, a, None, labels, b, None),
    ):
        assert (result.difference, result.p, result.delong, result.variance) == (0, 1, None, None)
        assert result.low == -result.high < -0.02
    apart = metrics.clustered_paired(labels, a, -b)
    assert apart.difference == 1
    assert apart.low < 0.98
    assert apart.p < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("positives", "negatives", "areas"), [(10, 90, (0.99, 0.92)), (15, 185, (0.99, 0.92)), (10, 190, (0.97, 0.99))]
)
def test_the_interval_of_a_difference_holds_with_few_positives_near_1_and_so_do_margins(positives, negatives, areas):
    rng = np.random.default_rng(1)
    labels, truth = np.repeat([1, 0], [positives, negatives]), areas[0] - areas[1]
    held, wrong, rounds = 0, 0, 400
    for _ in range(rounds):  # in 1,000 rounds 99.4 to 100 % hold and 0.5 % at most are wrong
        shared, noise = rng.normal(size=labels.size), rng.normal(size=(2, labels.size))
        a, b = (
            0.8**0.5 * shared + 0.2**0.5 * n + 2**0.5 * norm.ppf(area) * labels
            for n, area in zip(noise, areas, strict=True)
        )
        result = metrics.clustered_paired(labels, a, b)
        held += result.low <= truth <= result.high
        worse, better = (b, a) if truth > 0 else (a, b)
        wrong += metrics.non_inferior(metrics.clustered_paired(labels, worse, better), abs(truth)).shown
    assert held / rounds > 0.93
    assert wrong / rounds < 0.035


def test_swapping_the_columns_turns_the_sign_and_keeps_p():
    labels, a, b = sample(1)
    there, back = metrics.clustered_paired(labels, a, b), metrics.clustered_paired(labels, b, a)
    assert (there.delong.z, there.p, there.low) == pytest.approx((-back.delong.z, back.p, -back.high))


def test_a_variance_that_the_data_do_not_define_is_an_error_with_the_reason():
    with pytest.raises(UndefinedError, match="needs two patients of each class"):
        metrics.delong_interval([1, 0, 0, 0], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="level"):
        metrics.delong_interval([1, 1, 0, 0], [3, 1, 1, 2], level=95)


def test_the_interval_stays_between_0_and_1():
    found = metrics.delong_interval([1, 1, 1, 0, 0, 0], [6, 5, 2, 3, 1, 0])
    assert found.high == 1
    assert 0 <= found.low < found.value


def test_a_hundred_thousand_rows_take_no_matrix_of_pairs():
    labels, a, b = sample(0, 100_000, 6)
    assert 0 < metrics.clustered_paired(labels, a, b).variance < 1e-4


# --- two hundred random data sets against the programs that reviewers use


def data_sets() -> list[np.ndarray]:
    """Labels, two score columns with many, few or no ties, and 0 or 1 for the two halves: shape (n, 4)."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(200):
        n = int(rng.integers(20, 200))
        labels = rng.permutation(np.arange(n) < max(4, n * rng.uniform(0.05, 0.6)))
        half = np.empty(n)
        for side in (labels, ~labels):
            half[side] = np.arange(side.sum()) % 2  # both classes twice in each half
        common = rng.normal(size=n)
        columns = [np.round(common + rng.normal(size=n) + g * labels, number % 4) for g in (0.9, 0.4)]
        made.append(np.stack([labels, *columns, half], axis=1).astype(float))
    return made


@pytest.mark.slow
def test_delong_equals_proc_paired_and_unpaired_on_two_hundred_data_sets(tmp_path):
    made = data_sets()
    table = np.concatenate([np.c_[np.full(len(one), i), one] for i, one in enumerate(made)])
    script = """
    for (i in 0:199) {
      t <- all[all[,1] == i,]; h <- t[t[,5] == 0,]; o <- t[t[,5] == 1,]
      r <- function(l, s) roc(l, s, levels=c(0,1), direction="<")
      a <- r(t[,2], t[,3]); b <- r(t[,2], t[,4])
      p <- roc.test(a, b, method="delong", paired=TRUE)
      u <- roc.test(r(h[,2], h[,3]), r(o[,2], o[,4]), method="delong", paired=FALSE)
      say(c(auc(a), var(a), cov(a, b), p$statistic, p$p.value, u$statistic, u$p.value))
    }"""
    answers = proc_oracle.ask({"all": table}, script, tmp_path).reshape(200, 7)
    for one, answer in zip(made, answers, strict=True):
        labels, a, b, half = one.T
        paired, first, second = metrics.clustered_paired(labels, a, b).delong, half == 0, half == 1
        apart = metrics.clustered_unpaired(labels[first], a[first], None, labels[second], b[second], None).delong
        ours = [metrics.auroc(labels, a), paired.variance_a, paired.covariance, paired.z, paired.p]
        np.testing.assert_allclose([*ours, apart.z, apart.p], answer, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_delong_equals_mlstatkit_on_two_hundred_data_sets():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = pytest.importorskip("MLstatkit").Delong_test
    for one in data_sets():
        labels, a, b, _ = one.T
        z, p, *_ = oracle(labels.astype(int), a, b)
        found = metrics.clustered_paired(labels, a, b).delong
        assert (-found.z, found.p) == pytest.approx((z, p), abs=1e-9)
