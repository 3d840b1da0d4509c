"""The real label tables that the wheel of torchxrayvision carries, read whole, with their known counts."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mococxr.datasets import Dataset, read_dataset
from test_datasets_public import wheel_table


def positives(dataset: Dataset) -> dict[str, int]:
    return {name: int((dataset.rows[name] == 1).sum()) for name in dataset.labels}


def test_the_real_vindr_table_has_three_readers_an_image(tmp_path: Path) -> None:
    dataset = read_dataset(tmp_path, labels=wheel_table("vinbigdata-train.csv.gz"), patients_unknown=True)
    assert (dataset.name, dataset.rows.height) == ("vindr", 15_000)
    assert dataset.rows["readers"].unique().to_list() == [3]
    found = positives(dataset)
    assert len(found) == 15
    assert found["No finding"] == 10_606
    assert (found["Aortic enlargement"], found["Cardiomegaly"], found["Pneumothorax"]) == (2_346, 1_817, 58)
    assert (dataset.rows["Cardiomegaly votes"] > 0).sum() == 2_300


def test_the_real_rsna_table_has_6012_images_with_opacities(tmp_path: Path) -> None:
    packed = zipfile.ZipFile(io.BytesIO(wheel_table("kaggle_stage_2_train_labels.csv.zip").read_bytes()))
    (tmp_path / "stage_2_train_labels.csv").write_bytes(packed.read("stage_2_train_labels.csv"))
    dataset = read_dataset(tmp_path, patients_unknown=True)
    assert (dataset.name, dataset.rows.height) == ("rsna", 26_684)
    assert positives(dataset) == {"Lung Opacity": 6_012}
    assert dataset.rows["boxes"].sum() == 9_555


@pytest.mark.slow
def test_the_real_reports_of_openi_are_read_whole(tmp_path: Path) -> None:
    with tarfile.open(wheel_table("NLMCXR_reports.tgz")) as packed:
        packed.extractall(tmp_path, filter="data")
    dataset = read_dataset(tmp_path)
    assert (dataset.name, dataset.rows.height, dataset.rows["patient"].n_unique()) == ("openi", 7_470, 3_851)
    found = positives(dataset)
    assert (found["Normal"], found["Cardiomegaly"], found["Pneumothorax"]) == (2_696, 655, 54)
    assert dataset.rows["Normal"].null_count() == 186


@pytest.mark.slow
def test_the_real_padchest_table_is_read_whole(tmp_path: Path) -> None:
    path = wheel_table("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz")
    dataset = read_dataset(tmp_path, labels=path)
    assert (dataset.name, dataset.rows.height, dataset.rows["patient"].n_unique()) == ("padchest", 160_861, 67_625)
    assert dataset.rows["view"].value_counts(sort=True).rows()[:3] == [
        ("PA", 91_728),
        ("Lateral", 49_579),
        ("AP", 18_905),
    ]
    found = positives(dataset)
    assert (found["Normal"], found["Scoliosis"]) == (50_616, 8_333)
    assert dataset.rows["age"].null_count() == 6
    assert "6,341 images" in "\n".join(dataset.notes)
