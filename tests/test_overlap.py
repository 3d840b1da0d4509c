"""`fit` and `evaluate` say which validation and test images an encoder saw without labels."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from mococxr.classifier.overlap import overlap_words
from mococxr.commands import run
from mococxr.encoders import EncoderSpec, build, save_encoder
from mococxr.store import Store
from small_store import BACKBONE, HOW


def pretrained(folder: Path, store: Store, patients: list[str], files: list[str]) -> Path:
    """A run folder that says that it saw these patients and files."""
    save_encoder(build(EncoderSpec(BACKBONE, 32, mean=0.4), seed=1), folder, {})
    (folder / "run.json").write_text(json.dumps({"pretrained_on": {"source": [store.source]}, "init": "random"}))
    pl.DataFrame({"source": [store.source] * len(patients), "patient": patients}).write_csv(folder / "patients.csv")
    seen = {"sha256": files, "fingerprint": [b""] * len(files)}
    pl.DataFrame(seen, schema={"sha256": pl.String, "fingerprint": pl.Binary}).write_parquet(folder / "images.parquet")
    return folder


def leaked(store: Store, folder: Path) -> tuple[Path, str]:
    """A model on a run that saw three test patients, and the words for that."""
    rows = store.index[store.rows_in("test")]
    three = sorted(set(rows["patient"]))[:3]
    files = rows.filter(pl.col("patient").is_in(three))["sha256"].to_list()
    train = store.index[store.rows_in("train")]["patient"].unique().to_list()
    how = {name: value for name, value in HOW.items() if name not in ("backbone", "size")}
    encoder = str(pretrained(folder / "run", store, [*train, *three], files))
    model = run("fit", {"store": store.path, "encoder": encoder, "target": "Finding", "out": folder / "model", **how})
    of = rows["patient"].n_unique()
    return model, f"on images of 3 of the {of} test patients ({len(files)} of the same files)"


def test_fit_counts_the_test_patients_that_a_run_saw(store, tmp_path, capsys) -> None:
    _, sentence = leaked(store, tmp_path)
    said = capsys.readouterr().err
    assert sentence in said
    assert "validation patients (" not in said, "it saw none of these"


@pytest.mark.slow
def test_evaluate_says_it_of_the_split_that_it_judges(store, tmp_path) -> None:
    model, sentence = leaked(store, tmp_path)
    line = {
        "predictions": [model, store.path],
        "out": tmp_path / "page",
        "gallery": False,
        "replicates": 200,
        "jobs": 1,
    }
    notes = run("evaluate", {**line, "device": "cpu"})["notes"]
    assert any(sentence in note for note in notes)


def test_a_run_that_saw_training_patients_alone_and_a_random_encoder_are_not_warned_of(store, tmp_path, capsys) -> None:
    train = store.index[store.rows_in("train")]["patient"].unique().to_list()
    how = {name: value for name, value in HOW.items() if name not in ("backbone", "size")}
    encoder = pretrained(tmp_path / "run", store, train, ["x"])
    run("fit", {"store": store.path, "encoder": str(encoder), "target": "Finding", "out": tmp_path / "model", **how})
    run("fit", {"store": store.path, "encoder": "random", "target": "Finding", "out": tmp_path / "other", **HOW})
    assert "too high" not in capsys.readouterr().err


@pytest.mark.parametrize(("source", "warned"), [("nih", True), ("rsna", True), ("chexpert", False)])
def test_weights_that_saw_a_public_set_are_warned_of_on_that_set(source: str, warned: bool) -> None:
    seen = {"store": "mine", "sets": ["nih"], "known": True, "labels": True, "splits": None}
    words = overlap_words([{"name": "xrv:densenet121-res224-nih", "seen": seen}], source, ["test"])
    assert bool(words) == warned
    assert all("with labels, on NIH ChestX-ray14" in sentence for sentence in words)
