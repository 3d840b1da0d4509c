"""Runs whose views grow: sizes, epochs and rates of their phases, and that nothing is lost where the size changes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mococxr.augment import Recipe
from mococxr.console import Progress
from mococxr.encoders import EncoderSpec, build
from mococxr.errors import InputError
from mococxr.pretraining.dataset import SpacedShuffle, gather_images
from mococxr.pretraining.hardware import check_sizes
from mococxr.pretraining.loader import BatchLoader
from mococxr.pretraining.method import learning_rate
from mococxr.pretraining.phases import Phases, phase_of
from mococxr.settings import Phase, PretrainSettings, from_yaml, make
from mococxr.store import Store
from small_run import read_log, tiny_run
from test_pretrain import assert_same_run, break_off

GROWING: dict[str, Any] = {"size": 96, "epochs": 12, "sizes": ("32:2", "48:1")}
"""Two epochs, ten steps, at 32 px, then five steps at 48 px; size and epochs are the preset's, as if nobody gave them."""


def settings(**given: Any) -> PretrainSettings:
    return make(PretrainSettings, {"stores": "s", "out": "r", **given})


# --- how phases are written


def test_phases_are_read_and_size_and_epochs_say_what_they_come_to():
    s = settings(sizes=["96:6", "160:2:2e-4"])
    assert s.phases == (Phase(96, 6), Phase(160, 2, 2e-4))
    assert (s.size, s.epochs) == (160, 8)
    assert settings(size=64, epochs=3).phases == (Phase(64, 3),)
    assert settings(sizes=["96:6", "160:2"], size=160, epochs=8).phases[1].size == 160  # as settings.yaml has it


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sizes": ["96"]}, r"--sizes '96' is no phase.*\n.*SIZE:EPOCHS"),
        ({"sizes": ["96:6:1:1"]}, "is no phase"),
        ({"sizes": ["8:6"]}, "--size must be between 16 and 4096"),
        ({"sizes": ["96:0"]}, "--epochs must be"),
        ({"sizes": ["96:1.5"]}, "--epochs must be a whole number"),
        ({"sizes": ["96:6:0"]}, "--lr must be above 0"),
        ({"sizes": ["96:6", "160:2"], "size": 224}, r"--size 224 contradicts --sizes 96:6 160:2.*\n.*Leave --size out"),
        ({"sizes": ["96:6", "160:2"], "epochs": 3}, "--epochs 3 contradicts"),
    ],
)
def test_a_phase_that_says_nothing_or_two_things_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        settings(**given)


# --- steps and rates


def test_steps_begin_their_phases_and_take_their_rates_as_in_a_slow_loop():
    written = (Phase(32, 2), Phase(48, 1, 2e-4), Phase(64, 3))
    phases = Phases(written, 7, 1e-3)
    each = [phase for phase in written for _ in range(7 * phase.epochs)]
    assert phases.steps == len(each) == 42
    shared = iter(range(35))
    for step, phase in enumerate(each):
        assert phase_of(written, step // 7) == phase
        assert phases.begins(step) == (step == 0 or each[step - 1] != phase)
        expected = (step - 14, 7, 2e-4) if phase.lr else (next(shared), 35, 1e-3)
        assert phases.schedule(step) == expected
        later = [other for other in each[step + 1 :] if other != phase]
        assert phases.surplus(step) == pytest.approx(sum((p.size / phase.size) ** 2 - 1 for p in later))


def test_a_phase_with_a_rate_of_its_own_has_the_rates_of_a_run_of_its_own(synthetic_store, tmp_path):
    run = tiny_run(synthetic_store, tmp_path / "run", log_every=1, **{**GROWING, "sizes": ("32:2", "48:1:2e-4")})
    rates = [entry["lr"] for entry in read_log(run)]
    assert rates[:10] == [learning_rate(step, 10, 1e-3, "cosine", (), 0.2) for step in range(10)]
    assert rates[10:] == [learning_rate(step, 5, 2e-4, "cosine", (), 0.2) for step in range(5)]


def test_the_time_left_counts_what_later_phases_cost(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    bar = Progress("pretrain", 300)
    phases = Phases((Phase(32, 1), Phase(64, 2)), 10, 1e-3)  # batches of 10 images
    bar.change_pace(10 * phases.surplus(0))
    now[0] = 50.0
    bar.advance(50)  # 1 image/s, so 50 s to go, and 200 images of four times the pixels
    assert "1.00 images/s" in bar.numbers()
    assert "14:10 left" in bar.numbers()
    bar.advance(50)
    bar.change_pace(10 * phases.surplus(10))
    now[0] = 90.0
    bar.advance(10)  # 0.25 images/s
    assert "0.25 images/s" in bar.numbers()
    assert "12:40 left" in bar.numbers()


# --- views


@pytest.mark.parametrize("views_on", ["cpu", "device"])
def test_the_views_of_a_phase_are_those_of_a_run_of_its_size(synthetic_store, views_on):
    pool = gather_images([Store.open(synthetic_store)], (32, 20), "train")
    phases = (Phase(32, 2), Phase(20, 1))

    def batches(size: int, phases: tuple[Phase, ...] = ()) -> list[torch.Tensor]:
        order = SpacedShuffle(len(pool), 40, 16, seed=1)
        feed = BatchLoader(pool, Recipe(size), order, batch=8, seed=1, views_on=views_on, phases=phases)
        return [batch.to(torch.device("cpu")) for _, batch in feed.run(0, 15)]

    growing, small, large = batches(20, phases), batches(20), batches(32)
    assert all(torch.equal(a, b) for a, b in zip(growing, large[:10] + small[10:], strict=True))
    np.testing.assert_array_equal(pool.pixels(3, 20), Store.open(synthetic_store).level(20).pixels(int(pool.row_N[3])))


def test_a_network_of_one_size_is_refused_other_sizes_by_name():
    encoder = build(EncoderSpec("resmlp_12_224", 224))
    check_sizes(encoder, [224])
    assert encoder.training
    with pytest.raises(InputError, match=r"resmlp_12_224 does not take views of 96 px in a run of 224 px"):
        check_sizes(encoder, [96, 224])


# --- runs


@pytest.fixture(scope="module")
def whole(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A growing run from start to end."""
    return tiny_run(synthetic_store, tmp_path_factory.mktemp("growing") / "run", **GROWING)


def test_a_growing_run_is_one_run_with_one_log_and_an_encoder_of_the_last_size(whole):
    entries = read_log(whole)
    assert [(entry["step"], entry["size"]) for entry in entries] == [(3, 32), (6, 32), (9, 32), (12, 48), (15, 48)]
    assert json.loads((whole / "encoder.json").read_text())["size"] == 48
    facts = json.loads((whole / "run.json").read_text())
    assert facts["steps"] == 15
    assert facts["phases"] == [{"size": 32, "epochs": 2, "lr": None}, {"size": 48, "epochs": 1, "lr": None}]
    kept = make(PretrainSettings, from_yaml(whole / "settings.yaml"))
    assert (kept.size, kept.epochs, kept.sizes) == (48, 3, ("32:2", "48:1"))


def test_the_first_phase_is_the_run_without_a_second_as_long_as_the_rates_are_the_same(synthetic_store, tmp_path):
    how = {"schedule": "constant", "warmup": 0.0, "log_every": 1}
    plain = read_log(tiny_run(synthetic_store, tmp_path / "plain", epochs=2, **how))
    growing = read_log(tiny_run(synthetic_store, tmp_path / "growing", **{**GROWING, **how}))
    assert [entry["loss"] for entry in growing[:10]] == [entry["loss"] for entry in plain]


@pytest.mark.parametrize(("stop_at", "save_every"), [(10, 9), (12, 10), (13, 11)])
def test_a_run_that_breaks_off_around_the_change_of_size_is_the_uninterrupted_run(
    whole, synthetic_store, tmp_path, monkeypatch, stop_at, save_every
):
    """Its last checkpoint is of the step before the change, of the last step before the new size, and of the step after."""
    resumed(whole, synthetic_store, tmp_path / "run", monkeypatch, stop_at, save_every=save_every)


@pytest.mark.parametrize("method", ["simclr", "simsiam"])
def test_other_methods_grow_and_go_on_too(synthetic_store, tmp_path, monkeypatch, method):
    how = {"method": method, "queue": None, "save_every": 10}
    alone = tiny_run(synthetic_store, tmp_path / "whole", **{**GROWING, **how})
    assert read_log(alone)[-1]["size"] == 48
    resumed(alone, synthetic_store, tmp_path / "run", monkeypatch, 12, **how)


def resumed(whole: Path, store: Path, out: Path, patch: pytest.MonkeyPatch, stop_at: int, **others: Any) -> None:
    """Break a run off, resume it, and compare it with the whole one."""
    break_off(patch, stop_at, store, out, **{**GROWING, **others})
    tiny_run(store, out, resume=True, **{**GROWING, **others})
    assert_same_run(whole, out)


def test_a_run_is_not_resumed_with_other_phases(whole, synthetic_store, tmp_path):
    out = tmp_path / "begun"
    out.mkdir()
    for name in ("settings.yaml", "inputs.json"):
        (out / name).write_bytes((whole / name).read_bytes())
    with pytest.raises(InputError, match=r"other settings.*--sizes"):
        tiny_run(synthetic_store, out, resume=True, **{**GROWING, "sizes": ("32:1", "48:2")})


def test_the_encoder_is_looked_at_in_its_last_size_from_the_first_look_on(synthetic_store, tmp_path, monkeypatch):
    from mococxr.pretraining import selection

    seen = []
    real = selection.to_frame
    monkeypatch.setattr(selection, "to_frame", lambda image, size: seen.append(size) or real(image, size))
    tiny_run(synthetic_store, tmp_path / "run", **GROWING, knn="Effusion")
    assert set(seen) == {48}
