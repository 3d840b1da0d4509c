"""The main job on real images in short (MOCOCXR_DATA), and the log of a run in TensorBoard."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

import mococxr
from mococxr.files import read_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nih(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the 1,000 adult images."""
    store = tmp_path_factory.mktemp("real") / "store"
    mococxr.prepare(real_data / "nih", out=store, size=96, split=(0.5, 0.1, 0.4), stratify=True)
    return store


def test_real_images_are_all_read_and_keep_their_patients_apart(nih: Path) -> None:
    store = mococxr.Store.open(nih)
    assert len(store) == 1000
    assert store.index["patient"].n_unique() == 682
    assert pl.read_csv(nih / "quarantine.csv").is_empty()
    assert store.splits["patient"].n_unique() == len(store.splits)
    shares = store.splits["split"].value_counts(normalize=True)
    assert dict(shares.iter_rows()) == pytest.approx({"train": 0.5, "val": 0.1, "test": 0.4}, abs=0.005)
    assert int((store.index["Pneumonia"] == 1).sum()) == 500


def test_the_main_job_on_real_images_in_short(nih: Path, tmp_path: Path) -> None:
    run = mococxr.pretrain(nih, out=tmp_path / "run", size=64, epochs=2, tracker="tensorboard")
    facts = read_json(run / "run.json")
    assert facts["pretrained_on"]["splits"] == "train"
    last = pl.read_ndjson(run / "log.jsonl")["loss"][-1]
    assert last < 0.97 * math.log(facts["queue"] + 1), "no better than guessing"
    assert list(run.rglob("events.out.tfevents.*")), "TensorBoard was asked for"
    study = tmp_path / "study"
    mococxr.study(nih, target=["Pneumonia"], arm=["imagenet", f"moco={run}"], fraction=[0.2, 1.0], draws=2, out=study)
    cells = pl.read_csv(study / "cells.csv")
    # ImageNet features tell these pneumonias from normal images at about .85 with all labels.
    assert 0.7 < cells.filter(arm="imagenet", fraction=1.0)["auroc"].item() < 0.95
    assert cells["low"].is_not_null().all()
    assert (cells["low"] < cells["auroc"]).all()
    assert (cells["auroc"] < cells["high"]).all()
    assert "</svg>" in (study / "report.html").read_text()


def test_an_image_scores_the_same_from_its_file_as_from_the_store(nih: Path, real_data: Path, tmp_path: Path) -> None:
    model = mococxr.fit(
        nih, encoder="imagenet", backbone="tf_efficientnet_lite0", size=64, target="Pneumonia", out=tmp_path / "m"
    )
    index = mococxr.Store.open(nih).index[::100]
    files = [real_data / "nih" / path for path in index["path"]]
    mococxr.predict(model, files, out=tmp_path / "files.csv")
    mococxr.predict(model, [nih], out=tmp_path / "store.csv")
    from_files = pl.read_csv(tmp_path / "files.csv")["score"].to_list()
    from_store = pl.read_csv(tmp_path / "store.csv")["score"].to_list()[::100]
    assert from_files == pytest.approx(from_store, abs=1e-4)  # float32, other batches
