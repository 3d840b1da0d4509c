"""`evaluate --unit`: images of a study or patient are judged as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_ind
from sklearn.metrics import recall_score, roc_auc_score

from mococxr import metrics
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.measure.units import images_by_class

UNITS = {"study": ["patient", "visit"], "patient": ["patient"]}


def images(seed: int = 0, patients: int = 90) -> pl.DataFrame:
    """One to four images a patient in two visits; of a positive patient not every image is positive."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), np.random.default_rng(3).integers(1, 5, patients))
    same = np.random.default_rng(4)
    sick = (same.random(patients) < 0.45)[patient]
    label = np.where(sick & (same.random(patient.size) < 0.7), 1, 0).astype(object)
    label[same.random(patient.size) < 0.1] = ""
    other = np.where(same.random(patient.size) < 0.3, 1, 0)
    return pl.DataFrame(
        {
            "path": [f"{i}.png" for i in range(patient.size)],
            "patient": [f"p{n:03d}" for n in patient],
            "visit": [f"v{n}" for n in same.integers(0, 2, patient.size)],
            "TB": [str(cell) for cell in label],
            "Mass": other,
            "score": rng.normal(size=patient.size) + 1.2 * sick,
            "sex": ["FM"[n % 2] for n in patient],
            "view": same.choice(["PA", "AP"], patient.size),
        }
    ).sample(fraction=1, shuffle=True, seed=seed)


def joined(frame: pl.DataFrame, unit: str, how: str = "max") -> pl.DataFrame:
    """The units of the rows with a label, by polars."""
    score = pl.col("score").max() if how == "max" else pl.col("score").mean()
    known = frame.filter(pl.col("TB") != "").with_columns(pl.col("TB").cast(int))
    return known.group_by(UNITS[unit]).agg(pl.col("TB").max(), score, pl.col("sex").first(), pl.col("view").unique())


def ask(frame: pl.DataFrame, path: Path, **more: Any) -> dict[str, Any]:
    frame.write_csv(path)
    given = {"label": "TB", "score": "score", "patient": "patient", "replicates": 200}
    given |= {"study": "visit"} if more.get("unit") == "study" else {}
    return run("evaluate", {"predictions": path, **given, **more})


@pytest.mark.parametrize("unit", ["study", "patient"])
@pytest.mark.parametrize("how", ["max", "mean"])
def test_units_are_those_of_a_group_by(tmp_path, unit, how, capsys):
    frame = images()
    found = ask(frame, tmp_path / "a.csv", unit=unit, aggregate=how, threshold="1")
    units = joined(frame, unit, how)
    assert found["interval"]["value"] == pytest.approx(roc_auc_score(units["TB"], units["score"]), abs=1e-12)
    assert (found["n"], found["patients"]) == (len(units), units["patient"].n_unique())
    assert (found["unit"], found["aggregate"]) == (unit, how)
    assert found["left_out"]["blank"] == (frame["TB"] == "").sum()
    called = units["score"] >= 1
    assert found["operating_point"]["sensitivity"]["value"] == pytest.approx(
        recall_score(units["TB"], called), abs=1e-12
    )
    assert f"{how} over the images of one" in capsys.readouterr().out


def test_a_unit_whose_images_are_of_two_groups_is_in_none(tmp_path):
    frame = images()
    by_sex, by_view = ask(frame, tmp_path / "a.csv", unit="patient", subgroup=["sex", "view"])["subgroups"]
    units = joined(frame, "patient")
    assert {group["name"]: group["rows"] for group in by_sex["groups"]} == dict(units.group_by("sex").len().iter_rows())
    assert by_sex["left_out"] == 0
    assert 0 < by_view["left_out"] < len(units)


def test_two_tables_pair_by_image_before_their_images_are_joined(tmp_path):
    first, second = images(), images(1)
    second.write_csv(tmp_path / "b.csv")
    found = ask(first, tmp_path / "a.csv", against=tmp_path / "b.csv", key="path", unit="patient")
    a, b = (joined(frame, "patient").sort("patient") for frame in (first, second))
    oracle = metrics.clustered_paired(a["TB"], a["score"], b["score"])
    assert found["comparison"]["value"] == pytest.approx(oracle.difference, abs=1e-12)
    assert found["comparison"]["p"] == pytest.approx(oracle.p, abs=1e-9)
    assert found["paired_by"] == "path"


def test_tables_that_differ_in_an_image_are_refused_though_their_patients_agree(tmp_path):
    second = images(1)
    row = second["TB"].to_list().index("1")
    other = pl.Series("TB", [*second["TB"][:row], "0", *second["TB"][row + 1 :]])
    second.with_columns(other).write_csv(tmp_path / "b.csv")
    with pytest.raises(InputError, match=f"differ in 'TB' at path '{second['path'][row]}'"):
        ask(images(), tmp_path / "a.csv", against=tmp_path / "b.csv", key="path", unit="patient")


def test_labels_with_other_gaps_are_averaged_over_the_same_patients(tmp_path):
    frame = images()
    found = ask(frame, tmp_path / "a.csv", label=["TB", "Mass"], score=["score", "score"], unit="patient")
    mass = frame.group_by("patient").agg(pl.col("Mass").max(), pl.col("score").max())
    each = [block["interval"]["value"] for block in found["labels"]]
    assert each[1] == pytest.approx(roc_auc_score(mass["Mass"], mass["score"]), abs=1e-12)
    assert found["macro"]["auroc"]["value"] == pytest.approx(np.mean(each), abs=1e-12)


def test_validation_images_are_joined_too(tmp_path):
    others = images(2).with_columns(patient="x" + pl.col("patient"))
    others.write_csv(tmp_path / "v.csv")
    rule = {"threshold": "youden", "validation": tmp_path / "v.csv", "unit": "patient", "aggregate": "mean"}
    found = ask(images(), tmp_path / "a.csv", **rule)["operating_point"]
    units = joined(others, "patient", "mean")
    assert found["threshold"] == metrics.threshold_by_youden(units["TB"], units["score"])


REFUSED = {
    "no patients": ({"unit": "patient", "patient": None}, "--patient"),
    "no studies": ({"unit": "study", "study": None}, "--study"),
    "studies without use": ({"study": "visit"}, "--study"),
    "no such column": ({"unit": "study", "study": "exam"}, "exam"),
}


@pytest.mark.parametrize(("more", "words"), REFUSED.values(), ids=REFUSED)
def test_units_that_cannot_be_are_refused(tmp_path, more, words):
    with pytest.raises(InputError, match=words):
        ask(images(), tmp_path / "a.csv", **more)


def test_numbers_of_images_that_tell_of_the_finding_are_remarked(tmp_path):
    rng = np.random.default_rng(0)
    sick = np.arange(120) % 3 == 0
    patients = np.repeat(np.arange(120), np.where(sick, rng.integers(2, 6, 120), rng.integers(1, 4, 120)))
    labels = sick[patients].astype(int)
    frame = pl.DataFrame({"patient": patients, "TB": labels, "score": rng.normal(size=labels.size) + labels})
    counts = np.bincount(patients)
    ill, well = images_by_class(labels, patients)
    assert (ill, well) == pytest.approx((counts[sick].mean(), counts[~sick].mean()))
    notes = ask(frame, tmp_path / "a.csv")["notes"]
    assert any(
        note.startswith(f"Patients with TB have {ill:.2g} images each, the others {well:.2g}:") for note in notes
    )
    assert not any("images each" in note for note in ask(frame, tmp_path / "a.csv", unit="patient")["notes"])


@pytest.mark.parametrize("seed", range(12))
def test_the_remark_follows_welchs_test(seed):
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    labels = (np.arange(60) < 20)[patients].astype(int)
    counts = np.bincount(patients)
    p = ttest_ind(counts[:20], counts[20:], equal_var=False).pvalue
    ratio = max(counts[:20].mean(), counts[20:].mean()) / min(counts[:20].mean(), counts[20:].mean())
    assert (images_by_class(labels, patients) is not None) == (p < 0.05 and ratio >= 1.1)


def test_one_image_a_patient_and_one_patient_of_a_class_are_no_remark():
    assert images_by_class(np.array([1, 0, 0]), np.arange(3)) is None
    assert images_by_class(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 2])) is None
    nearly = np.repeat(np.arange(2000), np.where(np.arange(2000) % 40 == 0, 3, 2))
    nearly = np.concatenate([nearly, np.arange(0, 1000, 8)])
    assert images_by_class((nearly < 1000).astype(int), nearly) is None  # sure, and too little to matter
    assert images_by_class(np.repeat([1, 0], [8, 4]), np.repeat(np.arange(8), [2, 2, 2, 2, 1, 1, 1, 1])) == (2, 1)
