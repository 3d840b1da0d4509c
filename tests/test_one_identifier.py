"""One patient identifier for all images, or none: what an anonymiser leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from archive_images import grey_image, image
from mococxr.datasets import read_dataset
from mococxr.errors import InputError
from mococxr.preparation.prepare import run
from mococxr.settings import PrepareSettings


def archive(root: Path, patients: list[str], studies: int = 8) -> Path:
    """An archive of eight images, of so many studies; patients in turn."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        data = image(
            grey_image(rng, 48, 40),
            patient=patients[i % len(patients)],
            study=f"1.2.3.{i % studies}",
            sop=f"1.2.4.{i}",
            StudyDate=f"2020010{i + 1}",
        )
        data.save_as(root / f"IM{i}", enforce_file_format=True)
    return root


@pytest.mark.parametrize(
    ("who", "reason"), [(["ANONYMOUS"], "1 patients cannot fill"), ([""], "no patient identifier")]
)
def test_an_archive_with_one_identifier_or_none_is_refused_with_a_way_out_that_works(
    tmp_path: Path, who: list[str], reason: str
) -> None:
    how = {"source": archive(tmp_path / "images", who), "size": 32, "jobs": 1}
    with pytest.raises(InputError, match=reason) as caught:
        run(PrepareSettings(out=tmp_path / "store", **how))
    assert "anonymiser" in caught.value.way_out
    assert "--patients-unknown" in caught.value.way_out
    store = run(PrepareSettings(out=tmp_path / "store", patients_unknown=True, **how))
    assert store.index["patient"].n_unique() == 8
    assert not store.patients_known
    assert set(store.index["day"]) == {0}  # no study is said to follow one of another person


def test_one_study_of_one_identifier_is_one_patient_an_image(tmp_path: Path) -> None:
    rows = read_dataset(archive(tmp_path / "images", ["X"], studies=1), patients_unknown=True).rows
    assert rows["patient"].n_unique() == 8


def test_patients_that_are_known_stay_when_unknown_ones_are_accepted(tmp_path: Path) -> None:
    dataset = read_dataset(archive(tmp_path / "images", ["A", "B"]), patients_unknown=True)
    assert set(dataset.rows["patient"]) == {"A", "B"}
    assert dataset.patients_known


def test_images_without_a_patient_among_others_are_counted_with_the_way_out(tmp_path: Path) -> None:
    dataset = read_dataset(archive(tmp_path / "images", ["A", "", "B", ""]))
    assert len(dataset.rows) == 4
    assert "4 images name no patient: --patients-unknown lets each of their studies count" in " ".join(dataset.notes)


@pytest.mark.parametrize(
    ("columns", "patients", "says"),
    [
        ({"patient": ["X"] * 4}, ["0.png", "1.png", "2.png", "3.png"], "each image counts as a patient"),
        ({"patient": ["X"] * 4, "study": ["a", "a", "b", "c"]}, ["a", "a", "b", "c"], "each study counts as a patient"),
        ({"patient": ["X"] * 4, "study": ["a"] * 4}, ["0.png", "1.png", "2.png", "3.png"], "each image counts"),
        ({"patient": [None] * 4}, ["0.png", "1.png", "2.png", "3.png"], "4 images name no patient"),
        ({"patient": ["X", None, "X", "Y"]}, ["X", "1.png", "X", "Y"], "1 images name no patient"),
    ],
)
def test_a_table_is_read_likewise(
    tmp_path: Path, columns: dict[str, list[str | None]], patients: list[str], says: str
) -> None:
    frame = pl.DataFrame({"path": [f"{i}.png" for i in range(4)], **columns})
    frame.write_csv(tmp_path / "labels.csv")
    dataset = read_dataset(tmp_path, patients_unknown=True)
    assert dataset.rows["patient"].to_list() == patients
    assert not dataset.patients_known
    assert says in " ".join(dataset.notes)
    if None in columns["patient"]:
        with pytest.raises(InputError, match="the patient is blank") as caught:
            read_dataset(tmp_path)
        assert "--patients-unknown" in caught.value.way_out
    else:
        dataset = read_dataset(tmp_path)
        assert set(dataset.rows["patient"]) == {"X"}
        assert "if so, --patients-unknown lets each" in " ".join(dataset.notes)
