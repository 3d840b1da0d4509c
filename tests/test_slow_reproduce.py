"""A small reproduction on synthetic images, seen closely: votes, views, draws, and how it grows by cells and ways."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from mococxr.commands import run
from mococxr.store import Store
from mococxr.synthetic import write_chexpert

pytestmark = pytest.mark.slow

SMALL = {
    "dataset": "chexpert", "size": 32, "epochs": 1, "queue": 32, "train_epochs": 1.0, "init": "random",
    "fraction": [0.3], "draws": 1, "replicates": 200, "device": "cpu", "jobs": 1,
    "cells": ["pleural-effusion/resnet18/*"],
}  # fmt: skip
KEPT = ("draws/*.csv", "studies/*/predictions/*", "studies/*/cells.csv", "studies/*/differences.csv", "tables/*.csv")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_chexpert(folder, 120, valid=16, test=30, size=40, jobs=1)
    return folder


def settings(images: Path, out: Path, **changed: object) -> dict:
    places = {"root": images / "CheXpert-v1.0-small", "test_root": images / "CheXpert", "out": out}
    return {**SMALL, **places, **changed}


def contents(out: Path) -> dict[str, bytes]:
    found = {str(file.relative_to(out)): file.read_bytes() for name in KEPT for file in out.glob(name)}
    assert len(found) > 8
    return found


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("full") / "out"
    run("reproduce", settings(images, out))
    return out


def test_a_study_votes_by_its_highest_image_on_the_official_test_set(images: Path, whole: Path) -> None:
    folder = whole / "studies/pleural-effusion-resnet18-0.3"
    truth = pl.read_csv(images / "CheXpert/groundtruth.csv", infer_schema=False)
    known = {
        "/".join(study.split("/")[-2:]): float(label)
        for study, label in truth.select("Study", "Pleural Effusion").iter_rows()
    }
    cells = pl.read_csv(folder / "cells.csv")
    assert cells["n_units"].to_list() == [len(known)] * 4
    for row in cells.iter_rows(named=True):
        name = f"Pleural_Effusion*-{row['mode']}-{row['arm']}-0-0.3-0.parquet"
        images_ = pl.read_parquet(next(folder.glob(f"predictions/{name}")))
        votes = images_.group_by("study").agg(pl.col("score").max())
        labels = [known[study] for study in votes["study"]]
        assert np.isclose(row["auroc"], roc_auc_score(labels, votes["score"]))
    record = json.loads((whole / "reproduce.json").read_text())
    assert record["data"]["test"]["positives"]["Pleural Effusion"] == sum(known.values())
    done = {cell["id"] for cell in record["cells"] if cell["status"] == "done"}
    assert done == {
        f"pleural-effusion/resnet18/{m}/0.3/{a}" for m in ("linear", "finetune") for a in ("imagenet", "moco")
    }


def test_training_saw_both_views_of_the_drawn_images_and_no_other(images: Path, whole: Path) -> None:
    store = Store.open(whole / "stores/chexpert")
    run_facts = json.loads((whole / "runs/resnet18/run.json").read_text())
    table = pl.read_csv(images / "CheXpert-v1.0-small/train.csv", infer_schema=False)
    assert run_facts["pretrained_on"]["images"] == len(table) == len(store.rows_in("train"))
    drawn = pl.read_csv(whole / "draws/0.3-0.csv")
    label = table["Pleural Effusion"][drawn["row"]]
    trial = next((whole / "studies/pleural-effusion-resnet18-0.3/draws").iterdir())
    trained = {path.split("train/")[-1] for path in pl.read_csv(trial)["path"]}
    asked = {path.split("train/")[-1] for path, value in zip(drawn["path"], label, strict=True) if value != "-1.0"}
    assert trained == asked
    assert any("lateral" in path for path in trained)


def test_more_cells_and_sounder_ways_are_added_and_what_is_done_stays(
    images: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    first = {"cells": ["pleural-effusion/resnet18/linear/*/imagenet"]}
    run("reproduce", settings(images, out, **first))
    assert not (out / "runs").exists()
    run("reproduce", settings(images, out, variant=["lbfgs"]))
    assert "1 of 4 trials are done already" in capsys.readouterr().err
    kept = contents(out)
    for name, data in contents(whole).items():
        if not name.startswith("tables/"):
            assert kept[name] == data
    assert len(pl.read_csv(out / "studies/pleural-effusion-resnet18-0.3-lbfgs/cells.csv")) == 2
