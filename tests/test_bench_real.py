"""Scripts of bench/ for real images, on small studies: what they read of one is what scikit-learn says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from mococxr.encoders import EncoderSpec, build, save_encoder
from mococxr.store import Store
from small_store import BACKBONE, run_study
from test_bench import bench

__all__ = ["bench"]
RNG = np.random.default_rng(3)
IMAGES = pl.DataFrame({"path": [f"{i}.png" for i in range(90)], "patient": [f"p{i // 2}" for i in range(90)]})
IMAGES = IMAGES.with_columns(label=pl.Series(RNG.integers(0, 2, 90)))


def scores(spread: float) -> pl.Series:
    """The labels with noise."""
    return IMAGES["label"] + pl.Series(RNG.normal(0, spread, 90))


def made_study(folder: Path, rows: slice) -> Path:
    """Predictions of two arms on two label subsets, and on another target, as a study leaves them."""
    trials = [
        (f"{t}-{a}-{d}", t, a, "linear", 0.2, d, "done") for t in ("Effusion", "sex=M") for a in "ab" for d in (0, 1)
    ]
    names = ["trial", "target", "arm", "mode", "fraction", "draw", "status"]
    (folder / "predictions").mkdir(parents=True)
    for trial, *_ in trials:
        IMAGES.with_columns(score=scores(1.0))[rows].write_parquet(folder / "predictions" / f"{trial}.parquet")
    failed = ("x", "Effusion", "a", "linear", 0.2, 2, "undefined: one class")
    pl.DataFrame([*trials, failed], schema=names, orient="row").write_csv(folder / "trials.csv")
    return folder


def test_shares_of_full_supervision_are_those_of_scikit_learn_on_the_images_of_both(bench, tmp_path):
    folders = [made_study(tmp_path / "one", slice(0, 60)), made_study(tmp_path / "two", slice(30, 90))]
    theirs = IMAGES.select("path", Effusion=scores(0.6)).filter(pl.Series(RNG.random(90) < 0.8))
    found = bench("ceiling").shares(folders, theirs)
    assert found.select("target", "arm", "studies").rows() == [("Effusion", "a", 2), ("Effusion", "b", 2)]
    for row in found.iter_rows(named=True):
        means = []
        for folder in folders:
            files = [folder / "predictions" / f"Effusion-{row['arm']}-{draw}.parquet" for draw in (0, 1)]
            tables = [pl.read_parquet(file).join(theirs, on="path") for file in files]
            ours = np.mean([roc_auc_score(table["label"], table["score"]) for table in tables])
            means.append((ours, roc_auc_score(tables[0]["label"], tables[0]["Effusion"])))
        ours, best = np.mean(means, axis=0)
        assert (row["ours"], row["theirs"]) == pytest.approx((ours, best), abs=1e-12)
        assert row["share"] == pytest.approx((ours - 0.5) / (best - 0.5), abs=1e-12)
        assert row["low"] < row["share"] < row["high"]
        assert row["images"] == len(tables[0])


def test_who_scores_as_the_supervised_network_reaches_all_of_it_in_every_resample(bench, tmp_path):
    folder = made_study(tmp_path / "study", slice(0, 90))
    table = pl.read_parquet(folder / "predictions" / "Effusion-a-0.parquet")
    table.select("path", "patient", "label", "score").write_parquet(folder / "predictions" / "Effusion-a-1.parquet")
    found = bench("ceiling").shares([folder], table.select("path", Effusion="score"))
    assert found.select("share", "low", "high").row(0) == (1, 1, 1)
    chance = table.select("path", Effusion=pl.lit(0.0))
    assert np.isnan(bench("ceiling").shares([folder], chance).select("share", "low", "high").to_numpy()).all()


def test_patients_are_resampled_whole_and_once_for_all_images(bench):
    ceiling = bench("ceiling")
    weights = ceiling.resampled(IMAGES["patient"])
    counts = np.array(weights["weights"].to_list())
    assert counts.shape == (45, 1 + ceiling.RESAMPLES)
    assert (counts[:, 0] == 1).all()
    assert (counts.sum(axis=0) == 45).all()
    table = IMAGES.with_columns(score=scores(0.8)).join(weights, on="patient", maintain_order="left")
    slow = [
        roc_auc_score(table["label"], table["score"], sample_weight=[row[i] for row in table["weights"]])
        for i in range(0, 40, 13)
    ]
    assert ceiling.aurocs(table, "score")[:40:13] == pytest.approx(slow, abs=1e-12)


def test_modes_by_gradient_are_compared_with_the_linear_head_over_the_same_patients(
    bench, small_store: Store, tmp_path
):
    save_encoder(build(EncoderSpec(BACKBONE, 32), seed=1), tmp_path / "run", {})
    out = run_study(
        {"store": small_store.path, "arm": [f"encoder={tmp_path / 'run'}"], "mode": ["linear", "finetune", "lpft"],
         "target": ["sex=M"], "fraction": [1.0], "replicates": 200, "device": "cpu", "jobs": 1, "epochs": 1,
         "checkpoints": 0, "lr": 1e-3, "out": tmp_path / "few"}
    )  # fmt: skip
    found = bench("few_labels").gains(out)
    auroc = dict(pl.read_csv(out / "cells.csv").select("mode", "auroc").iter_rows())
    assert found["mode"].to_list() == ["finetune", "lpft"]
    for row in found.iter_rows(named=True):
        assert row["gain"] == pytest.approx(auroc[row["mode"]] - auroc["linear"], abs=1e-12)
        assert row["low"] <= row["gain"] <= row["high"]


def test_transfer_prints_what_each_arm_gains_over_the_baseline(bench, small_store: Store, tmp_path):
    save_encoder(build(EncoderSpec(BACKBONE, 32), seed=1), tmp_path / "run", {})
    arms = [f"baseline={tmp_path / 'run'}@48", f"moco={tmp_path / 'run'}"]
    out = run_study(
        {"store": small_store.path, "arm": arms, "target": ["Finding"], "fraction": [0.5, 1.0], "draws": 2,
         "replicates": 200, "device": "cpu", "jobs": 1, "out": tmp_path / "study"}
    )  # fmt: skip
    facts = (out / "study.json").read_text().replace('"arm": null', '"arm": "baseline"', 1)
    (out / "study.json").write_text(facts)
    rows = pl.read_csv(out / "differences.csv")
    for line, row in zip(bench("transfer").lines(out), rows.iter_rows(named=True), strict=True):
        assert line.startswith(f"Finding {row['fraction']:10.0%}  baseline -> moco  {row['difference']:+.3f}")
