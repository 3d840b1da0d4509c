"""One run over the stores of several hospitals: of other sizes, one of them without patient identifiers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mococxr.augment import Recipe, draw_views, uniforms
from mococxr.commands import run
from mococxr.exporting.card import _pretrained_on as card_words
from mococxr.pretraining.dataset import SpacedShuffle, count_by_store, gather_images
from mococxr.pretraining.loader import BatchLoader
from mococxr.reporting.provenance import sources_of
from mococxr.store import Store
from mococxr.studies.provenance import _pretrained_on as study_facts
from mococxr.synthetic import write_synthetic
from small_run import tiny_run


@pytest.fixture(scope="module")
def stores(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """The store of 64 px with patients, and a pool of 24 images of 40 px of which nobody knows the patients."""
    folder = tmp_path_factory.mktemp("pool")
    table = write_synthetic(folder / "elsewhere", 24, seed=5, size=64, jobs=1)
    pl.read_csv(table, infer_schema=False).drop("patient").write_csv(table)
    how = {"source": folder / "elsewhere", "size": 40, "split": (1, 0, 0), "patients_unknown": True, "jobs": 1}
    run("prepare", {**how, "out": folder / "pool"})
    return Store.open(synthetic_store), Store.open(folder / "pool")


def test_the_stores_are_a_plain_union_in_which_each_pooled_image_is_its_own_patient(stores):
    known, _ = stores
    both = gather_images(stores, (32,), "train")
    rows = known.rows_in("train")
    assert len(both) == len(rows) + 24
    counts = count_by_store(both, stores)
    patients = known.index["patient"].gather(rows).n_unique()
    assert [entry["images"] for entry in counts] == [len(rows), 24]
    assert [entry["patients"] for entry in counts] == [patients, None]
    assert len(np.unique(both.patient_N)) == patients + 24
    assert not set(both.patient_N[both.by_store[0]].tolist()) & set(both.patient_N[both.by_store[1]].tolist())
    order = SpacedShuffle(len(both), len(both) // 8 * 8, 7, seed=0)
    batches = [both.store_N[order.epoch(epoch)].reshape(-1, 8) for epoch in range(40)]
    share = np.mean(batches)  # of the pool, in a plain shuffle
    assert share == pytest.approx(24 / len(both), abs=0.02)
    mixed = np.concatenate(batches).std(axis=1) > 0
    assert mixed.mean() > 0.9  # a batch of one hospital is chance: 0.65^8 + 0.35^8 = 0.03


def test_views_of_each_store_are_cut_from_the_level_of_that_store(stores):
    both = gather_images(stores, (20,), "train")
    recipe, chosen = Recipe(20, crop=(0.9, 1.0)), np.array([0, len(both) - 1])
    feed = BatchLoader(both, recipe, SpacedShuffle(len(both), 64, 7, seed=3), batch=8, seed=3)
    views = feed.views(2, chosen)[1, :, 0].numpy()
    first, last = stores[0].level(20), stores[1].level(20)
    assert (first.shorter, last.shorter) == (32, 20)
    images = [first.pixels(int(both.row_N[0])), last.pixels(int(both.row_N[-1]))]
    np.testing.assert_array_equal(views, draw_views(images, recipe, uniforms(3, 2, chosen, 1)))


def test_views_larger_than_a_store_are_warned_of(stores):
    assert gather_images(stores, (32, 40), "train").warnings == []
    assert gather_images(stores, (32, 48), "train").warnings == [
        f"Views of 48 px are enlarged from images of 40 px in {stores[1].path}."
    ]


def test_a_run_over_both_says_how_many_images_are_of_which(stores, tmp_path, capsys):
    paths = tuple(store.path for store in stores)
    out = tiny_run(paths[0], tmp_path / "run", stores=paths, epochs=1, knn="Effusion", negatives_from="patient")
    assert "images by store: store 44, pool 24" in capsys.readouterr().err
    facts = json.loads((out / "run.json").read_text())["pretrained_on"]
    assert (facts["images"], facts["stores"]) == (68, count_by_store(gather_images(stores, (32,), "train"), stores))
    assert facts == json.loads((out / "encoder.json").read_text())["pretrained_on"]
    study = study_facts(stores[0], {"pretrained_on": facts})
    names = f"{stores[0].source} 44, {stores[1].source} 24"
    assert sources_of(study) == names
    assert card_words(facts).startswith(f"{names} (68 images")
    assert sources_of(study | {"stores": facts["stores"][:1]}) == stores[0].source
