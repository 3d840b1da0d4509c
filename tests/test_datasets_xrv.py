"""Dataset objects of torchxrayvision: what they give is what the store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

import mococxr
from mococxr.datasets import read_dataset
from mococxr.errors import InputError

NAN = float("nan")


def grey(number: int, kind: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
    """An image of 40 x 48 whose values use the whole range of its kind."""
    top = np.iinfo(np.dtype(kind)).max
    image = np.random.default_rng(number).integers(0, top, (40, 48), dtype=kind, endpoint=True)
    image[0, :2] = 0, top
    return image


class Rows(dict[str, list[Any]]):
    """A table of columns that is as long as they are, as a data frame is."""

    def __len__(self) -> int:
        return len(self["patientid"])


class Dataset:
    """What a dataset of torchxrayvision is to a caller: `csv`, `pathologies`, `labels`, images by number."""

    def __init__(self, images: list[npt.NDArray[Any]]) -> None:
        count = len(images)
        self.images = images
        self.pathologies = ["Effusion", "Mass"]
        self.labels = np.array([[1, NAN], [0, 1], [0.5, 0]] * count)[:count].astype(np.float32)
        self.csv: dict[str, list[Any]] = {
            "patientid": [f"p{number // 2}" for number in range(count)],
            "view": ["PA"] * count,
            "age_years": [50.0, NAN] + [60.0] * (count - 2),
            "sex_male": [True] * count,
            "sex_female": [False] * (count - 1) + [True],
        }

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> dict[str, Any]:
        image = self.images[number]
        top = np.iinfo(image.dtype).max
        return {"img": ((2 * (image.astype(np.float32) / top) - 1) * 1024)[None], "lab": self.labels[number]}


def dataset(kind: npt.DTypeLike = np.uint8, count: int = 6) -> Dataset:
    made = Dataset([grey(number, kind) for number in range(count)])
    made.csv = Rows(made.csv)
    return made


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_images_of_a_dataset_are_kept_without_loss(tmp_path: Path, kind: type[np.generic]) -> None:
    given = dataset(kind)
    store = mococxr.prepare(given, format="xrv", out=tmp_path / "store", size=40, jobs=1)
    for number, image in enumerate(given.images):
        held = cv2.imread(str(tmp_path / f"store.images/images/{number:07d}.png"), cv2.IMREAD_UNCHANGED)
        assert held.dtype == kind
        assert (held == image).all()
    if kind is np.uint8:
        assert (store.pixels(2) == given.images[2]).all()


def test_labels_and_facts_of_a_dataset_come_into_the_store(tmp_path: Path) -> None:
    store = mococxr.prepare(dataset(), format="xrv", out=tmp_path / "store", size=16, jobs=1)
    index = store.index
    assert index["patient"].to_list() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert index["Effusion"].to_list() == [1, 0, -1] * 2
    assert index["Mass"].to_list() == [None, 1, 0] * 2
    assert index["sex"].to_list() == ["M"] * 5 + [None]
    assert index["age"].to_list()[:3] == [50, None, 60]


def test_the_images_are_written_once_and_found_again(tmp_path: Path) -> None:
    given = dataset()
    mococxr.prepare(given, format="xrv", out=tmp_path / "store", size=16, jobs=1)
    given.images = ["broken"] * 6  # type: ignore[list-item]  # asked again, it could give no image
    store = mococxr.prepare(given, format="xrv", out=tmp_path / "store", size=16, jobs=1)
    assert len(store) == 6
    assert read_dataset(tmp_path / "store.images", format="auto").name == "xrv"


def test_an_image_that_the_dataset_cannot_give_is_in_quarantine_and_why_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = dataset()
    given.images[1] = "broken"  # type: ignore[call-overload]
    store = mococxr.prepare(given, format="xrv", out=tmp_path / "store", size=16, jobs=1)
    assert len(store) == 5
    assert pl.read_csv(store.path / "quarantine.csv")["path"].to_list() == ["images/0000001.png"]
    assert "could not give 1 images, e.g. image 1: AttributeError: 'str'" in capsys.readouterr().err
    given.images[1] = "DOE"  # type: ignore[call-overload]
    mococxr.prepare(given, format="xrv", out=tmp_path / "hidden", size=16, jobs=1, pseudonymise=True)
    assert "could not give 1 images, e.g. (withheld)" in capsys.readouterr().err


def test_a_dataset_out_of_range_or_with_augmentation_is_refused(tmp_path: Path) -> None:
    given = dataset()
    with pytest.raises(InputError, match="neither a path nor a dataset"):
        mococxr.prepare(3, out=tmp_path / "store")
    given.data_aug = object()  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="data_aug"):
        mococxr.prepare(given, format="xrv", out=tmp_path / "store")
    assert not list(tmp_path.iterdir())
    wide = dataset()
    wide.images[0] = np.full((4, 4), -9, np.int8)
    with pytest.raises(InputError, match="Image 0 of the dataset has values from -1169"):
        mococxr.prepare(wide, format="xrv", out=tmp_path / "store")


def test_on_the_command_line_xrv_shows_the_lines_for_python(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_dataset(tmp_path, format="xrv")
    assert 'mococxr.prepare(dataset, format="xrv"' in error.value.way_out


@pytest.mark.slow
def test_a_real_dataset_of_torchxrayvision_is_prepared(tmp_path: Path) -> None:
    xrv = pytest.importorskip("torchxrayvision")
    names = ["00000001_000.png", "00000001_001.png", "00000002_000.png", "00000003_000.png"]
    for number, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), grey(number))
    given = xrv.datasets.NIH_Dataset(str(tmp_path), views=["PA", "AP"], unique_patients=False)
    keep = [number for number, name in enumerate(given.csv["Image Index"]) if name in names]
    given = xrv.datasets.SubsetDataset(given, np.array(keep))
    store = mococxr.prepare(given, format="xrv", out=tmp_path / "store", size=40, jobs=1)
    assert store.index["patient"].to_list() == ["1", "1", "2", "3"]
    assert list(store.labels) == list(given.pathologies)
    assert store.index.filter(pl.col("row") == 0)["Cardiomegaly"].item() == 1
    assert (store.pixels(0) == grey(0)).all()
