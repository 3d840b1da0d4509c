"""Every self-supervised method: one list of checks over `METHODS`; the losses of SimCLR and SimSiam against oracles."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from threading import Barrier, Thread, current_thread
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from safetensors.torch import load_file

from method_parts import Net, Waits, alone
from mococxr.commands import run
from mococxr.encoders import Encoder, EncoderSpec, initial_encoder
from mococxr.errors import InputError
from mococxr.pretraining import simclr
from mococxr.pretraining.diagnostics import WORDS
from mococxr.pretraining.method import StepResult, refuse_unused
from mococxr.pretraining.pretrain import METHODS
from mococxr.pretraining.run_folder import latest_checkpoint
from mococxr.pretraining.selection import Selection
from mococxr.pretraining.simclr import nt_xent
from mococxr.pretraining.simsiam import negative_cosine
from mococxr.pretraining.trainer import Monitor
from mococxr.settings import PretrainSettings
from small_run import TINY, read_log, tiny_run
from small_store import run_study
from test_moco import images, small_net
from test_pretrain import assert_same, assert_same_run, break_off

METHOD = pytest.mark.parametrize("name", METHODS)
OTHERS = pytest.mark.parametrize("name", [name for name in METHODS if name != "moco"])


def settings_of(name: str, **others: Any) -> PretrainSettings:
    given = {**TINY, "method": name, "stores": (), "out": Path("-"), "queue": 16 if name == "moco" else None}
    return PretrainSettings(**{**given, **others})


def encoder() -> Encoder:
    return initial_encoder("random", EncoderSpec("test_efficientnet", 32), 0)[0]


def make_method(name: str, **others: Any) -> Any:
    return METHODS[name](encoder(), settings_of(name, **others), alone())


def batch(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.rand(2, 8, 4, 4, generator=generator), 32, mode="bilinear")
    return (255 * smooth).to(torch.uint8)[:, :, None]


# --- the contract of a method


@METHOD
def test_a_state_that_is_restored_goes_on_to_the_bit(name):
    first, second = make_method(name), make_method(name)
    for number in range(3):
        first.step(batch(number), 1e-3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for number in range(3, 5):
        losses = [method.step(batch(number), 1e-3).loss for method in (first, second)]
        assert torch.equal(*losses)
    assert_same(first.state_dict(), second.state_dict())


@METHOD
def test_steps_on_one_batch_lower_its_loss_and_repeat_themselves(name):
    runs = []
    for _ in range(2):
        method = make_method(name)
        runs.append([float(method.step(batch(), 3e-3).loss) for _ in range(15)])
    assert runs[0] == runs[1]
    # From the second step on MoCo meets the batch's own keys in its queue, so its end is compared with its middle.
    assert runs[0][-1] < max(runs[0][1:8]) - 0.05


@METHOD
def test_measures_are_finite_numbers_in_the_columns_that_the_method_names(name):
    method = make_method(name)
    monitor = Monitor(method)
    for step in range(3):
        result = method.step(batch(step), 1e-3)
        monitor.add(step, result)
    measured = monitor.collect(batch(2), result)
    assert tuple(measured) == (*method.RUNNING, *method.MEASURES, *Monitor.COLUMNS)
    assert method.RUNNING[0] == "loss"
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in measured.values())
    json.dumps(method.facts(), allow_nan=False)
    assert monitor.bad_step() is None
    monitor.add(3, StepResult(result.loss * math.nan, result.logits, result.embeddings))
    assert monitor.bad_step() == 4


@METHOD
def test_a_method_judges_with_known_words(name):
    method = make_method(name, dim=128, batch=64, queue=256 if name == "moco" else None)
    line = {column: 0.5 for column in (*method.RUNNING, *method.MEASURES, *Monitor.COLUMNS)}
    line |= {"effective_rank": 30.0, "queue_filled": 1.0, "weight_norm_ratio": 1.0}
    assert method.judge([], 1000).word == "warming up"
    sound = [{**line, "step": step, "loss": 0.5 - step / 1e4} for step in range(10, 1010, 10)]
    assert method.judge(sound, 1000).word == "learning"
    for fault, word in (
        ({"weight_norm_ratio": 99.0}, "diverging"),
        ({"view_difference": 0.001}, "too easy"),
        ({"feature_std": 0.0, "key_std": 0.0}, "collapsed"),
        ({"effective_rank": 1.0}, "dimensional collapse"),
    ):
        verdict = method.judge([{**entry, **fault} for entry in sound], 1000)
        assert verdict.word == word in WORDS
        assert verdict.remedy


@METHOD
def test_settings_that_a_method_does_not_read_are_refused(name):
    unused = METHODS[name].UNUSED
    refuse_unused(PretrainSettings(method=name, stores=(), out=Path("-")), unused)
    changed = {"queue": 64, "momentum": 0.5, "key_groups": 1, "accumulate": 2, "temperature": 0.7, "head": "linear",
               "negatives_from": "study"}  # fmt: skip
    for setting in unused:
        settings = PretrainSettings(method=name, stores=(), out=Path("-"), **{setting: changed[setting]})
        with pytest.raises(InputError, match=f"--{setting.replace('_', '-')} is not used by --method {name}"):
            refuse_unused(settings, unused)


@METHOD
def test_the_encoder_that_is_kept_is_the_average_of_a_slow_loop_batch_norm_included(name):
    method = make_method(name, ema=0.9)
    expected = {key: value.double() for key, value in method.encoder.state_dict().items()}
    counts = [key for key in expected if key.endswith("num_batches_tracked")]
    for number in range(4):
        method.step(batch(number), 1e-2)
        for key, value in method.encoder.state_dict().items():
            expected[key] = value.double() if key in counts else 0.9 * expected[key] + 0.1 * value
    kept = method.kept.state_dict()
    assert kept.keys() == expected.keys()
    for key, value in kept.items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-5, atol=1e-6, msg=key)
    key = "network.bn1.running_var"
    assert counts
    assert not torch.equal(kept[key], method.encoder.state_dict()[key])
    assert not any(weight.requires_grad for weight in method.kept.parameters())
    plain = make_method(name)
    assert plain.kept is plain.encoder
    assert "average" not in plain.state_dict()


@METHOD
def test_nothing_in_a_step_waits_for_the_device(name):
    method = make_method(name, accumulate=2 if name == "moco" else 1, ema=0.9)
    monitor = Monitor(method)
    with Waits() as waits:
        result = method.step(batch(), 1e-3)
        monitor.add(0, result)
    assert waits.found == []
    with waits:
        result.loss.item()
    assert len(waits.found) == 1


# --- the losses


def views_of_embeddings(count: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = (F.normalize(torch.randn(count, 16, generator=generator), dim=1) for _ in range(2))
    return a, F.normalize(a + 0.5 * b, dim=1)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 0.5])
def test_nt_xent_is_lightlys_and_that_of_a_slow_loop(temperature):
    a, b = views_of_embeddings()
    loss, logits = nt_xent(a, b, a, b, temperature)
    assert float(loss) == pytest.approx(float(NTXentLoss(temperature)(a, b)), abs=1e-6)
    z, terms = torch.cat([a, b]).double(), []
    for i in range(24):  # equation 1, pair by pair
        partner = (i + 12) % 24
        others = [torch.exp(z[i] @ z[k] / temperature) for k in range(24) if k != i]
        terms.append(-torch.log(torch.exp(z[i] @ z[partner] / temperature) / sum(others)))
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), abs=1e-6)
    assert logits.shape == (24, 23)
    assert float(nt_xent(a[:1].expand(8, -1), *[a[:1].expand(8, -1)] * 3, temperature)[0]) == pytest.approx(
        math.log(15), abs=1e-5
    )  # one point: guessing among 2N - 1


def test_views_of_the_same_group_are_no_negatives_in_nt_xent():
    a, b = views_of_embeddings()
    numbers = [0, 1, 2, 3, 0, 1, 0, 7, 8, 9, 9, 9]
    loss, logits = nt_xent(a, b, a, b, 0.2, 0, torch.tensor(numbers))
    z, terms, left = torch.cat([a, b]).double(), [], []
    for i in range(24):
        partner = (i + 12) % 24
        others = [k for k in range(24) if k == partner or numbers[k % 12] != numbers[i % 12]]
        terms.append(-torch.log(torch.exp(z[i] @ z[partner] / 0.2) / sum(torch.exp(z[i] @ z[k] / 0.2) for k in others)))
        left.append(len(others))
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), abs=1e-6)
    assert torch.isfinite(logits).sum(dim=1).tolist() == left


@pytest.mark.parametrize("numbers", [None, torch.tensor([0, 1, 2, 3, 0, 1, 0, 7, 8, 9, 9, 9])])
def test_the_processes_together_have_nt_xent_of_the_whole_batch(numbers):
    a, b = views_of_embeddings()
    whole, logits = nt_xent(a, b, a, b, 0.2, 0, numbers)
    parts = [nt_xent(a[i : i + 4], b[i : i + 4], a, b, 0.2, rank, numbers) for rank, i in enumerate((0, 4, 8))]
    assert float(sum(loss for loss, _ in parts) / 3) == pytest.approx(float(whole), abs=1e-6)
    torch.testing.assert_close(torch.cat([part.chunk(2)[0] for _, part in parts]), logits[:12])


def test_gradients_through_the_gathering_are_those_of_the_whole_batch(monkeypatch):
    """Two processes as threads; the mean of their gradients, as DistributedDataParallel takes it, is the whole's."""
    a, b = views_of_embeddings(8)
    whole = a.clone().requires_grad_()
    nt_xent(whole, b, whole, b, 0.2)[0].backward()
    barrier, desk = Barrier(2), [torch.empty(0), torch.empty(0)]

    def exchange(tensor: torch.Tensor) -> list[torch.Tensor]:
        desk[int(current_thread().name)] = tensor.clone()
        barrier.wait(20)
        both = list(desk)
        barrier.wait(20)
        return both

    def all_gather(parts: list[torch.Tensor], tensor: torch.Tensor) -> None:
        for part, other in zip(parts, exchange(tensor), strict=True):
            part.copy_(other)

    def all_reduce(tensor: torch.Tensor) -> None:
        tensor.copy_(sum(exchange(tensor)))

    monkeypatch.setattr(simclr.torch.distributed, "all_gather", all_gather)
    monkeypatch.setattr(simclr.torch.distributed, "all_reduce", all_reduce)
    gradients = [torch.empty(0), torch.empty(0)]

    def process(rank: int) -> None:
        part = slice(4 * rank, 4 * rank + 4)
        own = a[part].clone().requires_grad_()
        everyone = [simclr.gather_with_gradient(side, rank, 2) for side in (own, b[part])]
        nt_xent(own, b[part], *everyone, 0.2, rank)[0].backward()
        gradients[rank] = own.grad / 2

    threads = [Thread(target=process, args=(rank,), name=str(rank)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.testing.assert_close(torch.cat(gradients), whole.grad, rtol=0, atol=1e-7)


def test_negative_cosine_is_lightlys_and_that_of_a_slow_loop_and_stops_the_gradient():
    p, z = (2 * side for side in views_of_embeddings())
    p, z = p.requires_grad_(), z.requires_grad_()
    loss = negative_cosine(p, z)
    assert loss.item() == pytest.approx(NegativeCosineSimilarity()(p, z).item(), abs=1e-6)
    slow = -np.mean([(a @ b / a.norm() / b.norm()).item() for a, b in zip(p, z, strict=True)])
    assert loss.item() == pytest.approx(slow, abs=1e-6)
    loss.backward()
    assert p.grad is not None
    assert z.grad is None


def test_a_simsiam_step_is_algorithm_1():
    method = METHODS["simsiam"](Net(small_net(), 64), settings_of("simsiam", optimizer="sgd"), alone())
    reference = copy.deepcopy(method.network)
    views = torch.stack([images(8), images(8, seed=1)])
    loss = method.step(views, 0.1).loss
    z = [reference.projector(reference.encoder(view)) for view in views]
    p = [reference.predictor(side) for side in z]
    oracle = NegativeCosineSimilarity()
    expected = oracle(p[0], z[1].detach()) / 2 + oracle(p[1], z[0].detach()) / 2
    assert float(loss) == pytest.approx(expected.item(), abs=1e-6)
    expected.backward()
    for mine, theirs in zip(method.network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-6)


# --- runs


@OTHERS
def test_a_run_that_breaks_off_and_is_resumed_is_the_uninterrupted_run(synthetic_store, tmp_path, monkeypatch, name):
    how = {"method": name, "queue": None}
    whole, out = tiny_run(synthetic_store, tmp_path / "whole", **how), tmp_path / "broken"
    break_off(monkeypatch, 7, synthetic_store, out, **how)
    tiny_run(synthetic_store, out, resume=True, **how)
    assert_same_run(whole, out)
    facts = json.loads((whole / "run.json").read_text())
    assert facts["method"]["id"] == name
    assert facts["queue"] is None
    assert len(read_log(whole)) == 5


def test_a_run_that_keeps_its_average_goes_on_to_the_bit_and_looks_at_it(synthetic_store, tmp_path, monkeypatch):
    how, out = {"ema": 0.9, "knn": "Effusion"}, tmp_path / "broken"
    looked: list[dict[str, torch.Tensor]] = []
    real = Selection.evaluate

    def evaluate(selection: Selection, done: int, encoder: Encoder, device: torch.device) -> dict[str, float | None]:
        looked.append({key: value.clone() for key, value in encoder.network.state_dict().items()})
        return real(selection, done, encoder, device)

    monkeypatch.setattr(Selection, "evaluate", evaluate)
    whole = tiny_run(synthetic_store, tmp_path / "whole", **how)
    break_off(monkeypatch, 7, synthetic_store, out, **how)
    tiny_run(synthetic_store, out, resume=True, **how)
    assert_same_run(whole, out)
    kept = load_file(whole / "encoder.safetensors")
    assert all(torch.equal(value, kept[key]) for key, value in looked[-1].items())  # the last look is at the last step
    state = latest_checkpoint(whole / "checkpoints")["method"]
    assert all(torch.equal(value, state["average"][f"encoder.network.{key}"]) for key, value in kept.items())
    assert not torch.equal(kept["conv_stem.weight"], state["query"]["encoder.network.conv_stem.weight"])
    assert json.loads((whole / "run.json").read_text())["ema"] == 0.9


@pytest.mark.slow
def test_methods_are_studied_and_reported_side_by_side(synthetic_store, tmp_path):
    arms = []
    for name in METHODS:
        queue = 16 if name == "moco" else None
        out = tiny_run(synthetic_store, tmp_path / name, method=name, queue=queue, epochs=1, log_every=1)
        arms.append(f"{name}={out}")
    how = {"target": ["Effusion"], "fraction": [1.0], "draws": 1, "replicates": 200, "device": "cpu", "jobs": 1}
    out = tmp_path / "study"
    run_study({"store": synthetic_store, "out": out, "arm": arms, **how})
    facts = json.loads((out / "study.json").read_text())["arms"]
    assert {arm: facts[arm]["method"] for arm in facts} == {n: m.words.name for n, m in METHODS.items()}
    run("report", {"study": out})
    text = (out / "report.md").read_text()
    for kind in METHODS.values():
        assert f"1 run of {kind.words.name}" in text
        assert f"pretrained by {kind.words.name} without labels" in text
    run("export", {"path": tmp_path / "simclr", "to": "timm", "out": tmp_path / "exported"})
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "By SimCLR (Chen et al. 2020, arXiv 2002.05709): " in card
    assert "momentum" not in card.split("By SimCLR")[1].split("\n")[0]
