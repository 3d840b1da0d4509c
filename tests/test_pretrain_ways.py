"""Runs that go other ways: optimisers, positives, a queue cut to fit, numbers that are no longer finite."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from method_parts import Net, alone
from mococxr.errors import InputError, RunError
from mococxr.pretraining import diagnostics, moco, run_folder
from mococxr.pretraining.moco import MoCo
from mococxr.pretraining.pretrain import METHODS
from small_run import read_log, tiny, tiny_run


@pytest.mark.parametrize(
    ("optimizer", "lr", "others"),
    [
        ("adam", 1e-3, {"schedule": "step", "milestones": (0.5,), "head": "linear"}),
        ("adamw", 1e-3, {"positives": "study", "key_groups": 1}),
        ("sgd", 0.03, {"schedule": "constant", "brightness": 0.3, "contrast": 0.3, "channels": 1}),
    ],
)
def test_every_optimiser_schedule_head_and_kind_of_positive_runs(synthetic_store, tmp_path, optimizer, lr, others):
    run = tiny_run(synthetic_store, tmp_path / "run", optimizer=optimizer, lr=lr, epochs=1, log_every=1, **others)
    entries = read_log(run)
    assert len(entries) == 5
    assert all(math.isfinite(entry["loss"]) for entry in entries)


def test_positives_of_one_study_change_the_key_views_only(synthetic_store, tmp_path, monkeypatch):
    taken: dict[str, list[torch.Tensor]] = {}
    step = MoCo.step
    for positives in ("view", "study"):
        views = taken[positives] = []
        monkeypatch.setattr(
            MoCo, "step", lambda method, both, *given, _v=views: _v.extend(both.clone()) or step(method, both, *given)
        )
        tiny_run(synthetic_store, tmp_path / positives, positives=positives, epochs=1)
    for number, (one, other) in enumerate(zip(*taken.values(), strict=True)):
        assert torch.equal(one, other) == (number % 2 == 0)


def test_a_learnable_set_is_learned_and_the_loss_falls_below_guessing(synthetic_store, tmp_path):
    run = tiny_run(synthetic_store, tmp_path / "run", epochs=12, lr=3e-3, momentum=0.9, rotation=0.0, flip=0.0)
    log, chance = read_log(run), math.log(17)
    late = log[-len(log) // 3 :]
    # Over ten seeds, one thread, AVX2: 0.68 to 0.81 of chance (sd 0.04), right in 0.30 to 0.36 (sd 0.02, by chance 0.06).
    assert sum(entry["loss"] for entry in late) / len(late) < 0.95 * chance
    assert sum(entry["contrast_accuracy"] for entry in late) / len(late) > 0.15
    facts = json.loads((run / "run.json").read_text())
    assert facts["verdict"] in ("learning", "too easy")
    assert facts["loss"] == log[-1]["loss"]


def test_a_queue_that_was_not_asked_for_is_cut_to_fit_and_that_is_said_and_recorded(synthetic_store, tmp_path, capsys):
    run = tiny_run(synthetic_store, tmp_path / "run", queue=None, epochs=1)
    assert (
        json.loads((run / "run.json").read_text())["queue"] == 13
    )  # 44 images: after half of the 40 of an epoch one may come again
    said = capsys.readouterr().err
    assert "queue K 13 (the preset's is 1,024)" in said
    assert run_folder.latest_checkpoint(run / "checkpoints")["method"]["queue"]["keys_KC"].shape == (13, 32)


@pytest.mark.parametrize(("verdict", "learned"), [("learning", True), ("too easy", False)])
def test_verdicts_know_of_a_start_that_has_learned(synthetic_store, tmp_path, monkeypatch, verdict, learned):
    first = tiny_run(synthetic_store, tmp_path / "first", epochs=1)
    (first / "run.json").write_text(json.dumps(json.loads((first / "run.json").read_text()) | {"verdict": verdict}))
    runs = []
    monkeypatch.setattr(moco, "judge", lambda _, run: runs.append(run) or diagnostics.Verdict("warming up", ""))
    tiny_run(synthetic_store, tmp_path / "second", epochs=1, init=str(first))
    assert {run.trained for run in runs} == {learned}
    runs.clear()
    tiny_run(synthetic_store, tmp_path / "scratch", epochs=1)
    assert {run.trained for run in runs} == {False}


# --- numbers that are no longer finite


def planted(monkeypatch: pytest.MonkeyPatch, at: int, fault) -> None:
    """Let one step of the run go wrong."""
    step, count = MoCo.step, iter(range(1, 10_000))

    def faulty(method, *given):
        if next(count) == at:
            fault(method)
        return step(method, *given)

    monkeypatch.setattr(MoCo, "step", faulty)


def test_a_loss_that_is_not_finite_stops_with_its_step_and_the_last_good_checkpoint(
    synthetic_store, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    planted(monkeypatch, 10, lambda method: method.queue.keys_KC.fill_(math.nan))
    with pytest.raises(RunError, match=r"loss is not finite at step 10; .* checkpoint is .*step-00000008.pt") as told:
        tiny_run(synthetic_store, out)
    assert "--lr" in str(told.value)
    assert [path.name for path in run_folder.checkpoints(out / "checkpoints")] == [
        "step-00000004.pt",
        "step-00000008.pt",
    ]
    assert not (out / "run.json").exists()
    assert all(entry["step"] <= 9 for entry in read_log(out))


def test_weights_that_are_not_finite_never_become_the_last_good_checkpoint(synthetic_store, tmp_path, monkeypatch):
    """The loss of step 8 is fine, but its descent is not; step 8 would be saved."""

    def spoil(method) -> None:
        descend = method.optimizer.step

        def too_far() -> None:
            descend()
            next(iter(method.network.parameters())).data.fill_(math.inf)

        method.optimizer.step = too_far

    planted(monkeypatch, 8, spoil)
    with pytest.raises(RunError, match=r"weights are not finite at step 8; .* checkpoint is .*step-00000004.pt"):
        tiny_run(synthetic_store, tmp_path / "run")


def test_a_learning_rate_without_sense_ends_in_words(synthetic_store, tmp_path):
    with pytest.raises(RunError, match=r"not finite at step \d+; there is no checkpoint yet"):
        tiny_run(synthetic_store, tmp_path / "run", lr=1e30, optimizer="sgd", warmup=0.0, save_every=100)


# --- the door


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"backbone": "resnet19"}, "no network 'resnet19'"),
        ({"init": "nowhere.pt"}, "no encoder 'nowhere.pt'"),
        ({"crop": (1.2, 1.0)}, "--crop"),
        ({"batch": 1}, "--batch"),
        ({"precision": "fp16"}, "fp16 takes a GPU"),
        ({"key_groups": 5}, "--key-groups"),
        ({"exclude_patients": Path("nobody.txt")}, "nobody.txt"),
        ({"stores": (Path("no-store"),)}, "no store at no-store"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(synthetic_store, tmp_path, wrong, words):
    with pytest.raises(InputError, match=words):
        tiny_run(synthetic_store, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_no_run_is_not_resumed_into(synthetic_store, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        tiny_run(synthetic_store, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_keys_are_made_in_the_precision_of_the_queries(synthetic_store, tmp_path, monkeypatch):
    seen = []
    forward = torch.nn.Linear.forward

    def spy(self, values):
        seen.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return forward(self, values)

    monkeypatch.setattr(torch.nn.Linear, "forward", spy)
    tiny_run(synthetic_store, tmp_path / "run", epochs=1, precision="bf16")
    assert set(seen) == {(True, True), (False, True)}  # queries with gradients, keys without; both in bfloat16


def test_losses_are_means_since_the_last_line_and_the_gradients_length_is_that_of_its_step(synthetic_store, tmp_path):
    each = read_log(tiny_run(synthetic_store, tmp_path / "each", log_every=1, epochs=2))
    some = read_log(tiny_run(synthetic_store, tmp_path / "some", log_every=4, epochs=2))
    for line in some[:2]:
        before = each[line["step"] - 4 : line["step"]]
        assert line["gradient_norm"] == before[-1]["gradient_norm"] > 0
        assert line["loss"] == pytest.approx(sum(entry["loss"] for entry in before) / 4, rel=1e-6)


def test_a_resumed_run_in_fp16_goes_on_with_the_scale_that_it_had(synthetic_store, tmp_path):
    methods = [METHODS["moco"](Net(nn.Flatten(), 64), tiny(synthetic_store, tmp_path), alone()) for _ in range(2)]
    for method, scale in zip(methods, (8.0, 2.0), strict=True):
        method.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        method.scaler.scale(torch.ones(1))
    methods[1].load_state_dict(methods[0].state_dict())
    assert methods[1].scaler.get_scale() == 8.0


def test_a_gradient_that_overflowed_is_no_number_in_the_log(synthetic_store, tmp_path, monkeypatch):
    monkeypatch.setattr(diagnostics, "gradient_norm", lambda _: torch.tensor(math.inf))
    run = tiny_run(synthetic_store, tmp_path / "run", epochs=1)
    assert "Infinity" not in (run / "log.jsonl").read_text()
    assert {entry["gradient_norm"] for entry in read_log(run)} == {None}
