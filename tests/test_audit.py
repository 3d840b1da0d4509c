"""`inspect`: faults planted in a store of synthetic images are found, a clean store is called clean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from faulty_images import plant
from mococxr import cli
from mococxr.audit.inspect import Audit
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.store import Store
from mococxr.synthetic import draw_synthetic

FLAG_OF = {"rescaled": "copy", "recompressed": "copy", "leaking": "copy-across-splits", "torn": "patient-in-two-splits"}
LOOKS = ["inverted", "blank", "narrow", "rotated", "not-chest", "text", "text-short"]


def inspect(store: Path, out: Path, **settings: Any) -> Audit:
    return run("inspect", {"store": store, "out": out / "audit.html", "jobs": 1, **settings})


def found(audit: Audit, planted: dict[str, list[str]]) -> dict[str, int]:
    """Of each planted fault, how many are flagged as what they are."""
    counts = {}
    for fault, names in planted.items():
        rows = audit.flags.filter(pl.col("flag") == FLAG_OF.get(fault, fault))
        flagged = set(rows["patient" if fault == "torn" else "path"].to_list())
        counts[fault] = sum(name in flagged for name in names)
    return counts


def wrong(audit: Audit, planted: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Images flagged for their looks in which nothing was planted."""
    faulty = [name for names in planted.values() for name in names]
    rows = audit.flags.filter(pl.col("flag").is_in(LOOKS) & ~pl.col("path").is_in(faulty))
    return rows.select("path", "flag").rows()


COUNTS = dict(inverted=4, blank=2, rotated=3, text=3, rescaled=2, recompressed=2, identical=2, leaking=2, torn=2)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, list[str]], Audit]:
    """110 synthetic images with faults, and their audit."""
    folder = tmp_path_factory.mktemp("faulty")
    store, planted = plant(folder, 110, COUNTS, size=320)
    (store.path / "quarantine.csv").write_text(
        'path,reason\nimages/broken.png,"cut short, ends early"\nimages/scout.dcm,a localizer\n'
    )
    return store, planted, inspect(store.path, folder / "out")


def test_every_planted_fault_is_found_and_no_other_image_is_called_odd(faulty: Any) -> None:
    _, planted, audit = faulty
    assert found(audit, planted) == COUNTS
    assert not wrong(audit, planted)
    assert audit.flags.filter(pl.col("flag") == "corrupt").select("path", "reason").rows() == [
        ("images/broken.png", "cut short, ends early")
    ]
    assert audit.flags.filter(pl.col("flag") == "no-image")["path"].to_list() == ["images/scout.dcm"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_planted_faults_of_the_issue_are_found_among_2000_synthetic_images(tmp_path: Path) -> None:
    counts = dict(inverted=20, blank=5, rotated=10, text=10, rescaled=10, recompressed=10, identical=10)
    store, planted = plant(tmp_path, 1960, {**counts, "leaking": 5, "torn": 5}, size=300)
    audit = inspect(store.path, tmp_path / "out", jobs=2)
    seen = found(audit, planted)
    least = {**counts, "inverted": 18, "rotated": 9, "text": 9, "leaking": 5, "torn": 5}
    assert not {fault: (seen[fault], least[fault]) for fault in least if seen[fault] < least[fault]}
    assert len(wrong(audit, planted)) <= 0.02 * len(store)


def test_what_needs_attention_gives_the_exit_status_3(
    faulty: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _, audit = faulty
    words = ["inspect", str(store.path), "--out", str(tmp_path / "d.html"), "--jobs", "1"]
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 3
    said = capsys.readouterr().out
    assert said.startswith(audit.facts["verdict"])
    assert all(f"{one['count']:,}" in said and one["flag"] in said for one in audit.facts["findings"])
    assert (tmp_path / "d.json").read_bytes() == audit.page.with_suffix(".json").read_bytes()
    assert (tmp_path / "flags.csv").read_bytes() == audit.page.with_name("flags.csv").read_bytes()
    assert (tmp_path / "d.html").read_bytes() == audit.page.read_bytes(), "the same store gives the same bytes"


def test_a_clean_store_is_called_clean(
    synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", str(synthetic_store), "--out", str(tmp_path / "d.html"), "--jobs", "1"])
    facts = json.loads((tmp_path / "d.json").read_text())
    assert end.value.code == facts["exit_status"] == 0, facts["verdict"]
    assert capsys.readouterr().out.startswith("Nothing in these 60 images needs attention.")
    assert not [one for one in facts["findings"] if one["severity"] == "error"]
    assert "60 images: their shorter side is under 224 px" in facts["not_judged"][0]


def test_the_page_is_one_file_that_says_how_many_it_does_not_show(faulty: Any, tmp_path: Path) -> None:
    store, _, _ = faulty
    page = inspect(store.path, tmp_path, thumbnails=1).page.read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert 'src="data:image/jpeg;base64,' in page
    assert "3 more: rows with flag inverted in flags.csv" in page
    assert str(store.path.parent) not in page, "no path of this machine"


def test_two_processes_find_what_one_finds(faulty: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store, _, audit = faulty
    monkeypatch.setattr("mococxr.audit.measure._CHUNK", 40)
    assert inspect(store.path, tmp_path, jobs=2).flags.equals(audit.flags)


def test_what_two_stores_share_is_found(faulty: Any, tmp_path: Path) -> None:
    store, _, _ = faulty
    images = tmp_path / "elsewhere"
    images.mkdir()
    rows = [0, 1, 2, 3]
    paths = [f"other{row}.jpg" for row in rows] + ["own.png"]
    for row, name in zip(rows, paths, strict=False):
        cv2.imwrite(str(images / name), cv2.resize(np.asarray(store.pixels(row)), None, fx=0.8, fy=0.8))
    cv2.imwrite(str(images / "own.png"), draw_synthetic(77, 1))
    patients = ["a", store.index["patient"][1], "b", "c", "d"]
    pl.DataFrame({"path": paths, "patient": patients}).write_csv(images / "labels.csv")
    run("prepare", {"source": images, "out": tmp_path / "other", "size": 267, "jobs": 1})
    audit = inspect(store.path, tmp_path, against=tmp_path / "other")
    shared = audit.flags.filter(pl.col("flag") == "image-in-both-stores")
    assert {(row, other) for row, other in shared.select("row", "other").iter_rows() if row in rows} == {
        (row, f"other{row}.jpg") for row in rows
    }
    assert "of this patient" in shared.filter(pl.col("row") == 1)["reason"][0]
    assert not len(audit.flags.filter(pl.col("flag") == "patient-in-both-stores")), "the sources differ"
    assert audit.facts["against"]["images"] == 5


def test_patients_of_one_source_in_two_stores_are_a_leak(faulty: Any, tmp_path: Path) -> None:
    store, _, _ = faulty
    shutil.copytree(store.path, tmp_path / "twin")
    manifest = json.loads((tmp_path / "twin" / "manifest.json").read_text())
    (tmp_path / "twin" / "manifest.json").write_text(json.dumps({**manifest, "mococxr": "another"}))
    audit = inspect(store.path, tmp_path, against=tmp_path / "twin")
    shared = next(one for one in audit.facts["findings"] if one["flag"] == "patient-in-both-stores")
    assert shared["count"] == store.index["patient"].n_unique()
    with pytest.raises(InputError, match="same store"):
        inspect(store.path, tmp_path, against=store.path)


def test_nothing_is_written_where_the_settings_are_wrong(synthetic_store: Path, tmp_path: Path) -> None:
    for given in ({"jobs": 0}, {"thumbnails": -1}, {"out": tmp_path / "d.json"}, {"against": tmp_path}):
        with pytest.raises(InputError):
            run("inspect", {"store": synthetic_store, "out": tmp_path / "d.html", **given})
    assert not list(tmp_path.iterdir())
