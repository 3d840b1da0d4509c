"""Features kept on disk: nothing is read twice, nothing is lost, and no number depends on what was kept before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mococxr import feature_cache
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.feature_cache import FeatureCache, key_of, read_features, rounded, trim
from mococxr.store import Store
from mococxr.studies import trial
from small_store import HOW, make_store, run_study

WIDTH = 4
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def plain(rows: np.ndarray) -> np.ndarray:
    """Made-up features, a function of the row alone."""
    return np.sin(np.outer(rows, np.arange(1, WIDTH + 1))).astype(np.float32)


def huge(rows: np.ndarray) -> np.ndarray:
    """The same, too large for float16 in row 5."""
    values = plain(rows)
    values[rows == 5] *= 1e6
    return values


def counting(make: Callable[[np.ndarray], np.ndarray], asked: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    def counted(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return make(rows)

    return counted


@pytest.mark.parametrize("make", [plain, huge])
def test_further_rows_are_computed_alone_and_whatever_was_kept_before_the_numbers_are_the_same(
    tmp_path: Path, make: Callable[[np.ndarray], np.ndarray]
) -> None:
    asked: list[int] = []
    steps, at_once = FeatureCache(tmp_path / "steps"), FeatureCache(tmp_path / "once")
    for rows in ([1, 7], [7, 30, 4], [5, 6], [1, 4]):
        steps.add("a", np.array(sorted(rows)), counting(make, asked))
    assert sorted(asked) == [1, 4, 5, 6, 7, 30]
    every = np.array([1, 4, 5, 6, 7, 30])
    at_once.add("a", every, make)
    for cache in (steps, at_once):
        assert np.array_equal(read_features(cache.file("a"), every), rounded(make(every)))
    assert (tmp_path / "steps/a.npy").read_bytes() == (tmp_path / "once/a.npy").read_bytes()
    assert np.array_equal(read_features(steps.file("a"), np.array([30, 4])), rounded(make(np.array([30, 4]))))
    assert np.load(steps.file("a")).dtype == (np.float16 if make is plain else np.float32)
    assert steps.missing("a", np.array([2, 4, 9])).tolist() == [2, 9]
    assert steps.missing("b", np.array([2, 4])).tolist() == [2, 4]


def test_an_image_whose_feature_is_beyond_float16_keeps_its_digits_and_others_keep_eleven_bits() -> None:
    values = np.array([[1 / 3, 2.0], [1e5, 1 / 3], [1e-5, 1e-6], [0, 0], [65504, 1 / 3]], dtype=np.float32)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16).astype(np.float32)
    expected = np.stack([half[0], values[1], values[2], half[3], half[4]])
    assert np.array_equal(rounded(values), expected)
    assert np.array_equal(rounded(expected), expected)
    assert (np.abs(half[0] - values[0]) <= 2.0**-11 * values[0]).all()
    assert rounded(np.empty((0, 3), np.float32)).shape == (0, 3)


def test_no_rows_are_a_file_too(tmp_path: Path) -> None:
    file = FeatureCache(tmp_path).add("a", np.empty(0, np.int64), plain)
    assert read_features(file, np.empty(0, np.int64)).shape == (0, WIDTH)


def test_a_key_tells_apart_all_that_features_follow_from(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = (("a", "b", "c", "d"), ("ab", "", "c", "d"), ("a", "b", "c", "e"))
    keys = {key_of(*each) for each in facts}
    monkeypatch.setattr(feature_cache, "VERSION", "another")
    keys.add(key_of(*facts[0]))
    assert len(keys) == 4


@forks
def test_a_run_that_is_killed_between_writes_leaves_what_was_written_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "PART", 10)
    cache, rows = FeatureCache(tmp_path / "study", tmp_path / "shared"), np.arange(35)
    if not (child := os.fork()):
        made = []

        def deadly(part: np.ndarray) -> np.ndarray:
            made.append(part)
            if len(made) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(part)

        cache.add("a", rows, deadly)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert cache.missing("a", rows).tolist() == list(range(20, 35))
    asked: list[int] = []
    cache.add("a", rows, counting(plain, asked))
    assert asked == list(range(20, 35))
    assert np.array_equal(read_features(cache.file("a"), rows), rounded(plain(rows)))
    assert [file.name for file in (tmp_path / "shared").glob("*.part")] == []


@forks
def test_two_processes_that_add_at_once_lose_nothing_and_read_no_image_twice(tmp_path: Path) -> None:
    children = []
    for number in range(2):
        if not (child := os.fork()):
            asked: list[int] = []

            def slow(rows: np.ndarray, asked: list[int] = asked) -> np.ndarray:
                time.sleep(0.05)
                return counting(plain, asked)(rows)

            cache = FeatureCache(tmp_path / str(number), tmp_path / "shared")
            for start in range(6):
                cache.add("a", np.arange(start, 30, 2 + number), slow)
            (tmp_path / f"asked{number}").write_text(" ".join(map(str, asked)))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    asked = [int(row) for number in range(2) for row in (tmp_path / f"asked{number}").read_text().split()]
    assert sorted(asked) == list(range(30))
    assert np.array_equal(read_features(tmp_path / "shared/a.npy", np.arange(30)), rounded(plain(np.arange(30))))


def test_the_files_unused_for_longest_go_and_neither_this_runs_nor_the_links_of_a_study(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "study", tmp_path / "shared")
    rows = np.arange(1000)
    for age, key in enumerate("abcd"):
        cache.add(key, rows, plain)
        os.utime(cache.shared / f"{key}.npy", (1e9 + age, 1e9 + age))
    cache.add("b", rows[:5], plain)  # used again
    size = (cache.shared / "a.npy").stat().st_size
    trim(cache.shared, 2.5 * size / 1e9, {"c"})
    assert sorted(file.stem for file in cache.shared.glob("*.npy")) == ["b", "c"]
    assert sorted(file.stem for file in cache.folder.glob("*.npy")) == list("abcd")
    assert np.array_equal(read_features(cache.file("a"), rows), rounded(plain(rows)))
    trim(cache.shared, 1e-9, {"c"})
    assert sorted(file.stem for file in cache.shared.glob("*.npy")) == ["c"]


def test_a_file_that_another_run_works_with_is_not_removed(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "study", tmp_path / "shared")
    cache.add("a", np.arange(9), plain)
    with closing(feature_cache._locked(tmp_path / "shared/a.npy")):
        trim(tmp_path / "shared", 1e-9, ())
        assert (tmp_path / "shared/a.npy").exists()
    trim(tmp_path / "shared", 1e-9, ())
    assert not (tmp_path / "shared/a.npy").exists()


def test_a_study_folder_has_links_or_copies_where_there_can_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = FeatureCache(tmp_path / "one", tmp_path / "shared").add("a", np.arange(3), plain)
    assert linked.samefile(tmp_path / "shared/a.npy")

    def refuse(*_: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    copied = FeatureCache(tmp_path / "two", tmp_path / "shared").add("a", np.arange(2), plain)
    assert not copied.samefile(linked)
    assert copied.read_bytes() == linked.read_bytes()


def test_a_damaged_file_is_said_and_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, rows = FeatureCache(tmp_path), np.arange(20)
    whole = cache.add("a", rows, plain).read_bytes()
    for part in (whole[:30], whole[:-7], b""):
        cache.file("a").write_bytes(part)
        cache.add("a", rows, plain)
        assert "computed again" in capsys.readouterr().err
        assert cache.file("a").read_bytes() == whole


# --- in studies and fits


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each pass of a study has read."""
    counts: list[int] = []

    def features(encoder, store, rows, **how):  # type: ignore[no-untyped-def]
        counts.append(len(rows))
        return passed(encoder, store, rows, **how)

    passed = trial.features
    monkeypatch.setattr(trial, "features", features)
    return counts


def study(store: Path, out: Path, **changed: object) -> Path:
    given = {"store": store, "out": out, "target": ["Finding"], "fraction": [0.4, 1.0], "draws": 2, "arm": ["random"],
             "replicates": 200, **HOW}  # fmt: skip
    return run_study(given | changed)


def contents(folder: Path) -> dict[str, bytes]:
    files = [
        file for name in ("predictions/*", "validation/*", "cells.csv", "features/*.npy") for file in folder.glob(name)
    ]
    assert len(files) > 6
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_the_same_study_cold_and_from_the_cache_has_identical_files_and_reads_nothing(
    store: Store, tmp_path: Path, reads: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    cold = study(store.path, tmp_path / "cold", feature_cache=tmp_path / "shared")
    assert reads == [len(store)]
    assert f"{len(store)} images are read, 0 come from the cache" in capsys.readouterr().err
    cached = study(store.path, tmp_path / "cached", feature_cache=tmp_path / "shared")
    assert reads == [len(store)]
    assert f"0 images are read, {len(store)} come from the cache" in capsys.readouterr().err
    study(store.path, cold)  # the folder is no part of what a study is: the same one goes on without it
    assert reads == [len(store)]
    alone = study(store.path, tmp_path / "alone")
    assert contents(cold) == contents(cached) == contents(alone)


def test_another_target_other_labels_and_a_fit_read_no_image_again(
    tmp_path: Path, reads: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "first", patients=30)
    how = {"feature_cache": tmp_path / "shared"}
    study(store.path, tmp_path / "a", **how)
    assert reads == [len(store)]
    study(store.path, tmp_path / "b", target=["sex=M"], **how)
    index = pl.read_parquet(store.path / "index.parquet")
    index.with_columns(Finding=1 - pl.col("Finding")).write_parquet(store.path / "index.parquet")
    manifest = store.path / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")  # another store by its hash, of the same images
    study(store.path, tmp_path / "c", **how)
    assert reads == [len(store)]
    capsys.readouterr()
    run("fit", {"store": store.path, "encoder": "random", "target": "Finding", "out": tmp_path / "model", **how, **HOW})
    assert "features: 0 images are read" in capsys.readouterr().err


def test_a_fit_has_the_same_bits_with_and_without_a_cache_and_keeps_to_the_limit(store: Store, tmp_path: Path) -> None:
    given = {"store": store.path, "encoder": "random", "target": "Finding", **HOW}
    old = FeatureCache(tmp_path / "shared").add("old", np.arange(9), plain)
    for name, how in (("plain", {}), ("cold", {"feature_cache_size": 1e-9}), ("kept", {})):
        shared = {} if name == "plain" else {"feature_cache": tmp_path / "shared"}
        run("fit", {**given, "out": tmp_path / name, **shared, **how})
    models = {(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "cold", "kept")}
    assert len(models) == 1
    assert not old.exists()
    assert len(list((tmp_path / "shared").glob("*.npy"))) == 1


def test_a_fit_on_encoders_side_by_side_keeps_the_files_of_all_of_them(store: Store, tmp_path: Path) -> None:
    how = {"encoder": "random+random@48", "target": "Finding", "feature_cache": tmp_path, "feature_cache_size": 1e-9}
    run("fit", {"store": store.path, "out": tmp_path / "model", **HOW, **how})
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_read(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"):
        study(store.path, tmp_path / "study", feature_cache=tmp_path / "file")
    assert not (tmp_path / "study").exists()
