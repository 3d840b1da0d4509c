"""The verdict on runs with planted faults, said within their first tenth; and that looking changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mococxr.encoders import resolve_encoder
from mococxr.errors import InputError, RunError
from mococxr.pretraining import run_folder
from mococxr.store import Store
from mococxr.studies import provenance
from planted_runs import FAULTS, first_tenth, make_square_store
from small_run import read_log, tiny_run
from test_pretrain import assert_same_run, break_off

SLOW_SEEDS = range(100, 110, 2)
"""Every other of the ten seeds of docs/health.md, on which no threshold was chosen."""


@pytest.fixture(scope="module")
def square_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_square_store(tmp_path_factory.mktemp("square"))


def check(fault: str, seed: int, store: Path, out: Path, patch: pytest.MonkeyPatch) -> None:
    words = [entry["verdict"] for entry in first_tenth(store, out, fault, seed, patch)]
    said = [word for word in words if word != "warming up"]
    word = fault.split(",")[0]
    assert said, f"{fault}, seed {seed}: nothing was said in the first tenth"
    assert set(said) == {word}, f"{fault}, seed {seed}: {words}"
    assert words[-1] == word
    assert json.loads((out / "health.json").read_text())["verdict"] == word


@pytest.mark.parametrize("fault", ["learning", "stale keys"])
def test_a_fault_is_named_within_the_first_tenth_of_a_run(square_store, tmp_path, monkeypatch, capsys, fault):
    check(fault, 0, square_store, tmp_path / "run", monkeypatch)
    warned = [line for line in capsys.readouterr().err.splitlines() if "looks bad" in line]
    assert len(warned) == (fault != "learning")  # once
    assert all(f"looks bad: {fault}: " in line for line in warned)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_the_right_word_with_each_of_five_seeds(square_store, tmp_path, fault):
    for seed in SLOW_SEEDS:
        with pytest.MonkeyPatch.context() as patch:
            check(fault, seed, square_store, tmp_path / str(seed), patch)


def test_a_run_that_dies_is_called_diverging_in_its_error_and_in_its_folder(synthetic_store, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(RunError, match=r"^diverging: .* not finite at step \d+"):
        tiny_run(synthetic_store, out, lr=1e30, optimizer="sgd", warmup=0.0, save_every=100)
    facts = json.loads((out / "health.json").read_text())
    assert facts["verdict"] == "diverging"
    assert "--lr" in facts["remedy"]


# --- looking on the way

LOOKED = ("knn_auroc", "encoder_rank", "verdict")


def test_looking_changes_no_byte_of_the_encoder_and_no_number_of_the_log(synthetic_store, tmp_path):
    plain = tiny_run(synthetic_store, tmp_path / "plain", log_every=1)
    seen = tiny_run(synthetic_store, tmp_path / "seen", log_every=1, knn="Effusion")
    assert (plain / "encoder.safetensors").read_bytes() == (seen / "encoder.safetensors").read_bytes()
    same = [[{k: v for k, v in e.items() if k not in LOOKED} for e in read_log(run)] for run in (plain, seen)]
    assert same[0] == same[1]
    facts = json.loads((seen / "run.json").read_text())["health"]
    assert len(facts["looks"]) == 10
    assert all(0 <= look["knn_auroc"] <= 1 and look["encoder_rank"] >= 1 for look in facts["looks"])
    assert facts["selected"] == {"by": "last", "step": 15, "value": None}
    assert facts["knn"]["validation_images"] >= 2


@pytest.mark.parametrize(("by", "name"), [("knn", "knn_auroc"), ("rank", "encoder_rank")])
def test_the_best_encoder_is_kept_and_a_resumed_run_keeps_the_same(synthetic_store, tmp_path, monkeypatch, by, name):
    given = {"select": by, "knn": "Effusion", "lr": 0.01, "save_every": 1}
    whole = tiny_run(synthetic_store, tmp_path / "whole", **given)
    facts = json.loads((whole / "run.json").read_text())["health"]
    best = max(facts["looks"], key=lambda look: look[name])  # the first of equals
    assert facts["selected"] == {"by": by, "step": best["step"], "value": best[name]}
    kept = run_folder.latest_checkpoint(whole / "checkpoints")["best"]
    assert kept["step"] == best["step"]
    weights = load_file(whole / "encoder.safetensors")
    assert all(torch.equal(weights[key], kept["weights"][f"network.{key}"]) for key in weights)
    out = tmp_path / "resumed"
    break_off(monkeypatch, 10, synthetic_store, out, **given)
    tiny_run(synthetic_store, out, resume=True, **given)
    assert_same_run(whole, out)


def test_no_test_image_is_looked_at(synthetic_store, tmp_path, monkeypatch):
    from mococxr.store import Level

    store, read = Store.open(synthetic_store), set()
    real = Level.pixels
    monkeypatch.setattr(Level, "pixels", lambda self, row: read.add(int(row)) or real(self, row))
    tiny_run(synthetic_store, tmp_path / "run", knn="Effusion", epochs=1)
    assert not read & set(store.rows_in("test").tolist())
    assert read & set(store.rows_in("val").tolist())


@pytest.mark.parametrize(
    ("wrong", "words"), [({"select": "knn"}, "--knn"), ({"knn": "Gout"}, "Gout"), ({"knn": "Effusion=7"}, "Effusion")]
)
def test_a_choice_without_labels_is_refused_before_anything_is_written(synthetic_store, tmp_path, wrong, words):
    with pytest.raises(InputError, match=words):
        tiny_run(synthetic_store, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_a_study_keeps_the_word_and_a_thinned_log_of_each_run(synthetic_store, tmp_path):
    run = tiny_run(synthetic_store, tmp_path / "run", log_every=1, knn="Effusion")
    entries = read_log(run, without=())
    (run / "log.jsonl").write_text(
        "".join(json.dumps({**entries[i // 40 % 15], "step": i, "knn_auroc": None}) + "\n" for i in range(500))
        + json.dumps(entries[-1])
    )
    kept = provenance._health(resolve_encoder(str(run)))
    facts = json.loads((run / "run.json").read_text())
    assert (kept["verdict"], kept["reason"]) == (facts["verdict"], facts["reason"])
    assert kept["own_key_floor"] == pytest.approx(0.6931, abs=1e-4)
    assert 90 < len(kept["log"]) <= 100
    assert kept["log"][-1] == {name: entries[-1][name] for name in provenance.CURVES}
