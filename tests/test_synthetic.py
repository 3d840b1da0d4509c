"""Synthetic images: pure, graded, and named synthetic wherever they go."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image

from mococxr.errors import InputError
from mococxr.synthetic import draw_anatomy, draw_synthetic, write_synthetic

CALM = {"exposure": 0.0, "pose": 0.0, "noise": 0.0, "texture": 0.0, "gadgets": 0.0}
"""No nuisance: what differs between two such images of one index is the finding."""


def test_an_image_is_a_pure_function_of_its_arguments() -> None:
    first = draw_synthetic(3, 7, findings={"effusion": 0.4})
    draw_synthetic(3, 8)
    assert np.array_equal(first, draw_synthetic(3, 7, findings={"effusion": 0.4}))
    assert not np.array_equal(first, draw_synthetic(3, 8, findings={"effusion": 0.4}))
    assert not np.array_equal(first, draw_synthetic(4, 7, findings={"effusion": 0.4}))


def test_an_image_is_portrait_grey_and_uses_the_range() -> None:
    image = draw_synthetic(0, 0)
    assert image.dtype == np.uint8
    assert image.shape == (256, 213)
    assert image.min() < 40
    assert image.max() > 180


def test_images_of_one_patient_share_anatomy_and_differ_in_the_rest() -> None:
    assert draw_anatomy(0, 5) == draw_anatomy(0, 5)
    a, b = (draw_synthetic(0, i, patient=5) for i in (1, 2))
    assert not np.array_equal(a, b)

    def distance(first: int, second: int) -> float:
        images = [draw_synthetic(0, i, patient=p, **CALM).astype(float) for i, p in ((1, first), (2, second))]
        return float(np.abs(images[0] - images[1]).mean())

    same, other = ([distance(5, p) for p in ps] for ps in ([5], range(6, 12)))
    assert max(same) < 0.5 * min(other)


@pytest.mark.parametrize(("side", "sign"), [("left", 1), ("right", -1)])
def test_effusion_whitens_its_own_base_and_nothing_else(side: str, sign: int) -> None:
    """The patient's left is the right of the image."""
    clear, ill = (draw_synthetic(0, 2, findings={f"effusion_{side}": s}, **CALM).astype(float) for s in (0.0, 0.7))
    change = (ill - clear)[:, ::sign]
    height, width = change.shape
    base, apex = slice(int(0.55 * height), int(0.75 * height)), slice(0, int(0.4 * height))
    assert change[base, int(0.55 * width) : int(0.9 * width)].mean() > 20
    assert np.abs(change[apex]).max() <= 1
    assert np.abs(change[:, : int(0.45 * width)]).max() <= 1


@pytest.mark.parametrize(
    "finding", ["effusion_left", "effusion_right", "cardiomegaly", "opacity", "edema", "atelectasis"]
)
def test_a_graver_finding_changes_more_of_the_image(finding: str) -> None:
    images = [draw_synthetic(1, 4, findings={finding: s}, **CALM).astype(float) for s in (0.0, 0.1, 0.4, 0.7, 1.0)]
    change = [float(np.abs(image - images[0]).mean()) for image in images[1:]]
    assert change[0] > 0.05
    assert change == sorted(change)


@pytest.mark.parametrize("finding", ["effusion", "cardiomegaly", "opacity", "edema", "atelectasis"])
def test_a_lateral_image_is_another_picture_and_shows_the_same_findings(finding: str) -> None:
    front, side = (draw_synthetic(1, 4, view=view, **CALM).astype(float) for view in ("PA", "lateral"))
    assert np.abs(front - side).mean() > 20
    images = [draw_synthetic(1, 4, view="lateral", findings={finding: s}, **CALM) for s in (0.0, 0.3, 1.0)]
    change = [float(np.abs(image.astype(float) - images[0]).mean()) for image in images[1:]]
    assert 0.05 < change[0] < change[1]


def cardiothoracic_ratio(patient: int, severity: float, view: str = "PA") -> float:
    """Widest heart over the width of the thorax, measured on a calm image above the diaphragm."""
    image = draw_synthetic(0, patient, view=view, findings={"cardiomegaly": severity}, **CALM)
    rows = cv2.GaussianBlur(image, (0, 0), 1.5)[int(0.56 * len(image)) : int(0.64 * len(image))].astype(float)
    middle = rows.shape[1] // 2
    ratios = []
    for row in rows:
        dark = row < 0.5 * (np.percentile(row[20:-20], 5) + row[middle])
        left, right = np.flatnonzero(dark[20:middle]) + 20, np.flatnonzero(dark[middle:-20]) + middle
        ratios.append((right[0] - left[-1]) / (right[-1] - left[0]))
    return float(max(ratios))


@pytest.mark.parametrize("patient", [0, 2, 3])
def test_the_cardiothoracic_ratio_grows_with_cardiomegaly(patient: int) -> None:
    ratios = [cardiothoracic_ratio(patient, severity) for severity in np.linspace(0, 1, 6)]
    assert all(np.diff(ratios) > 0), ratios
    assert 0.3 < ratios[0] < 0.52 < ratios[-1] < 0.8


def test_a_bedside_image_shows_a_larger_heart() -> None:
    assert cardiothoracic_ratio(3, 0, "AP") > cardiothoracic_ratio(3, 0, "PA")


@pytest.mark.parametrize(
    "bad", [{"size": 8}, {"view": "oblique"}, {"findings": {"mass": 0.5}}, {"findings": {"effusion": 1.5}}]
)
def test_what_cannot_be_drawn_is_refused(bad: dict) -> None:
    with pytest.raises(InputError):
        draw_synthetic(0, 0, **bad)


def test_a_folder_of_synthetic_images_says_so_everywhere_and_its_table_is_readable(tmp_path: Path) -> None:
    table = write_synthetic(tmp_path, 24, size=64, labelled=0.5, jobs=2)
    frame = pl.read_csv(table, schema_overrides={"patient": pl.String})
    assert frame.columns == ["path", "patient", "study", "view", "sex", "age", "Effusion", "Cardiomegaly"]
    assert len(frame) == 24 == frame["path"].n_unique() == frame["study"].n_unique()
    assert set(frame["Effusion"].drop_nulls()) <= {0, 1}
    blank = frame.group_by("patient").agg(pl.col("Effusion").is_null().mean().alias("share"))["share"]
    assert set(blank) == {0.0, 1.0}
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == sorted(Path(p).name for p in frame["path"])
    for path, patient in frame.select("path", "patient").iter_rows():
        assert "synthetic" in path
        assert "synthetic" in patient
        with Image.open(tmp_path / path) as image:
            assert "synthetic" in image.text["synthetic"].lower()
            assert image.size == (53, 64)


def test_equal_arguments_write_equal_folders_whatever_the_threads(tmp_path: Path) -> None:
    for name, jobs in (("a", 1), ("b", 3)):
        write_synthetic(tmp_path / name, 12, seed=5, size=48, jobs=jobs)
    files = [p.relative_to(tmp_path / "a") for p in sorted((tmp_path / "a").rglob("*")) if p.is_file()]
    assert len(files) == 13
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_without_label_noise_the_images_bear_out_their_labels(tmp_path: Path) -> None:
    """Labels follow the drawn finding: the whiter bases belong to the images labelled 1."""
    calm = {**CALM, "labelled": 1.0, "label_noise": 0.0, "subtle": 1.0}
    frame = pl.read_csv(write_synthetic(tmp_path, 150, size=64, **calm))
    white = np.array([
        cv2.imread(str(tmp_path / path), cv2.IMREAD_GRAYSCALE)[34:48, [9, 10, 11, 12, 41, 42, 43, 44]].mean()
        for path in frame["path"]
    ])  # fmt: skip
    ill = frame["Effusion"].to_numpy() == 1
    assert white[ill].mean() > white[~ill].mean() + 5


@pytest.mark.parametrize("bad", [{"images": 0}, {"labelled": 1.2}, {"label_noise": -0.1}, {"subtle": 0.0}])
def test_a_folder_that_cannot_be_planned_is_refused_and_nothing_is_written(tmp_path: Path, bad: dict) -> None:
    with pytest.raises(InputError):
        write_synthetic(tmp_path / "out", **{"images": 4, **bad})
    assert not (tmp_path / "out").exists()
