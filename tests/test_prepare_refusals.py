from __future__ import annotations

import collections
import os
from pathlib import Path

import polars as pl
import pytest

from mococxr.errors import InputError, RunError
from mococxr.preparation.prepare import run
from small_images import settings, write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 12)
    return tmp_path / "images"


def refused(folder: Path, out: Path, **others: object) -> str:
    """The message with which a run is refused; nothing may be written by it."""
    before = sorted(p for p in out.parent.rglob("*") if p.is_file())
    with pytest.raises(InputError) as caught:
        run(settings(folder, out, **others))
    assert sorted(p for p in out.parent.rglob("*") if p.is_file()) == before
    assert caught.value.way_out
    return str(caught.value)


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({"keep": ("remark",)}, "--key and --keep go with --pseudonymise"),
        ({"pseudonymise": True, "keep": ("notes",)}, "--keep notes: there is no such column"),
        ({"pseudonymise": True, "key": Path(__file__)}, "is not a key"),
        ({"size": 4}, "--size must be between 16 and 4096 (got 4)"),
        ({"jobs": 0}, "--jobs"),
        ({"depth": "most"}, "most"),
        ({"split": (0.5, 0.5, 0.5)}, "--split cannot be 0.5 0.5 0.5"),
        ({"split_file": Path("absent.csv")}, "absent.csv"),
        ({"source": Path("nowhere")}, "nowhere"),
        ({"label": ("Efusion",)}, "Efusion"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(folder, tmp_path, others, says):
    assert says in refused(folder, tmp_path / "store", **others)


def test_more_splits_than_patients_are_refused(tmp_path):
    write_images(tmp_path / "images", 4)
    assert "2 patients cannot fill 3 splits" in refused(tmp_path / "images", tmp_path / "store")


def test_a_split_file_of_other_patients_is_refused(folder, tmp_path):
    pl.DataFrame({"patient": ["x", "y"], "split": ["train", "test"]}).write_csv(tmp_path / "split.csv")
    said = refused(folder, tmp_path / "store", split_file=tmp_path / "split.csv")
    assert f"None of the 2 patients in {tmp_path / 'split.csv'} has an image here" in said


def test_a_place_that_holds_something_else_is_refused(folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "file is not a folder" in refused(folder, tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "is not a store, and is not empty" in refused(folder, tmp_path / "full")
    assert "file is not a folder" in refused(folder, tmp_path / "file" / "store")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(folder, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in refused(folder, tmp_path / "locked" / "store")


def test_a_folder_of_images_does_not_get_the_store_inside(folder):
    (folder / "labels.csv").unlink()
    (folder / "images").rename(folder / "sick")
    said = refused(folder, folder / "sick" / "store", format="folder", patients_unknown=True)
    assert "lies inside the folder of images" in said


def test_a_disk_that_is_too_small_is_seen_before_anything_is_decoded(folder, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("mococxr.preparation.staging.shutil.disk_usage", lambda _: usage(10, 0, 1000))
    monkeypatch.setattr("mococxr.preparation.prepare.decode_all", None)
    said = refused(folder, tmp_path / "store")
    assert "The store needs about" in said
    assert "GB free" in said
    assert not list(tmp_path.glob(".*"))


def test_a_dataset_without_one_readable_image_is_refused_and_leaves_nothing(folder, tmp_path):
    for image in (folder / "images").iterdir():
        image.write_text("no image")
    said = refused(folder, tmp_path / "store")
    assert "None of the 12 images" in said
    assert "images/image0000.png: not a PNG" in said
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("_new_processes")
def test_a_script_that_forgot_its_guard_is_told_so(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("mococxr.workers._init_worker", os._exit)  # takes another its argument: an error in the child
    with pytest.raises(RunError, match="__main__"):
        run(settings(folder, tmp_path / "store"))
    assert not list(tmp_path.glob(".*"))
