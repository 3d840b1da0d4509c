from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fake_study import facts, fake_study
from mococxr.reporting.arms import arm_table, transfer_table
from mococxr.reporting.banners import banners
from mococxr.reporting.paper import methods_paragraph
from mococxr.reporting.report import write_report
from mococxr.reporting.tables import split_table
from mococxr.reporting.words import judged, subtitle
from mococxr.results import read_results

ARMS, TARGETS = ("moco", "imagenet"), ("Effusion",)


def study(tmp_path: Path, **changed: Any) -> Any:
    recorded = facts(ARMS, TARGETS) | changed
    return read_results(
        fake_study(tmp_path / "s", ARMS, TARGETS, ("linear",), (0.01, 1.0), recorded=recorded)
    )


def arm(**changed: Any) -> dict[str, Any]:
    arms = facts(ARMS, TARGETS)["arms"]
    arms["moco"] |= changed
    return arms


def cells(tmp_path: Path, **changed: Any) -> dict[str, str]:
    table = arm_table(study(tmp_path, arms=arm(**changed)))
    return dict(zip(table.head, table.rows[0], strict=True))


def test_an_arm_says_what_an_image_costs_and_where_that_was_measured(tmp_path: Path) -> None:
    table = arm_table(study(tmp_path))
    row = dict(zip(table.head, table.rows[0], strict=True))
    assert row["An image costs"] == "12 ms, 11.2 million weights"
    assert "on cpu" in table.note
    assert cells(tmp_path / "slow", seconds_per_image=1.44)["An image costs"].startswith("1.4 s")
    assert cells(tmp_path / "old", seconds_per_image=None)["An image costs"] == "not recorded"


def test_published_weights_name_their_images_and_a_run_those_of_its_start_too(tmp_path: Path) -> None:
    theirs = {"kind": "xrv", "pretrained_on": None, "trained_on": "CheXpert (with labels)", "verdict": None}
    row = cells(tmp_path / "a", **theirs, encoder="xrv:densenet121-res224-chex")
    assert row["Trained on"] == "CheXpert (with labels)"
    assert row["Encoder"] == "xrv:densenet121-res224-chex: resnet18 at 96 px"
    assert row["Pretraining"] == "–"
    row = cells(tmp_path / "b", trained_on="CheXpert (with labels)")
    assert row["Trained on"].startswith("pediatric: 3,400 images")
    assert row["Trained on"].endswith("; its start: CheXpert (with labels)")


def test_source_and_target_stand_beside_the_images_in_both(tmp_path: Path) -> None:
    table = transfer_table(study(tmp_path))
    assert table.rows == [["MoCo", "moco", "pediatric", "pediatric", "514", "0", "2"]]
    other = transfer_table(
        study(tmp_path / "b", images_in_both={"moco/moco": None}, test_store={"source": "nih"})
    )
    assert other.rows == [["MoCo", "moco", "pediatric", "nih", *["not checked"] * 3]]
    assert transfer_table(study(tmp_path / "c", images_in_both={})).rows == []
    place = fake_study(tmp_path / "d", ARMS, TARGETS, ("linear",), (0.01, 1.0))
    assert "Images of source and target" in write_report(place).read_text()


def test_runs_whose_name_is_a_path_are_found_under_their_arm(tmp_path: Path) -> None:
    arms = arm(runs=[{"run": "a/exp1", "health": None}, {"run": "b/exp1", "health": None}])
    both = {f"moco/{name}/exp1": {"test_images": 514, "same": n, "alike": 0} for n, name in enumerate("ab")}
    rows = transfer_table(study(tmp_path, arms=arms, images_in_both=both)).rows
    assert [[row[0], row[1], row[2], row[5]] for row in rows] == [
        ["MoCo", "a/exp1", "pediatric", "0"],
        ["MoCo", "b/exp1", "pediatric", "1"],
    ]


def test_the_test_set_is_what_has_a_label_and_was_scored_and_not_the_whole_split(tmp_path: Path) -> None:
    recorded = facts(ARMS, ("Effusion", "Pneumonia"))["targets"]
    recorded["Pneumonia"] |= {"test_images": 401, "test_patients": 290}
    found = study(tmp_path, targets=recorded)
    assert judged(found) == "512 images, 309 patients"
    place = fake_study(
        tmp_path / "b",
        ARMS,
        ("Effusion", "Pneumonia"),
        ("linear",),
        (0.1, 1.0),
        recorded={"targets": recorded},
    )
    counts = "Effusion: 512 images, 309 patients; Pneumonia: 401 images, 290 patients"
    assert judged(read_results(place)) == counts
    methods = methods_paragraph(read_results(place))
    assert f"Test images with a label, all of them scored: {counts}." in methods
    assert "3 further files could not be read and were left out." in methods
    assert "2 further files are no image of their own and were left out." in methods
    assert f"Test set {counts}" in " ".join(re.sub("<[^>]+>", " ", write_report(place).read_text()).split())


def test_images_of_another_store_are_named_and_counted_where_a_reader_looks_for_the_test_set(
    tmp_path: Path,
) -> None:
    other = {"source": "nih", "path_name": "store2", "phantom": True, "patients_known": True}
    other |= {"splits": {"test": {"images": 77, "patients": 66}}, "split_rule": "all of it"}
    found = study(tmp_path, test_store=other)
    assert banners(found)[0].title == "Phantom images"
    assert split_table(found).rows[-1] == ["Test, of the other store", "77", "66"]
    page = write_report(found.path).read_text()
    text = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "Test set 512 images, 309 patients, of nih" in text
    assert "Judged on another store, nih: 512 images, 309 patients." in text
    assert "those of another store: nih (store store2; split: all of it)" in text
    assert "512 images, patients unknown" in subtitle(
        study(tmp_path / "b", test_store=other | {"patients_known": False})
    )
    assert "another store" not in subtitle(study(tmp_path / "c"))


@pytest.mark.parametrize("mark", ["TEST IMAGES SEEN", "TEST IMAGES MAY HAVE BEEN SEEN", "TEST PATIENTS SEEN"])
def test_images_that_may_have_been_seen_stand_on_the_first_screen(tmp_path: Path, mark: str) -> None:
    (banner,) = banners(study(tmp_path, warnings=[f"{mark}: so many.", "The rest is calm."]))
    assert (banner.title, banner.text) == (mark.capitalize(), "so many.")
