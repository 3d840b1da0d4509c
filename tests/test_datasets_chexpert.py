"""CheXpert as it is released: the full-size batches, and the test set by itself with either of its tables."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

import mococxr
from mococxr.datasets import chexpert, read_dataset
from mococxr.errors import InputError

BATCHES = (
    "CheXpert-v1.0 batch 1 (validate & csv)",
    "CheXpert-v1.0 batch 2 (train 1)",
    "CheXpert-v1.0 batch 3 (train 2)",
)
HEAD = ",".join(chexpert.LABELS)
ONES = ",".join("1.0" for _ in chexpert.LABELS)
TEST_IMAGES = (
    "patient64741/study1/view1_frontal.jpg",
    "patient64741/study1/view2_lateral.jpg",
    "patient64742/study1/view1_frontal.jpg",
)


def image(path: Path) -> None:
    """A grey image of 40 x 30 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8))


def batches(root: Path) -> list[str]:
    """A full-size release of four images: the training patients lie directly in their batches."""
    named = ["train/patient00001", "train/patient30000", "train/patient00001", "valid/patient64541"]
    where = [BATCHES[1], BATCHES[2], BATCHES[1], f"{BATCHES[0]}/valid"]
    studies = ["study1", "study1", "study2", "study1"]
    rows, paths = [], []
    for name, folder, study in zip(named, where, studies, strict=True):
        inside = f"{name.partition('/')[2]}/{study}/view1_frontal.jpg"
        paths.append(f"{folder}/{inside}")
        image(root / paths[-1])
        rows.append(f"CheXpert-v1.0/{name}/{study}/view1_frontal.jpg,{ONES}")
    (root / BATCHES[0] / "train.csv").write_text("\n".join([f"Path,{HEAD}", *rows[:3]]))
    (root / BATCHES[0] / "valid.csv").write_text("\n".join([f"Path,{HEAD}", *rows[3:]]))
    return paths


def test_the_batches_of_the_full_size_release_are_one_set(tmp_path: Path) -> None:
    paths = batches(tmp_path)
    dataset = read_dataset(tmp_path)
    assert (dataset.name, dataset.has_official_split) == ("chexpert", True)
    assert dataset.rows["path"].to_list() == paths
    assert dataset.rows["split"].to_list() == ["train", "train", "train", "val"]
    assert dataset.rows["study"].to_list()[2] == "patient00001/study2"


def test_an_image_that_no_batch_holds_is_kept_and_missed_later(tmp_path: Path) -> None:
    paths = batches(tmp_path)
    (tmp_path / paths[1]).unlink()
    (tmp_path / paths[1]).parent.rmdir()
    (tmp_path / paths[1]).parents[1].rmdir()
    found = read_dataset(tmp_path).rows["path"].to_list()
    assert found[0] == paths[0]
    assert found[1].endswith("patient30000/study1/view1_frontal.jpg")


def released_test(root: Path, form: str) -> Path:
    """The released test set with its table by image or by study; `TEST_IMAGES` lie in `test/`."""
    for name in TEST_IMAGES:
        image(root / "test" / name)
    values = {"patient64741": ",1.0" * 14, "patient64742": ",0.0" * 14}
    by_image = [f"test/{name}{values[name[:12]]}" for name in TEST_IMAGES]
    by_study = [f"CheXpert-v1.0/test/{name}/study1{values[name]}" for name in reversed(values)]
    name, column, rows = {
        "image": ("test_labels.csv", "Path", by_image),
        "study": ("groundtruth.csv", "Study", by_study),
    }[form]
    (root / name).write_text("\n".join([f"{column},{HEAD}", *rows]))
    return root


@pytest.mark.parametrize("form", ["image", "study"])
@pytest.mark.parametrize("folder", ["", "CheXpert"])
def test_the_test_set_is_read_alone_whichever_table_it_has(tmp_path: Path, form: str, folder: str) -> None:
    released_test(tmp_path / folder, form)
    dataset = read_dataset(tmp_path)
    assert (dataset.name, dataset.has_official_split) == ("chexpert", True)
    rows = dataset.rows.sort("path")
    prefix = f"{folder}/test/" if folder else "test/"
    assert rows["path"].to_list() == [prefix + name for name in TEST_IMAGES]
    assert rows["split"].to_list() == ["test"] * 3
    assert rows["view"].to_list() == ["Frontal", "Lateral", "Frontal"]
    assert rows["study"].to_list() == ["patient64741/study1"] * 2 + ["patient64742/study1"]
    for name in chexpert.LABELS:
        assert rows[name].to_list() == [1, 1, 0]


def test_a_test_table_elsewhere_and_the_folder_of_its_patients_are_enough(tmp_path: Path) -> None:
    released_test(tmp_path, "study")
    dataset = read_dataset(tmp_path / "test", labels=tmp_path / "groundtruth.csv")
    assert sorted(dataset.rows["path"]) == list(TEST_IMAGES)


def test_a_test_study_without_images_is_not_lost(tmp_path: Path) -> None:
    released_test(tmp_path, "study")
    (tmp_path / "test" / TEST_IMAGES[2]).unlink()
    assert "test/patient64742/study1/view1_frontal.jpg" in read_dataset(tmp_path).rows["path"]
    store = mococxr.prepare(tmp_path, out=tmp_path / "store", size=16, jobs=1)
    assert store.splits["split"].unique().to_list() == ["test"]
    quarantine = pl.read_csv(store.path / "quarantine.csv")
    assert quarantine["path"].to_list() == ["test/patient64742/study1/view1_frontal.jpg"]


def test_a_wrong_value_in_a_table_of_studies_is_named_by_its_line(tmp_path: Path) -> None:
    table = released_test(tmp_path, "study") / "groundtruth.csv"
    table.write_text(table.read_text().replace(",1.0", ",maybe", 1))
    with pytest.raises(InputError, match=r"groundtruth.csv, row 2 \(line 3\), column 'No Finding': 'maybe'"):
        read_dataset(tmp_path)
    table.write_text(table.read_text().replace("/study1,maybe", "/../x,1", 1))
    with pytest.raises(InputError, match=r"row 2 \(line 3\), column 'Study'"):
        read_dataset(tmp_path)


def test_a_label_that_the_test_table_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    batches(tmp_path)
    table = released_test(tmp_path, "image") / "test_labels.csv"
    table.write_text(table.read_text().replace("Fracture", "Remark"))
    dataset = read_dataset(tmp_path)
    assert set(dataset.labels) == set(chexpert.LABELS) - {"Fracture"}
    assert dataset.rows["split"].to_list() == ["train"] * 3 + ["val"] + ["test"] * 3
    assert "Labels dropped, since not every table has them: Fracture." in dataset.notes
