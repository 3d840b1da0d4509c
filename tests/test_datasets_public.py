"""CheXpert, ChestX-ray14, Shenzhen and Montgomery: miniatures in the real layout, and real label tables."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl
import pytest

from mococxr.datasets import chexpert, read_dataset
from mococxr.errors import InputError

CHEXPERT = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(chexpert.LABELS)


def wheel_table(name: str) -> Path:
    """A label table inside the torchxrayvision wheel; its code is not imported."""
    found = importlib.util.find_spec("torchxrayvision")
    if found is None or not found.submodule_search_locations:
        pytest.skip("torchxrayvision is not installed")
    return Path(found.submodule_search_locations[0]) / "data" / name


def chexpert_rows(*starts: str) -> str:
    return "\n".join([CHEXPERT, *(start + "," * (CHEXPERT.count(",") - start.count(",")) for start in starts)])


def release(folder: Path) -> Path:
    """A CheXpert of four images in the real layout."""
    first = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.csv").write_text(
        chexpert_rows(
            f"{first},Female,68,Frontal,AP,1.0,,-1.0",
            "CheXpert-v1.0-small/train/patient00001/study2/view2_lateral.jpg,Female,69,Lateral,,,,0.0",
            "CheXpert-v1.0-small/train/patient00002/study1/view1_frontal.jpg,Unknown,0,Frontal,LL",
        )
    )
    (folder / "valid.csv").write_text(
        chexpert_rows("CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,PA,0.0")
    )
    image = folder / "train/patient00001/study1/view1_frontal.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"")
    return folder


def test_chexpert_is_read_in_its_own_layout(tmp_path: Path) -> None:
    dataset = read_dataset(release(tmp_path))
    rows = dataset.rows
    assert (dataset.name, dataset.source, dataset.blank_means) == ("chexpert", "chexpert", "negative")
    assert dataset.has_official_split
    assert dataset.labels == chexpert.LABELS
    assert rows["path"][0] == "train/patient00001/study1/view1_frontal.jpg"
    assert (tmp_path / rows["path"][0]).exists()
    assert rows["patient"].to_list() == ["patient00001", "patient00001", "patient00002", "patient64541"]
    assert rows["study"].to_list()[:2] == ["patient00001/study1", "patient00001/study2"]
    assert rows["view"].to_list() == ["AP", "Lateral", "Frontal", "PA"]
    assert rows["sex"].to_list() == ["F", "F", None, "M"]
    assert rows["age"].to_list() == [68, 69, 0, 73]
    assert rows["split"].to_list() == ["train", "train", "train", "val"]
    assert rows["Cardiomegaly"].to_list() == [-1, 0, None, None]
    assert set(dataset.inputs) == {"train.csv", "valid.csv"}


def test_chexpert_images_are_found_whatever_the_folders_are_called(tmp_path: Path) -> None:
    image = "train/patient00001/study1/view1_frontal.jpg"
    for parent, folder in (("renamed", "data"), ("parent", "CheXpert-v1.0-small")):
        inner = release(tmp_path / parent / folder)
        assert read_dataset(inner).rows["path"][0] == image
        assert read_dataset(inner / "train.csv", format="chexpert").rows["path"][0] == image
    outer = read_dataset(tmp_path / "parent")
    assert outer.rows["path"][0] == f"CheXpert-v1.0-small/{image}"
    beside = tmp_path / "beside"
    inner = release(beside / "CheXpert-v1.0-small")
    for name in ("train.csv", "valid.csv"):
        (inner / name).rename(beside / name)
    assert read_dataset(beside).rows["path"][0] == f"CheXpert-v1.0-small/{image}"


def test_a_chexpert_test_table_is_read_as_test(tmp_path: Path) -> None:
    release(tmp_path)
    (tmp_path / "test_labels.csv").write_text(
        "Path," + ",".join(chexpert.LABELS) + "\ntest/patient64741/study1/view1_frontal.jpg" + ",1" * 14 + "\n"
    )
    last = read_dataset(tmp_path).rows.row(-1, named=True)
    assert (last["split"], last["view"], last["patient"]) == ("test", "Frontal", "patient64741")


def test_a_chexpert_path_that_names_no_patient_is_refused_by_its_line(tmp_path: Path) -> None:
    release(tmp_path)
    (tmp_path / "valid.csv").write_text(chexpert_rows("somewhere/image.jpg,Male,73,Frontal,PA"))
    with pytest.raises(InputError, match=r"valid.csv, row 1 \(line 2\), column 'Path': 'somewhere/image.jpg'"):
        read_dataset(tmp_path)
    (tmp_path / "valid.csv").unlink()
    dataset = read_dataset(tmp_path)
    assert not dataset.has_official_split
    assert dataset.rows["split"].null_count() == 3


@pytest.mark.slow
def test_the_real_chexpert_table_is_read_whole(tmp_path: Path) -> None:
    path = wheel_table("chexpert_train.csv.gz")
    dataset = read_dataset(tmp_path, labels=path)
    rows = dataset.rows
    assert dataset.name == "chexpert"
    assert rows.height == 223_414
    assert rows["patient"].n_unique() == 64_540
    assert rows["study"].n_unique() == 187_641
    frontal = rows.filter(pl.col("Frontal/Lateral") == "Frontal")
    assert (frontal.height, frontal["patient"].n_unique()) == (191_027, 64_534)
    counts = {
        "Pleural Effusion": (76_899, 25_299, 9_578, 79_251),
        "Atelectasis": (29_720, 1_025, 29_863, 130_419),
        "Consolidation": (12_983, 19_608, 24_381, 134_055),
        "Edema": (49_675, 15_915, 11_818, 113_619),
        "Cardiomegaly": (23_385, 7_869, 6_707, 153_066),
    }
    for name, expected in counts.items():
        found = [(frontal[name] == value).sum() for value in (1, 0, -1)]
        assert (*found, frontal[name].null_count()) == expected
    assert rows["sex"].null_count() == 1
    assert rows["AP/PA"].is_in(["LL"]).sum() == 16
    assert rows["AP/PA"].is_in(["RL"]).sum() == 1
    assert (rows["age"] == 0).sum() == 3
    assert set(rows["view"].unique()) == {"AP", "PA", "Lateral", "Frontal"}


def nih(root: Path) -> Path:
    """A ChestX-ray14 of three images, with the header and the ages of the 2017 table."""
    (root / "images_001" / "images").mkdir(parents=True)
    (root / "images_001" / "images" / "00000001_000.png").write_bytes(b"")
    (root / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,058Y,M,PA,2682,2749,0.143,0.143,\n"
        "00000001_001.png,No Finding,1,1,003M,M,AP,2682,2749,0.143,0.143,\n"
        "00000002_000.png,,0,2,081Y,F,PA,2500,2048,0.171,0.171,\n"
    )
    return root


def test_chestxray14_is_read_in_its_own_layout(tmp_path: Path) -> None:
    dataset = read_dataset(nih(tmp_path))
    rows = dataset.rows
    assert (dataset.name, dataset.source, dataset.has_official_split) == ("nih", "nih", False)
    assert rows["path"].to_list() == [
        "images_001/images/00000001_000.png",
        "images/00000001_001.png",
        "images/00000002_000.png",
    ]
    assert rows["study"].to_list() == ["1-0", "1-1", "2-0"]
    assert rows["age"].to_list() == [58, 0.25, 81]
    assert rows["Emphysema"].to_list() == [1, 0, None]
    assert rows["No Finding"].to_list() == [0, 1, None]
    assert len(dataset.labels) == 15
    assert rows["original_width"].to_list() == [2682, 2682, 2500]


def test_the_official_lists_of_chestxray14_are_its_split(tmp_path: Path) -> None:
    nih(tmp_path)
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    (tmp_path / "test_list.txt").write_text("00000002_000.png")
    dataset = read_dataset(tmp_path)
    assert dataset.has_official_split
    assert dataset.rows["split"].to_list() == ["train", "train", "test"]


def test_a_finding_that_chestxray14_does_not_have_is_refused(tmp_path: Path) -> None:
    path = nih(tmp_path) / "Data_Entry_2017.csv"
    path.write_text(path.read_text().replace("No Finding", "Mass|Gout"))
    with pytest.raises(InputError, match=r"row 2 \(line 3\), column 'Finding Labels': 'Mass\|Gout'"):
        read_dataset(tmp_path)


def test_the_real_chestxray14_table_is_read_whole(tmp_path: Path) -> None:
    dataset = read_dataset(tmp_path, labels=wheel_table("Data_Entry_2017_v2020.csv.gz"))
    assert dataset.rows.height == 112_120
    assert dataset.rows["patient"].n_unique() == 30_805
    assert dataset.rows["Hernia"].sum() == 227
    assert dataset.rows["No Finding"].sum() == 60_361
    assert dataset.rows["age"].null_count() == 0


@pytest.mark.parametrize("name", ["shenzhen", "montgomery"])
def test_the_tuberculosis_sets_are_read_in_their_own_layout(tmp_path: Path, name: str) -> None:
    prefix, text = {
        "shenzhen": ("CHNCXR", "male 45yrs\r\n\r\nsecondary PTB"),
        "montgomery": ("MCUCXR", "Patient's Sex: M\nPatient's Age: 045Y\nsecondary PTB\n"),
    }[name]
    for folder in ("CXR_png", "ClinicalReadings"):
        (tmp_path / folder).mkdir()
    for stem in (f"{prefix}_0001_0", f"{prefix}_0002_1"):
        (tmp_path / "CXR_png" / f"{stem}.png").write_bytes(b"")
    (tmp_path / "CXR_png" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "ClinicalReadings" / f"{prefix}_0002_1.txt").write_text(text)
    dataset = read_dataset(tmp_path)
    assert (dataset.name, dataset.source, dataset.labels) == (name, name, ("Tuberculosis",))
    assert dataset.rows.select("path", "patient", "sex", "age", "Tuberculosis").rows() == [
        (f"CXR_png/{prefix}_0001_0.png", f"{prefix}_0001", None, None, 0),
        (f"CXR_png/{prefix}_0002_1.png", f"{prefix}_0002", "M", 45.0, 1),
    ]
    assert dataset.metadata == ()
    assert "1 images have no clinical reading" in "\n".join(dataset.notes)


@pytest.mark.parametrize("name", ["chexpert", "nih", "shenzhen", "montgomery"])
def test_a_named_layout_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="holds no"):
        read_dataset(tmp_path, format=name)
