"""Standardisation by all training images: what it is of, what it equals, and who has no part in it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mococxr.commands import run
from mococxr.encoders import Encoder, EncoderSpec, build
from mococxr.features import features
from mococxr.heads import MODES, linear, scaling, train_classifier
from mococxr.heads.classifier import TrainConfig, TrainData
from mococxr.heads.linear import solve_linear
from mococxr.heads.scaling import scaling_facts, scaling_of, scaling_rows, scaling_words
from mococxr.heads.targets import draw_labelled, read_target
from mococxr.store import Store
from small_store import BACKBONE, HOW, of_target, run_study


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build(EncoderSpec(BACKBONE, 32), seed=3)


@pytest.fixture(scope="module")
def every(store: Store, encoder: Encoder) -> np.ndarray:
    """The features of every row of the store."""
    return features(encoder, store, np.arange(len(store)), size=32, label=None)


@pytest.fixture
def data(store: Store, encoder: Encoder, every: np.ndarray) -> TrainData:
    target = read_target(store, "Finding")
    rows = draw_labelled(store, target, 0.3, 0, 0)
    return TrainData(
        store, target, rows, 32, lambda: encoder, lambda at: every[at], lambda: scaling_of(every[scaling_rows(store)])
    )


def test_mean_and_spread_are_those_of_all_training_images(
    store: Store, every: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = every[store.rows_in("train")].astype(np.float64)
    monkeypatch.setattr(scaling, "PART", 7)
    found = scaling_of(every[scaling_rows(store)])
    np.testing.assert_allclose(found.mean, train.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.scale, train.std(axis=0), rtol=1e-9)
    assert found.images == len(train) == len(store.rows_in("train"))


def test_a_feature_that_never_varies_has_the_scale_1() -> None:
    found = scaling_of(np.full((5, 2), 3.0, dtype=np.float32))
    assert found.scale.tolist() == [1, 1]
    assert found.mean.tolist() == [3, 3]


def test_scores_are_those_of_scikit_learns_pipeline_with_its_scaler_fitted_on_all_training_images(
    data: TrainData, every: np.ndarray
) -> None:
    x = every.astype(np.float64)
    scaler = StandardScaler().fit(x[data.store.rows_in("train")])
    model = LogisticRegression(C=0.01, max_iter=2000).fit(scaler.transform(x[data.rows]), data.labels)
    head = train_classifier(data, TrainConfig()).members[0].head
    np.testing.assert_allclose(head.scores(x), model.predict_proba(scaler.transform(x))[:, 1], rtol=0, atol=1e-12)
    alone = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(x[data.rows], data.labels)
    assert np.abs(head.scores(x) - alone.predict_proba(x)[:, 1]).max() > 1e-3


def test_standardised_by_labelled_rows_the_head_is_that_of_these_rows_alone(data: TrainData, every: np.ndarray) -> None:
    def not_asked() -> Any:
        raise AssertionError("no other image is looked at")

    config = TrainConfig(standardize="labelled")
    head = train_classifier(replace(data, scaling=not_asked), config).members[0].head
    x = every.astype(np.float64)[data.rows]
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=0.01, max_iter=2000).fit(scaler.transform(x), data.labels)
    for ours, theirs in (
        (head.mean, scaler.mean_), (head.scale, scaler.scale_), (head.weight, model.coef_), (head.bias, model.intercept_)
    ):  # fmt: skip
        assert np.array_equal(ours, theirs)


def test_folds_of_cross_validation_all_take_the_scaling_that_is_passed(
    data: TrainData, every: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = data.scaling()
    asked: list[int] = []
    monkeypatch.setattr(linear, "scaling_of", lambda x: asked.append(len(x)) or scaling_of(x))
    x, patients = every[data.rows], data.patients
    head = solve_linear(x, data.labels, passed, C="cv", patients=patients)
    assert not asked
    assert np.array_equal(head.mean, passed.mean)
    solve_linear(x, data.labels, C="cv", patients=patients)
    assert len(asked) > 2  # one for each fold, and one for the head
    assert max(asked[:-1]) < len(x) == asked[-1]


def test_of_very_many_training_images_some_are_drawn_always_the_same_and_a_smaller_draw_is_part_of_a_larger(
    store: Store,
) -> None:
    drawn = {}
    for most in (5, 20, 1000):
        drawn[most] = scaling_rows(store, most)
        assert np.array_equal(drawn[most], scaling_rows(store, most))
        assert (np.diff(drawn[most]) > 0).all()
    train = store.rows_in("train")
    assert [len(rows) for rows in drawn.values()] == [5, 20, len(train)]
    assert set(drawn[5].tolist()) < set(drawn[20].tolist()) < set(train.tolist())
    assert drawn[20].tolist() != train[:20].tolist()


def test_words_say_how_many_images_standardise_and_whether_they_were_drawn(store: Store) -> None:
    assert scaling_words({"images": 20_000, "training_images": 200_000}).endswith(
        "standardised on 20,000 of 200,000 training images, drawn at random"
    )
    train = len(store.rows_in("train"))
    facts = scaling_facts(store, train)
    assert facts == {"images": train, "training_images": train}
    assert scaling_words(facts).endswith(f"standardised on all {train} training images, labelled or not")
    assert scaling_facts(store, 0) is None


def exchanged(store: Store, folder: Path, *splits: str) -> Path:
    """A copy of a store in which the images of these splits are others."""
    shutil.copytree(store.path, folder)
    copy = Store.open(folder)
    for target in (72, 36):
        level = copy.level(target)
        for row in store.rows_in(*splits):
            start, pixels = int(level._starts[row]), 255 - level.pixels(int(row))
            shard = int(np.searchsorted(level._first_rows, row, side="right")) - 1
            file = np.memmap(level._files[shard], dtype=np.uint8, mode="r+")
            file[start : start + pixels.size] = pixels.reshape(-1)
            file.flush()
    return folder


@pytest.mark.parametrize("mode", ["linear", "lpft"])
def test_other_validation_and_test_images_change_no_bit_of_what_is_trained(
    store: Store, tmp_path: Path, mode: str
) -> None:
    def fit(store: Path, out: Path) -> dict[str, np.ndarray]:
        how = {"encoder": "random", "target": "Finding", "fraction": 0.3, "mode": mode, "epochs": 1.0, "lr": 1e-3}
        run("fit", {"store": store, "out": out, "checkpoints": 0, **how, **HOW})
        return load_file(out / "model.safetensors")

    before = fit(store.path, tmp_path / "a")
    after = fit(exchanged(store, tmp_path / "other", "val", "test"), tmp_path / "b")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    if mode == "linear":
        moved = fit(exchanged(store, tmp_path / "third", "train"), tmp_path / "c")
        assert not np.array_equal(moved["0.head.0.mean"], before["0.head.0.mean"])


@pytest.mark.parametrize("standardize", ["unlabelled", "labelled"])
def test_fit_and_study_train_the_same_head_and_say_what_it_is_standardised_on(
    store: Store, tmp_path: Path, standardize: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train = len(store.rows_in("train"))
    given = {"store": store.path, "target": "Finding", "standardize": standardize, **HOW}
    run("fit", {**given, "encoder": "random", "out": tmp_path / "model", "fraction": 0.3})
    said = [f"standardised on all {train} training images" in capsys.readouterr().err]
    run_study({**given, "arm": ["random"], "out": tmp_path / "study", "fraction": [0.3], "draws": 1, "replicates": 200})
    said.append(f"standardised on all {train} training images" in capsys.readouterr().err)
    run("predict", {"model": tmp_path / "model", "images": [store.path], "out": tmp_path / "s.csv", "device": "cpu"})
    ours = pl.read_csv(tmp_path / "s.csv").select("path", ours="score")
    (file,) = (tmp_path / "study" / "predictions").iterdir()
    both = pl.read_parquet(file).join(ours, on="path")
    np.testing.assert_allclose(both["score"], both["ours"], rtol=0, atol=5e-4)  # a study has features of 11 bits
    on = {"images": train, "training_images": train} if standardize == "unlabelled" else None
    assert said == [on is not None] * 2
    assert json.loads((tmp_path / "study" / "study.json").read_text())["standardized_on"] == on
    assert of_target(tmp_path / "model")["training"]["standardized_on"] == on


def test_a_study_without_a_solved_head_reads_no_image_to_standardise(store: Store, tmp_path: Path) -> None:
    how = {"mode": ["finetune"], "epochs": 0.5, "checkpoints": 0, "arm": ["random"], "fraction": [0.2], "draws": 1}
    out = run_study(
        {"store": store.path, "target": "Finding", "out": tmp_path / "study", "replicates": 200, **how, **HOW}
    )
    assert json.loads((out / "study.json").read_text())["standardized_on"] is None
    assert not (out / "features").exists()


@pytest.mark.parametrize("mode", [name for name in MODES if MODES[name].reads_features(TrainConfig(name))])
def test_modes_that_solve_a_head_follow_the_setting(data: TrainData, mode: str) -> None:
    config = TrainConfig(mode, lr=0.0, epochs=0.5, batch=8, checkpoints=0)
    x = data.features_of(data.store.rows_in("test"))
    heads = [train_classifier(data, replace(config, standardize=how)).members[0].head.scores(x)
             for how in ("unlabelled", "labelled")]  # fmt: skip
    assert np.abs(heads[0] - heads[1]).max() > 1e-3
