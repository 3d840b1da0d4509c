from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import proc_oracle
from mococxr.errors import UndefinedError
from mococxr.metrics import (
    auroc,
    delong_covariance,
    delong_interval,
    delong_paired,
    delong_unpaired,
    delong_variance,
)


def sample(seed: int, n: int = 60, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two correlated score columns; few digits make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) < max(2, n // 3)).astype(int)
    common = rng.normal(size=n)
    a = np.round(common + rng.normal(size=n) + 0.8 * labels, digits)
    return labels, a, np.round(common + rng.normal(size=n) + 0.5 * labels, digits)


def slow_covariance(labels, columns):
    """Every positive against every negative, as DeLong's paper writes it."""
    tens, ones = [], []
    for scores in columns:
        kernel = [
            [float(p > q) + 0.5 * float(p == q) for q in scores[labels == 0]] for p in scores[labels == 1]
        ]
        tens.append(np.mean(kernel, axis=1))
        ones.append(np.mean(kernel, axis=0))
    return np.cov(tens) / len(tens[0]) + np.cov(ones) / len(ones[0])


@given(seed=st.integers(0, 10_000), n=st.integers(6, 50), digits=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_covariance_equals_the_loop_over_all_pairs(seed, n, digits):
    labels, a, b = sample(seed, n, digits)
    areas, covariance = delong_covariance(labels, [a, b])
    np.testing.assert_allclose(covariance, slow_covariance(labels, [a, b]), atol=1e-14)
    assert areas[0] == pytest.approx(auroc(labels, a), abs=1e-14)
    assert delong_variance(labels, a) == pytest.approx(covariance[0, 0], abs=1e-16)


@pytest.mark.parametrize("digits", [0, 1, 6])
@pytest.mark.parametrize("seed", range(4))
def test_the_paired_test_equals_mlstatkit(seed, digits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = pytest.importorskip("MLstatkit").Delong_test
    labels, a, b = sample(seed, 80, digits)
    z, p, ci_a, ci_b, auc_a, auc_b, info = oracle(labels, a, b)
    assert info["method"] == "delong"
    found = delong_paired(labels, a, b)
    assert found.z == pytest.approx(-z, abs=1e-9)  # MLstatkit takes B less A
    assert found.p == pytest.approx(p, abs=1e-9)
    assert found.variance == pytest.approx(info["var_diff"], abs=1e-9)
    assert found.difference == pytest.approx(auc_a - auc_b, abs=1e-9)
    for scores, ends in ((a, ci_a), (b, ci_b)):
        ours = delong_interval(labels, scores)
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
        found, alone = delong_paired(labels, a, b, level=0.9), delong_interval(labels, a)
        apart = delong_unpaired(labels[::2], a[::2], labels[1::2], b[1::2])
        ours = [alone.value, alone.variance, found.covariance, found.z, found.p, found.low, found.high]
        ours += [alone.low, alone.value, alone.high, apart.z, apart.df, apart.p]
        np.testing.assert_allclose(ours, answer, rtol=0, atol=1e-9)


def test_columns_that_rank_alike_do_not_differ():
    labels, a, _ = sample(0)
    found = delong_paired(labels, a, 3 * a + 1)
    assert (found.difference, found.variance, found.z, found.p) == (0, 0, 0, 1)
    assert (found.low, found.high) == (0, 0)


def test_swapping_the_columns_turns_the_sign_and_keeps_p():
    labels, a, b = sample(1)
    there, back = delong_paired(labels, a, b), delong_paired(labels, b, a)
    assert (there.z, there.p, there.low) == pytest.approx((-back.z, back.p, -back.high))


def test_a_variance_that_the_data_do_not_define_is_an_error_with_the_reason():
    with pytest.raises(UndefinedError, match="1 positive, 3 negative"):
        delong_variance([1, 0, 0, 0], [1, 2, 3, 4])
    with pytest.raises(UndefinedError, match="no variance"):
        delong_paired([1, 1, 0, 0], [3, 4, 1, 2], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="level"):
        delong_interval([1, 1, 0, 0], [3, 1, 1, 2], level=95)


def test_the_interval_stays_between_0_and_1():
    found = delong_interval([1, 1, 1, 0, 0, 0], [6, 5, 2, 3, 1, 0])
    assert found.high == 1
    assert 0 <= found.low < found.value


def test_a_hundred_thousand_rows_take_no_matrix_of_pairs():
    labels, a, b = sample(0, 100_000, 6)
    assert 0 < delong_paired(labels, a, b).variance < 1e-4
