"""Two hundred random data sets against the programs that reviewers use."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mococxr.metrics as metrics
import proc_oracle

pytestmark = pytest.mark.slow


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
        paired, first, second = metrics.delong_paired(labels, a, b), half == 0, half == 1
        apart = metrics.delong_unpaired(labels[first], a[first], labels[second], b[second])
        ours = [metrics.auroc(labels, a), paired.variance_a, paired.covariance, paired.z, paired.p]
        np.testing.assert_allclose([*ours, apart.z, apart.p], answer, rtol=0, atol=1e-9)


def test_delong_equals_mlstatkit_on_two_hundred_data_sets():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = pytest.importorskip("MLstatkit").Delong_test
    for one in data_sets():
        labels, a, b, _ = one.T
        z, p, *_ = oracle(labels.astype(int), a, b)
        found = metrics.delong_paired(labels, a, b)
        assert (-found.z, found.p) == pytest.approx((z, p), abs=1e-9)
