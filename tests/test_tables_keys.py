"""Which column of a label table finds an image, what a spreadsheet did to it, and tables that are known by their columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import small_sets
from archive_images import grey_image, image
from mococxr.datasets import read_dataset
from mococxr.errors import InputError
from mococxr.tables import keys
from test_datasets_public import nih


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images: patients 07 and 8 with two studies each, of which the first of each patient has two images."""
    root = tmp_path_factory.mktemp("keys") / "images"
    root.mkdir()
    rng = np.random.default_rng(1)
    for i, (patient, study) in enumerate([("07", 1), ("07", 1), ("07", 2), ("8", 3), ("8", 3), ("8", 4)]):
        file = image(grey_image(rng, 48, 40), patient=patient, study=f"1.2.{study}", sop=f"1.3.{i}",
                    AccessionNumber=f"00{study}", StudyDate="20200101")  # fmt: skip
        file.save_as(root / f"IM{i}", enforce_file_format=True)
    return root


def labels(archive: Path, folder: Path, text: str, **settings: str) -> tuple[list[int | None], str]:
    (folder / "l.csv").write_text(text)
    dataset = read_dataset(archive, labels=folder / "l.csv", **settings)
    return dataset.rows["TB"].to_list(), "\n".join(dataset.notes)


def test_zeros_that_a_spreadsheet_lost_are_matched_and_said(archive: Path, tmp_path: Path) -> None:
    for written in ("{}", "{}.0", "000{}", "00{}"):
        rows = "".join(f"{written.format(study)};{study % 2}\n" for study in (1, 2, 3, 4))
        values, notes = labels(archive, tmp_path, "Accession Number;TB\n" + rows)
        assert values == [1, 1, 0, 1, 1, 0]
        assert ("4 rows are matched by the digits of Accession Number" in notes) == (written != "00{}")


def test_digits_that_are_two_keys_match_neither() -> None:
    def matched(table: list[str], known: list[str]) -> list[str]:
        return keys.as_known(pl.Series(table), pl.Series(known))[0].to_list()

    assert matched(["7", "8"], ["007", "07", "0008"]) == ["7", "0008"]
    assert matched(["7", "07"], ["007"]) == ["7", "07"]
    assert matched(["007", "7"], ["007"]) == ["007", "7"]
    assert matched(["A7", "0"], ["A007", "000"]) == ["A7", "000"]
    assert matched(["'0007", "'8"], ["0007", "008"]) == ["0007", "008"]
    assert "rounded" in keys.notes(pl.Series(["1.23457E+11"]), "accession", 0)[0]


def test_a_finer_key_that_fits_nothing_does_not_give_way_to_one_that_spreads_labels(
    archive: Path, tmp_path: Path
) -> None:
    text = "AccessionNumber,PatientID,TB\nX1,07,1\nX3,8,0\n"
    with pytest.raises(InputError, match="No image is found by AccessionNumber") as caught:
        labels(archive, tmp_path, text)
    assert "2 of its values stand for several accession numbers" in caught.value.problem
    assert "--label-key PatientID" in caught.value.way_out
    values, notes = labels(archive, tmp_path, text, label_key="PatientID")
    assert values == [1, 1, 1, 0, 0, 0]
    assert "Labels by PatientID" in notes


def test_a_finer_key_that_fits_nothing_is_named_where_the_next_says_the_same(archive: Path, tmp_path: Path) -> None:
    text = "AccessionNumber,StudyInstanceUID,TB\nX1,1.2.1,1\nX2,1.2.2,0\n"
    values, notes = labels(archive, tmp_path, text)
    assert values == [1, 1, 0, None, None, None]
    assert "No image is found by AccessionNumber: StudyInstanceUID is used instead" in notes
    blank, notes = labels(archive, tmp_path, "AccessionNumber,StudyInstanceUID,TB\nNA,1.2.1,1\n,1.2.2,0\n")
    assert blank == values
    assert "No image is found by" not in notes


def test_the_column_that_finds_images_can_be_named(archive: Path, tmp_path: Path) -> None:
    text = "request,TB\n1,1\n3,0\n"
    with pytest.raises(InputError, match="no column by which an image is found") as caught:
        labels(archive, tmp_path, text)
    assert "--label-key" in caught.value.way_out
    values, notes = labels(archive, tmp_path, text, label_key="Request")
    assert values == [1, 1, None, 0, 0, None]
    assert "Labels by request" in notes
    with pytest.raises(InputError, match="no column 'reqest'"):
        labels(archive, tmp_path, text, label_key="reqest")


def test_a_contradiction_names_the_key_and_both_rows(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"By PatientID 1 rows .* row 3 \(line 5\) and .*row 1 \(line 2\)"):
        labels(archive, tmp_path, "PatientID,TB\n07,1\n\n8,1\n7,0\n07,0\n".replace("7,0\n07", "07"))


def test_label_key_is_refused_where_images_are_found_by_path(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,patient,TB\na.png,p,1\n")
    with pytest.raises(InputError, match="--label-key goes with --labels and a DICOM archive"):
        read_dataset(tmp_path, label_key="patient")


RENAMED = {
    "nih": (lambda root: nih(root), "Data_Entry_2017*.csv", "sample_labels.csv"),
    "padchest": (small_sets.padchest, "PADCHEST*.csv*", "train.csv"),
    "brax": (small_sets.brax, "master_spreadsheet*.csv", "table.csv"),
    "rsna": (small_sets.rsna, "stage_2_train_labels.csv", "labels.csv"),
    "tbx11k": (small_sets.tbx11k_simplified, "data.csv", "tbx.csv"),
    "vindr": (small_sets.kaggle_vindr, "train.csv", "annotations.csv"),
    "openi": (small_sets.kaggle_openi, "indiana_projections.csv", "images.csv"),
    "mimic": (small_sets.mimic, "mimic-cxr-*-metadata.csv*", "meta.csv"),
}


@pytest.mark.parametrize("name", RENAMED)
def test_a_table_is_known_by_its_columns_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    make, pattern, other = RENAMED[name]
    make(tmp_path)
    whole = read_dataset(tmp_path, patients_unknown=True)
    paths = sorted(path for folder in (tmp_path, tmp_path / "annotations") for path in folder.glob(pattern))
    assert paths
    paths[-1].rename(paths[-1].with_name(other))
    renamed = read_dataset(tmp_path, patients_unknown=True)
    assert renamed.name == whole.name == name
    assert renamed.rows.equals(whole.rows)
