"""MIMIC-CXR-JPG, BRAX, PadChest, VinDr-CXR, RSNA, TBX11K, Open-i: miniatures in the real layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import small_sets
from mococxr.datasets import Dataset, read_dataset
from mococxr.errors import InputError


def made(root: Path, name: str, **how: object) -> Dataset:
    """The miniature of that name, read as `auto` reads it."""
    make: Callable[[Path], None] = getattr(small_sets, name)
    make(root)
    return read_dataset(root, **how)  # type: ignore[arg-type]


def test_mimic_is_read_in_its_own_layout(tmp_path: Path) -> None:
    dataset = made(tmp_path, "mimic")
    rows = dataset.rows
    assert (dataset.name, dataset.blank_means, dataset.has_official_split) == ("mimic", "negative", True)
    assert rows["path"][0] == "files/p10/p10000032/s50414267/aa-1.jpg"
    assert rows["path"][3] == "files/p11/p11000000/s59000000/bb-1.jpg"
    assert rows["split"].to_list() == ["train", "train", "train", "val"]
    assert rows["view"].to_list() == ["PA", "Lateral", "AP", None]
    assert rows["Pleural Effusion"].to_list() == [-1, -1, None, None]
    assert rows["Edema"].to_list() == [0, 0, None, None]
    assert rows["No Finding"].to_list() == [None, None, 1, None]
    assert rows["day"].to_list() == [0, 0, 51, 0]
    assert rows["age"].null_count() == rows["sex"].null_count() == 4
    assert len(dataset.inputs) == 3


def test_mimic_takes_other_labels_and_the_patients_of_mimic_iv(tmp_path: Path) -> None:
    small_sets.mimic(tmp_path)
    small_sets.table(
        tmp_path / "patients.csv",
        "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
        "10000032,F,52,2180,2014 - 2016,2180-09-09",
    )
    dataset = read_dataset(tmp_path, labels=tmp_path / "mimic-cxr-2.0.0-negbio.csv")
    assert dataset.name == "mimic"
    assert dataset.rows["Pleural Effusion"].to_list() == [1, 1, None, None]
    assert dataset.rows["age"].to_list() == [52, 52, 52, None]
    assert dataset.rows["sex"].to_list() == ["F", "F", "F", None]


def test_mimic_refuses_an_image_without_a_split_and_a_value_that_is_no_label(tmp_path: Path) -> None:
    small_sets.mimic(tmp_path)
    split = tmp_path / "mimic-cxr-2.0.0-split.csv"
    split.write_text(split.read_text().replace("bb-1", "zz-1"))
    with pytest.raises(InputError, match=r"metadata.csv, row 4 \(line 5\).*no split for 'bb-1'"):
        read_dataset(tmp_path)
    split.unlink()
    assert not read_dataset(tmp_path).has_official_split
    labels = tmp_path / "mimic-cxr-2.0.0-chexpert.csv"
    labels.write_text(labels.read_text().replace("-1.0", "7"))
    with pytest.raises(InputError, match=r"chexpert.csv, row 1 \(line 2\), column 'Pleural Effusion': '7'"):
        read_dataset(tmp_path)


def test_brax_is_read_in_its_own_layout(tmp_path: Path) -> None:
    dataset = made(tmp_path, "brax")
    rows = dataset.rows
    assert (dataset.name, dataset.blank_means, dataset.has_official_split) == ("brax", "negative", False)
    assert rows["path"][0] == "images/id_a/Study_1/Series_1/image-1.png"
    assert rows["age"].to_list() == [85, 45]
    assert rows["study"].to_list() == ["id_a/7", "id_b/7"], "accession numbers repeat between patients"
    assert rows["view"].to_list() == ["PA", "Lateral"]
    assert (rows["Edema"][0], rows["Fracture"][0], rows["Edema"][1]) == (1, -1, None)
    assert (
        read_dataset(tmp_path / "images", labels=tmp_path / "master_spreadsheet_update.csv")
        .rows["path"][0]
        .startswith("id_a/")
    )


def test_padchest_is_read_in_its_own_layout(tmp_path: Path) -> None:
    dataset = made(tmp_path, "padchest")
    rows = dataset.rows
    assert (dataset.name, dataset.blank_means) == ("padchest", "unknown")
    assert rows["path"].to_list()[:4] == ["0/a.png", "b.png", "images-224/c.png", "54/d.png"]
    assert rows["age"].to_list()[:3] == [84, 85, None]
    assert rows["sex"].to_list()[:4] == ["F", "F", None, "M"]
    assert rows["view"].to_list()[:5] == ["PA", "Lateral", "AP", "PA", None]
    assert rows["Normal"].to_list() == [1, 0, None, None, None, None, 0, None]
    assert rows["Nodule"].to_list() == [0, 1, None, None, None, None, 0, None]
    assert rows["Effusion"].to_list() == [0, 1, None, None, None, None, 0, None]
    assert rows["Cardiomegaly"].to_list() == [0, 0, 1, None, None, None, 0, None], "unchanged: the rest is unknown"
    assert rows["suboptimal"].to_list() == [0, 0, 0, 0, 0, 1, 1, 0]
    assert rows["day"].to_list() == [0, 365, 0, 0, 1, 2, 3, 4]
    assert "4 images have no usable label list" in "\n".join(dataset.notes)


def test_a_single_term_of_padchest_can_be_asked_for(tmp_path: Path) -> None:
    dataset = made(tmp_path, "padchest", label=["azygos lobe", "Nodule"])
    assert dataset.labels == ("azygos lobe", "Nodule")
    assert dataset.rows["azygos lobe"].to_list() == [0, 0, None, None, None, None, 1, None]
    with pytest.raises(InputError, match="no label 'gout'"):
        read_dataset(tmp_path, label=["gout"])


def test_a_padchest_label_that_is_no_list_is_refused(tmp_path: Path) -> None:
    small_sets.padchest(tmp_path)
    path = next(tmp_path.glob("PADCHEST*.csv"))
    path.write_text(path.read_text().replace("['normal']", "normal"))
    with pytest.raises(InputError, match=r"row 1 \(line 2\), column 'Labels': 'normal' is not a list"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("name", ["vindr", "kaggle_vindr"])
def test_what_most_readers_of_a_vindr_image_say_is_its_label(tmp_path: Path, name: str) -> None:
    dataset = made(tmp_path, name, patients_unknown=True)
    rows = dataset.rows.head(3)
    assert dataset.name == "vindr"
    assert rows["Cardiomegaly"].to_list() == [1, 0, -1]
    assert rows["Pleural effusion"].to_list() == [0, 0, 0]
    assert rows["No finding"].to_list() == [0, 1, -1]
    assert rows["Cardiomegaly votes"].to_list() == pytest.approx([2 / 3, 0, 1 / 2])
    assert rows["readers"].to_list() == [3, 3, 2]
    assert dataset.has_official_split == (name == "vindr")
    if name == "vindr":
        assert dataset.rows["path"].to_list() == ["train/f1.dicom", "train/f2.png", "train/f3.dicom", "test/f9.dicom"]
        assert dataset.rows["split"].to_list() == ["train"] * 3 + ["test"]
        assert dataset.rows["Pleural effusion"][3] == 1
        assert dataset.rows["Other diseases"].to_list() == [0, 0, 0, 1], "the test table calls it Other disease"
        assert "Only here" in "\n".join(dataset.notes)


def test_a_vindr_value_that_is_no_label_is_named_by_its_line(tmp_path: Path) -> None:
    small_sets.vindr(tmp_path)
    path = tmp_path / "annotations" / "image_labels_train.csv"
    path.write_text(path.read_text().replace("f2,R2,0,0,1", "f2,R2,0,x,1"))
    with pytest.raises(InputError, match=r"train.csv, row 5 \(line 6\), column 'Pleural effusion': 'x'"):
        read_dataset(tmp_path, patients_unknown=True)


def test_rsna_is_one_row_an_image_whatever_its_boxes(tmp_path: Path) -> None:
    dataset = made(tmp_path, "rsna", patients_unknown=True)
    rows = dataset.rows
    assert (dataset.name, dataset.source, dataset.patients_known) == ("rsna", "rsna", False)
    assert rows["path"].to_list() == [f"stage_2_train_images/k-{n}.dcm" for n in (1, 2, 3)]
    assert rows["Lung Opacity"].to_list() == [0, 1, 0]
    assert rows["Normal"].to_list() == [0, 0, 1]
    assert rows["boxes"].to_list() == [0, 2, 0]
    assert rows["class"][0] == "No Lung Opacity / Not Normal"


def test_the_list_of_origins_gives_rsna_the_patients_of_chestxray14(tmp_path: Path) -> None:
    small_sets.rsna_origin(tmp_path)
    dataset = made(tmp_path, "rsna")
    assert (dataset.name, dataset.source) == ("rsna", "nih")
    assert dataset.rows["patient"].to_list() == ["25669", "25669", "7"]
    assert dataset.rows["study"].to_list() == ["25669-3", "25669-4", "7-0"]
    origin = tmp_path / "pneumonia-challenge-dataset-mappings_2018.json"
    origin.write_text(origin.read_text().replace("k-3", "k-4"))
    with pytest.raises(InputError, match=r"no ChestX-ray14 image for 1 images, e.g. 'k-3'"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("name", ["tbx11k", "tbx11k_simplified"])
def test_tbx11k_is_read_in_either_layout(tmp_path: Path, name: str) -> None:
    dataset = made(tmp_path, name, patients_unknown=True)
    rows = dataset.rows
    assert (dataset.name, dataset.has_official_split) == ("tbx11k", True)
    assert rows["path"].str.extract(r"([^/]+)\.png$", 1).to_list() == ["h0001", "s0001", "tb0001", "tb0002", "tb0003"]
    assert rows["path"][0] == ("imgs/health/h0001.png" if name == "tbx11k" else "images/h0001.png")
    assert rows["split"].to_list() == ["train"] * 4 + ["val"]
    assert rows["Tuberculosis"].to_list() == [0, 0, 1, 1, 1]
    assert rows["Sick"].to_list() == [0, 1, 0, 0, 0]
    assert rows["Active Tuberculosis"].to_list() == [0, 0, 1, None, 0]
    assert rows["Latent Tuberculosis"].to_list() == [0, 0, 1, None, 1]


@pytest.mark.parametrize("name", ["openi", "kaggle_openi"])
def test_openi_is_read_in_either_form_and_its_reports_are_not(tmp_path: Path, name: str) -> None:
    dataset = made(tmp_path, name)
    rows = dataset.rows
    assert dataset.name == "openi"
    assert rows["patient"].to_list()[:6] == (
        [f"CXR{n}" for n in (1, 1, 2, 2, 3, 3)] if name == "openi" else list("112233")
    )
    assert (tmp_path / rows["path"][0]).is_file()
    assert rows["Normal"].to_list()[:6] == [1, 1, 0, 0, None, None]
    assert rows["Cardiomegaly"].to_list()[:6] == [0, 0, 1, 1, None, None]
    assert rows["Nodule"].to_list()[:6] == [0, 0, 1, 1, None, None]
    assert rows["Opacity"].sum() == 0, "the automatic headings are no labels"
    assert "secret" not in rows.write_csv()
    if name == "kaggle_openi":
        assert rows["view"].to_list()[:2] == ["Frontal", "Lateral"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('<!DOCTYPE a [<!ENTITY b "secret"><!ENTITY c "&b;&b;">]><a>&c;</a>', "declares a document type"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "declares a document type"),
        ("<a><b></a>", "is not XML"),
        ("<a/>", "has no uId"),
        ("<a>" + " " * (1 << 20) + "</a>", "larger than a report"),
        ("", "is not XML"),
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
def test_a_hostile_report_of_openi_is_refused_by_name(tmp_path: Path, content: str, reason: str, coding: str) -> None:
    small_sets.openi(tmp_path)
    (tmp_path / "ecgen-radiology" / "2.xml").write_text(content, encoding=coding)
    with pytest.raises(InputError, match=rf"2\.xml.*{reason}"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("name", ["vindr", "rsna", "tbx11k"])
def test_a_set_that_names_no_patients_asks_for_leave(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no patient identifiers") as error:
        made(tmp_path, name)
    assert "--patients-unknown" in error.value.way_out


@pytest.mark.parametrize("name", ["mimic", "brax", "padchest", "vindr", "rsna", "tbx11k", "openi"])
def test_a_named_set_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="holds no"):
        read_dataset(tmp_path, format=name)


def test_no_date_and_no_report_comes_into_any_dataset(tmp_path: Path) -> None:
    for name in ("mimic", "brax", "padchest", "openi", "kaggle_openi"):
        text = made(tmp_path / name, name).rows.write_csv()
        for secret in ("secret", "20140915", "21800506", "20100101"):
            assert secret not in text, name


def test_a_table_of_images_with_ids_of_subject_and_study_stays_one(tmp_path: Path) -> None:
    small_sets.table(tmp_path / "a.csv", "path,subject_id,study_id,Pleural Effusion", "a.png,1,2,1")
    assert read_dataset(tmp_path).name == "csv"
    assert read_dataset(tmp_path, labels=tmp_path / "a.csv").name == "csv"
    assert isinstance(read_dataset(tmp_path).rows, pl.DataFrame)
