"""What a search of a folder opens, passes by and says: nothing is dropped without a word, in any command."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from mococxr.classifier.inputs import images_of
from mococxr.datasets import Dataset, read_dataset
from mococxr.datasets.walk import UNFIT, Walk, any_name, fits
from mococxr.errors import InputError
from mococxr.store import Store
from small_images import write_images
from small_store import HOW
from small_world import status

ODD = ["a.webq", "b.GIF", "c.png.bak", "no_suffix", "scan.20200101", "notes.md", "x.gif"]
SYSTEM = ["@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found", "System Volume Information", "#recycle", "found.000"]


def touch(root: Path, *names: str | bytes) -> Path:
    for name in names:
        path = os.path.join(os.fsencode(root), name if isinstance(name, bytes) else name.encode())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    return root


def class_folders(root: Path) -> Path:
    return touch(root, "TB/1.png", "TB/2.jfif", "normal/3.jpe", "normal/4.dib")


def search(root: Path, kind: str) -> tuple[list[str], str]:
    """The images that a command finds, relative to the root, and what it says."""
    if kind == "predict":
        images, notes = images_of(root, None)
        return sorted(os.path.relpath(image.path, root) for image in images if image.file), "\n".join(notes)
    if kind == "csv":
        (root / "labels.csv").write_text("path,patient\nTB/1.png,1\nTB/2.jfif,2\nnormal/3.jpe,3\nnormal/4.dib,4\n")
    dataset = read_dataset(root, format=kind, patients_unknown=True)
    return sorted(dataset.rows["path"]), "\n".join(dataset.notes)


WAYS = pytest.mark.parametrize("kind", ["folder", "csv", "predict"])


@WAYS
def test_files_of_other_suffixes_are_counted_by_suffix_in_every_search(tmp_path: Path, kind: str) -> None:
    root = touch(class_folders(tmp_path / "images"), *(f"TB/{name}" for name in ODD), "normal/.hidden.png")
    images, words = search(root, kind)
    assert images == ["TB/1.png", "TB/2.jfif", "normal/3.jpe", "normal/4.dib"]
    for count in (".webq 1", ".gif 2", ".bak 1", "no suffix 2", ".md 1", "hidden files 1"):
        assert count in words


@WAYS
def test_hidden_and_system_folders_hold_no_images_and_no_classes(tmp_path: Path, kind: str) -> None:
    root = class_folders(tmp_path / "images")
    touch(root, *(f"{folder}/1.png" for folder in (*SYSTEM, ".ipynb_checkpoints", "TB/@eaDir", "normal/.cache")))
    images, words = search(root, kind)
    assert len(images) == 4
    assert f"system folders {len(SYSTEM) + 1}" in words
    assert "hidden folders 2" in words
    assert kind == "predict" or read_dataset(root, format="folder", patients_unknown=True).labels == ("TB", "normal")


@WAYS
def test_links_to_folders_are_said_and_a_loop_ends(tmp_path: Path, kind: str) -> None:
    root = class_folders(tmp_path / "images")
    touch(tmp_path / "disk", "5.png")
    (root / "other").symlink_to(tmp_path / "disk")
    (root / "TB" / "loop").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "nothing")
    images, words = search(root, kind)
    assert len(images) == 4
    assert "links to folders 2" in words
    assert "'other', 'TB/loop'" in words
    assert "SOURCE" in words


def test_a_folder_of_links_alone_is_refused_and_the_links_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "5.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "TB").symlink_to(tmp_path / "disk")
    with pytest.raises(InputError, match="'TB'"):
        read_dataset(tmp_path / "images", format="folder", patients_unknown=True)


STRANGE = [b"TB/\xffdoe.png", b"TB/line\nbreak.png", b"normal/back\\slash.png", b"normal/bell\x07.png", b"c:1.png"]
STRANGE += ["normal/\u2028.png".encode(), b"\xe9t\xe9/1.png"]


@WAYS
def test_a_file_whose_name_no_table_can_hold_is_listed_and_the_rest_goes_on(tmp_path: Path, kind: str) -> None:
    root = touch(class_folders(tmp_path / "images"), *STRANGE)
    images, words = search(root, kind)
    assert len(images) == 4
    if kind == "predict":
        lost = [image.path for image in images_of(root, None)[0] if image.file is None]
    elif kind == "csv":
        assert f"{len(STRANGE)} images on disk are not in the table" in words
        return
    else:
        rejected = read_dataset(root, format=kind, patients_unknown=True).rejected
        assert set(rejected["reason"]) == {UNFIT}
        lost = rejected["path"].to_list()
    assert len(lost) == len(STRANGE)
    pl.DataFrame({"path": lost}).write_csv(tmp_path / "list.csv")
    assert all(path.isprintable() for path in lost)


def test_names_in_any_script_with_any_mark_fit_a_table() -> None:
    assert all(map(fits, ["a b/c,d.png", "'\"%20#*[]?.png", "患者/é.png", "x" * 250, "a/\u200bb.png", "e\u0301.png"]))


def test_an_archive_is_searched_whatever_its_files_are_called(tmp_path: Path) -> None:
    touch(tmp_path, "IM0", "1.2.840.10008", "a.dcm", "b.IMA", "c.webp", "DICOMDIR", "d.png", ".git/IM1", "@eaDir/IM2")
    walk = Walk(tmp_path, any_name)
    assert sorted(walk.files()) == ["1.2.840.10008", "IM0", "a.dcm", "b.IMA"]
    assert dict(walk.skipped) == {".webp": 1, ".png": 1, "DICOMDIR": 1, "hidden folders": 1, "system folders": 1}


SPLIT_FOLDERS = {
    "beside a class": ("train/TB/1.png", "test/TB/2.png", "extra/3.png"),
    "beside an image": ("train/TB/1.png", "test/TB/2.png", "loose.png"),
    "nested": ("chest_xray/train/TB/1.png", "chest_xray/val/TB/2.png"),
    "unzipped twice": ("train/TB/1.png", "test/TB/2.png", "chest_xray/train/TB/1.png", "chest_xray/test/TB/2.png"),
    "below classes": ("TB/Training/1.png", "TB/Testing/2.png", "normal/Training/3.png"),
    "in other words": ("stage_2_train_images/1.png", "stage_2_test_images/2.png", "extra/3.png"),
    "one alone": ("validation/1.png", "others/2.png"),
}


@pytest.mark.parametrize("names", SPLIT_FOLDERS.values(), ids=SPLIT_FOLDERS)
def test_folders_named_as_splits_among_others_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path / "images", *names)
    with pytest.raises(InputError, match="named as splits") as caught:
        read_dataset(tmp_path / "images", format="folder", patients_unknown=True)
    assert "SOURCE" in caught.value.way_out
    assert "--labels" in caught.value.way_out


def test_a_folder_a_patient_gives_no_label_a_patient(tmp_path: Path) -> None:
    touch(tmp_path / "images", *(f"P{i:03d}/1.png" for i in range(60)))
    with pytest.raises(InputError, match="60 folders of images side by side: are they patients") as caught:
        read_dataset(tmp_path / "images", format="folder", patients_unknown=True)
    assert "--label NAME" in caught.value.way_out
    dataset = read_dataset(tmp_path / "images", format="folder", patients_unknown=True, label=["P001"])
    assert dataset.rows["P001"].sum() == 1


def test_folders_called_after_splits_in_other_words_are_splits(tmp_path: Path) -> None:
    touch(
        tmp_path / "images", "Train_Images/TB/1.png", "train-2/normal/2.png", "Test set/TB/3.png", "valid/normal/4.png"
    )
    dataset = read_dataset(tmp_path / "images", format="folder", patients_unknown=True)
    assert dataset.labels == ("TB", "normal")
    assert dataset.rows.sort("path")["split"].to_list() == ["test", "train", "train", "val"]
    touch(tmp_path / "images", "train/Unlabelled images/5.png")
    rows = read_dataset(tmp_path / "images", format="folder", patients_unknown=True).rows
    assert (rows.width, rows["TB"].null_count()) == (dataset.rows.width, 1)
    touch(tmp_path / "classes", "test_positive/1.png", "Val_19500101/2.png", "train患者/3.png")
    classes = read_dataset(tmp_path / "classes", format="folder", patients_unknown=True)
    assert len(classes.labels) == 3


def dataset_of(source: Path, labels: Path) -> Dataset:
    return read_dataset(source, labels=labels, format="csv")


def test_images_behind_a_link_beside_the_table_are_those_of_the_disk_that_is_given(tmp_path: Path) -> None:
    table = touch(tmp_path / "study", "labels.csv") / "labels.csv"
    table.write_text("path,patient\nimages/1.png,A\n")
    touch(tmp_path / "disk", "images/1.png")
    (tmp_path / "study" / "images").symlink_to(tmp_path / "disk" / "images")
    dataset = dataset_of(tmp_path / "disk", table)
    assert dataset.root.resolve() == tmp_path / "disk"
    assert dataset.rows["path"].to_list() == ["images/1.png"]


def test_the_folder_that_a_link_leads_to_may_be_the_source_whatever_it_is_called(tmp_path: Path) -> None:
    table = touch(tmp_path / "study", "labels.csv") / "labels.csv"
    table.write_text("path,patient\nimages/1.png,A\nimages/sub/2.png,B\n3.png,C\n")
    disk = touch(tmp_path / "disk", "xrays/1.png", "xrays/sub/2.png", "xrays/third.png") / "xrays"
    (tmp_path / "study" / "images").symlink_to(disk)
    (tmp_path / "study" / "3.png").symlink_to(disk / "third.png")
    for source, prefix in ((disk, ""), (tmp_path / "disk", "xrays/"), (tmp_path, "disk/xrays/")):
        dataset = dataset_of(source, table)
        assert dataset.rows["path"].to_list() == [prefix + name for name in ("1.png", "sub/2.png", "third.png")]
        assert all((dataset.root / path).is_file() for path in dataset.rows["path"])


def test_links_that_leave_the_source_are_refused_with_a_way_out_that_works(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "disk", 6)
    (tmp_path / "study").mkdir()
    (tmp_path / "disk" / "labels.csv").rename(tmp_path / "study" / "labels.csv")
    for folder in (tmp_path / "disk").iterdir():
        (tmp_path / "study" / folder.name).symlink_to(folder)
    line = ("--out", tmp_path / "store", "--size", 32, "--jobs", 1, "--split", 1, 0, 0)
    assert status("prepare", tmp_path / "study", *line) == 2
    assert "SOURCE" in capfd.readouterr().err
    assert status("prepare", tmp_path / "disk", "--labels", tmp_path / "study" / "labels.csv", *line) == 0


# --- `predict` of a list


@pytest.fixture(scope="module")
def model(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mococxr.commands import run

    out = tmp_path_factory.mktemp("model") / "model"
    run("fit", {"store": store.path, "encoder": "random", "target": "Finding", "out": out, **HOW})
    return out


LISTS = {
    "a column of paths": ("list.csv", "path,patient\n{0},P1\n{1},P2\n"),
    "no header": ("list.csv", "{0}\n{1}\n"),
    "another column": ("list.csv", "filename;remark\n{0};x\n\n{1};y\n"),
    "a header of another name": ("list.csv", "Image Index\n{0}\n{1}\n"),
    "quotes": ("list.csv", '"{0}"\n"{1}"\n'),
    "quoted lines": ("list.txt", "'{0}'\n'{1}'\n"),
    "a blank path": ("list.csv", "path,patient\n{0},P1\n,P3\n{1},P2\n"),
    "lines": ("list.txt", "{0}\n\n{1}\r\n"),
    "lines with a mark": ("list.TXT", "\ufeff{0}\n{1}"),
    "tabs": ("list.tsv", "Path\tnote\n{0}\t1\n{1}\t2\n"),
}


@pytest.mark.parametrize(("name", "text"), LISTS.values(), ids=LISTS)
def test_a_list_of_images_is_scored_in_its_order(
    store: Store, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    paths = store.index["path"].to_list()[4:2:-1]
    source = store.path.parent / "images"
    for kind, base in (("beside", ""), ("absolute", f"{source}/")):
        at = tmp_path / kind
        at.mkdir()
        for path in paths if kind == "beside" else ():
            (at / path).parent.mkdir(parents=True, exist_ok=True)
            (at / path).write_bytes((source / path).read_bytes())
        (at / name).write_text(text.format(*(base + path for path in paths)))
        assert status("predict", model, at / name, "--out", at / "scores.csv", "--device", "cpu") == 0
        scores = pl.read_csv(at / "scores.csv", infer_schema=False)
        assert scores["path"].to_list() == [base + path for path in paths]
        assert scores["patient"].to_list() == (["P1", "P2"] if "P1" in text else [None, None])
        assert not (at / "scores.csv.quarantine.csv").exists()
        assert ("1 rows of" in capfd.readouterr().err) == ("P3" in text)


def test_a_list_may_be_a_parquet_table(store: Store, model: Path, tmp_path: Path) -> None:
    path = str(store.path.parent / "images" / store.index["path"][0])
    pl.DataFrame({"path": [path], "patient": ["P1"]}).write_parquet(tmp_path / "list.parquet")
    assert status("predict", model, tmp_path / "list.parquet", "--out", tmp_path / "s.csv", "--device", "cpu") == 0
    assert pl.read_csv(tmp_path / "s.csv").select("path", "patient").rows() == [(path, "P1")]


UNREADABLE = {
    "a list of nothing": ("list.csv", b"path\ngone.png\n", "None of the 1 images"),
    "an empty list": ("list.txt", b"", "no image to score"),
    "no paths": ("list.csv", b"a,b\n1,2\n", "no column of paths"),
    "a broken image": ("one.png", b"no image", "None of the 1 images"),
    "text that is no list": ("note.md", b"words", "None of the 1 images"),
}


@pytest.mark.parametrize(("name", "data", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_where_no_image_can_be_read_nothing_is_written(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, data: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert status("predict", model, tmp_path / name, "--out", tmp_path / "scores.csv", "--device", "cpu") == 2
    assert words in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
