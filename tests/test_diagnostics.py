from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mococxr.pretraining import diagnostics
from mococxr.pretraining.diagnostics import Run, contrast_accuracy, effective_rank, feature_std
from mococxr.pretraining.moco import info_nce, judge, left_out_negatives
from mococxr.pretraining.selection import knn_scores


def sphere(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)), dim=1)


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


def test_contrast_accuracy_counts_images_whose_own_key_is_nearest():
    numbers = torch.tensor([[3.0, 1, 2], [1, 3, 2], [2, 1, 1.9], [0, 0, 1]])
    assert float(contrast_accuracy(numbers)) == 0.5


def test_a_collapse_to_one_point_is_no_contrast_accuracy():
    assert float(contrast_accuracy(torch.ones(8, 100))) == 0


def test_alignment_and_uniformity_are_wang_and_isolas_formulas():
    q, k, queue = sphere(12, 8), sphere(12, 8, seed=1), sphere(30, 8, seed=2)
    assert float(diagnostics.alignment(info_nce(q, k, queue, 0.2)[1], 0.2)) == pytest.approx(
        float((q - k).norm(dim=1).pow(2).mean()), rel=1e-5
    )
    pairs = [float((a - b).pow(2).sum()) for i, a in enumerate(queue) for b in queue[i + 1 :]]
    assert diagnostics.uniformity(queue) == pytest.approx(math.log(np.mean(np.exp(-2 * np.array(pairs)))), rel=1e-5)
    assert diagnostics.uniformity(sphere(1, 8).expand(9, -1)) == pytest.approx(0, abs=1e-6)


def test_the_pair_auroc_is_scikit_learns_mean_over_images_with_ties():
    from sklearn.metrics import roc_auc_score

    numbers = torch.randint(0, 6, (40, 1 + 20), generator=torch.Generator().manual_seed(0)).float()
    newest = torch.tensor([18, 19, 0, 1, 2])
    each = [roc_auc_score([1] + [0] * 5, [row[0], *row[1:][newest]]) for row in numbers]
    assert float(diagnostics.positive_auroc(numbers, newest)) == pytest.approx(np.mean(each))


def test_only_a_negative_that_is_the_own_key_counts_as_tied():
    q, k, queue = sphere(10, 16), sphere(10, 16, seed=1), sphere(500, 16, seed=2)
    assert diagnostics.duplicate_negatives(info_nce(q, k, queue, 0.2)[1]) == 0
    queue[123:128] = k[:5]
    assert diagnostics.duplicate_negatives(info_nce(q, k, queue, 0.2)[1]) == 0.5


def test_keys_that_are_left_out_are_counted_and_measured_as_no_strangers():
    q, k, queue = sphere(10, 16), sphere(10, 16, seed=1), sphere(50, 16, seed=2)
    queue[:10] = k
    assert left_out_negatives(info_nce(q, k, queue, 0.2)[1]) == 0
    same = torch.zeros(10, 50, dtype=torch.bool)
    same[range(10), range(10)] = True
    same[3] = False
    logits = info_nce(q, k, queue, 0.2, same)[1]
    assert left_out_negatives(logits) == pytest.approx(0.9)
    assert diagnostics.duplicate_negatives(logits) == pytest.approx(0.1)
    newest = torch.arange(5, 15)
    pairs = [(row[0] > other) + 0.5 * (row[0] == other) for row in logits for other in row[1:][newest] if other > -1e9]
    assert len(pairs) == 95
    assert float(diagnostics.positive_auroc(logits, newest)) == pytest.approx(float(torch.tensor(pairs).mean()))


def test_views_differ_by_nothing_if_equal_and_by_about_one_if_of_strangers():
    one = torch.randint(0, 256, (200, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    assert diagnostics.view_difference(torch.stack([one, one])) == 0
    assert diagnostics.view_difference(torch.stack([one, one.flip(0)])) == pytest.approx(1, abs=0.02)
    assert diagnostics.view_difference(torch.zeros(2, 4, 1, 8, 8, dtype=torch.uint8)) is None


def test_gradient_norm_and_distance_are_those_of_the_weights_in_one_row():
    torch.manual_seed(0)
    one, other = (torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 2)) for _ in range(2))
    assert float(diagnostics.gradient_norm(one)) == 0
    one(torch.ones(3, 5)).sum().backward()
    flat = torch.cat([weight.grad.reshape(-1) for weight in one.parameters()])
    assert float(diagnostics.gradient_norm(one)) == pytest.approx(float(flat.norm()), rel=1e-6)
    mine, theirs = (torch.nn.utils.parameters_to_vector(net.parameters()) for net in (one, other))
    wanted = float(((mine - theirs).norm() / mine.norm()).detach())
    assert diagnostics.relative_distance(one, other) == pytest.approx(wanted, rel=1e-6)
    assert diagnostics.relative_distance(one, one) == 0


def test_nearest_neighbours_vote_as_in_a_slow_loop():
    near, images = sphere(60, 6), sphere(15, 6, seed=1) * 3  # lengths do not count
    labels = torch.randint(0, 2, (60,), generator=torch.Generator().manual_seed(2))
    slow = []
    for image in F.normalize(images, dim=1):
        cosine = (near @ image).numpy()
        best = np.argsort(-cosine)[:20]
        weight = np.exp(cosine[best] / 0.07)
        slow.append((weight * labels.numpy()[best]).sum() / weight.sum())
    np.testing.assert_allclose(knn_scores(near, labels, images), slow, rtol=1e-4)


# --- the verdict

RUN = Run(steps=400, batch=32, queue=1024, dim=128, momentum=0.99)
FIRST = {"loss": math.log(1025), "contrast_accuracy": 0.0, "effective_rank": 100.0}


def log_of(steps: int = 400, **last: Any) -> list[dict[str, Any]]:
    """A log of 40 lines that goes in a straight line from a fresh run's numbers to a sound run's, or to `last`."""
    sound = {
        "loss": 2.0, "contrast_accuracy": 0.9, "effective_rank": 80.0, "positive_auroc": 0.95, "key_std": 0.9,
        "duplicate_negatives": 0.0, "view_difference": 0.5, "query_key_distance": 0.05,
        "key_progress": 0.5, "weight_norm_ratio": 1.01, **last,
    }  # fmt: skip
    log = []
    for i in range(40):
        share, step = min(1, i / 30), steps * (i + 1) // 40
        now = {name: FIRST.get(name, value) + (value - FIRST.get(name, value)) * share for name, value in sound.items()}
        log.append({"step": step, "queue_filled": min(1.0, step * 32 / 1024), **now})
    return log


@pytest.mark.parametrize(
    ("word", "last", "reason", "remedy"),
    [
        ("learning", {}, "The loss is 2.00 (guessing: 6.93)", ""),
        ("collapsed", {"key_std": 0.001}, "nearly one feature", "--momentum"),
        ("stuck", {"loss": 6.93, "positive_auroc": 0.51}, "ln(K+1) = 6.93", "mococxr views"),
        ("stuck", {"query_key_distance": 0.0}, "do not move", "--lr"),
        ("dimensional collapse", {"effective_rank": 3.0}, "3.0 of 128", "--crop"),
        ("diverging", {"weight_norm_ratio": 30.0}, "30 times", "--lr"),
        ("diverging", {"query_key_distance": 0.9}, "90%", "--warmup"),
        ("stale keys", {"key_progress": 0.0}, "0.0% of the way", "--momentum"),
        ("too easy", {"view_difference": 0.001}, "one picture", "--rotation"),
        ("self-negative", {"duplicate_negatives": 1.0}, "log 2 = 0.69", "--queue"),
    ],
)
def test_each_fate_has_its_word_its_reason_and_its_remedy(word, last, reason, remedy):
    said = judge(log_of(**last), RUN)
    assert said.word == word
    assert said.bad == (word != "learning")
    assert reason in said.reason
    assert remedy in said.remedy
    assert str(said).startswith(f"{word}: ")


def test_images_that_are_told_apart_at_once_make_the_task_too_easy():
    said = judge([{**entry, "contrast_accuracy": 0.99} for entry in log_of()], RUN)
    assert (said.word, "99%" in said.reason) == ("too easy", True)


def test_an_encoder_that_has_learned_before_may_tell_images_apart_at_once():
    """Its loss need not fall either; but equal views are too easy for it, too."""
    known = [{**entry, "contrast_accuracy": 0.99, "loss": 1.3} for entry in log_of()]
    again = RUN._replace(trained=True)
    assert {judge(known[:lines], RUN).word for lines in (8, 40)} == {"too easy"}
    assert {judge(known[:lines], again).word for lines in (8, 40)} == {"learning"}
    assert judge([{**entry, "view_difference": 0.001} for entry in known], again).word == "too easy"
    assert judge(log_of(loss=6.93, positive_auroc=0.51), again).word == "stuck"


def test_a_change_of_size_is_no_fault_at_any_line():
    """Old keys are easy for the first lines; then the loss is higher and fewer dimensions are filled than before."""
    before, after = log_of()[:20], log_of()[20:]
    easy = [{**entry, "loss": 1.0, "contrast_accuracy": 0.99, "positive_auroc": 0.99} for entry in after[:3]]
    hard = [{**entry, "loss": 4.0, "contrast_accuracy": 0.3, "effective_rank": 40.0} for entry in after[3:]]
    log = [*before, *easy, *hard]
    words = [judge(log[:lines], RUN).word for lines in range(20, 41)]
    assert set(words) == {"learning"}


def test_a_queue_that_outlives_the_memory_of_the_encoder_is_stale_and_the_presets_are_not():
    assert judge(log_of(), RUN._replace(momentum=0.0)).word == "stale keys"
    assert judge(log_of(), RUN._replace(momentum=0.9)).word == "learning"
    assert judge(log_of(), Run(400, 16, 24_576, 128, 0.999)).word != "stale keys"


def test_a_run_that_is_barely_begun_is_not_called_learning_but_what_is_certain_is_said():
    assert judge([], RUN).word == "warming up"
    words = {judge(log_of()[:lines], RUN).word for lines in range(1, 5)}  # 40 steps; the queue is full after 32
    assert words == {"warming up"}
    assert judge(log_of()[:8], RUN).word == "learning"
    assert judge(log_of(view_difference=0.001)[:2], RUN).word == "too easy"
    assert judge(log_of(weight_norm_ratio=99.0)[:1], RUN).word == "diverging"


def test_a_slow_start_is_no_standstill():
    """The loss of guessing is no proof: shuffled pairs are told from a slow start by the pairs themselves."""
    slow = log_of(loss=6.9, contrast_accuracy=0.002, positive_auroc=0.6)
    assert judge(slow, RUN).word == "warming up"
    assert judge([{**entry, "positive_auroc": 0.52} for entry in slow], RUN).word == "stuck"


def test_every_measure_of_a_single_key_or_an_odd_log_line_is_judged_without_failing():
    nothing = {"key_std": None, "view_difference": None, "feature_std": None, "uniformity": None}
    assert judge([{**entry, **nothing} for entry in log_of()], RUN).word == "learning"
    assert judge(log_of()[::7], RUN).word == "learning"
