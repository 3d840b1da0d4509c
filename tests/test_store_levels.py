from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mococxr.store import Soon, Store, levels, reader, soon
from mococxr.store.levels import halving, shrink
from test_store_reader import write_store


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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (24, 24 + i % 7), dtype=np.uint8) for i in range(9)]
    return write_store(tmp_path / "store", images, [4, 5])


def test_a_level_reads_like_the_store_and_is_made_once(path, capsys):
    store = Store.open(path)
    level = store.level(11)
    assert (level.shorter, len(level)) == (12, 9)
    for i in range(9):
        np.testing.assert_array_equal(level.pixels(i), shrink(store.pixels(i), 2))
    assert level.folder == path / "levels" / "12"
    assert "images at 12 px" in capsys.readouterr().err
    assert store.level(12) is level
    again = Store.open(path).level(9)
    np.testing.assert_array_equal(again.pixels(8), level.pixels(8))
    assert capsys.readouterr().err == ""
    assert sorted(p.name for p in (path / "levels").iterdir()) == ["12"]


def test_a_store_that_is_not_too_large_is_its_own_level(path):
    store = Store.open(path)
    assert np.shares_memory(store.level(13).pixels(3), store.pixels(3))
    assert np.shares_memory(store.level(500).pixels(3), store.pixels(3))
    assert not (path / "levels").exists()


def test_a_level_of_another_store_or_a_damaged_one_is_made_again(path):
    Store.open(path).level(12)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "mococxr": "9"}))
    (path / "levels" / "12" / "pixels-00000.bin").write_bytes(b"\0" * 1000)
    store = Store.open(path)
    np.testing.assert_array_equal(store.level(12).pixels(0), shrink(store.pixels(0), 2))
    (path / "levels" / "12" / "pixels-00001.bin").unlink()
    store = Store.open(path)
    np.testing.assert_array_equal(store.level(12).pixels(8), shrink(store.pixels(8), 2))


def test_a_store_that_cannot_be_written_to_gets_its_level_elsewhere(path, monkeypatch, capsys):
    mkdir = Path.mkdir

    def refuse(folder: Path, *more: object, **named: object) -> None:
        if folder.name == "levels":
            raise PermissionError(13, "Permission denied")
        mkdir(folder, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refuse)
    store = Store.open(path)
    level = store.level(12)
    monkeypatch.undo()
    np.testing.assert_array_equal(level.pixels(8), shrink(store.pixels(8), 2))
    assert "cannot be written to (Permission denied)" in capsys.readouterr().err
    assert not (path / "levels").exists()
    shutil.rmtree(level.folder)


def test_a_level_that_two_processes_make_at_once_is_whole(path, monkeypatch):
    real = os.replace

    def slower(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", real)
        Store.open(path).level(12)  # the other process, first by a hair
        real(source, target)

    other = Store.open(path)
    monkeypatch.setattr("mococxr.store.levels.os.replace", slower)
    np.testing.assert_array_equal(other.level(12).pixels(8), shrink(other.pixels(8), 2))
    assert sorted(p.name for p in (path / "levels").iterdir()) == ["12"]


# --- images that are wanted before they are all made smaller


@pytest.fixture
def _many(monkeypatch):
    """Nine images are many."""
    monkeypatch.setattr(reader, "AT_ONCE", 8)


def assert_shrunk(images, store: Store) -> None:
    for i in range(9):
        np.testing.assert_array_equal(images.pixels(i), shrink(store.pixels(i), 2))


@pytest.mark.usefixtures("_many")
def test_images_are_the_same_before_and_after_they_are_all_made(path, monkeypatch):
    store, leave = Store.open(path), threading.Event()
    wait = lambda image, factor: (leave.wait(10), shrink(image, factor))[1]  # noqa: E731
    monkeypatch.setattr(levels, "shrink", wait)
    images = store.level_soon(12)
    assert isinstance(images, Soon)
    assert (images.shorter, len(images)) == (12, 9)
    assert_shrunk(images, store)
    assert not (path / "levels/12").exists()
    leave.set()
    images.maker.join()
    monkeypatch.setattr(soon, "shrink", None)  # nothing is shrunk now
    assert np.shares_memory(images.pixels(3), images.pixels(3))
    assert_shrunk(images, store)
    assert sorted(p.name for p in (path / "levels").iterdir()) == ["12"]
    assert not isinstance(Store.open(path).level_soon(12), Soon)  # the next run finds them


@pytest.mark.usefixtures("_many")
def test_a_process_that_makes_no_images_finds_those_of_another(path, monkeypatch):
    monkeypatch.setattr(soon, "LOOK", 4)
    store = Store.open(path)
    images = store.level_soon(12, makes=False)
    assert_shrunk(images, store)
    assert not (path / "levels").exists()
    Store.open(path).level(12)
    assert_shrunk(images, store)
    monkeypatch.setattr(soon, "shrink", None)
    assert_shrunk(images, store)


@pytest.mark.usefixtures("_many")
def test_a_process_that_ends_first_leaves_nothing_half_made(path, monkeypatch):
    begun = threading.Event()
    slowly = lambda image, factor: (begun.set(), time.sleep(0.05), shrink(image, factor))[2]  # noqa: E731
    monkeypatch.setattr(levels, "shrink", slowly)
    images = Store.open(path).level_soon(12)
    assert begun.wait(10)
    images.close()
    assert list((path / "levels").iterdir()) == []
    assert_shrunk(images, Store.open(path))


@pytest.mark.usefixtures("_many")
def test_images_that_cannot_be_made_smaller_are_no_reason_to_stop(path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(levels, "_fill", full)
    images = Store.open(path).level_soon(12)
    images.maker.join()
    assert "No space left on device" in capsys.readouterr().err
    assert_shrunk(images, Store.open(path))


def test_few_images_are_made_smaller_at_once(path):
    assert not isinstance(Store.open(path).level_soon(12), Soon)
    assert (path / "levels/12/level.json").is_file()
