"""Arms that are no encoder: a table of features, a torch module; and what a solved trial opens and says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from mococxr.commands import run
from mococxr.encoders import EncoderSpec, build, resolve_encoder, save_encoder
from mococxr.errors import InputError
from mococxr.files import write_json
from mococxr.frames import to_frame
from mococxr.store import Store
from mococxr.studies import provenance, trial
from mococxr.studies.design import Arm
from mococxr.studies.provenance import target_warnings
from small_store import BACKBONE, make_store, run_study

LEAN: dict[str, Any] = {
    "target": "Finding", "fraction": 1.0, "replicates": 200, "device": "cpu", "jobs": 1, "size": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a run, and the run's features as `embed` writes them."""
    folder = tmp_path_factory.mktemp("arms")
    make_store(folder, patients=45)
    save_encoder(build(EncoderSpec(BACKBONE, 32), seed=1), folder / "run", {})
    run("embed", {"store": folder / "store", "encoder": str(folder / "run"), "out": folder / "mine.parquet"})
    return folder


def scores(study: Path, arm: str) -> np.ndarray:
    (path,) = study.glob(f"predictions/*-{arm}-*.parquet")
    return pl.read_parquet(path)["score"].to_numpy()


def test_a_table_of_features_scores_as_the_encoder_that_wrote_it(place: Path, tmp_path: Path) -> None:
    arms = [f"run={place / 'run'}", f"table={place / 'mine.parquet'}"]
    run("study", {"store": place / "store", "arm": arms, "out": tmp_path / "study", **LEAN})
    np.testing.assert_allclose(scores(tmp_path / "study", "table"), scores(tmp_path / "study", "run"), rtol=1e-4)
    page = (tmp_path / "study" / "report.html").read_text()
    assert "mine.parquet" in page
    assert "None" not in page


def test_a_table_without_the_images_or_for_fine_tuning_is_refused(place: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(place / "mine.parquet")
    given = {"store": place / "store", "arm": "mine=TABLE", "out": tmp_path / "study", **LEAN}
    cases: dict[str, tuple[pl.DataFrame, dict[str, Any]]] = {
        "there is no encoder for --mode finetune": (table, {"mode": ["linear", "finetune"]}),
        "has no features of": (table.head(20), {}),
        "has no column patient": (table.drop("patient"), {}),
        "lists an image twice": (pl.concat([table, table.head(1)]), {}),
        "has no size": (table, {"arm": f"mine={tmp_path / '4.parquet'}@32"}),
        "differ in length": (table.with_columns(pl.col("features").list.head(pl.int_range(pl.len()) + 1)), {}),
    }
    for i, (words, (content, changed)) in enumerate(cases.items()):
        path = tmp_path / f"{i}.parquet"
        content.write_parquet(path)
        with pytest.raises(InputError, match=words):
            run_study({**given, "arm": f"mine={path}", **changed})
        assert not (tmp_path / "study" / "cells.csv").exists()


def test_a_target_that_a_run_or_the_one_before_it_learned_to_predict_is_warned_of(place: Path, tmp_path: Path) -> None:
    records = {"first": {"auxiliary": [{"column": "sex"}]}, "second": {"init": str(tmp_path / "first")}, "third": {}}
    arms = []
    for name, record in records.items():
        save_encoder(build(EncoderSpec(BACKBONE, 32)), tmp_path / name, {})
        write_json(tmp_path / name / "run.json", record)
        arms.append(Arm(name, ((resolve_encoder(str(tmp_path / name)),),), (name,)))
    warnings = target_warnings(Store.open(place / "store"), arms, ["Finding", "sex=M", "site=A"])
    assert [text.split(":")[1] for text in warnings] == [
        f" Run {name} of arm {name} learned to predict sex from all images that it was pretrained on (--auxiliary), and "
        "--target sex=M asks for it"
        for name in ("first", "second")
    ]


def test_a_torch_module_is_an_arm_by_its_features(place: Path, tmp_path: Path) -> None:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    arms = {"mine": module, "random": "random"}
    more = {"backbone": BACKBONE, "out": tmp_path / "study"}
    run_study({"store": place / "store", "arm": arms, **LEAN, **more})
    table = pl.read_parquet(tmp_path / "study.arms" / "mine.parquet")
    store = Store.open(place / "store")
    frame = to_frame(store.level(32).pixels(3), 32)
    expected = module(torch.from_numpy(frame)[None, None].float() / 255)[0]
    np.testing.assert_allclose(table["features"][3].to_numpy(), expected.numpy(), rtol=1e-5)
    assert set(pl.read_csv(tmp_path / "study" / "cells.csv")["arm"]) == {"mine", "random"}
    with pytest.raises(InputError, match=r"shape \(N, D\)"):
        run_study({"store": place / "store", "arm": {"a": nn.Identity()}, **LEAN, "out": tmp_path / "other"})


def test_a_solved_trial_opens_no_encoder_and_jobs_limits_its_threads(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, threads = [], []
    real_open, real_features = trial.open_encoder, trial.features

    def count(source: Any, seed: int = 0) -> Any:
        opened.append(source.name)
        return real_open(source, seed)

    def look(*given: Any, **how: Any) -> Any:
        threads.append(torch.get_num_threads())
        return real_features(*given, **how)

    monkeypatch.setattr(trial, "open_encoder", count)
    monkeypatch.setattr(trial, "features", look)
    arms = ["random", f"one={place / 'run'}"]
    more = {"fraction": [0.5, 1.0], "draws": 4, "backbone": BACKBONE, "out": tmp_path / "study"}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    run_study({"store": place / "store", "arm": arms, **LEAN, **more})
    torch.set_num_threads(before)
    assert len(opened) == 4, "once for its hash and once for its features, whatever the number of trials"
    assert threads == [1, 1]


@pytest.mark.parametrize(("target", "words"), [([], "is missing"), (["Finding", "Finding"], "is given twice")])
def test_a_missing_and_a_repeated_target_are_told_apart(
    place: Path, tmp_path: Path, target: list[str], words: str
) -> None:
    given = {"store": place / "store", "arm": "random", "out": tmp_path / "s", **HOW_RANDOM}
    with pytest.raises(InputError, match=f"--target.* {words}"):
        run_study({**given, **LEAN, "target": target})


HOW_RANDOM = {"backbone": BACKBONE}


def test_a_note_of_one_trial_is_of_one_trial() -> None:
    records = [{"mode": "linear", "notes": ["C is 1"]}, {"mode": "finetune", "notes": ["kept the last", "x"]}]
    records += [{"mode": "finetune", "notes": ["x"]}]
    assert provenance.note_warnings(records) == [
        "linear: C is 1 (1 trial).", "finetune: kept the last (1 trial).", "finetune: x (2 trials).",
    ]  # fmt: skip
