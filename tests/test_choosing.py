"""What to label next: who may be chosen, in which order, with which probability, and the list that `label` reads."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import polars as pl
import pytest

import mococxr
from mococxr.choosing.next import COLUMNS, take
from mococxr.choosing.pool import Pool, Rounds, inclusion, random_order, read_pool, without_copies
from mococxr.choosing.strategies import STRATEGIES, Situation
from mococxr.errors import InputError
from mococxr.near_duplicates import is_copy
from mococxr.preparation.prepare import run as prepare
from mococxr.settings.labelling import Strategy
from mococxr.store import Store
from small_images import settings, write_images

IMAGES, PATIENTS = 40, 20


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 40 images of 20 patients, all with the labels Effusion and Rare."""
    folder = tmp_path_factory.mktemp("choosing")
    write_images(folder / "images", IMAGES)
    return prepare(settings(folder / "images", folder / "store", split=(0.4, 0.3, 0.3), split_seed=4)).path


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "store")
    return tmp_path / "store"


def listed(store: Path, name: str = "list.csv", **given: Any) -> pl.DataFrame:
    """The list that `next` writes, of a finding that no image has yet."""
    out = store.parent / name
    out.unlink(missing_ok=True)
    mococxr.next_images(store, out=out, **{"target": "Nodule", "by": "random", **given})
    return pl.read_csv(out, schema_overrides={"patient": pl.String})


def random_draw(patients: np.ndarray, labelled: np.ndarray, seed: int, count: int) -> list[int]:
    order = random_order([f"p{p}" for p in patients], [f"i{i}" for i in range(len(patients))], seed)
    pool = Pool(np.arange(len(patients)), patients, labelled, order)
    return take(Rounds(pool), STRATEGIES["random"](Situation(order)), count)


# --- who may be chosen


@pytest.mark.parametrize(("split", "names"), [("train+val", ["train", "val"]), ("test", ["test"])])
def test_a_list_holds_images_of_its_splits_and_no_patient_twice_until_all_were_in(
    store: Path, split: str, names: list[str]
) -> None:
    opened = Store.open(store)
    for by in get_args(Strategy) if split != "test" else ["random"]:
        table = listed(store, split=split, by=by, count=IMAGES)
        assert sorted(table["path"]) == sorted(opened.index["path"][opened.rows_in(*names)].to_list())
        patients = len(table) // 2
        assert table["patient"][:patients].n_unique() == table["patient"][patients:].n_unique() == patients
        assert set(table["split"]) == set(names)
        assert table["rank"].to_list() == list(range(1, len(table) + 1))
        again = listed(store, "again.csv", split=split, by=by, count=IMAGES)
        assert again.equals(table)


def test_labelled_images_are_not_chosen_and_their_patients_come_last(store: Path) -> None:
    table = listed(store, count=5)
    mococxr.label(store, table.with_columns(Nodule=pl.Series([1, 0, -1, 0, 1])), label="Nodule")
    rest = listed(store, count=IMAGES)
    assert not set(rest["path"]) & set(table["path"])
    others = rest["patient"].n_unique() - 5
    assert set(rest["patient"][:others]).isdisjoint(table["patient"])
    assert set(table["patient"]) <= set(rest["patient"][others:])
    # with a second finding, images that lack one of the two labels count
    assert set(listed(store, target=["Nodule", "Mass"], count=IMAGES)["path"]) > set(rest["path"])


def test_copies_of_labelled_and_of_chosen_images_are_left_out(tmp_path: Path) -> None:
    table = write_images(tmp_path / "images", 12, per_patient=1).drop("Effusion", "Rare")
    rng = np.random.default_rng(1)
    for path in table["path"]:
        picture = cv2.resize(rng.integers(0, 256, (12, 12), dtype=np.uint8), (90, 100), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / "images" / path), picture)
    for a, b in ((0, 7), (0, 9), (3, 4)):
        picture = cv2.imread(str(tmp_path / "images" / table["path"][a]), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(tmp_path / "images" / table["path"][b]), cv2.resize(picture, (81, 90)) // 2 + 40)
    table.write_csv(tmp_path / "images" / "labels.csv")
    how = settings(tmp_path / "images", tmp_path / "store", split=(1, 0, 0))
    opened = prepare(how)
    for known in ([], [9], [4]):
        kept = without_copies(opened, np.setdiff1d(np.arange(12), known), np.array(known, dtype=np.int64))
        slow: list[int] = []
        for row in np.setdiff1d(np.arange(12), known):
            if not any(is_copy(opened.pixels(int(row)), opened.pixels(int(other))) for other in [*known, *slow]):
                slow.append(int(row))
        assert kept.tolist() == slow
        assert len(kept) + len(known) == 9
    assert len(listed(tmp_path / "store", count=12)) == 9


# --- the random order


def test_the_probability_is_the_share_of_seeds_by_which_an_image_is_drawn() -> None:
    rng = np.random.default_rng(0)
    patients = np.sort(rng.integers(0, 6, 14))
    patients = np.unique(patients, return_inverse=True)[1]
    labelled = rng.integers(0, 3, patients.max() + 1)
    for count in (1, 4, 9, 14):
        drawn = np.array([np.isin(range(14), random_draw(patients, labelled, seed, count)) for seed in range(3000)])
        assert drawn.sum(axis=1).tolist() == [count] * 3000
        expected = inclusion(patients, labelled, count)
        assert np.isclose(expected.sum(), count)
        assert np.abs(drawn.mean(axis=0) - expected).max() < 4 * 0.5 / np.sqrt(3000)


def test_the_random_order_is_one_whoever_else_is_there_and_in_whatever_order() -> None:
    names = [(f"p{i // 2}", f"image{i}") for i in range(40)]
    place = random_order(*zip(*names, strict=True), seed=3)
    full = [names[i] for i in np.argsort(place)]
    rng = random.Random(0)
    for _ in range(50):
        part = rng.sample(names, rng.randrange(1, 41))
        order = random_order(*zip(*part, strict=True), seed=3)
        assert [part[i] for i in np.argsort(order)] == [name for name in full if name in part]
    assert random_order(*zip(*names, strict=True), seed=4).tolist() != place.tolist()


def test_a_second_draw_of_the_test_set_goes_on_with_the_first(store: Path) -> None:
    whole = listed(store, split="test", count=4)
    first = listed(store, split="test", count=2)
    mococxr.label(store, first.with_columns(Nodule=pl.lit(1)), label="Nodule")
    second = listed(store, split="test", count=2)
    assert [*first["path"], *second["path"]] == whole["path"].to_list()


# --- the list


def test_a_list_that_is_filled_in_is_read_by_label_with_rule_and_probability(store: Path) -> None:
    table = listed(store, count=10, overlap=0.3, target=["Nodule", "Mass"])
    assert table.columns == [*COLUMNS, "Nodule", "Mass"]
    assert sorted(table["readers"]) == [1] * 7 + [2] * 3
    filled = table.with_columns(Nodule=pl.Series([1, 0] * 5), Mass=pl.Series([None] * 9 + [-1]))
    history = mococxr.label(store, filled, label=["Nodule", "Mass"], reader="A").history
    assert history.group_by("target").len().sort("target").rows() == [("Mass", 1), ("Nodule", 10)]
    nodules = history.filter(pl.col("target") == "Nodule")
    for name in ("path", "chosen_by", "probability"):
        assert nodules[name].to_list() == table[name].to_list()


def test_what_is_said_of_positives_and_of_the_test_set(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(**given: Any) -> str:
        capsys.readouterr()
        listed(store, **given)
        return capsys.readouterr().err

    first = said(count=3)
    assert "Nodule: 0 labels of train and val patients, no positive yet." in first
    assert "No image of a test patient has a label of Nodule" in first
    assert "Nodule is no finding of the store yet" in first
    table = listed(store, split="test", count=2)
    mococxr.label(store, table.with_columns(Nodule=pl.lit(1)), label="Nodule")
    assert "No image of a test patient" not in said(count=3)
    assert "Only 32 images are left to label" in said(count=50)
    with pytest.raises(InputError, match="No image of the train and val patients is left to label for Rare"):
        said(target="Rare")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": "nodule=1"}, "is no finding that a reader can fill in"),
        ({"target": "note"}, "is no finding that a reader can fill in"),
        ({"target": "rank"}, "is no finding that a reader can fill in"),
        ({"target": "age"}, "'age' cannot be a finding: the store has a column of that name"),
        ({"target": "effusion"}, "the store has the finding 'Effusion'"),
        ({"count": 0}, "--count must be at least 1"),
        ({"overlap": 1.5}, "--overlap must be between 0 and 1"),
        ({"out": "."}, "folder"),
    ],
)
def test_bad_settings_are_refused_by_name_and_nothing_is_written(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        mococxr.next_images(store, **{"target": "Nodule", "out": "list.csv", **given})
    assert not Path("list.csv").exists()


def test_a_list_that_is_there_is_left_alone(store: Path) -> None:
    out = store.parent / "list.csv"
    out.write_text("path,Nodule\nx,1\n")
    with pytest.raises(InputError, match="may hold labels"):
        mococxr.next_images(store, target="Nodule", out=out)
    assert out.read_text() == "path,Nodule\nx,1\n"


def test_settings_and_registry_name_the_same_strategies() -> None:
    assert set(get_args(Strategy)) == set(STRATEGIES)


def test_a_pool_says_how_many_copies_it_left_out(store: Path) -> None:
    pool = read_pool(Store.open(store), ["Nodule"], ["train"], seed=0)
    assert pool.copies == 0
    assert pool.rows.tolist() == Store.open(store).rows_in("train").tolist()
