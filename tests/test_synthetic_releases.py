"""Synthetic images in the layout of public releases: the real tables' form, labels that the images bear out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from mococxr.datasets import read_dataset
from mococxr.datasets.chexpert import LABELS
from mococxr.errors import InputError
from mococxr.synthetic import write_chexpert, write_shenzhen
from mococxr.synthetic.releases import SHARES


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chexpert(tmp_path_factory.mktemp("images"), 600, valid=20, test=40, size=64, jobs=2)


def table(release: Path, name: str = "train.csv") -> pl.DataFrame:
    return pl.read_csv(release / name, infer_schema=False)


def test_the_table_has_the_columns_of_the_real_one_in_their_order(release: Path) -> None:
    assert tuple(SHARES) == LABELS
    for name in ("train.csv", "valid.csv"):
        assert table(release, name).columns == ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
    assert len(table(release)) == 600


def test_the_oddities_of_the_real_table_are_there(release: Path) -> None:
    frame = table(release)
    assert frame["Sex"].value_counts().filter(pl.col("Sex") == "Unknown")["count"].to_list() == [1]
    assert frame["Age"].to_list().count("0") == 1
    assert frame["AP/PA"].to_list().count("LL") == frame["AP/PA"].to_list().count("RL") == 1
    assert set(frame["AP/PA"].drop_nulls()) == {"AP", "PA", "LL", "RL"}
    lateral = frame.filter(pl.col("Frontal/Lateral") == "Lateral")
    assert lateral["AP/PA"].null_count() == len(lateral) > 50
    studies = frame.group_by(pl.col("Path").str.extract(r"(patient\d+/study\d+)").alias("study")).len()
    assert set(studies["len"]) == {1, 2, 3}
    numbers = frame["Path"].str.extract_groups(r"(patient\d+)/study(\d+)").struct.unnest()
    out_of_order = numbers.group_by("1", maintain_order=True).agg(pl.col("2").cast(pl.Int32).diff().min() < 0)
    assert out_of_order["2"].any()


@pytest.mark.parametrize("task", ["Pleural Effusion", "Edema", "Consolidation", "Atelectasis", "Cardiomegaly"])
def test_what_is_reported_has_the_shares_of_the_real_table(release: Path, task: str) -> None:
    column = table(release)[task]
    for value, share in zip(("1.0", "0.0", "-1.0"), SHARES[task], strict=True):
        assert (column == value).sum() / len(column) == pytest.approx(share, abs=0.06)
    assert set(column.unique()) <= {"1.0", "0.0", "-1.0", None}


def test_validation_and_test_labels_are_complete(release: Path) -> None:
    for frame in (table(release, "valid.csv"), pl.read_csv(release.parent / "CheXpert/groundtruth.csv")):
        for name in LABELS:
            assert set(frame[name].cast(pl.Float64)) <= {0.0, 1.0}


def test_the_reader_takes_the_release_and_the_test_set_as_it_takes_the_real_ones(release: Path) -> None:
    both = read_dataset(release)
    assert both.name == "chexpert"
    assert both.has_official_split
    assert both.rows["split"].value_counts(sort=True)["split"].to_list() == ["train", "val"]
    tested = read_dataset(release.parent / "CheXpert")
    assert set(tested.rows["split"]) == {"test"}
    assert tested.rows["study"].n_unique() == 40 == tested.rows["patient"].n_unique() < len(tested.rows)
    for dataset in (both, tested):
        assert all((dataset.root / path).is_file() for path in dataset.rows["path"])
    assert not set(both.rows["patient"]) & set(tested.rows["patient"])


def test_the_images_bear_out_their_labels(release: Path) -> None:
    frame = table(release).filter((pl.col("AP/PA") == "AP") & pl.col("Pleural Effusion").is_in(["0.0", "1.0"]))
    base = []
    for path in frame["Path"]:
        image = cv2.imread(str(release.parent / path), cv2.IMREAD_GRAYSCALE)
        base.append(image[34:48, [9, 10, 11, 12, 41, 42, 43, 44]].mean())
    ill = (frame["Pleural Effusion"] == "1.0").to_numpy()
    assert np.mean(np.array(base)[ill]) > np.mean(np.array(base)[~ill]) + 5


def test_every_image_and_folder_says_that_it_is_synthetic(release: Path) -> None:
    for folder in (release, release.parent, release.parent / "CheXpert"):
        assert "not a patient" in (folder / "SYNTHETIC.txt").read_text()
    for path in table(release)["Path"][:5]:
        assert b"Synthetic image" in (release.parent / path).read_bytes()[:200]


def test_equal_arguments_write_equal_files_whatever_the_threads(tmp_path: Path) -> None:
    for name, jobs in (("a", 1), ("b", 3)):
        write_chexpert(tmp_path / name, 24, valid=2, test=3, seed=5, size=48, jobs=jobs)
        write_shenzhen(tmp_path / name / "shenzhen", 8, seed=5, size=48, jobs=jobs)
    files = [p.relative_to(tmp_path / "a") for p in sorted((tmp_path / "a").rglob("*")) if p.is_file()]
    assert len(files) > 45
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_synthetic_shenzhen_images_are_read_as_shenzhen(tmp_path: Path) -> None:
    dataset = read_dataset(write_shenzhen(tmp_path, 20, size=48))
    assert dataset.name == "shenzhen"
    assert dataset.rows["Tuberculosis"].sum() == 10
    assert dataset.rows["age"].null_count() == 0
    assert (tmp_path / "SYNTHETIC.txt").is_file()


@pytest.mark.parametrize("bad", [{"images": 3}, {"valid": 0}, {"test": 0}])
def test_a_release_that_cannot_be_planned_is_refused_and_nothing_is_written(tmp_path: Path, bad: dict) -> None:
    with pytest.raises(InputError):
        write_chexpert(tmp_path / "out", **{"images": 24, **bad})
    assert not (tmp_path / "out").exists()
