"""New images enter a store: old rows and every patient's split stay, whatever is added, and whenever it is killed."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

import mococxr
from mococxr.datasets import Dataset
from mococxr.errors import InputError
from mococxr.preparation.addition import joined_splits
from mococxr.preparation.decode import Chunk, decode_chunk
from mococxr.preparation.prepare import run
from mococxr.preparation.split_plan import decide_added
from mococxr.preparation.staging import staging_folder
from mococxr.splits import hashed_split
from mococxr.store import Store
from small_images import contents, settings, write_images
from small_store import HOW, run_study

SHARES = (0.5, 0.1, 0.4)
FIRST = 22


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Decode in this process, for speed; the list holds the images that were decoded."""
    paths: list[str] = []

    def decode(chunks: Sequence[Chunk], folder: Path, _: int, done: Any) -> None:
        for chunk in chunks:
            paths.extend(chunk.paths)
            done(decode_chunk(chunk, folder))

    monkeypatch.setattr("mococxr.preparation.prepare.decode_all", decode)
    return paths


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 40 images; its table names the first 22, and `all.csv` beside it names all."""
    table = write_images(tmp_path / "images", 40)
    table.write_csv(tmp_path / "all.csv")
    table.head(FIRST).write_csv(tmp_path / "images" / "labels.csv")
    return tmp_path / "images"


def add(images: Path, out: Path, **others: Any) -> Store:
    others = {"labels": images.parent / "all.csv", **others}
    return run(settings(images, out, add=True, **others))


def test_images_that_are_added_stand_behind_the_old_ones_which_stay(
    images: Path, tmp_path: Path, decoded: list[str]
) -> None:
    old = run(settings(images, tmp_path / "store"))
    index, splits = old.index, dict(old.splits.iter_rows())
    mococxr.label(old.path, pl.DataFrame({"path": index["path"][:2], "Effusion": [-1, -1]}))
    decoded.clear()
    grown = add(images, tmp_path / "store")
    assert decoded == [f"images/image{i:04d}.png" for i in range(FIRST, 40)]
    grown.verify()
    assert grown.index["row"].to_list() == list(range(40))
    assert grown.index["Effusion"].to_list()[:3] == [-1, -1, index["Effusion"][2]]
    assert grown.index.head(FIRST).drop("Effusion").equals(index.drop("Effusion"))
    now = dict(grown.splits.iter_rows())
    assert {patient: now[patient] for patient in splits} == splits
    assert now == dict(hashed_split(grown.index["patient"], SHARES, 0).iter_rows())
    whole = run(settings(images, tmp_path / "whole", labels=images.parent / "all.csv"))
    for side in (32, 16):
        for i in range(40):
            np.testing.assert_array_equal(grown.level(side).pixels(i), whole.level(side).pixels(i))
    for name in ("splits", "labels", "images", "patients", "studies"):
        assert grown.manifest["counts"][name] == whole.manifest["counts"][name], name
    assert grown.manifest["split_rule"] == whole.manifest["split_rule"]
    assert grown.images_sha256 != old.images_sha256
    assert grown.manifest["added"][0]["images_before"] == old.images_sha256
    assert old.index.equals(index), "an open store is what it was"
    assert not staging_folder(grown.path).exists()


def test_what_was_added_is_not_added_again(images: Path, tmp_path: Path, decoded: list[str], capsys: Any) -> None:
    run(settings(images, tmp_path / "store"))
    before = contents(add(images, tmp_path / "store").path)
    decoded.clear()
    add(images, tmp_path / "store")
    assert "has all of these 40 images: nothing to do" in capsys.readouterr().err
    assert not decoded
    assert contents(tmp_path / "store") == before


def test_images_in_50_random_orders_move_no_patient(tmp_path: Path) -> None:
    rng, patients = random.Random(0), [f"{i:03d}" for i in range(40) for _ in range(i % 3 + 1)]
    states = set()
    for attempt in range(50):
        order = rng.sample(range(len(patients)), len(patients))
        cuts = sorted(rng.sample(range(1, len(patients)), 2))
        splits = pl.DataFrame(schema={"patient": pl.String, "split": pl.String})
        for part in (order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :]):
            rows = pl.DataFrame({"path": [f"{i}.png" for i in part], "patient": [patients[i] for i in part]})
            plan = decide_added(Dataset("csv", "here", tmp_path, rows, ()), None, SHARES, 3, None)
            before = dict(splits.iter_rows())
            splits, _ = joined_splits(splits, plan.assign(rows, ()))
            assert before.items() <= dict(splits.iter_rows()).items(), attempt
        states.add(splits.write_csv())
    assert states == {hashed_split(pl.Series(patients), SHARES, 3).write_csv()}


def test_a_patient_stays_where_the_store_has_it_whatever_a_table_says_now(
    images: Path, tmp_path: Path, capsys: Any
) -> None:
    table = pl.read_csv(images / "labels.csv", infer_schema=False)
    table.with_columns(split=pl.lit("test")).write_csv(images / "labels.csv")
    run(settings(images, tmp_path / "store"))
    every = pl.read_csv(tmp_path / "all.csv", infer_schema=False)
    every.with_columns(split=pl.lit("train")).write_csv(tmp_path / "all.csv")
    more = pl.DataFrame({"path": ["images/more.png"], "patient_id": ["000"], "split": ["train"]})
    cv2.imwrite(str(images / "images" / "more.png"), np.zeros((40, 40), np.uint8))
    pl.concat([every.with_columns(split=pl.lit("train")), more], how="diagonal").write_csv(tmp_path / "all.csv")
    grown = add(images, tmp_path / "store")
    splits = dict(grown.splits.iter_rows())
    assert {splits[f"{i:03d}"] for i in range(FIRST // 2)} == {"test"}
    assert {splits[f"{i:03d}"] for i in range(FIRST // 2, 20)} == {"train"}
    assert "1 patients stay in the split that the store has them in" in capsys.readouterr().err
    assert grown.manifest["split_rule"].endswith("; 9 patients that were added as stated by their table")


@pytest.mark.parametrize("moment", [1, 3, 5, 6])
def test_a_killed_addition_leaves_the_store_and_goes_on(images: Path, tmp_path: Path, moment: int) -> None:
    run(settings(images, tmp_path / "whole", size=64))
    whole = add(images, tmp_path / "whole", size=64)
    before = run(settings(images, tmp_path / "store", size=64))
    index, sha256 = before.index, before.sha256
    put, moves = os.replace, []

    def replace(source: Any, target: Any) -> None:
        if Path(target).is_relative_to(tmp_path / "store"):
            moves.append(target)
            if len(moves) > moment:
                raise Killed
        put(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", replace)
        with pytest.raises(Killed):
            add(images, tmp_path / "store", size=64)
    store = Store.open(tmp_path / "store")
    if moment < 6:  # two levels of pixels, three tables and the manifest; the contact sheet is no part of it
        assert store.sha256 == sha256
        assert store.index.equals(index)
        assert store.rows_in("train").tolist() == before.rows_in("train").tolist()
        np.testing.assert_array_equal(store.pixels(FIRST - 1), before.pixels(FIRST - 1))
    grown = add(images, tmp_path / "store", size=64)
    assert grown.sha256 == whole.sha256
    grown.verify()
    assert not staging_folder(grown.path).exists()


def test_features_of_old_images_are_not_computed_again(images: Path, tmp_path: Path, capsys: Any) -> None:
    given = {"target": "Effusion", "feature_cache": tmp_path / "cache", **HOW}

    def told() -> str:
        return re.findall("features: .* from the cache", capsys.readouterr().err)[-1]

    old = run(settings(images, tmp_path / "store"))
    known = len(old.rows_in("train", "val"))
    mococxr.fit(old.path, encoder="random", out=tmp_path / "model", **given)
    assert told() == f"features: {known} images are read, 0 come from the cache"
    grown = add(images, tmp_path / "store")
    [before] = (tmp_path / "cache").glob("*.npy")
    kept = before.read_bytes()
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    new = len(grown.rows_in("train", "val")) - known
    assert new > 0
    mococxr.fit(grown.path, encoder="random", out=tmp_path / "model", **given)
    assert told() == f"features: {new} images are read, {known} come from the cache"
    assert before.read_bytes() == kept
    study = {**given, "arm": "random", "fraction": 1, "replicates": 200, "feature_cache": tmp_path / "copy"}
    run_study({"store": grown.path, "out": tmp_path / "study", **study})
    assert told() == f"features: {40 - known} images are read, {known} come from the cache"


def test_other_settings_images_patients_and_findings_are_refused_by_name(images: Path, tmp_path: Path) -> None:
    run(settings(images, tmp_path / "store"))
    before = contents(tmp_path / "store")
    every = pl.read_csv(tmp_path / "all.csv", infer_schema=False)

    def refused(match: str, table: pl.DataFrame = every, **others: Any) -> None:
        table.write_csv(tmp_path / "all.csv")
        with pytest.raises(InputError, match=match):
            add(images, tmp_path / "store", **others)
        assert contents(tmp_path / "store") == before

    refused(r"--size 64 \(32 before\), --split-seed 7 \(0 before\)", size=64, split_seed=7)
    refused("'images/image0000.png' is of patient '000' in the store", every.with_columns(
        patient_id=pl.when(pl.col("path") == "images/image0000.png").then(pl.lit("x")).otherwise("patient_id")
    ))  # fmt: skip
    refused("no finding 'Mass'", every.with_columns(Mass=pl.lit("1")))
    refused("no labels of Rare", every.with_columns(Rare=pl.lit("yes")))
    cv2.imwrite(str(images / "images" / "image0003.png"), np.zeros((40, 40), np.uint8))
    refused("another image of the name 'images/image0003.png'")


def test_pseudonyms_are_added_under_the_same_key_alone(images: Path, tmp_path: Path) -> None:
    run(settings(images, tmp_path / "store", pseudonymise=True))
    with pytest.raises(InputError, match="under another key"):
        add(images, tmp_path / "store", pseudonymise=True, key=tmp_path / "other.key")
    assert not (tmp_path / "other.key").exists()
    grown = add(images, tmp_path / "store", pseudonymise=True)
    grown.verify()
    real = pl.read_csv(tmp_path / "store.key.lookup.csv", infer_schema=False)
    who = dict(real.select("patient", "real_patient").iter_rows())
    splits = {who[patient]: split for patient, split in grown.splits.iter_rows()}
    assert splits == dict(hashed_split(pl.Series(sorted(splits)), SHARES, 0).iter_rows())
    assert len(grown) == 40


def test_an_image_in_quarantine_is_tried_again(images: Path, tmp_path: Path) -> None:
    path = images / "images" / "image0001.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    assert len(run(settings(images, tmp_path / "store")).quarantine) == 1
    path.write_bytes(whole)
    grown = add(images, tmp_path / "store")
    assert not len(grown.quarantine)
    assert grown.index["path"].to_list()[FIRST - 1] == "images/image0001.png", "behind the old ones"
    assert len(grown) == 40
