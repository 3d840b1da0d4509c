from __future__ import annotations

import json
import pickle
import shutil
import time
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mococxr.errors import InputError
from mococxr.store import Store

SHORT = pl.DataFrame({"height": [24], "width": [24]})


def write_store(folder: Path, images: list[np.ndarray], shards: list[int]) -> Path:
    """A store by hand: images, and how many of them are in each shard."""
    folder.mkdir()
    listed, first = [], 0
    for number, count in enumerate(shards):
        data = b"".join(image.tobytes() for image in images[first : first + count])
        (folder / f"pixels-{number:05d}.bin").write_bytes(data)
        listed.append({"file": f"pixels-{number:05d}.bin", "first_row": first, "images": count})
        first += count
    patients = [f"p{i // 2}" for i in range(len(images))]
    sizes = {"height": [f.shape[0] for f in images], "width": [f.shape[1] for f in images]}
    pl.DataFrame({"row": range(len(images)), "patient": patients, **sizes}).write_parquet(folder / "index.parquet")
    splits = {patient: ("train", "val", "test")[i % 3] for i, patient in enumerate(dict.fromkeys(patients))}
    pl.DataFrame({"patient": list(splits), "split": list(splits.values())}).write_csv(folder / "splits.csv")
    manifest = {
        "format": 1, "mococxr": "0.1.0", "counts": {"images": len(images)}, "labels": ["A"], "size": 24,
        "source": "here", "patients_known": True, "blank": "unknown", "hashes": {"files": {}},
        "levels": [], "shards": listed,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (24 + i % 5, 24), dtype=np.uint8) for i in range(11)]


@pytest.fixture
def path(tmp_path: Path, images: list[np.ndarray]) -> Path:
    return write_store(tmp_path / "store", images, [3, 1, 7])


def test_every_image_comes_back_from_its_shard(path, images):
    store = Store.open(path)
    assert len(store) == len(images)
    for i, image in enumerate(images):
        np.testing.assert_array_equal(store.pixels(i), image)
    np.testing.assert_array_equal(store.pixels(-1), images[-1])
    with pytest.raises(IndexError):
        store.pixels(len(images))


def test_an_image_is_a_read_only_view_of_the_file_and_not_a_copy(path):
    image = Store.open(path).pixels(4)
    assert not image.flags.writeable
    assert not image.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 1


def test_a_store_says_in_a_line_and_in_a_notebook_what_it_holds(path):
    store = Store.open(path)
    counts = [f"{name} {len(store.rows_in(name)):,}" for name in ("train", "val", "test")]
    for text in (repr(store), store._repr_html_()):
        assert all(part in text for part in (store.path.name, f"{len(store):,}", ", ".join(counts), *store.labels[:8]))
        assert len(text) < 800
    assert store._repr_html_().startswith("<table>")


def test_rows_in_splits_follow_the_patients(path):
    store = Store.open(path)
    assert store.rows_in("train").tolist() == [0, 1, 6, 7]
    assert store.rows_in("val", "test").tolist() == [2, 3, 4, 5, 8, 9, 10]
    assert store.rows_in("train").dtype == np.int64
    with pytest.raises(ValueError, match="no such split"):
        store.rows_in("training")


def test_a_store_and_a_level_travel_to_other_processes_without_their_pixels(path):
    store = Store.open(path)
    level = store.level(10)
    for thing in (store, level):
        thing.pixels(0)
        data = pickle.dumps(thing)
        assert len(data) < 2000
        np.testing.assert_array_equal(pickle.loads(data).pixels(10), thing.pixels(10))
    assert pickle.loads(pickle.dumps(store)).sha256 == store.sha256


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: shutil.rmtree(p), "There is no store at"),
        (lambda p: (p / "manifest.json").unlink(), "is not a store: it has no manifest"),
        (lambda p: (p / "manifest.json").write_text("{"), "is not JSON"),
        (lambda p: (p / "manifest.json").write_text("[]"), "lacks format"),
        (lambda p: (p / "index.parquet").unlink(), "index.parquet is missing"),
        (lambda p: (p / "index.parquet").write_bytes(b"PAR1"), "index.parquet cannot be read"),
        (lambda p: (p / "pixels-00001.bin").unlink(), "pixels-00001.bin is missing"),
        (lambda p: (p / "pixels-00002.bin").write_bytes(b"123"), "pixels-00002.bin is damaged"),
        (lambda p: SHORT.write_parquet(p / "index.parquet"), "has 1 rows"),
        (
            lambda p: (p / "manifest.json").write_text(
                (p / "manifest.json").read_text().replace('"format": 1', '"format": 2')
            ),
            "has store format 2 .*reads format 1",
        ),
    ],
)  # fmt: skip
def test_a_damaged_store_is_refused_naming_the_file(path, damage, says):
    damage(path)
    with pytest.raises(InputError, match=says):
        Store.open(path)


def test_verify_reads_every_byte(path):
    from mococxr.files import sha256_file

    manifest = json.loads((path / "manifest.json").read_text())
    manifest["hashes"]["files"] = {"pixels-00000.bin": sha256_file(path / "pixels-00000.bin")}
    (path / "manifest.json").write_text(json.dumps(manifest))
    Store.open(path).verify()
    data = bytearray((path / "pixels-00000.bin").read_bytes())
    data[5] ^= 1
    (path / "pixels-00000.bin").write_bytes(data)
    with pytest.raises(InputError, match=r"pixels-00000\.bin is not what was written"):
        Store.open(path).verify()


def test_a_million_images_are_opened_fast_and_in_little_memory(tmp_path):
    n = 1_000_000
    path = write_store(tmp_path / "big", [np.zeros((24, 24), np.uint8)], [1])
    heights = np.random.default_rng(0).integers(320, 500, n).astype(np.int32)
    sizes = heights.astype(np.int64) * 320
    shards = []
    for number, first in enumerate(range(0, n, 6000)):
        name, size = f"pixels-{number:05d}.bin", int(sizes[first : first + 6000].sum())
        with open(path / name, "wb") as file:
            file.truncate(size)  # a hole: takes no room
        shards.append({"file": name, "first_row": first, "images": len(sizes[first : first + 6000])})
    pl.DataFrame({"height": heights, "width": np.full(n, 320, np.int32)}).write_parquet(path / "index.parquet")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest |= {"counts": {"images": n}, "size": 320, "shards": shards}
    (path / "manifest.json").write_text(json.dumps(manifest))
    tracemalloc.start()
    began = time.perf_counter()
    store = Store.open(path)
    took = time.perf_counter() - began
    store.pixels(n - 1)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 2
    assert held < 40e6
    assert store.pixels(777_777).shape == (heights[777_777], 320)


def test_the_offset_of_an_image_is_the_sum_of_those_before_it_in_its_shard():
    rng = np.random.default_rng(1)
    heights, widths = rng.integers(1, 50, (2, 40)).astype(np.int32)
    from mococxr.store.levels import _starts

    first_rows = np.array([0, 7, 8, 30])
    expected = []
    for i in range(40):
        first = max(f for f in first_rows if f <= i)
        expected.append(sum(int(heights[j]) * int(widths[j]) for j in range(first, i)))
    assert _starts(heights, widths, first_rows).tolist() == expected
