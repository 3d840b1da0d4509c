from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from mococxr.encoders import load_encoder
from mococxr.errors import InputError, RunError
from mococxr.pretraining import loader as feed_module
from mococxr.pretraining import run_folder, trainer
from mococxr.pretraining.method import learning_rate
from mococxr.pretraining.moco import MoCo
from mococxr.pretraining.trainer import Monitor
from mococxr.settings import PretrainSettings, from_yaml, make
from mococxr.store import Store
from small_run import read_log, tiny_run

FIELDS = [
    "step", "epoch", "size", *MoCo.RUNNING, *MoCo.MEASURES, *Monitor.COLUMNS, "knn_auroc", "encoder_rank", "lr",
    "images_per_s", "seconds", "verdict",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run from start to end, nothing in its way."""
    return tiny_run(synthetic_store, tmp_path_factory.mktemp("full") / "run")


def steps_of(run: Path) -> int:
    return int(json.loads((run / "run.json").read_text())["steps"])


def assert_same_run(one: Path, other: Path) -> None:
    """Encoder, all of the last checkpoint and the log are the same to the last bit; times may differ."""
    assert (one / "encoder.safetensors").read_bytes() == (other / "encoder.safetensors").read_bytes()
    assert read_log(one) == read_log(other)
    states = [run_folder.latest_checkpoint(run / "checkpoints") for run in (one, other)]
    assert_same(*({k: v for k, v in state.items() if k != "seconds"} for state in states))


def assert_same(one: object, other: object, where: str = "state") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


# --- what a run leaves


def test_a_run_folder_holds_what_the_contract_names(whole, synthetic_store):
    names = {path.name for path in whole.iterdir()}
    assert {"settings.yaml", "run.json", "log.jsonl", "encoder.safetensors", "encoder.json", "checkpoints"} <= names
    facts = json.loads((whole / "run.json").read_text())
    store = Store.open(synthetic_store)
    images = store.rows_in("train")
    assert facts["inputs"][0]["sha256"] == store.sha256
    assert facts["pretrained_on"]["images"] == len(images)
    assert facts["pretrained_on"]["patients"] == store.index["patient"].gather(images).n_unique()
    assert facts["steps"] == len(images) // 8 * 3
    assert facts["queue"] == 16
    assert facts["verdict"] == "warming up"
    assert {"torch", "timm", "numpy"} <= facts["libraries"].keys()
    about = json.loads((whole / "encoder.json").read_text())
    settings = vars(make(PretrainSettings, from_yaml(whole / "settings.yaml")))
    assert about["architecture"] == settings["backbone"]
    assert all(about[name] == settings[name] for name in ("size", "channels", "mean", "std"))
    listed = set(pl.read_csv(whole / "patients.csv", infer_schema=False)["patient"])
    assert listed == set(store.index["patient"].gather(images))


def test_the_settings_file_states_everything_and_repeats_the_run(whole, synthetic_store, tmp_path):
    settings = vars(make(PretrainSettings, from_yaml(whole / "settings.yaml")))
    assert None not in {name: v for name, v in settings.items() if name not in ("exclude_patients", "knn")}.values()
    chosen = {name: settings[name] for name in settings if name not in ("stores", "out")}
    again = tiny_run(synthetic_store, tmp_path / "again", **chosen)
    assert_same_run(whole, again)


def test_the_log_has_the_contracts_fields_and_no_step_is_missing(whole):
    entries = read_log(whole, without=())
    assert all(list(entry) == FIELDS for entry in entries)
    steps = steps_of(whole)
    assert [entry["step"] for entry in entries] == [*range(3, steps, 3), steps]
    for entry in entries:
        assert entry["epoch"] == round(entry["step"] / (steps / 3), 4)
        assert 0 <= entry["contrast_accuracy"] <= 1
        assert entry.pop("verdict") == "warming up"
        assert entry.pop("knn_auroc") is entry.pop("encoder_rank") is None  # nobody asked
        assert all(math.isfinite(value) for value in entry.values())
    assert entries[-1]["seconds"] > 0


def test_the_encoder_is_the_query_encoder_of_the_last_checkpoint_and_it_has_moved(whole):
    state = run_folder.latest_checkpoint(whole / "checkpoints")
    start = loop_start(whole)
    moved = 0
    for name, tensor in load_file(whole / "encoder.safetensors").items():
        assert torch.equal(tensor, state["method"]["query"][f"encoder.network.{name}"]), name
        moved += not torch.equal(tensor, start[name])
    assert moved > 50
    features = load_encoder(whole)(torch.zeros(2, 1, 40, 56, dtype=torch.uint8))
    assert features.shape == (2, 256)
    assert not torch.equal(state["method"]["key"]["head.0.weight"], state["method"]["query"]["head.0.weight"])


def loop_start(run: Path) -> dict[str, torch.Tensor]:
    from mococxr import encoders

    return encoders.build(encoders.read_spec(run), seed=0).network.state_dict()


def test_two_checkpoints_are_left_and_they_hold_the_queue(whole):
    saved = run_folder.checkpoints(whole / "checkpoints")
    steps = steps_of(whole)
    assert [path.name for path in saved] == [f"step-{s:08d}.pt" for s in ((steps - 1) // 4 * 4, steps)]
    state = run_folder.latest_checkpoint(whole / "checkpoints")
    assert state["method"]["steps"] == steps
    assert state["method"]["queue"]["keys_KC"].shape == (16, 32)


def test_another_seed_is_another_run(whole, synthetic_store, tmp_path):
    other = tiny_run(synthetic_store, tmp_path / "run", seed=1, epochs=1)
    assert read_log(other)[0]["loss"] != read_log(whole)[0]["loss"]


# --- the learning rate


def test_the_step_schedule_falls_to_a_tenth_at_each_milestone():
    rates = [learning_rate(step, 100, 1e-4, "step", (0.6, 0.9)) for step in range(100)]
    assert rates == pytest.approx([1e-4] * 60 + [1e-5] * 30 + [1e-6] * 10)


def test_the_cosine_schedule_falls_all_the_way():
    rates = [learning_rate(step, 200, 0.5, "cosine") for step in range(200)]
    assert rates == pytest.approx([0.25 * (1 + math.cos(math.pi * i / 200)) for i in range(200)])
    assert (np.diff(rates) < 0).all()
    assert rates[-1] < 1e-3 * rates[0]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_warming_up_rises_in_a_line_to_the_schedule(schedule):
    plain, warm = (
        np.array([learning_rate(i, 100, 2.0, schedule, (0.5,), warmup) for i in range(100)]) for warmup in (0, 0.1)
    )
    np.testing.assert_allclose(warm[:10], plain[:10] * np.arange(1, 11) / 10)
    np.testing.assert_allclose(warm[10:], plain[10:])


def test_the_rate_in_the_log_is_the_schedules(whole):
    steps = steps_of(whole)
    for entry in read_log(whole):
        assert entry["lr"] == learning_rate(entry["step"] - 1, steps, 1e-3, "cosine", (), 0.2)
    assert read_log(whole)[-1]["lr"] < 0.02 * 1e-3


def test_the_optimiser_really_gets_the_rate(synthetic_store, tmp_path, monkeypatch):
    """With a rate of zero but in the second half of the run nothing moves before it."""
    monkeypatch.setattr(trainer, "learning_rate", lambda step, steps, *_: 0.1 if step >= steps // 2 else 0.0)
    run = tiny_run(synthetic_store, tmp_path / "run", epochs=2, save_every=1, optimizer="sgd", weight_decay=0.0)
    first, last = run_folder.checkpoints(run / "checkpoints")
    states = [torch.load(path, weights_only=True)["method"]["query"]["head.0.weight"] for path in (first, last)]
    assert not torch.equal(*states)
    monkeypatch.setattr(trainer, "learning_rate", lambda *_: 0.0)
    still = tiny_run(synthetic_store, tmp_path / "still", epochs=1, optimizer="sgd", weight_decay=0.0)
    start = loop_start(still)
    weights = load_file(still / "encoder.safetensors")
    assert all(torch.equal(weights[name], start[name]) for name in start if "running" not in name and "num" not in name)


# --- stopping and going on


@pytest.mark.parametrize(("stop_at", "save_every"), [(3, 4), (7, 4), (13, 5)])
def test_a_run_that_breaks_off_and_is_resumed_is_the_uninterrupted_run(
    whole, synthetic_store, tmp_path, monkeypatch, stop_at, save_every
):
    """Neither the checkpoints nor the break fall together with the log lines, every third step."""
    out = tmp_path / "run"
    break_off(monkeypatch, stop_at, synthetic_store, out, save_every=save_every)
    assert not (out / "run.json").exists()
    assert len(run_folder.checkpoints(out / "checkpoints")) == min(2, stop_at // save_every)
    tiny_run(synthetic_store, out, save_every=save_every, resume=True)
    assert_same_run(whole, out)


def break_off(monkeypatch: pytest.MonkeyPatch, stop_at: int, store: Path, out: Path, **how: Any) -> None:
    """Begin a tiny run whose images are gone at a step, counted from 0."""
    run = feed_module.BatchLoader.run

    def broken(self, start: int, stop: int) -> Iterator:
        for step, views in run(self, start, stop):
            if step == stop_at:
                raise OSError("the images are gone")
            yield step, views

    with monkeypatch.context() as patch:
        patch.setattr(feed_module.BatchLoader, "run", broken)
        with pytest.raises(OSError, match="images are gone"):
            tiny_run(store, out, **how)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_at_the_next_step_and_the_run_goes_on_from_there(
    whole, synthetic_store, tmp_path, monkeypatch, number
):
    out, before = tmp_path / "run", signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(feed_module.BatchLoader, "run", signalling(feed_module.BatchLoader.run, number))
        with pytest.raises(RunError, match=r"Stopped after step 8 of 15, saved.\n.*--resume"):
            tiny_run(synthetic_store, out, save_every=100)
    assert run_folder.latest_checkpoint(out / "checkpoints")["step"] == 8
    assert signal.getsignal(number) is before
    tiny_run(synthetic_store, out, save_every=100, resume=True)
    assert_same_run(whole, out)


def signalling(run, number: int):
    def sending(self, start: int, stop: int) -> Iterator:
        for step, views in run(self, start, stop):
            if step == 7:
                os.kill(os.getpid(), number)
            yield step, views

    return sending


def test_a_torn_log_line_and_a_damaged_checkpoint_do_not_stop_a_resumption(
    whole, synthetic_store, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    break_off(monkeypatch, 10, synthetic_store, out)
    with open(out / "log.jsonl", "a") as file:
        file.write('{"step": 12, "lo')
    newest = run_folder.checkpoints(out / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:2000])
    tiny_run(synthetic_store, out, resume=True)
    assert_same_run(whole, out)


def test_a_finished_run_is_not_run_again(whole, synthetic_store, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    tiny_run(synthetic_store, whole, resume=True)
    assert "nothing to resume" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_run_is_not_written_over(whole, synthetic_store):
    with pytest.raises(InputError, match=r"is not empty.\n.*--resume"):
        tiny_run(synthetic_store, whole)


@pytest.mark.parametrize(
    "changed", [{"lr": 2e-3}, {"queue": 8}, {"temperature": 0.1}, {"seed": 3}, {"batch": 4}, {"epochs": 5}]
)
def test_a_run_is_not_resumed_with_other_settings(whole, synthetic_store, tmp_path, changed):
    out = begun(whole, tmp_path)
    with pytest.raises(InputError, match=f"other settings.*--{next(iter(changed))}"):
        tiny_run(synthetic_store, out, resume=True, **changed)


def begun(whole: Path, folder: Path) -> Path:
    """The folder of a run that was just opened."""
    out = folder / "begun"
    out.mkdir()
    for name in ("settings.yaml", "inputs.json"):
        (out / name).write_bytes((whole / name).read_bytes())
    return out


def test_a_run_is_not_resumed_on_other_images(whole, synthetic_store, tmp_path):
    out = begun(whole, tmp_path)
    inputs = json.loads((out / "inputs.json").read_text())
    (out / "inputs.json").write_text(json.dumps([{**inputs[0], "images_sha256": "0" * 64}]))
    with pytest.raises(InputError, match="started on other images"):
        tiny_run(synthetic_store, out, resume=True)
