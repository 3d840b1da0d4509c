from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from mococxr.errors import InputError
from mococxr.pretraining.dataset import (
    PretrainSet,
    SpacedShuffle,
    free_queue,
    gather_images,
    largest_queue,
    read_patients,
    study_partners,
)
from mococxr.pretraining.hardware import make_accelerator
from mococxr.pretraining.loader import make_loader
from mococxr.pretraining.moco import MoCo
from mococxr.pretraining.pretrain import METHODS, run
from mococxr.settings import PretrainSettings
from mococxr.store import Store
from small_run import TINY, tiny


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> Store:
    return Store.open(synthetic_store)


def pool_of(studies: list[int]) -> PretrainSet:
    """A pool without pixels: images and their studies."""
    rows = np.arange(len(studies))
    return PretrainSet({}, np.zeros_like(rows), rows, np.array(studies), np.array(studies), pl.DataFrame())


# --- the order of images

ORDERS = [(30, 8, 16), (32, 8, 24), (41, 8, 32), (100, 16, 40), (101, 1, 50), (12, 4, 1)]


@pytest.mark.parametrize(("images", "batch", "queue"), ORDERS)
def test_an_epoch_holds_no_image_twice_and_all_epochs_hold_all(images, batch, queue):
    used = images // batch * batch
    orders = SpacedShuffle(images, used, queue + batch - 1, seed=0)
    seen: set[int] = set()
    for epoch in range(12):
        order = orders.epoch(epoch)
        assert len(set(order.tolist())) == used
        seen |= set(order.tolist())
    assert seen == set(range(images))


@pytest.mark.parametrize(("images", "batch", "queue"), ORDERS)
def test_an_image_comes_again_only_after_so_many_others(images, batch, queue):
    used, apart = images // batch * batch, queue + batch - 1
    orders = SpacedShuffle(images, used, apart, seed=1)
    places: dict[int, int] = {}
    for place, image in enumerate(np.concatenate([orders.epoch(epoch) for epoch in range(30)]).tolist()):
        assert place - places.get(image, -images) > apart
        places[image] = place


@pytest.mark.parametrize("extra", [0, 5])
@pytest.mark.parametrize("images", [40, 43])
def test_no_image_meets_its_own_key_in_the_queue_of_a_run(store, images, extra):
    """The orders that a run really takes, played through a queue of image numbers, with the longest queue."""
    settings = dataclasses.replace(
        tiny(store.path, Path("unused")), queue=largest_queue(images, 8) - extra, flip=0.5, rotation=0.0, crop=(1, 1),
        brightness=0.0, contrast=0.0, positives="view"
    )  # fmt: skip
    pool = pool_of(list(range(images)))
    feed = make_loader(settings, pool, make_accelerator("cpu", "no"))
    queue: list[int] = []
    for step in range(30 * feed.steps_per_epoch):
        _, batch = feed.images(step)
        assert not set(batch.tolist()) & set(queue)
        queue = [*queue, *batch.tolist()][-settings.queue :]


def test_an_order_depends_on_seed_and_epoch_only():
    whole = SpacedShuffle(50, 48, 20, seed=3)
    expected = [whole.epoch(epoch).copy() for epoch in range(5)]
    assert not np.array_equal(expected[0], expected[1])
    np.testing.assert_array_equal(SpacedShuffle(50, 48, 20, seed=3).epoch(4), expected[4])
    np.testing.assert_array_equal(whole.epoch(2), expected[2])  # back again
    assert not np.array_equal(SpacedShuffle(50, 48, 20, seed=4).epoch(0), expected[0])


def next_in_lists(last: list[int], draws: list[float], used: int, apart: int) -> list[int]:
    """The order after another, image by image: the free ones in a list, the others waiting for their turn."""
    free, held, order = last[: used - apart] + last[used:], last[used - apart : used], []
    for place, draw in enumerate(draws):
        pick = int(draw * len(free))
        order.append(free[pick])
        free[pick] = free[-1]
        free.pop()
        free += held[place : place + 1]
    return order


@pytest.mark.parametrize(("images", "batch", "queue"), [*ORDERS, (1000, 32, 512), (1003, 32, 928)])
def test_an_order_is_that_of_drawing_from_a_list_image_by_image(images, batch, queue):
    used, apart = images // batch * batch, min(queue + batch - 1, images // batch * batch - 1)
    orders = SpacedShuffle(images, used, apart, seed=5)
    whole = np.argsort(np.random.default_rng((5, 0, 0x0DE5)).random(images), kind="stable").tolist()
    for epoch in range(1, 5):
        draws = np.random.default_rng((5, epoch, 0x0DE5)).random(images).tolist()
        whole = next_in_lists(whole, draws, used, apart)
        assert orders.epoch(epoch).tolist() == whole[:used]


def test_every_image_is_as_likely_at_every_place():
    orders = SpacedShuffle(60, 56, 15, seed=0)
    counts = np.zeros((60, 7))
    for epoch in range(800):
        np.add.at(counts, (orders.epoch(epoch), np.arange(56) // 8), 1)
    assert stats.chisquare(counts.sum(axis=1)).pvalue > 0.01  # no image is preferred
    expected = 800 * 8 / 60
    assert np.abs(counts / expected - 1).max() < 0.4  # five standard deviations
    assert stats.chisquare(counts[:, 3]).pvalue > 1e-3


# --- the other images of a study


def test_a_mate_is_another_image_of_the_study_and_each_is_drawn_alike():
    pool = pool_of([5, 1, 5, 2, 5, 1, 9])
    drawn = np.array([study_partners(pool, np.arange(7), seed=0, epoch=epoch) for epoch in range(2000)])
    assert (pool.study_N[drawn] == pool.study_N).all()
    assert (drawn[:, [3, 6]] == [3, 6]).all()  # alone in the study: its own mate
    assert not (drawn[:, [0, 1, 2, 4, 5]] == [0, 1, 2, 4, 5]).any()
    for image, others in ((0, (2, 4)), (2, (0, 4)), (4, (0, 2))):
        assert abs(np.mean(drawn[:, image] == others[0]) - 0.5) < 0.05
    one_by_one = [study_partners(pool, np.array([image]), 0, 7)[0] for image in range(7)]
    np.testing.assert_array_equal(one_by_one, drawn[7])


def test_images_without_a_study_are_their_own_mates(store, tmp_path):
    copy = edited_store(store, tmp_path, lambda index: index.with_columns(study=pl.lit(None, pl.String)))
    pool = gather_images([copy], (32,), "all")
    images = np.arange(len(pool))
    np.testing.assert_array_equal(study_partners(pool, images, 0, 0), images)


def test_one_study_number_in_two_patients_or_two_stores_is_two_studies(store, tmp_path):
    copy = edited_store(store, tmp_path, lambda index: index.with_columns(study=pl.lit("1")), source="elsewhere")
    pool = gather_images([copy, store], (32,), "all")
    assert len(set(pool.study_N.tolist())) == 2 * store.index["patient"].n_unique()
    assert not set(pool.study_N[: len(copy)].tolist()) & set(pool.study_N[len(copy) :].tolist())


# --- whose images are used


def edited_store(store: Store, folder: Path, edit, source: str | None = None) -> Store:
    """A copy of a store with another index, and perhaps another source."""
    path = folder / "copy"
    shutil.copytree(store.path, path)
    edit(store.index).write_parquet(path / "index.parquet")
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "source": source or store.source}))
    return Store.open(path)


def patients_in(store: Store, pool: PretrainSet) -> set[str]:
    return set(store.index["patient"].gather(pool.row_N).to_list())


@pytest.mark.parametrize(
    ("pretrain_on", "splits"),
    [("train", {"train"}), ("train+val", {"train", "val"}), ("all", {"train", "val", "test"})],
)
def test_only_patients_of_the_named_splits_are_seen(store, pretrain_on, splits):
    pool = gather_images([store], (32,), pretrain_on)
    wanted = set(store.splits.filter(pl.col("split").is_in(list(splits)))["patient"])
    assert patients_in(store, pool) == wanted == set(pool.patients["patient"])
    assert len(pool) == store.index["patient"].is_in(list(wanted)).sum()
    np.testing.assert_array_equal(pool.pixels(3, 32), store.level(32).pixels(int(pool.row_N[3])))


def test_a_test_patient_of_one_store_does_not_come_in_through_another_of_the_same_source(store, tmp_path):
    other = edited_store(store, tmp_path, lambda index: index)
    store.splits.with_columns(split=pl.lit("train")).write_csv(other.path / "splits.csv")
    pool = gather_images([store, other], (32,), "train")
    assert set(pool.patients["patient"]) == set(store.splits.filter(split="train")["patient"])
    assert len(pool) == 2 * len(gather_images([store], (32,), "train"))


def test_patients_of_two_sources_with_one_name_are_two(store, tmp_path):
    other = edited_store(store, tmp_path, lambda index: index, source="elsewhere")
    store.splits.with_columns(split=pl.lit("train")).write_csv(other.path / "splits.csv")
    pool = gather_images([store, other], (32,), "train")
    counts = dict(pool.patients["source"].value_counts().iter_rows())
    assert counts["elsewhere"] == len(store.splits) > counts[store.source]
    image = len(pool) - 1  # the last is the last image of the second store
    np.testing.assert_array_equal(pool.pixels(image, 32), other.level(32).pixels(len(other) - 1))


def test_images_held_out_under_another_name_are_warned_of(store, tmp_path):
    other = edited_store(store, tmp_path, lambda index: index, source="under another key")
    assert gather_images([store], (32,), "train").warnings == []
    assert gather_images([store, other], (32,), "train").leaks == 0
    store.splits.with_columns(split=pl.lit("train")).write_csv(other.path / "splits.csv")
    pool = gather_images([store, Store.open(other.path)], (32,), "train")
    held_out = store.splits.filter(pl.col("split") != "train")["patient"]
    assert pool.leaks == store.index["patient"].is_in(held_out.implode()).sum() > 0
    assert [f"{pool.leaks:,} of the images are held out" in sentence for sentence in pool.warnings] == [True]


@pytest.mark.parametrize("heading", ["", "patient\n", "PatientID,why\n"])
def test_listed_patients_are_left_out_and_unknown_ones_are_counted(store, tmp_path, heading):
    train = store.splits.filter(split="train")["patient"].to_list()
    listed = tmp_path / "leave.txt"
    listed.write_text(f"{heading}{train[0]}\n\n {train[1]} ,moved\nnobody\n")
    pool = gather_images([store], (32,), "train", listed)
    assert patients_in(store, pool) == set(train[2:])
    assert pool.unknown_excluded == 1


def test_lists_that_name_nobody_or_everybody_are_refused(store, tmp_path):
    listed = tmp_path / "leave.txt"
    listed.write_text("patient\n")
    with pytest.raises(InputError, match="lists no patient"):
        read_patients(listed)
    with pytest.raises(InputError, match="gone"):
        read_patients(tmp_path / "gone.txt")
    listed.write_text("\n".join(store.splits["patient"]))
    with pytest.raises(InputError, match="No image is left"):
        gather_images([store], (32,), "train", listed)


# --- the length of the queue


def meeting_again(orders: SpacedShuffle, batch: int, epochs: int = 6) -> float:
    """Share of the pairs in one batch that are in one batch in the next epoch too."""
    pairs, again = [], []
    for epoch in range(epochs):
        rows = orders.epoch(epoch).reshape(-1, batch)
        pairs.append({frozenset(pair) for row in rows.tolist() for pair in itertools.combinations(row, 2)})
    again = [len(before & now) / len(before) for before, now in itertools.pairwise(pairs)]
    return float(np.mean(again))


@pytest.mark.parametrize(
    ("images", "batch", "preset"), [(1000, 32, 1024), (500, 32, 1024), (2000, 16, 24_576), (130, 32, 1024)]
)
def test_a_queue_that_is_cut_to_fit_leaves_the_order_nearly_a_plain_shuffle(store, tmp_path, images, batch, preset):
    settings = tiny(store.path, tmp_path, preset="paper" if preset > 1024 else "tuned", batch=batch, queue=None)
    settled = MoCo.settle(settings, images)
    assert settled.queue == free_queue(images, batch) < largest_queue(images, batch)
    feed = make_loader(settled, pool_of(list(range(images))), make_accelerator("cpu", "no"))
    assert feed.warnings == []
    plain = (batch - 1) / (images - 1)  # a given other image of a batch is in it again with this chance
    assert meeting_again(feed.order, batch) < 1.5 * plain
    asked = dataclasses.replace(settled, queue=largest_queue(images, batch))
    frozen = make_loader(asked, pool_of(list(range(images))), make_accelerator("cpu", "no"))
    assert meeting_again(frozen.order, batch) > 2 * plain
    assert "much the same in every epoch" in frozen.warnings[0]


def test_with_images_enough_the_queue_is_the_presets(store, tmp_path):
    for preset, images, queue in (
        ("tuned", 3700, 1024),
        ("tuned", 2112, 1024),
        ("tuned", 2111, 1009),
        ("paper", 223_414, 24_576),
    ):
        settings = tiny(store.path, tmp_path, preset=preset, batch=32 if preset == "tuned" else 16, queue=None)
        assert MoCo.settle(settings, images).queue == queue


def works(images: int, way_out: str, **settings: Any) -> bool:
    """Whether the batch, or the number of images, that a message offers is taken."""
    offered = int(re.search(r"(?:--batch|at least) (\d+)", way_out)[1])
    settings |= {"batch": offered} if "--batch" in way_out else {}
    images = images if "--batch" in way_out else offered
    return (
        METHODS[settings["method"]].settle(PretrainSettings(stores=(), out=Path("-"), **settings), images) is not None
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_the_way_out_of_too_few_images_works(method, groups):
    refused = 0
    for images, batch in itertools.product(range(1, 30), (2, 4, 6, 8, 16, 32)):
        if groups > batch // 2 or images // batch >= (2 if method == "moco" else 1):
            continue
        refused += 1
        settings = {"method": method, "batch": batch, "key_groups": groups}
        with pytest.raises(InputError, match="too few") as error:
            METHODS[method].settle(PretrainSettings(stores=(), out=Path("-"), **settings), images)
        way_out = error.value.way_out
        if "--batch" not in way_out:  # the least number of images takes the least batch
            settings["batch"] = 2 * groups
        assert works(images, way_out, **settings), (images, batch, way_out)
    assert refused > 20


def test_the_longest_queue_leaves_out_the_last_batch_of_every_image():
    assert [largest_queue(n, 8) for n in (8, 15, 16, 40, 47)] == [0, 0, 8, 32, 32]


def test_a_queue_that_holds_an_images_own_key_is_refused_before_anything_is_written(store, tmp_path):
    most = largest_queue(len(gather_images([store], (32,), "train")), TINY["batch"])
    with pytest.raises(InputError, match=f"own last key.*\n.*--queue {most} or less"):
        run(tiny(store.path, tmp_path / "run", queue=most + 1))
    with pytest.raises(InputError, match="too few for batches"):
        run(tiny(store.path, tmp_path / "run", queue=None, batch=64))
    assert not (tmp_path / "run").exists()
