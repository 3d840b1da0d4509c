"""The sheet of views: the pairs that pretraining draws, on a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mococxr.audit import view_sheet
from mococxr.augment import Recipe
from mococxr.errors import InputError
from mococxr.preparation import prepare
from mococxr.pretraining.dataset import SpacedShuffle, gather_images
from mococxr.pretraining.loader import BatchLoader
from mococxr.settings import PretrainSettings, ViewsSettings, make
from mococxr.store import Store
from small_images import settings, write_images


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "images", 30)
    return prepare.run(settings(folder / "images", folder / "store"))


@pytest.mark.parametrize("preset", ["paper", "tuned"])
def test_the_pairs_shown_are_the_ones_that_pretraining_draws(store: Store, preset: str) -> None:
    run = make(PretrainSettings, {"stores": store.path, "out": "run", "preset": preset, "size": 24, "seed": 5})
    pool = gather_images([store], (run.size,), "train")
    feed = BatchLoader(
        pool, Recipe.of(vars(run)), SpacedShuffle(len(pool), len(pool), min_gap=4, seed=5), batch=4, seed=5
    )
    rows = store.rows_in("train")
    for image in (0, len(pool) - 1):
        shown = view_sheet.pairs(store, feed.recipe, int(rows[image]), image, 3, seed=5)
        drawn = [feed.views(epoch, np.array([image]))[:, 0, 0].numpy() for epoch in range(3)]
        np.testing.assert_array_equal(shown, np.stack(drawn))


def test_the_sheet_has_a_row_an_image_with_the_image_first_and_the_same_again_by_the_same_seed(
    store: Store, tmp_path: Path
) -> None:
    def draw(name: str, seed: int, images: int = 3) -> np.ndarray:
        out = view_sheet.run(ViewsSettings(store=store.path, out=tmp_path / name, images=images, size=24, seed=seed))
        return cv2.imread(str(out), cv2.IMREAD_GRAYSCALE)

    first = draw("a.png", 1)
    row = view_sheet.TILE + view_sheet.CAPTION + view_sheet.GAP
    assert first.shape[1] > (1 + 2 * view_sheet.EPOCHS) * view_sheet.TILE
    assert draw("more.png", 1, images=5).shape[0] - first.shape[0] == 2 * row
    np.testing.assert_array_equal(first, draw("b.png", 1))
    assert (first != draw("c.png", 2)).mean() > 0.1
    assert draw("all.png", 1, images=999).shape[0] < first.shape[0] + 30 * row


def test_nothing_is_drawn_from_wrong_settings(store: Store, tmp_path: Path) -> None:
    for wrong in ({"images": 0}, {"size": 4}):
        with pytest.raises(InputError):
            view_sheet.run(make(ViewsSettings, {"store": store.path, "out": tmp_path / "x.png", **wrong}))
    assert not list(tmp_path.iterdir())
