from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import polars as pl
import pytest

from archive_images import grey_image, image
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.heads.targets import draw_labelled, read_target
from mococxr.images.grey_levels import NARROW, REMARKS
from small_store import HOW


def fit(store, out, **changed):
    run("fit", {"store": store.path, "encoder": "random", "target": "Finding", "out": out, **HOW, **changed})
    return out


def predict(model, images, out):
    run("predict", {"model": model, "images": images, "out": out, "device": "cpu"})
    return pl.read_csv(out, infer_schema=False).with_columns(pl.col("score").cast(pl.Float64))


COLUMNS = ["path", "patient", "study", "score", "calibrated", "decision", "view", "warning"]


@pytest.mark.parametrize(
    "mode", [{}, {"crop_mode": "full"}, {"mode": "finetune", "epochs": 2.0, "lr": 1e-3, "checkpoints": 3}]
)
def test_an_image_scores_the_same_from_its_file_as_from_the_store(store, tmp_path, mode):
    model = fit(store, tmp_path / "model", **mode)
    ours = predict(model, [store.path], tmp_path / "a.csv")
    root = store.path.parent / "images"
    theirs = predict(model, [root], tmp_path / "b.csv")
    assert ours.columns == theirs.columns == COLUMNS
    assert ours["path"].to_list() == store.index["path"].to_list()
    assert theirs["patient"].null_count() == len(theirs)
    both = ours.with_columns(path=str(root) + "/" + pl.col("path")).join(theirs, on="path")
    assert len(both) == len(store)
    assert np.allclose(both["score"], both["score_right"], rtol=0, atol=1e-7)
    assert ours["score"].std() > 1e-5
    assert ours["score"].is_between(0, 1).all()


def test_a_model_says_what_it_was_made_from(store, tmp_path, capsys):
    model = fit(store, tmp_path / "model", fraction=0.5, draw=1)
    assert capsys.readouterr().err.strip().endswith(f"mococxr evaluate {model} {store.path}")
    about = json.loads((model / "model.json").read_text())
    target = read_target(store, "Finding")
    rows = draw_labelled(store, target, 0.5, 1, 0)
    (block,) = about["targets"]
    assert block["target"] == "Finding"
    assert block["training"]["images"] == len(rows)
    assert block["training"]["positives"] == int((target.labels[rows] == 1).sum())
    assert block["training"]["C"] == 0.01
    assert about["store"]["sha256"] == store.sha256
    assert about["preprocessing"] | {"store_size": 72, "crop_mode": "center"} == about["preprocessing"]
    assert [encoder["frame"] for encoder in about["encoders"]] == [32]


def test_images_that_cannot_be_read_are_listed_and_counted_last(store, tmp_path, capsys):
    model = fit(store, tmp_path / "model")
    folder = tmp_path / "images"
    folder.mkdir()
    good = store.path.parent / "images" / store.index["path"][0]
    for name in ("image-10.png", "image-9.png"):
        shutil.copy(good, folder / name)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not an image")
    found = predict(model, [folder], tmp_path / "scores.csv")
    assert [path.rpartition("/")[2] for path in found["path"]] == ["image-9.png", "image-10.png"]
    lost = pl.read_csv(tmp_path / "scores.csv.quarantine.csv")
    assert lost["path"].to_list() == [str(folder / "broken.png")]
    assert "1 image could not be read" in capsys.readouterr().err.strip().splitlines()[-1]
    (folder / "broken.png").unlink()
    predict(model, [folder], tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv.quarantine.csv").exists()


def test_what_is_in_doubt_of_an_image_is_counted(store, tmp_path, capsys):
    model = fit(store, tmp_path / "model")
    folder = tmp_path / "images"
    folder.mkdir()
    deep = np.arange(72 * 80, dtype=np.uint16).reshape(72, 80)
    for name, values in {"low.png": deep // 2, "low2.png": deep // 4, "full.png": deep * 11}.items():
        cv2.imwrite(str(folder / name), values)
    assert len(predict(model, [folder], tmp_path / "scores.csv")) == 3
    assert f"2 images: {REMARKS[NARROW]}." in " ".join(capsys.readouterr().err.split())


def test_labels_and_splits_stand_beside_the_scores_of_a_store(store, tmp_path):
    model = fit(store, tmp_path / "model", target="Rare", where=["sex=F"])
    line = {"model": model, "device": "cpu", "out": tmp_path / "s.csv"}
    every = predict(model, [store.path], tmp_path / "every.csv")
    for split in ("train", "val", "test", "all"):
        run("predict", {**line, "images": [store.path], "split": split})
        found = pl.read_csv(tmp_path / "s.csv")
        assert found.columns == [*COLUMNS, "label", "split"]
        joined = store.index.join(store.splits, on="patient", maintain_order="left")
        wanted = joined if split == "all" else joined.filter(split=split)
        known = (wanted["sex"] == "F") & wanted["Rare"].is_in([0, 1]).fill_null(False)
        assert found["label"].to_list() == [r if k else None for r, k in zip(wanted["Rare"], known, strict=True)]
        assert found["split"].to_list() == wanted["split"].to_list()
        alike = every.join(found, on="path", maintain_order="right")
        assert np.allclose(alike["score"], alike["score_right"], rtol=0, atol=1e-7)
        assert alike["path"].to_list() == wanted["path"].to_list()
    with pytest.raises(InputError, match="no store"):
        run("predict", {**line, "images": [store.path.parent / "images"], "split": "test"})


def test_pseudonyms_of_scores_are_resolved_by_the_table_beside_the_key(store, tmp_path, capsys):
    model, images, rng = fit(store, tmp_path / "model"), tmp_path / "images", np.random.default_rng(0)
    for i in range(2):
        (images / f"p{i}").mkdir(parents=True)
        made = image(grey_image(rng, 90, 80), patient=f"ID{i}", study=f"1.2.{i}", sop=f"1.3.{i}")
        made.save_as(images / f"p{i}" / "IM0", enforce_file_format=True)
    (images / "p1" / "IM1").write_bytes((images / "p1" / "IM0").read_bytes()[:-900])
    key = tmp_path / "key"
    line = {"model": model, "images": [images], "device": "cpu", "key": key, "out": tmp_path / "scores.csv"}
    run("predict", line)
    assert f"There was no key {key}" in capsys.readouterr().err
    named = pl.concat(
        pl.read_csv(tmp_path / name, infer_schema=False).select("path")
        for name in ("scores.csv", "scores.csv.quarantine.csv")
    )
    table = pl.read_csv(tmp_path / "key.lookup.csv", infer_schema=False)
    found = named.join(table, left_on="path", right_on="image", maintain_order="left")
    assert found["real_path"].to_list() == ["p0/IM0", "p1/IM0", "p1/IM1"]
    assert found["real_patient"].to_list() == ["ID0", "ID1", None]
    assert set(found["root"]) == {str(images)}
    run("predict", line)
    assert "There was no key" not in capsys.readouterr().err
    run("prepare", {"source": images, "out": tmp_path / "store", "key": key, "split": (1, 0, 0), "size": 64, "jobs": 1})
    again = pl.read_csv(tmp_path / "key.lookup.csv", infer_schema=False)
    assert len(again.unique(["root", "real_path"])) == len(again) == 3


def test_weights_that_are_not_the_models_own_are_refused(store, tmp_path):
    model = fit(store, tmp_path / "model")
    with open(model / "model.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"model\.json"):
        predict(model, [store.path], tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(("images", "words"), [("nothing", "nothing at"), ("empty", "no image")])
def test_no_image_is_an_error(store, tmp_path, images, words):
    (tmp_path / "empty").mkdir()
    model = fit(store, tmp_path / "model")
    with pytest.raises(InputError, match=words):
        predict(model, [tmp_path / images], tmp_path / "a.csv")


def test_features_of_every_image_are_written_in_row_order(store, tmp_path):
    run("embed", {"store": store.path, "encoder": "random", "out": tmp_path / "f.parquet", **HOW})
    found = pl.read_parquet(tmp_path / "f.parquet")
    assert found["path"].to_list() == store.index["path"].to_list()
    assert found.schema["features"] == pl.List(pl.Float32)
    assert set(found["features"].list.len()) == {24 + 32 + 48 + 64 + 256}, "four stages and the last layer"


@pytest.mark.parametrize(
    "changed",
    [
        {"fraction": 0.0},
        {"fraction": 2.0},
        {"draw": -1},
        {"jobs": 0},
        {"batch": 0},
        {"C": "x"},
        {"target": "Fin"},
        {"target": "sex"},
        {"target": "sex=X"},
    ],
)
def test_settings_that_cannot_be_write_nothing(store, tmp_path, changed):
    with pytest.raises(InputError):
        fit(store, tmp_path / "model", **changed)
    assert not (tmp_path / "model").exists()


def test_a_column_and_a_value_make_a_target(store):
    sex = read_target(store, "sex=M")
    rows = np.concatenate([sex.train, sex.val, sex.test])
    assert (sex.labels[rows] == (store.index["sex"].to_numpy()[rows] == "M")).all()
    site = read_target(store, "site=A")
    assert site.unknown == store.index["site"].null_count()
    assert set(site.labels[store.index["site"].is_null().to_numpy()]) == {-1}


@pytest.mark.parametrize(
    ("uncertain", "blank", "at_uncertain", "at_blank"),
    [
        ("ignore", "unknown", -1, -1),
        ("zeros", "unknown", 0, -1),
        ("ones", "negative", 1, 0),
        ("multiclass", "negative", 2, 0),
    ],
)
def test_uncertain_and_blank_labels_count_as_the_policy_says(store, uncertain, blank, at_uncertain, at_blank):
    raw = store.index["Rare"]
    target = read_target(store, "Rare", uncertain=uncertain, blank=blank)
    assert set(target.labels[(raw == -1).fill_null(False).to_numpy()]) == {at_uncertain}
    assert set(target.labels[raw.is_null().to_numpy()]) == {at_blank}
    assert set(target.labels[target.test]) <= {0, 1}
    assert (target.uncertain, target.unknown) == ((raw == -1).sum(), 0 if blank == "negative" else raw.null_count())


def test_where_restricts_training_and_test_rows(store):
    target = read_target(store, "Finding", where=("sex=F", "Rare=0"))
    rows = np.concatenate([target.train, target.val, target.test])
    assert set(store.index["sex"][rows]) == {"F"}
    assert set(store.index["Rare"][rows]) == {0}
    with pytest.raises(InputError, match="Rare"):
        read_target(store, "Finding", where=("Rar=0",))


@pytest.mark.parametrize("uncertain", ["ignore", "multiclass"])
def test_draws_are_nested_keep_patients_whole_and_hold_both_classes(store, uncertain):
    target = read_target(store, "Rare", uncertain=uncertain)
    patients = store.index["patient"].to_numpy()
    for draw in range(3):
        before: set[int] = set()
        for fraction in (0.1, 0.4, 1.0):
            rows = draw_labelled(store, target, fraction, draw, 0)
            assert before <= set(rows.tolist())
            assert {0, 1} <= set(target.labels[rows])
            assert set(rows) == set(target.train[np.isin(patients[target.train], patients[rows])])
            before = set(rows.tolist())
        assert before == set(target.train.tolist())
