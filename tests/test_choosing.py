"""What to label next: who may be chosen, in which order, with which probability, and the list that `label` reads."""

from __future__ import annotations

import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import polars as pl
import pytest

import mococxr
from mococxr.choosing.next import COLUMNS, take
from mococxr.choosing.pool import Pool, Rounds, inclusion, random_order, read_pool, without_copies
from mococxr.choosing.strategies import BANDS, STRATEGIES, Situation, first
from mococxr.errors import InputError
from mococxr.near_duplicates import is_copy
from mococxr.preparation.prepare import run as prepare
from mococxr.settings.labelling import Strategy
from mococxr.store import Store
from small_images import settings, small_prepared, write_images
from small_store import HOW

IMAGES, PATIENTS = 40, 20


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 40 images of 20 patients, all with the labels Effusion and Rare."""
    return small_prepared(tmp_path_factory.mktemp("choosing"), IMAGES, split_seed=4)


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
    return take(Rounds(pool), partial(first, order), count)


# --- who may be chosen


@pytest.mark.parametrize(("by", "split"), [("random", "test"), *((by, "train+val") for by in get_args(Strategy))])
def test_a_list_holds_images_of_its_splits_and_a_patient_twice_only_when_all_are_in(
    store: Path, by: str, split: str
) -> None:
    opened = Store.open(store)
    rows = opened.rows_in(*split.split("+"))
    known = opened.index["path"][rows[[0, 1, 6, 7]]]  # all images of two patients
    mococxr.label(store, pl.DataFrame({"path": known, "Nodule": [0, 1, 1, 0]}), label="Nodule")
    patients = len(rows) // 2 - 2
    for count in (patients - 1, patients + 1, 2 * patients):
        table = listed(store, split=split, by=by, count=count, encoder="random", seed=1, **HOW)
        assert table["path"].n_unique() == len(table) == count
        assert set(table["path"]) <= set(opened.index["path"][rows]) - set(known)
        assert table["patient"].n_unique() == min(count, patients)
        assert set(table["split"]) <= set(split.split("+"))
        assert table["rank"].to_list() == list(range(1, count + 1))
        at_random = count if by == "random" else round(0.2 * count)
        assert sorted(table["chosen_by"]) == sorted(["random"] * at_random + [by] * (count - at_random))
        assert (table["probability"].is_not_null() == (table["chosen_by"] == "random")).all()
        again = listed(store, "again.csv", split=split, by=by, count=count, encoder="random", seed=1, **HOW)
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
    mococxr.label(store, listed(store, count=2).with_columns(Nodule=pl.lit(0)), label="Nodule")
    entered = capsys.readouterr().err
    assert "No image of a test patient has a label of Nodule" in entered
    assert f"mococxr next {store} --target Nodule --split test --by random" in " ".join(entered.split())
    table = listed(store, split="test", count=2)
    mococxr.label(store, table.with_columns(Nodule=pl.lit(1)), label="Nodule")
    assert "No image of a test patient" not in said(count=3)
    assert "Only 30 images are left to label" in said(count=50)
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
        ({"by": "coverage"}, "--by coverage needs an encoder"),
        ({"by": "coverage", "split": "test"}, "--split test cannot be combined with --by coverage"),
        ({"by": "coverage", "model": "m"}, "--model tells scores, which only"),
        ({"by": "balanced", "model": "m"}, "m holds no model.json"),
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


# --- strategies


def cloud(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1 in clusters of unequal size, and some that are known already."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(7, 5))
    x = centres[np.minimum(rng.geometric(0.4, count + 3) - 1, 6)] + 0.3 * rng.normal(size=(count + 3, 5))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return x[:count], x[count:]


def situation(seed: int, logits: np.ndarray | None = None) -> Situation:
    order = np.random.default_rng(seed).permutation(60)
    x, known = cloud(seed)
    return Situation(order, lambda: (x @ x.T, x @ known.T), lambda: np.zeros((60, 1)) if logits is None else logits)


@pytest.mark.parametrize("seed", range(5))
def test_coverage_is_the_greedy_cover_of_a_slow_loop(seed: int) -> None:
    x, known = cloud(seed)
    rng = np.random.default_rng(seed)
    pairs = sorted(float(x[i] @ x[j]) for i in range(60) for j in range(i))
    least = (pairs[int(0.95 * (len(pairs) - 1))] + pairs[int(0.95 * (len(pairs) - 1)) + 1]) / 2  # NEAR is .05
    near = [{j for j in range(60) if i == j or x[i] @ x[j] >= least} for i in range(60)]
    covered = {i for i in range(60) if any(x[i] @ k >= least for k in known)}
    of, pick, left = situation(seed), STRATEGIES["coverage"](situation(seed)), set(range(60))
    for _ in range(50):
        allowed = {i for i in left if rng.random() < 0.7} or left
        if not any(near[i] - covered for i in allowed):
            covered = set()
        best = min(allowed, key=lambda i: (-len(near[i] - covered), of.order[i]))
        assert pick(np.isin(range(60), list(allowed))) == best
        covered |= near[best]
        left.remove(best)


def test_uncertainty_takes_the_least_margin_of_whichever_target() -> None:
    logits = np.random.default_rng(0).normal(size=(60, 2))
    pick, left = STRATEGIES["uncertainty"](situation(0, logits)), np.ones(60, dtype=bool)
    for expected in np.argsort(np.abs(logits).min(axis=1)):
        assert pick(left) == expected
        left[expected] = False


@pytest.mark.parametrize("targets", [1, 2])
def test_balanced_takes_bands_of_score_in_turn_from_the_highest(targets: int) -> None:
    logits = np.random.default_rng(1).normal(size=(60, targets))
    of = situation(1, logits)
    pick, left, turn = STRATEGIES["balanced"](of), np.ones(60, dtype=bool), 0
    edges = np.linspace(logits.max(axis=0), logits.min(axis=0), BANDS + 1)
    while left.any():
        band, target = divmod(turn, targets)
        band, turn = band % BANDS, turn + 1
        inside = (logits[:, target] <= edges[band, target]) & (logits[:, target] > edges[band + 1, target])
        inside |= (band == BANDS - 1) & (logits[:, target] == edges[-1, target])
        if (inside & left).any():
            expected = min(np.flatnonzero(inside & left), key=of.order.__getitem__)
            assert pick(left) == expected
            left[expected] = False


@pytest.mark.parametrize("by", STRATEGIES)
def test_one_candidate_is_chosen_whatever_the_strategy(by: str) -> None:
    alone = Situation(np.zeros(1, dtype=np.int64), lambda: (np.ones((1, 1)), np.ones((1, 0))), lambda: np.zeros((1, 1)))
    assert STRATEGIES[by](alone)(np.ones(1, dtype=bool)) == 0


def test_without_labels_of_both_classes_coverage_stands_in(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = listed(store, by="uncertainty", encoder="random", count=5, **HOW)
    assert table["chosen_by"].to_list().count("coverage") == 4
    assert "Nodule has no labels of both classes yet" in capsys.readouterr().err


def test_scores_of_a_model_and_of_its_own_labels_choose_the_same(store: Path, tmp_path: Path) -> None:
    opened = Store.open(store)
    known = opened.index["path"][opened.rows_in("train")[::3]]
    values = [i % 2 for i in range(len(known))]
    mococxr.label(store, pl.DataFrame({"path": known, "Nodule": values}), label="Nodule")
    given = {"encoder": "random", **HOW}
    mococxr.fit(store, target="Nodule", out=tmp_path / "model", calibrate="none", threshold_by="none", **given)
    for by in ("uncertainty", "balanced"):
        own = listed(store, by=by, count=8, **given)
        assert listed(store, "model.csv", by=by, count=8, model=tmp_path / "model").equals(own)


def test_a_strategy_that_looks_at_few_candidates_goes_on_at_random(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mococxr.choosing.next.MOST", 7)
    given = {"by": "coverage", "encoder": "random", "random_share": 0, "count": 12, **HOW}
    table, pool = listed(store, **given), read_pool(Store.open(store), ["Nodule"], ["train", "val"], seed=0)
    ranks = dict(zip(Store.open(store).index["path"][pool.rows].to_list(), pool.order.tolist(), strict=True))
    chosen = [ranks[path] for path in table["path"]]
    looked_at = [rank for rank in chosen if rank < 7]
    assert looked_at == chosen[: len(looked_at)]
    assert chosen[len(looked_at) :] == sorted(chosen[len(looked_at) :])


def test_settings_and_registry_name_the_same_strategies() -> None:
    assert set(get_args(Strategy)) == set(STRATEGIES)


def test_a_pool_says_how_many_copies_it_left_out(store: Path) -> None:
    pool = read_pool(Store.open(store), ["Nodule"], ["train"], seed=0)
    assert pool.copies == 0
    assert pool.rows.tolist() == Store.open(store).rows_in("train").tolist()
