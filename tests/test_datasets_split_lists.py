"""Splits published as lists of images, as the mednet package has them for Shenzhen and Montgomery."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import polars as pl
import pytest

from mococxr.datasets import Dataset, read_dataset
from mococxr.errors import InputError
from mococxr.preparation.split_plan import decide

LISTS = {
    "train": [["CXR_png/CHNCXR_0001_0.png", 0], ["CXR_png/CHNCXR_0002_1.png", 1]],
    "validation": [["CXR_png/CHNCXR_0003_1.png", 1]],
    "test": [["CXR_png/CHNCXR_0004_0.png", 0]],
}


def images(root: Path, names: list[str], folder: str = "CXR_png") -> Dataset:
    """A dataset of empty images of these names."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / folder / name).touch()
    return read_dataset(root)


def four(root: Path, folder: str = "CXR_png") -> Dataset:
    return images(root, [Path(name).name for part in LISTS.values() for name, _ in part], folder)


def written(root: Path, lists: object) -> Path:
    path = root / "split.json"
    path.write_text(json.dumps(lists))
    return path


def divided(dataset: Dataset, split_file: Path) -> dict[str, str]:
    plan = decide(dataset, split_file, (0.5, 0.1, 0.4), 0)
    return dict(plan.assign(dataset.rows, dataset.labels).iter_rows())


@pytest.mark.parametrize("folder", ["CXR_png", "."])
def test_a_published_list_of_images_is_the_split(tmp_path: Path, folder: str) -> None:
    found = divided(four(tmp_path, folder), written(tmp_path, LISTS))
    parts = ["train", "train", "val", "test"]
    assert found == {f"CHNCXR_000{n}": part for n, part in enumerate(parts, start=1)}


def test_a_list_may_hold_names_alone(tmp_path: Path) -> None:
    names = {split: [Path(name).name for name, _ in part] for split, part in LISTS.items()}
    assert divided(four(tmp_path), written(tmp_path, names))["CHNCXR_0003"] == "val"


def test_an_image_in_two_lists_is_refused(tmp_path: Path) -> None:
    twice = {**LISTS, "test": [*LISTS["test"], ["CXR_png/CHNCXR_0001_0.png", 0]]}
    with pytest.raises(InputError, match="'CHNCXR_0001' is in test and train"):
        divided(four(tmp_path), written(tmp_path, twice))


def test_an_image_in_no_list_is_refused_and_a_listed_image_that_is_not_here_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = four(tmp_path)
    with pytest.raises(InputError, match=r"no split for 1 patients, e.g. 'CHNCXR_0004'"):
        divided(dataset, written(tmp_path, {**LISTS, "test": []}))
    divided(dataset, written(tmp_path, {**LISTS, "test": [*LISTS["test"], ["CXR_png/CHNCXR_0009_0.png", 0]]}))
    assert "1 patients have no image here" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [[], {}, {"train": 3}, {"train": [[]]}, {"train": [[1, "a.png"]]}])
def test_another_json_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(InputError, match="The form is"):
        divided(four(tmp_path), written(tmp_path, wrong))


def test_a_list_under_another_name_than_a_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"split.json: 'fold-1' is not the name of a split"):
        divided(four(tmp_path), written(tmp_path, {**LISTS, "fold-1": []}))


def test_the_lists_of_another_set_are_refused(tmp_path: Path) -> None:
    other = {"train": [["CXR_png/MCUCXR_0001_0.png", 0]]}
    with pytest.raises(InputError, match=r"None of the 1 images in .*MCUCXR_0001_0.png"):
        divided(four(tmp_path), written(tmp_path, other))


def mednet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name with Shenzhen's default lists; importing it would fail the test."""
    lists = tmp_path / "site" / "mednet" / "config" / "classify" / "data" / "shenzhen"
    lists.mkdir(parents=True)
    (tmp_path / "site" / "mednet" / "__init__.py").write_text("raise AssertionError('imported')")
    (lists / "default.json").write_text(json.dumps(LISTS))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return lists


def test_the_split_of_an_installed_mednet_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mednet(tmp_path, monkeypatch)
    dataset = four(tmp_path / "images")
    assert divided(dataset, Path("mednet:default"))["CHNCXR_0003"] == "val"
    with pytest.raises(InputError, match="no split 'mednet:fold-3' of shenzhen"):
        divided(dataset, Path("mednet:fold-3"))


def real_lists(name: str) -> list[Path]:
    """The real lists of a dataset, where mednet is installed."""
    found = importlib.util.find_spec("mednet")
    if found is None or not found.submodule_search_locations:
        pytest.skip("mednet is not installed")
    folder = Path(found.submodule_search_locations[0]) / "config" / "classify" / "data" / name
    return [folder / "default.json", *sorted(folder.glob("fold-*.json"))]


@pytest.mark.parametrize(
    ("name", "counts", "positives"), [("shenzhen", (422, 107, 133), (215, 54, 67)), ("montgomery", (88, 22, 28), None)]
)
def test_the_real_published_splits_have_their_published_counts(
    tmp_path: Path, name: str, counts: tuple[int, int, int], positives: tuple[int, int, int] | None
) -> None:
    found = real_lists(name)
    assert len(found) == 11
    listed = json.loads(found[0].read_text())
    dataset = images(tmp_path, [Path(path).name for part in listed.values() for path, _ in part])
    for lists in found:
        parts = pl.DataFrame(list(divided(dataset, lists).items()), schema=["patient", "split"], orient="row")
        assert len(parts) == sum(counts)
        if lists.stem == "default":
            rows = dataset.rows.drop("split").join(parts, on="patient")
            per = rows.group_by("split").agg(pl.len(), pl.col("Tuberculosis").sum()).sort("split")
            assert [per.row(n)[1] for n in (1, 2, 0)] == list(counts)
            assert positives is None or [per.row(n)[2] for n in (1, 2, 0)] == list(positives)


def test_a_json_file_too_deep_to_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text('{"train": ' + "[" * 200_000)
    with pytest.raises(InputError, match=r"deep.json is not JSON"):
        divided(four(tmp_path), path)
