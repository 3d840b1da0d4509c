from __future__ import annotations

import shutil

import numpy as np
import pytest

from mococxr.errors import InputError
from mococxr.store import Store
from mococxr.store.levels import SMALLEST, halving, shrink, written_factors
from small_store import make_store


@pytest.mark.parametrize("stored", [16, 33, 224, 319, 320, 321, 1024])
def test_a_level_is_the_smallest_that_is_large_enough_and_at_most_twice_the_target(stored):
    for target in range(1, 2 * stored):
        shorter = stored // halving(stored, target)
        if target <= stored:
            assert target <= shorter < 2 * target
        else:
            assert shorter == stored


def test_a_level_holds_exact_means_of_blocks():
    image = np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8)
    for factor in (2, 4, 8):
        blocks = image.reshape(64 // factor, factor, 96 // factor, factor).astype(float)
        error = np.abs(shrink(image, factor) - blocks.mean(axis=(1, 3)))
        assert error.max() <= 0.5


def test_what_is_left_over_is_cut_off_evenly():
    image = np.zeros((8, 11), np.uint8)
    image[:, 1:9] = 200
    image[:, 0] = image[:, 9:] = 7  # one column on the left and two on the right do not fill a block
    assert (shrink(image, 4) == 200).all()
    assert shrink(image, 4).shape == (2, 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Twelve images, stored at 72 px: the level of 36 px is written, that of 18 px is not."""
    return make_store(tmp_path_factory.mktemp("levels"), patients=6)


def test_levels_are_written_down_to_the_smallest():
    assert [320 // factor for factor in written_factors(320)] == [160, 80, 40]
    assert written_factors(2 * SMALLEST) == [2]
    assert written_factors(2 * SMALLEST - 1) == []


@pytest.mark.parametrize(("target", "factor"), [(36, 2), (19, 2), (18, 4), (5, 8)])
def test_a_level_written_or_shrunk_as_it_is_read_is_the_stored_images_shrunk(store, target, factor):
    level = store.level(target)
    assert (level.shorter, len(level)) == (72 // factor, 12)
    for i in range(12):
        np.testing.assert_array_equal(level.pixels(i), shrink(store.pixels(i), factor))
        assert level.pixels(i).shape == (level.heights[i], level.widths[i])
    assert store.level(target) is level


def test_prepare_writes_the_levels_and_reading_writes_nothing(store):
    assert [path.name for path in (store.path / "levels").iterdir()] == ["36"]
    assert store.manifest["levels"] == [2]
    assert "levels/36/pixels-00000.bin" in store.manifest["hashes"]["files"]


def test_a_store_that_is_not_too_large_is_its_own_level(store):
    assert np.shares_memory(store.level(37).pixels(3), store.pixels(3))
    assert np.shares_memory(store.level(500).pixels(3), store.pixels(3))


def test_a_level_that_lost_a_file_is_refused(store, tmp_path):
    copy = tmp_path / "store"
    shutil.copytree(store.path, copy)
    (copy / "levels" / "36" / "pixels-00000.bin").write_bytes(b"0")
    with pytest.raises(InputError, match="is damaged"):
        Store.open(copy).level(36)
