"""What holds for every dataset that can be read: one list of checks over all of them.

A new dataset needs a miniature in `small_sets` and a line in `MADE`; the test of the registry asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import polars as pl
import pytest

import small_sets
from archive_images import write_archive
from mococxr.datasets import READERS, Dataset, read_dataset
from mococxr.datasets.dataset import FIXED
from mococxr.errors import InputError
from mococxr.preparation.pseudonymised import pseudonymise
from mococxr.privacy import Key
from mococxr.settings.preparation import Format
from test_datasets_public import nih, release


def tuberculosis(prefix: str) -> Callable[[Path], object]:
    return lambda root: small_sets.images(root, f"CXR_png/{prefix}_0001_0.png", f"CXR_png/{prefix}_0002_1.png")


def own_table(root: Path) -> None:
    small_sets.images(root, "images/a.png", "images/b.png")
    small_sets.table(
        root / "t.csv", "path,patient,site,age,TB", "images/a.png,p1,North,58Y,1", "images/b.png,p2,South,-1,0"
    )


def xrv_folder(root: Path) -> None:
    small_sets.images(root, "images/0000000.png")
    small_sets.table(root / "xrv.csv", "path,patient,TB", "images/0000000.png,p1,1")


MADE: dict[str, Callable[[Path], object]] = {
    "csv": own_table,
    "folder": lambda root: small_sets.images(root, "ill/a.png", "well/b.png"),
    "dicom": lambda root: write_archive(root, 6, broken=0.0),
    "chexpert": release,
    "nih": nih,
    "shenzhen": tuberculosis("CHNCXR"),
    "montgomery": tuberculosis("MCUCXR"),
    "xrv": xrv_folder,
    **{name: getattr(small_sets, name) for name in ("mimic", "brax", "padchest", "vindr", "rsna", "tbx11k", "openi")},
}
TABLES = {"csv": "t.csv", "nih": "Data_Entry_2017.csv", "brax": "master_spreadsheet_update.csv",
          "padchest": "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"}  # fmt: skip
"""Those with a table of one row an image."""


def test_every_dataset_of_the_registry_is_checked_here_and_known_to_the_settings() -> None:
    assert set(MADE) == set(READERS)
    assert set(get_args(Format)) == {"auto", *READERS}


@pytest.fixture(params=sorted(MADE))
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    MADE[request.param](tmp_path / "set")
    dataset = read_dataset(tmp_path / "set", patients_unknown=True)
    assert dataset.name == request.param, "it is known by its layout"
    return dataset


def test_rows_have_the_fixed_columns_then_labels_then_metadata(dataset: Dataset) -> None:
    assert dataset.rows.columns == [*FIXED, *dataset.labels, *dataset.metadata]
    assert dataset.rows.schema["age"] == pl.Float64
    for name in dataset.labels:
        assert dataset.rows.schema[name] == pl.Int8
        assert dataset.rows[name].is_in([1, 0, -1]).all(), name
    assert set(dataset.rows["sex"].drop_nulls()) <= {"M", "F"}
    assert set(dataset.rows["split"].drop_nulls()) <= {"train", "val", "test"}
    assert not (dataset.rows["age"] < 0).any()


def test_paths_stay_inside_the_source_and_every_image_has_a_patient(dataset: Dataset) -> None:
    paths = dataset.rows["path"]
    assert paths.is_unique().all()
    assert not paths.str.contains(r"^/|(^|/)\.\.?(/|$)|\\").any()
    assert dataset.rows["patient"].null_count() == 0
    assert any((dataset.root / path).is_file() for path in paths)


def test_under_pseudonyms_no_identity_is_left(dataset: Dataset, tmp_path: Path) -> None:
    known = {*dataset.rows["path"], *dataset.rows["patient"], *dataset.rows["study"].drop_nulls()}
    hidden, _ = pseudonymise(dataset, Key.open(tmp_path / "key"), ())
    assert set(hidden.metadata) == {name for name in dataset.metadata if name in dataset.safe}
    names = hidden.rows.select("path", "patient", "study").drop_nulls().rows()
    assert not known & {value for row in names for value in row}
    assert hidden.rows["patient"].n_unique() == dataset.rows["patient"].n_unique()


@pytest.mark.parametrize("name", sorted(set(MADE) - {"dicom", "csv", "folder", "xrv"}))
def test_a_label_that_is_not_there_is_refused_by_name(tmp_path: Path, name: str) -> None:
    MADE[name](tmp_path)
    with pytest.raises(InputError, match="has no label 'Marvel'"):
        read_dataset(tmp_path, label=["Marvel"], patients_unknown=True)


@pytest.mark.parametrize("name", sorted(set(MADE) - {"folder"}))
def test_a_source_without_its_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"hold|is not one") as error:
        read_dataset(tmp_path / "empty", format=name, patients_unknown=True)
    assert error.value.way_out


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_repeated_row_is_refused_by_its_line(tmp_path: Path, name: str) -> None:
    MADE[name](tmp_path)
    table = tmp_path / TABLES[name]
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(InputError, match=rf"row {len(lines)} .*already appears in .*row 1 \(line 2\)"):
        read_dataset(tmp_path, format=name)


def test_hidden_folders_hold_no_images(tmp_path: Path) -> None:
    small_sets.images(tmp_path, "ill/a.png", "well/b.png", ".ipynb_checkpoints/a-checkpoint.png")
    assert read_dataset(tmp_path, patients_unknown=True).labels == ("ill", "well")
