"""The flow of a study's images: every image of a split is counted once, with the reason where it is left out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mococxr.heads.targets import read_target
from mococxr.store import Store
from mococxr.studies.flow import split_rows
from small_store import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("flow") / "store", patients=40)


@pytest.mark.parametrize("uncertain", ["ignore", "ones", "multiclass"])
@pytest.mark.parametrize("where", [(), ("sex=F",)])
def test_every_image_of_a_split_is_counted_once(store: Store, uncertain: str, where: tuple[str, ...]) -> None:
    target = read_target(store, "Rare", where=where, uncertain=uncertain, blank="unknown")
    for split in ("train", "val", "test"):
        every, *by_label = split_rows(store, target, split)
        rows = store.rows_in(split)
        assert (every["images"], every["patients"]) == (len(rows), store.index[rows]["patient"].n_unique())
        left_out = every["restricted"] + every["uncertain"] + every["unlabelled"]
        as_class = int((target.labels[rows] == 2).sum()) if split == "train" else 0
        assert every["images"] == left_out + as_class + sum(row["images"] for row in by_label)
        if where:
            assert every["restricted"] == (store.index[rows]["sex"] != "F").fill_null(True).sum()
            assert all(row["sex"] is None or row["sex"].startswith("F ") for row in by_label)


def test_reasons_and_characteristics_are_those_of_the_rows_by_hand(store: Store) -> None:
    target = read_target(store, "Rare", blank="unknown")
    every, positive, _ = split_rows(store, target, "test")
    index = store.index[store.rows_in("test")]
    assert every["uncertain"] == (index["Rare"] == -1).sum()
    assert every["unlabelled"] == index["Rare"].null_count()
    sick = index.filter(pl.col("Rare") == 1)
    assert positive["images"] == sick.height
    ages = sick["age"].cast(pl.Float64, strict=False).drop_nulls().to_numpy()
    assert positive.get("age_median") == (float(np.median(ages)) if ages.size else None)
