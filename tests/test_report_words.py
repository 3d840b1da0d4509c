"""What the report says in words, and the folders that it refuses."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from fake_numbers import verdict_of
from fake_study import facts, fake_study
from mococxr.errors import InputError
from mococxr.reporting.banners import banners
from mococxr.reporting.findings import verdicts
from mococxr.reporting.report import write_report
from mococxr.reporting.words import p_value, plain, signed, threshold
from mococxr.results import TABLES, read_results

WHY = "the draw has one class only: 34 images, none positive"
SMALL: dict[str, Any] = {
    "arms": ("moco", "imagenet"),
    "targets": ("Effusion",),
    "modes": ("linear",),
    "fractions": (0.01, 1.0),
}


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def banners_of(root: Path, **changed: Any) -> list[str]:
    return [banner.title for banner in banners(read_results(fake_study(root, **SMALL | changed)))]


def test_a_clean_study_raises_no_banner(tmp_path: Path) -> None:
    assert banners_of(tmp_path / "s") == []


@pytest.mark.parametrize(
    ("path", "value", "title"),
    [
        (("store", "phantom"), True, "Phantom images"),
        (("store", "patients_known"), False, "Patients unknown"),
        (
            ("arms", "moco", "pretrained_on", "splits"),
            "train+val",
            "MoCo: pretraining saw validation patients",
        ),
        (
            ("arms", "moco", "pretrained_on", "splits"),
            "all",
            "MoCo: pretraining saw validation and test patients",
        ),
        (
            ("arms", "moco", "pretrained_on", "splits"),
            ["train", "test"],
            "MoCo: pretraining saw test patients",
        ),
        (("targets", "Effusion", "test_positive_patients"), 9, "Effusion: few test patients"),
        (("targets", "Effusion", "test_negative_patients"), 0, "Effusion: few test patients"),
    ],
)
def test_a_banner_stands_exactly_where_it_must(
    tmp_path: Path, path: tuple[str, ...], value: Any, title: str
) -> None:
    recorded = facts(("moco", "imagenet"), ("Effusion",))
    place = recorded
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert banners_of(tmp_path / "s", recorded=recorded) == [title]


def test_ten_test_patients_are_enough_for_no_banner(tmp_path: Path) -> None:
    recorded = facts(("moco", "imagenet"), ("Effusion",))
    recorded["targets"]["Effusion"]["test_positive_patients"] = 10
    assert banners_of(tmp_path / "s", recorded=recorded) == []


def test_test_patients_of_another_source_were_not_seen(tmp_path: Path) -> None:
    recorded = facts(("moco", "imagenet"), ("Effusion",))
    recorded["arms"]["moco"]["pretrained_on"] |= {"splits": "all", "source": "elsewhere"}
    assert banners_of(tmp_path / "s", recorded=recorded) == []


def test_test_patients_that_nobody_judges_were_not_seen_in_vain(tmp_path: Path) -> None:
    recorded = facts(("moco", "imagenet"), ("Effusion",))
    recorded["arms"]["moco"]["pretrained_on"] |= {"splits": "all"}
    recorded["test_store"] = {"source": "nih", "splits": {"test": {"images": 77, "patients": 66}}}
    titles = banners_of(tmp_path / "s", recorded=recorded)
    assert titles == ["MoCo: pretraining saw validation patients"], "the test patients are another store's"


def _with_difference(place: Path, **numbers: Any) -> Path:
    """Replace the primary comparison's numbers."""
    rows = table(place / "differences.csv")
    rows[0].update({name: str(value) for name, value in numbers.items()})
    rows[0]["verdict"] = verdict_of(rows[0])
    with open(place / "differences.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return place


@pytest.mark.parametrize(
    ("low", "high", "state", "ending"),
    [
        (0.05, 0.098, "gain", "+0.074 (95 % interval +0.050 to +0.098)."),
        (
            -0.01,
            0.15,
            "none",
            "(95 % interval −0.010 to +0.150). The interval includes 0: no difference was shown.",
        ),
        (
            0.0,
            0.15,
            "none",
            "(95 % interval 0.000 to +0.150). The interval includes 0: no difference was shown.",
        ),
        ("", "", "undefined", ": +0.074, but no interval is defined, so nothing is shown either way."),
    ],
)
def test_the_verdict_says_what_the_interval_says(
    tmp_path: Path, low: Any, high: Any, state: str, ending: str
) -> None:
    word = {"gain": "better", "none": "no difference shown", "undefined": "undefined"}[state]
    numbers = {"difference": 0.074, "low": low, "high": high, "verdict": word, "reason": ""}
    place = _with_difference(fake_study(tmp_path / "s", **SMALL), **numbers)
    (verdict,) = verdicts(read_results(place))
    assert verdict.state == state
    assert verdict.sentence.startswith(
        "With 1 % of the labels (34 images, 20 patients), a linear classifier on MoCo features reaches AUROC "
    )
    assert verdict.sentence.endswith(ending)


def test_a_loss_is_called_a_loss(tmp_path: Path) -> None:
    numbers = {"difference": -0.05, "low": -0.09, "high": -0.01, "verdict": "worse"}
    place = _with_difference(fake_study(tmp_path / "s", **SMALL), **numbers)
    (verdict,) = verdicts(read_results(place))
    assert verdict.state == "loss"
    assert verdict.sentence.endswith("−0.050 (95 % interval −0.090 to −0.010), so MoCo did worse.")


def test_an_undefined_primary_comparison_gives_its_reason(tmp_path: Path) -> None:
    place = fake_study(tmp_path / "s", **SMALL, undefined={("moco", "linear", "Effusion", 0.01): WHY})
    (verdict,) = verdicts(read_results(place))
    assert verdict.state == "undefined"
    assert WHY in verdict.sentence


def test_patients_are_not_counted_where_they_are_unknown(tmp_path: Path) -> None:
    store = facts(("moco", "imagenet"), ("Effusion",))["store"] | {"patients_known": False}
    (verdict,) = verdicts(read_results(fake_study(tmp_path / "s", **SMALL, recorded={"store": store})))
    assert verdict.sentence.startswith("With 1 % of the labels (34 images), a linear classifier")


def test_test_patients_that_study_found_among_the_pretrained_ones_are_loud(tmp_path: Path) -> None:
    found = "TEST PATIENTS SEEN: run r of arm moco was pretrained on images of 3 of the 310 test patients."
    assert banners_of(tmp_path / "s", recorded={"warnings": ["resnet18: odd", found]}) == [
        "Test patients seen"
    ]


@pytest.mark.parametrize(
    "name", ["cells.csv", "differences.csv", "trials.csv", "settings.yaml", "study.json"]
)
def test_a_missing_file_is_named_with_the_way_out(tmp_path: Path, name: str) -> None:
    place = fake_study(tmp_path / "s", **SMALL)
    (place / name).unlink()
    with pytest.raises(InputError, match=re.escape(str(place / name))) as caught:
        write_report(place)
    assert "mococxr study" in caught.value.way_out
    assert not (place / "report.html").exists()
    assert not (place / "figures").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cells.csv", b"arm,mode\n", "has no column target"),
        ("cells.csv", b"", "is not a CSV table: empty CSV"),
        ("cells.csv", b"\xff\xfe\x00\x01", "has no column arm"),
        ("cells.csv", ",".join(TABLES["cells"]).encode(), "has no rows"),
        ("study.json", b"{", "is not JSON"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    place = fake_study(tmp_path / "s", **SMALL)
    (place / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        write_report(place)
    assert name in caught.value.problem
    assert not (place / "report.html").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("moco,linear,Effusion,0.01,0.", "moco,linear,Effusion,0.01,x0.", "row 1: auroc is 'x0."),
        ("moco,linear,Effusion,0.01,", "moco,linear,,0.01,", "row 1: target is blank"),
        (
            "moco,linear,Effusion,0.01,",
            "moco,linear,Effusion,0.01,1,2,3,4,5,6,7,8,9," + "," * 20,
            "is not a CSV table: found more fields",
        ),
        ("moco,linear,Effusion,1.0,", "moco,linear,Effusion,0.01,", "row 2, repeats an earlier one"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    place = fake_study(tmp_path / "s", **SMALL)
    text = (place / "cells.csv").read_text()
    assert old in text
    (place / "cells.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(words)):
        write_report(place)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0741, "+0.074"), (-0.0741, "−0.074"), (-0.0003, "−0.0003"), (-0.00001, "0.000"), (0.0, "0.000"),
        (None, "undefined"),
    ],
)  # fmt: skip
def test_a_difference_has_a_sign_unless_it_rounds_to_nothing(value: float | None, text: str) -> None:
    assert signed(value) == text
    assert plain(value) == ("0.000" if value == -0.0003 else text.lstrip("+"))


@pytest.mark.parametrize(("value", "text"), [(0.13, "0.130"), (5.736e-7, "5.7e-07"), (0.0, "0.000")])
def test_a_very_small_threshold_is_not_printed_as_0(value: float, text: str) -> None:
    assert threshold(value) == text


def test_a_p_value_that_rounds_to_nothing_is_a_bound() -> None:
    assert [p_value(p) for p in (0.0, 0.0004, 0.0123, None)] == ["< 0.001", "< 0.001", "0.012", "undefined"]
