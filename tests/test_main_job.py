"""The main job from a folder of images to a report, by the command line, with the network shut off.

Every file and column that docs/contract.md promises is looked at, and the numbers are held against each other.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

import mococxr
from mococxr.synthetic import write_synthetic
from small_images import contents
from small_store import BACKBONE
from small_world import quietly

CPU = ("--device", "cpu", "--jobs", 1)
INDEX = ["row", "path", "patient", "study", "view", "sex", "age", "height", "width", "sha256"]
LOG = {
    "step", "epoch", "loss", "contrast_accuracy", "feature_std", "effective_rank", "lr", "images_per_s", "seconds",
}  # fmt: skip
TRIALS = [
    "trial", "arm", "run", "mode", "target", "fraction", "draw", "train_images", "train_patients",
    "train_positives", "auroc", "average_precision", "partial_auroc", "status", "seconds",
]  # fmt: skip
CELLS = ["arm", "mode", "target", "fraction", "auroc", "low", "high", "draw_sd", "n_units", "positives"]
DIFFERENCES = ["arm", "against", "mode", "target", "fraction", "difference", "low", "high", "p", "method"]
EVALUATION = {"n", "patients", "positives", "auroc", "average_precision", "against", "difference", "bootstrap"}


def test_the_main_job_runs_without_network_and_leaves_what_the_contract_says(
    tmp_path: Path,
    no_network: None,  # noqa: ARG001
) -> None:
    images, store, run = tmp_path / "images", tmp_path / "store", tmp_path / "run"
    write_synthetic(images, 72, size=72, prevalence=0.5, seed=3, jobs=1)
    quietly("prepare", images, "--out", store, "--size", 48, "--split", 0.5, 0, 0.5, "--jobs", 1)
    quietly("views", store, "--out", tmp_path / "sheet.png", "--size", 32, "--images", 2)
    quietly(
        "pretrain", store, "--out", run, "--backbone", BACKBONE, "--init", "random", "--size", 32,
        "--batch", 8, "--epochs", 2, "--log-every", 2, "--device", "cpu",
    )  # fmt: skip
    quietly("embed", store, "--encoder", run, "--out", tmp_path / "features.parquet", *CPU)
    quietly("fit", store, "--encoder", run, "--target", "Effusion", "--out", tmp_path / "model", *CPU)
    quietly("predict", tmp_path / "model", images, "--out", tmp_path / "scores.csv", *CPU)
    quietly("predict", tmp_path / "model", store, "--out", tmp_path / "stored.csv", *CPU)
    quietly(
        "study", store, "--target", "Effusion", "--target", "sex=M", "--arm", "random", "--arm", f"moco={run}",
        "--fraction", 0.5, 1, "--draws", 2, "--replicates", 200, "--out", tmp_path / "study", *CPU,
    )  # fmt: skip
    (tmp_path / "study" / "report.html").unlink()
    quietly("report", tmp_path / "study")
    predictions = [
        tmp_path / "study" / "predictions" / f"Effusion-linear-{arm}-0-1-0.parquet" for arm in ("moco", "random")
    ]
    quietly(
        "evaluate", predictions[0], "--against", predictions[1], "--label", "label", "--score", "score",
        "--patient", "patient", "--key", "path", "--json", tmp_path / "numbers.json",
    )  # fmt: skip

    check_store(store)
    check_run(run)
    check_features(tmp_path, store, run)
    check_model_and_scores(tmp_path)
    check_study(tmp_path / "study")
    check_evaluation(tmp_path)
    check_nothing_is_left_over_or_undefined(tmp_path)


def check_store(folder: Path) -> None:
    store = mococxr.Store.open(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"counts", "hashes", "settings"} <= set(manifest)
    assert store.index.columns == [*INDEX, "Effusion", "Cardiomegaly"]
    assert len(store) == len(store.index) == 72
    assert store.index["row"].to_list() == list(range(72))
    assert store.index["Effusion"].unique().sort().to_list() == [0, 1]
    height, width = store.index["height"][0], store.index["width"][0]
    assert store.pixels(0).shape == (height, width)
    assert store.pixels(0).dtype == np.uint8
    assert min(height, width) == 48
    splits = pl.read_csv(folder / "splits.csv")
    assert splits.columns == ["patient", "split"]
    assert splits["patient"].is_unique().all()
    assert set(splits["split"]) == {"train", "test"}
    assert set(splits["patient"]) == set(store.index["patient"])
    assert pl.read_csv(folder / "quarantine.csv").columns == ["path", "reason"]
    assert (folder / "contact.png").stat().st_size > 1000


def check_run(folder: Path) -> None:
    settings = yaml.safe_load((folder / "settings.yaml").read_text())
    assert (settings["backbone"], settings["size"], settings["batch"]) == (BACKBONE, 32, 8)
    facts = json.loads((folder / "run.json").read_text())
    assert {"version", "inputs", "verdict"} <= set(facts)
    assert facts["pretrained_on"]["splits"] == "train"
    assert facts["synthetic"] is True
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["step"] == facts["steps"]
    assert all(set(entry) >= LOG for entry in entries)
    assert {"architecture", "size", "channels", "mean", "std"} <= set(json.loads((folder / "encoder.json").read_text()))
    assert (folder / "encoder.safetensors").is_file()
    assert list((folder / "checkpoints").iterdir())


def check_features(folder: Path, store: Path, run: Path) -> None:
    """`embed` writes what `load_encoder` gives for the store's own pixels."""
    table = pl.read_parquet(folder / "features.parquet")
    assert table.columns == ["path", "patient", "features"]
    assert table["features"].dtype == pl.List(pl.Float32)
    opened = mococxr.Store.open(store)
    assert table["path"].to_list() == opened.index["path"].to_list()
    encoder = mococxr.load_encoder(run, features="stages")
    assert encoder.size == 32
    with torch.inference_mode():
        one = encoder(torch.from_numpy(np.array(opened.pixels(0)))[None, None])
    assert one.shape == (1, len(table["features"][0]))
    assert one.dtype == torch.float32
    assert len(np.unique(np.stack(table["features"].to_list()), axis=0)) > 60


def check_model_and_scores(folder: Path) -> None:
    about = json.loads((folder / "model" / "model.json").read_text())
    assert {"targets", "encoders", "preprocessing", "store"} <= set(about)
    assert [block["target"] for block in about["targets"]] == ["Effusion"]
    assert (folder / "model" / "model.safetensors").is_file()
    scores = pl.read_csv(folder / "scores.csv")
    assert scores.columns == ["path", "patient", "study", "score", "calibrated", "decision", "view", "warning"]
    assert scores["score"].is_between(0, 1).all()
    stored = pl.read_csv(folder / "stored.csv").with_columns(path=str(folder / "images") + "/" + pl.col("path"))
    both = stored.join(scores, on="path", how="inner")
    assert len(both) == 72
    assert np.allclose(both["score"], both["score_right"], rtol=0, atol=1e-6)


def check_study(folder: Path) -> None:
    trials, cells, differences = (pl.read_csv(folder / f"{n}.csv") for n in ("trials", "cells", "differences"))
    assert trials.columns[: len(TRIALS)] == TRIALS
    assert set(cells.columns) >= set(CELLS)
    assert differences.columns[: len(DIFFERENCES)] == DIFFERENCES
    assert len(trials) == 2 * 2 * (2 + 1)
    assert set(trials["status"]) == {"done"}
    assert len(cells) == 2 * 2 * 2
    assert len(differences) == 2 * 2
    assert set(differences["against"]) == {"random"}
    for name in trials["trial"]:
        table = pl.read_parquet(folder / "predictions" / f"{name}.parquet")
        assert table.columns == ["path", "patient", "study", "label", "score"]
    for row in cells.iter_rows(named=True):
        own = trials.filter(pl.all_horizontal(pl.col(n) == row[n] for n in ("arm", "mode", "target", "fraction")))
        assert math.isclose(row["auroc"], own["auroc"].mean(), abs_tol=1e-12)
        assert row["low"] <= row["auroc"] <= row["high"]
    draws = {path.name for path in (folder / "draws").iterdir()}
    assert len(draws) == 2 * 3
    drawn = pl.read_csv(folder / "draws" / "Effusion-0.5-0.csv")
    assert drawn.columns == ["row", "path", "patient"]
    page = (folder / "report.html").read_text()
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//|url\(\s*['\"]?https?:|@import", page)
    assert "synthetic" in page.lower()
    assert "Effusion" in (folder / "report.md").read_text()
    assert list((folder / "figures").iterdir())
    assert yaml.safe_load((folder / "settings.yaml").read_text())["target"] == ["Effusion", "sex=M"]


def check_evaluation(folder: Path) -> None:
    found = json.loads((folder / "numbers.json").read_text())
    assert set(found) >= EVALUATION
    assert set(found["auroc"]) >= {"value", "variance", "low", "high", "method"}
    assert set(found["difference"]) >= {"value", "low", "high", "z", "p", "method"}
    trials = pl.read_csv(folder / "study" / "trials.csv")
    whole = trials.filter((pl.col("fraction") == 1) & (pl.col("target") == "Effusion"))
    auroc: dict[Any, Any] = dict(whole.select("arm", "auroc").iter_rows())
    assert math.isclose(found["auroc"]["value"], auroc["moco"], abs_tol=1e-12)
    assert math.isclose(found["against"]["auroc"]["value"], auroc["random"], abs_tol=1e-12)
    assert math.isclose(found["difference"]["value"], auroc["moco"] - auroc["random"], abs_tol=1e-12)


def check_nothing_is_left_over_or_undefined(folder: Path) -> None:
    """No temporary file, no NaN and no infinity in any table or record."""
    for name, data in contents(folder).items():
        path = folder / name
        assert not name.endswith(".part"), name
        assert not any(part.startswith(".") for part in Path(name).parts), name
        if path.suffix in (".json", ".jsonl"):
            assert not re.search(rb"\b(NaN|Infinity)\b", data), name
        elif path.suffix in (".csv", ".parquet"):
            frame = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
            floats = frame.select(pl.col(pl.Float32, pl.Float64))
            assert all(column.drop_nulls().is_finite().all() for column in floats), name


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
