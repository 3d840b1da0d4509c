"""Tables of images and class folders: what is read, and every refusal with its culprit and its way out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest

from mococxr.datasets import Dataset, read_dataset
from mococxr.datasets.dataset import FIXED
from mococxr.errors import InputError


def table(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def notes(dataset: Dataset) -> str:
    return "\n".join(dataset.notes)


def test_a_table_is_read_by_its_names_whatever_their_case(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "Filename,Patient_ID,STUDY_ID,View,sex,Age,Split,Effusion,Site,kvp,code\n"
        "a/1.png,007,s1,AP,M,58,train,1,Ulm,80,01\n./a//2.png,007,s1,PA,F,058Y,training,-1.0,Bonn,90.5,02\n"
        "a\\3.png,8,s2,,, 6M ,valid,,Bonn,,03\nb/../a/4.png,9,s3,,,,,0,,70,\n",
    )
    dataset = read_dataset(path)
    rows = dataset.rows
    assert rows.columns == [*FIXED, "Effusion", "Site", "kvp", "code"]
    assert rows.schema == {
        **dict.fromkeys(FIXED, pl.String),
        "age": pl.Float64,
        "Effusion": pl.Int8,
        "Site": pl.String,
        "kvp": pl.Float64,
        "code": pl.String,
    }
    assert rows["path"].to_list() == ["a/1.png", "a/2.png", "a/3.png", "a/4.png"]
    assert rows["patient"].to_list() == ["007", "007", "8", "9"]
    assert rows["age"].to_list() == [58, 58, 0.5, None]
    assert rows["split"].to_list() == ["train", "train", "val", None]
    assert rows["Effusion"].to_list() == [1, -1, None, 0]
    assert (dataset.name, dataset.labels, dataset.metadata) == ("csv", ("Effusion",), ("Site", "kvp", "code"))
    assert dataset.has_official_split
    assert dataset.patients_known
    assert dataset.blank_means == "unknown"
    assert (dataset.source, dataset.root) == (tmp_path.name, tmp_path)
    assert dataset.inputs == {"labels.csv": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert "Site, kvp, code" in notes(dataset)
    assert "read as csv" in dataset.notes[0]


def test_a_stated_label_leaves_the_others_as_metadata(tmp_path: Path) -> None:
    table(tmp_path, "path,patient,A,B\n1.png,1,1,0\n2.png,2,,1\n")
    dataset = read_dataset(tmp_path, label=["b"])
    assert (dataset.labels, dataset.metadata) == (("B",), ("A",))
    assert dataset.rows.schema["A"] == pl.Int64
    assert read_dataset(tmp_path).labels == ("A", "B")


def test_a_column_that_is_a_label_but_for_a_word_is_remarked_on(tmp_path: Path) -> None:
    lines = [f"{i}.png,{i},{i % 2}" for i in range(20)] + ["20.png,20,maybe"]
    table(tmp_path, "path,patient,Edema\n" + "\n".join(lines))
    dataset = read_dataset(tmp_path)
    assert dataset.metadata == ("Edema",)
    assert "'maybe' in labels.csv, row 21 (line 22)" in notes(dataset)


def test_paths_beside_the_table_come_before_paths_in_the_source(tmp_path: Path) -> None:
    source, tables = tmp_path / "images", tmp_path / "tables"
    touch(source, "a.png", "b.png")
    text = "path,patient\na.png,1\nb.png,2\ngone.png,3\n"
    dataset = read_dataset(source, labels=table(tables, text))
    assert dataset.root == source
    assert dataset.rows["path"].to_list() == ["a.png", "b.png", "gone.png"]
    touch(tables, "a.png")
    dataset = read_dataset(source, labels=tables / "labels.csv")
    assert dataset.root == tmp_path
    assert dataset.rows["path"].to_list() == ["tables/a.png", "images/b.png", "images/gone.png"]
    inner = read_dataset(source, labels=table(source / "meta", "path,patient\n../a.png,1\nb.png,2\n"))
    assert inner.root == source
    assert inner.rows["path"].to_list() == ["a.png", "b.png"]


def test_absolute_paths_inside_the_source_are_made_relative(tmp_path: Path) -> None:
    table(tmp_path, f"path,patient\n{tmp_path}/x/a.png,1\nb.png,2\n")
    assert read_dataset(tmp_path).rows["path"].to_list() == ["x/a.png", "b.png"]


def test_images_in_no_row_are_counted_and_said(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png", "images/c.JPG", "images/notes.txt", "images/.hidden.png")
    table(tmp_path, "path,patient,A\nimages/a.png,1,\nimages/absent.png,2,\n")
    dataset = read_dataset(tmp_path)
    assert "2 images on disk are not in the table and were skipped, e.g. 'images/b.png'" in notes(dataset)
    assert dataset.rows.height == 2
    assert dataset.labels == ("A",)


def test_study_numbers_that_repeat_between_patients_do_not_join_them(tmp_path: Path) -> None:
    table(tmp_path, "path,patient,study\n1.png,p,1\n2.png,p,1\n3.png,q,1\n4.png,q,\n")
    assert read_dataset(tmp_path).rows["study"].to_list() == ["p/1", "p/1", "q/1", None]


def test_unknown_patients_must_be_accepted_and_are_then_one_an_image(tmp_path: Path) -> None:
    table(tmp_path, "path,A\n1.png,0\n2.png,1\n")
    with pytest.raises(InputError, match=r"no patient identifiers") as caught:
        read_dataset(tmp_path)
    assert "--patients-unknown" in caught.value.way_out
    dataset = read_dataset(tmp_path, patients_unknown=True)
    assert not dataset.patients_known
    assert dataset.rows["patient"].to_list() == ["1.png", "2.png"]


def test_columns_named_as_the_stores_own_are_renamed(tmp_path: Path) -> None:
    table(tmp_path, "path,patient,height,row,sha256\n1.png,1,2500,1,x\n2.png,2,2000,0,y\n")
    dataset = read_dataset(tmp_path)
    assert (dataset.labels, dataset.metadata) == (("row_in_table",), ("height_in_table", "sha256_in_table"))
    assert "'height' is kept as 'height_in_table'" in notes(dataset)


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_tables_as_spreadsheets_write_them_are_read(tmp_path: Path, separator: str, encoding: str) -> None:
    text = "path,patient,Ort,A\r\n1.png,1,Köln,1\r\n2.png,2,Bonn,0\r\n,,,\r\n".replace(",", separator)
    dataset = read_dataset(table(tmp_path, text.encode(encoding)))
    assert dataset.rows["Ort"].to_list() == ["Köln", "Bonn"]
    assert ("Latin-1" in notes(dataset)) == (encoding == "latin-1")


BAD = {
    "empty": ("", {}, "labels.csv is empty"),
    "header only": ("path,patient,A\n", {}, "header and no rows"),
    "no path column": ("picture,patient\n1.png,1\n", {}, "no path column; its columns: picture, patient"),
    "blank path": ("path,patient\n1.png,1\n ,2\n", {}, r"row 2 \(line 3\): the path is blank"),
    "duplicate": ("path,patient\n1.png,1\n./1.png,2\n", {}, r"row 2 \(line 3\).*'1.png'.*row 1 \(line 2\)"),
    "out by dots": ("path,patient\na.png,1\nx/../../b.png,2\n", {}, r"row 2 \(line 3\).*'x/../../b.png'.*outside"),
    "out by root": ("path,patient\n/etc/passwd,1\n", {}, r"row 1 \(line 2\).*'/etc/passwd'.*outside"),
    "out by drive": ("path,patient\nC:\\a.png,1\n", {}, "outside"),
    "the folder itself": ("path,patient\n./,1\n", {}, "outside"),
    "blank patient": ("path,patient\na.png,1\nb.png,\n", {}, r"row 2 \(line 3\): the patient is blank \(1 such"),
    "two splits": ("path,patient,split\na.png,p7,train\nb.png,p7,test\n", {}, "'p7' is in two splits: test and train"),
    "no such split": ("path,patient,split\na.png,1,holdout\n", {}, r"row 1 .*'split': 'holdout' is not the name"),
    "words": ("path,patient,A\na.png,1,1\nb.png,2,maybe\n", {"label": ["A"]}, r"row 2 \(line 3\), column 'A': 'maybe'"),
    "a two": ("path,patient,A\na.png,1,2\n", {"label": ["A"]}, "'2' is not a label"),
    "no such label": ("path,patient,Edema\na.png,1,1\n", {"label": ["Edma"]}, "no column 'Edma'"),
    "fixed as label": ("path,patient,sex\na.png,1,M\n", {"label": ["sex"]}, "'sex' is read as a fixed column"),
    "twice in header": ("path,patient,A,A\na.png,1,1,0\n", {}, "'A' appears twice"),
    "ragged": ("path,patient\na.png,1,9,9\n", {}, "cannot be read as a table"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 9, {}, "not a text table"),
    "broken gzip": (b"\x1f\x8b\x08" + b"x" * 40, {}, "damaged gzip"),
    "no such format": ("path,patient\na.png,1\n", {"format": "dicm"}, "'dicm' is not known"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused_by_file_row_and_column(tmp_path: Path, name: str) -> None:
    text, options, problem = BAD[name]
    path = table(tmp_path, text)
    with pytest.raises(InputError, match=problem) as caught:
        read_dataset(path, **options)
    assert caught.value.way_out


def test_a_source_that_is_not_there_or_holds_two_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_dataset(tmp_path / "none")
    table(tmp_path, "path,patient\na.png,1\n", "one.csv")
    assert read_dataset(tmp_path).rows.height == 1
    table(tmp_path, "path,patient\na.png,1\n", "two.csv")
    with pytest.raises(InputError, match=r"one.csv, two.csv") as caught:
        read_dataset(tmp_path)
    assert "--labels" in caught.value.way_out
    with pytest.raises(InputError, match="not a file"):
        read_dataset(tmp_path, labels=tmp_path)


def test_class_folders_become_labels(tmp_path: Path) -> None:
    touch(tmp_path, "normal/1.png", "normal/deep/2.png", "tb/1.png", "unlabelled/5.png", "loose.png", "tb/x.txt")
    with pytest.raises(InputError, match="no patient identifiers"):
        read_dataset(tmp_path)
    dataset = read_dataset(tmp_path, patients_unknown=True)
    assert (dataset.name, dataset.labels, dataset.has_official_split) == ("folder", ("normal", "tb"), False)
    assert dataset.rows.select("path", "normal", "tb").rows() == [
        ("loose.png", None, None),
        ("normal/1.png", 1, 0),
        ("normal/deep/2.png", 1, 0),
        ("tb/1.png", 0, 1),
        ("unlabelled/5.png", None, None),
    ]
    assert read_dataset(tmp_path, patients_unknown=True, label=["tb"]).labels == ("tb",)


def test_folders_named_train_and_test_are_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/NORMAL/a.png", "train/PNEUMONIA/b.png", "val/NORMAL/c.png", "test/PNEUMONIA/d.png")
    dataset = read_dataset(tmp_path, patients_unknown=True)
    assert dataset.has_official_split
    assert dataset.rows["split"].to_list() == ["test", "train", "train", "val"]
    assert dataset.rows["PNEUMONIA"].to_list() == [1, 0, 1, 0]


def test_one_folder_of_images_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "images/2.jpeg")
    dataset = read_dataset(tmp_path, patients_unknown=True)
    assert dataset.labels == ()
    assert dataset.rows.height == 2
    with pytest.raises(InputError, match="no class folders"):
        read_dataset(tmp_path, patients_unknown=True, label=["images"])


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "readme.txt")
    with pytest.raises(InputError, match="holds no images"):
        read_dataset(tmp_path, patients_unknown=True)
