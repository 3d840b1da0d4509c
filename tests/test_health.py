from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mococxr.health import WARM_STEPS, contrast_accuracy, effective_rank, feature_std, verdict


def sphere(rows: int, columns: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.mark.parametrize("shape", [(200, 32), (20, 64), (50, 50)])
@pytest.mark.parametrize("kept", [1, 5, 16])
def test_the_effective_rank_is_rankmes_formula(shape, kept):
    z = sphere(*shape).numpy().astype(np.float64)
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    z = (u[:, :kept] * s[:kept]) @ vt[:kept]
    singular = np.linalg.svd(z, compute_uv=False)
    p = singular / singular.sum() + 1e-7
    rank = effective_rank(torch.from_numpy(z))
    assert rank == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    assert 0.8 * kept < rank < kept * 1.01


def test_equal_dimensions_fill_the_rank_and_one_point_fills_one():
    assert effective_rank(torch.eye(24)) == pytest.approx(24, rel=1e-3)
    assert effective_rank(sphere(1, 24).expand(50, -1)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("columns", [16, 128])
def test_the_spread_is_one_on_the_whole_sphere_and_zero_at_one_point(columns):
    assert feature_std(sphere(4000, columns)) == pytest.approx(1, abs=0.02)
    assert feature_std(sphere(1, columns).expand(50, -1)) == pytest.approx(0, abs=1e-6)


def test_contrast_accuracy_counts_films_whose_own_key_is_nearest():
    logits = torch.tensor([[3.0, 1, 2], [1, 3, 2], [2, 1, 1.9], [0, 0, 1]])
    assert float(contrast_accuracy(logits)) == 0.5


def test_a_collapse_to_one_point_is_no_contrast_accuracy():
    assert float(contrast_accuracy(torch.ones(8, 100))) == 0


def log_of(steps: int = 400, **last: float) -> list[dict[str, float]]:
    """A log of 40 lines that goes in a straight line from a fresh run's numbers to `last`."""
    first = {"loss": math.log(1025), "contrast_accuracy": 0.0, "feature_std": 1.0, "effective_rank": 100.0}
    good = {"loss": 2.0, "contrast_accuracy": 0.9, "feature_std": 0.9, "effective_rank": 80.0, **last}
    log = []
    for i in range(40):
        share = min(1, i / 30)
        now = {name: first[name] + (good[name] - first[name]) * share for name in good}
        log.append({"step": steps * (i + 1) // 40, **now})
    return log


@pytest.mark.parametrize(
    ("word", "last", "in_the_sentence"),
    [
        ("learning", {}, "fell to 2.00"),
        ("collapsed", {"feature_std": 0.01}, "--momentum"),
        ("stuck", {"loss": math.log(1025)}, "ln(K+1) = 6.93"),
        ("collapsing in dimension", {"effective_rank": 3.0}, "3 of 128"),
    ],
)
def test_each_fate_has_its_word_and_its_remedy(word, last, in_the_sentence):
    said, sentence = verdict(log_of(**last), queue=1024, dim=128, batch=32)
    assert said == word
    assert in_the_sentence in sentence


def test_films_that_are_told_apart_at_once_make_the_task_too_easy():
    log = [{**entry, "contrast_accuracy": 0.99} for entry in log_of()]
    word, sentence = verdict(log, queue=1024, dim=128, batch=32)
    assert word == "too easy"
    assert "99%" in sentence


def test_a_run_that_is_barely_begun_is_not_judged():
    assert verdict([], 1024, 128, 32)[0] == "still warming"
    assert verdict(log_of(WARM_STEPS - 1), 16, 128, 32)[0] == "still warming"
    assert verdict(log_of(WARM_STEPS), 16, 128, 32)[0] == "learning"
    assert verdict(log_of(63), 1024, 128, 32)[0] == "still warming"  # the queue is not filled twice
    assert verdict(log_of(64), 1024, 128, 32)[0] == "learning"
    assert "63 steps of 32 films" in verdict(log_of(63), 1024, 128, 32)[1]
