"""What the report says: alerts, the verdict of each target, the rows of each section, the paragraphs."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from fake_numbers import read, write
from fake_study import PART, facts, fake_study
from mococxr.pages import format as fmt
from mococxr.pages.render import render
from mococxr.reporting import headline, manuscript, provenance, rows
from mococxr.reporting.alerts import alerts
from mococxr.reporting.calibration import OF, calibration
from mococxr.reporting.figures import draw_curves
from mococxr.reporting.report import write_report
from mococxr.results import StudyResults, read_results

ARMS, TARGETS = ("moco", "imagenet"), ("Effusion",)
SMALL: dict[str, Any] = {"arms": ARMS, "targets": TARGETS, "modes": ("linear",), "fractions": (0.01, 1.0)}
WHY = "the draw has one class only: 34 images, none positive"

pytestmark = pytest.mark.usefixtures("light_figures")


def small(root: Path, **recorded: Any) -> StudyResults:
    """A study of two arms with other facts."""
    return read_results(fake_study(root, **SMALL, recorded=recorded))


def changed(root: Path, table: str, *others: dict[str, Any], **values: Any) -> StudyResults:
    """A study of two arms with other values in the first rows of a table."""
    folder = fake_study(root, **SMALL)
    lines = read(folder / f"{table}.csv")
    for line, new in zip(lines, others or [values], strict=False):
        line.update({name: str(value) for name, value in new.items()})
    write(folder / f"{table}.csv", lines)
    return read_results(folder)


def about(key: str, **values: Any) -> dict[str, Any]:
    """Facts of the store, of the arm `moco` or of the target, with other values."""
    whole = facts(ARMS, TARGETS)
    part = {"store": whole["store"], "arms": whole["arms"]["moco"], "targets": whole["targets"]["Effusion"]}[key]
    part |= values
    return {key: whole[key]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    return read_results(fake_study(tmp_path_factory.mktemp("rows") / "study"))


PRETRAINED = {"source": "pediatric", "images": 3400, "patients": 1690}


@pytest.mark.parametrize(
    ("recorded", "titles"),
    [
        ({}, []),
        (about("store", synthetic=True), ["Synthetic images"]),
        (about("store", patients_known=False), ["Patients unknown"]),
        (
            about("arms", pretrained_on=PRETRAINED | {"splits": "train+val"}),
            ["MoCo: pretraining saw validation patients"],
        ),
        (
            about("arms", pretrained_on=PRETRAINED | {"splits": "all"}),
            ["MoCo: pretraining saw validation and test patients"],
        ),
        (
            about("arms", pretrained_on=PRETRAINED | {"splits": "all"}) | {"test_store": facts(ARMS, TARGETS)["store"]},
            ["MoCo: pretraining saw validation patients"],  # the test patients are another store's
        ),
        (about("arms", pretrained_on=PRETRAINED | {"splits": "all", "source": "elsewhere"}), []),
        (about("targets", test_positive_patients=9), ["Effusion: few test patients"]),
        (about("targets", test_negative_patients=0), ["Effusion: few test patients"]),
        (about("targets", test_positive_patients=10), []),
        ({"warnings": ["resnet18: odd", "TEST PATIENTS SEEN: so many."]}, ["Test patients seen"]),
        ({"warnings": ["TEST IMAGES MAY HAVE BEEN SEEN: so many."]}, ["Test images may have been seen"]),
        ({"warnings": ["TARGET SEEN: sex."]}, ["Target seen in pretraining"]),
    ],
)
def test_an_alert_is_raised_exactly_where_it_must(tmp_path: Path, recorded: dict[str, Any], titles: list[str]) -> None:
    assert [alert.title for alert in alerts(small(tmp_path / "s", **recorded))] == titles


OPENING = "With 1 % of the labels (34 images, 20 patients), a linear classifier on MoCo features reaches AUROC "


@pytest.mark.parametrize(
    ("values", "state", "ending"),
    [
        ({"difference": 0.074, "low": 0.05, "high": 0.098, "verdict": "better"}, "gain",
         "+0.074 (95 % interval +0.050 to +0.098)."),
        ({"difference": 0.074, "low": -0.01, "high": 0.15, "verdict": "no difference shown"}, "none",
         "(95 % interval −0.010 to +0.150). The interval includes 0: no difference was shown."),
        ({"difference": 0.074, "low": "", "high": "", "verdict": "undefined"}, "undefined",
         ": +0.074, but no interval is defined, so nothing is shown either way."),
        ({"difference": -0.05, "low": -0.09, "high": -0.01, "verdict": "worse"}, "loss",
         "−0.050 (95 % interval −0.090 to −0.010), so MoCo did worse."),
        ({"difference": 0.074, "low": 0.05, "high": 0.098, "low_total": -0.02, "high_total": 0.15,
          "verdict": "no difference shown"}, "none",
         "(95 % interval −0.020 to +0.150). The interval includes 0: no difference was shown."),
        ({"verdict": "too few", "reason": "only 3 positive test patients"}, "undefined",
         ". Only 3 positive test patients."),
    ],
)  # fmt: skip
def test_the_sentence_says_what_the_verdict_of_the_study_says(
    tmp_path: Path, values: dict[str, Any], state: str, ending: str
) -> None:
    alone = {"low_total": "", "high_total": "", "p_total": ""}
    (verdict,) = headline.verdicts(changed(tmp_path / "s", "differences", **alone | values))
    assert (verdict.state, verdict.sentence[: len(OPENING)]) == (state, OPENING)
    assert verdict.sentence.endswith(ending)


def test_an_undefined_comparison_gives_its_reason_and_unknown_patients_are_not_counted(tmp_path: Path) -> None:
    key = ("moco", "linear", "Effusion", 0.01)
    (verdict,) = headline.verdicts(read_results(fake_study(tmp_path / "a", **SMALL, undefined={key: WHY})))
    assert verdict.state == "undefined"
    assert verdict.sentence.endswith(f"the comparison is undefined ({WHY}).")
    (verdict,) = headline.verdicts(small(tmp_path / "b", **about("store", patients_known=False)))
    assert verdict.sentence.startswith("With 1 % of the labels (34 images), a linear classifier")


def test_a_difference_is_given_over_patients_and_over_all_that_was_repeated(
    study: StudyResults, tmp_path: Path
) -> None:
    row, verdict = study.differences[0], headline.verdicts(study)[0]
    everything = "Over other test patients, label subsets and pretraining runs"
    assert [over.label for over in verdict.over] == ["Over other test patients", everything]
    assert [over.interval[1:] for over in verdict.over] == [
        (row["low"], row["high"]), (row["low_total"], row["high_total"]),
    ]  # fmt: skip
    assert verdict.missing == "Two runs are too few to estimate run-to-run variance."
    assert verdict.chip == "Better, for these two pretrainings"
    verdict = headline.verdicts(changed(tmp_path / "a", "variance", count_runs=1, runs=""))[0]
    assert verdict.chip == "Better, for this one pretraining"
    assert verdict.over[1].label == "Over other test patients and label subsets"
    assert verdict.missing == "Other pretraining runs are not included."
    verdict = headline.verdicts(changed(tmp_path / "b", "differences", low_total="", high_total="", p_total=""))[0]
    assert (len(verdict.over), verdict.missing[:13]) == (1, "Label subsets")
    assert verdict.chip == "Better, over test patients only"
    row = {"low_total": -0.01, "verdict": "no difference shown"}
    verdict = headline.verdicts(changed(tmp_path / "c", "differences", **row))[0]
    assert verdict.chip == "No difference shown"
    assert [over.word for over in verdict.over] == ["better", "no difference shown"]


def test_the_page_points_to_the_errors_and_names_no_image(study: StudyResults) -> None:
    assert any(line.startswith("errors.csv lists the wrong calls") for line in calibration(study)["lines"])
    assert "39" in [row[1] for row in manuscript.checklist(study).rows]
    page = render_page(study)
    assert "secret.png" not in page
    assert "nobody" not in page


def gated(root: Path, p: str) -> StudyResults:
    """A study of two targets whose primary comparison was named in advance and has this p."""
    folder = fake_study(root, arms=("moco", "imagenet"), modes=("linear",), recorded={"prespecified": True})
    lines = read(folder / "differences.csv")
    for i, line in enumerate(lines):
        line["p_holm"] = "0.6" if i else p
    write(folder / "differences.csv", lines)
    return read_results(folder)


def test_a_primary_comparison_that_was_named_in_advance_stands_before_the_others(tmp_path: Path) -> None:
    shown = gated(tmp_path / "a", "0.004")
    first, other = headline.verdicts(shown)
    assert first.chip == "Better, for these two pretrainings"
    assert other.chip == "Better, not after adjusting for 5 others"
    methods = manuscript.methods(shown)
    assert "named in advance (Pneumonia, linear, MoCo against ImageNet, 1 % of the labels), was tested first" in methods
    assert "adjusted for the number of comparisons" not in methods
    assert "; the primary comparison, not adjusted." in manuscript.results(shown)
    not_shown = gated(tmp_path / "b", "0.2")
    assert headline.verdicts(not_shown)[1].chip == "Better, exploratory: the primary comparison shows no difference"
    assert "behind the primary comparison (exploratory: the primary" in manuscript.results(not_shown)
    untested = gated(tmp_path / "c", "")
    assert headline.verdicts(untested)[1].chip.endswith("exploratory: the primary comparison was not tested")
    assert "named in advance" in render_page(shown)


def render_page(study: StudyResults) -> str:
    return write_report(study.path).read_text(encoding="utf-8")


def test_too_few_patients_give_words_and_no_p(tmp_path: Path) -> None:
    few = "Only 3 positive test patients: no test is made"
    blank = {"verdict": "too few", "p": "", "p_total": "", "p_holm": "", "p_bh": "", "reason": few, "words": few}
    study = changed(tmp_path / "s", "differences", **blank)
    assert rows.comparisons(study, "differences").rows[0][4:] == ["undefined", "–", "–", "–", "too few"]
    assert f"Too little data in 1 of 2: {few}" in rows.comparison_lines(study)[1]
    cell = headline.differences(study, "Effusion")["rows"][0]["cells"][0]  # type: ignore[index]
    assert (cell["state"], cell["bar"].state, cell["reason"]) == ("none", "none", few)


def test_the_parts_of_a_bar_are_the_shares_of_the_variance(study: StudyResults, tmp_path: Path) -> None:
    bar, row = rows.variance(study)["bars"][0], headline.headline_row(study, "Pneumonia", "variance")
    assert row is not None
    whole = sum(row[name] for name in rows.SOURCES)
    assert sum(part["share"] for part in bar["parts"]) == pytest.approx(100, abs=0.1)
    assert bar["parts"][0]["share"] == pytest.approx(100 * row["patients"] / whole, abs=0.01)
    assert "± 0.017" in bar["parts"][0]["text"]
    single = changed(tmp_path / "s", "variance", runs="", draws="", count_runs=1, count_draws=1, words="Only one.")
    part = rows.variance(single)
    assert [piece["label"] for piece in part["bars"][0]["parts"]][:1] == ["Test patients"]
    sources = ("Label subsets", "Pretraining runs")
    assert part["bars"][0]["missing"] == [f"{name}: only one, not estimated" for name in sources]
    assert part["words"] == ["Only one."]


def test_margins_and_what_is_left_by_holm_are_given_where_they_are_known(tmp_path: Path) -> None:
    shown = [{"verdict": "better", "p_holm": p, "margin": 0.05, "p_noninferior": 0.012} for p in (0.01, 0.2)]
    study = changed(tmp_path / "s", "differences", *shown)
    summary, lines = rows.comparison_lines(study)
    assert summary.endswith("; 1 of 2 remain significant after Holm correction.")
    assert any("0.050 AUROC" in line for line in lines)
    table = rows.comparisons(study, "differences")
    assert table.rows[0][table.head.index("p (non-inferiority)")] == "0.012"
    assert "p (equivalence)" not in table.head


def test_labels_saved_name_the_arms_and_keep_bounds_as_bounds(study: StudyResults) -> None:
    part = rows.saved(study)
    assert part["summary"].startswith("What MoCo reaches with 34 labels takes ImageNet 412 (95 % interval")
    assert part["table"].rows[0][3:] == ["34", "412", "180 to more than 3,400", "12.1"]


def test_partial_auroc_has_a_line_at_chance_and_average_precision_has_none(tmp_path: Path) -> None:
    values = [{"partial_auroc": value, "average_precision": value} for value in (0.4, 0.6)]
    curves = draw_curves(changed(tmp_path / "study", "cells", *values))
    drawn = {name: b"chance" in curves[name]["Effusion"][0].svg for name in ("partial_auroc", "average_precision")}
    assert drawn == {"partial_auroc": True, "average_precision": False}


def test_an_interval_of_labels_with_one_end_twice_says_it_once(tmp_path: Path) -> None:
    study = changed(tmp_path / "study", "labels_saved", low="more than 3,400", high="more than 3,400")
    assert rows.saved(study)["table"].rows[0][5] == "more than 3,400"


def test_the_table_at_the_threshold_counts_every_image_once(study: StudyResults) -> None:
    table = calibration(study)["tables"][0][1]
    counts = [[int(re.sub(r"\D", "", cell)) for cell in row[1:]] for row in table.rows]
    assert [sum(column) for column in zip(*counts[:2], strict=True)] == counts[2]
    assert sum(counts[2]) == OF
    assert counts[0][0] / counts[2][0] == pytest.approx(0.91, abs=0.002)
    assert counts[1][1] / counts[2][1] == pytest.approx(0.78, abs=0.002)


def test_calibration_and_other_prevalences_are_those_of_the_files(study: StudyResults, tmp_path: Path) -> None:
    tables = dict(calibration(study)["tables"])
    line = ["Pneumonia, linear", "MoCo", "1 %"]
    numbers = ["0.110 (0.080 to 0.140)", "0.040 (0.010 to 0.070)", "0.025", "0.930", "0.080"]
    assert tables["Probabilities (calibration.csv)"].rows[0] == line + numbers
    spread = tables["Over all label subsets and pretraining runs (decisions.csv)"]
    assert spread.rows[0][3:] == ["Threshold", "5", "0.410", "0.390", "0.350 to 0.410"]
    assert spread.rows[1][3:] == ["Sensitivity", "5", "91.0 %", "89.0 %", "85.0 % to 91.0 %"]
    ratios = tables["Ratios (calibration.csv)"]
    assert ratios.head[3:] == ["LR+", "LR−", "Observed / expected"]
    assert ratios.rows[0][3:] == ["4.140 (3.520 to 4.900)", "0.120 (0.080 to 0.170)", "1.060 (0.940 to 1.190)"]
    benefit = tables["Net benefit (decision_curve.csv)"]
    assert [row[3] for row in benefit.rows[:4]] == ["5 %", "10 %", "20 %", "50 %"]
    assert benefit.rows[3][4:] == ["0.442 (0.412 to 0.472)", "0.167 (0.137 to 0.197)", "+0.275 (+0.245 to +0.305)"]
    other = tables["Predictive values at other prevalences (prevalence.csv)"]
    assert [*line, "5 %", "17.9 % (14.9 to 20.9)", "99.5 % (96.5 to 100.0)"] in other.rows
    assert "32 further cells are in prevalence.csv" in other.note
    why = "NPV: too few rows are called negative"
    part = calibration(changed(tmp_path / "a", "prevalence", npv="", npv_low="", npv_high="", reason=why))
    assert f"{why}." in part["tables"][-1][1].note
    blank = dict.fromkeys(("brier", "ece", "threshold", "sensitivity", "specificity", "ppv", "npv"), "")
    part = calibration(changed(tmp_path / "b", "calibration", *[blank | {"reason": WHY}] * 4))
    assert part["summary"] == f"MoCo: {WHY}"
    assert [caption for caption, _ in part["tables"]][3:] == ["Predictive values at other prevalences (prevalence.csv)"]


def test_where_scores_belong_to_patients_those_are_counted(tmp_path: Path) -> None:
    study = small(tmp_path / "s", unit="patient")
    part = calibration(study)
    assert part["tables"][0][0].startswith("At the threshold, of 1,000 test patients")
    assert "the validation patients alone (200 patients, 110 of them positive)" in part["lines"][1]
    assert rows.subgroups(study)["tables"][0][1].head[:3] == ["", "Group", "Patients"]


def test_a_flagged_group_is_marked_by_a_word_and_not_by_colour_alone(study: StudyResults) -> None:
    part = rows.subgroups(study)
    table = part["tables"][0][1]
    assert [row[8] for row in table.rows] == ["", "", "", "⚑ lower", ""]
    assert [bar and bar.state for bar in table.bars] == ["none", "none", "none", "loss", None]
    assert table.rows[4][5].startswith("Only 4 positive test patients")
    assert part["summary"].endswith("1 of 4 groups flagged: age 5 to 9, −0.060.")
    caption, rates = part["tables"][1]
    assert caption.endswith("at the threshold (subgroup_rates.csv)")
    assert rates.head == ["", "Group", "Rate", "Value", "Gap", "p (Holm)", "Flag"]
    assert [row[6] for row in rates.rows] == [""] * 9 + ["⚑ lower"] * 3 + [""] * 3
    assert rates.rows[2][2:4] == ["Observed / expected", "1.070 (1.040 to 1.100)"]
    assert rates.rows[-1][3].startswith("Only 4 positive test patients")


def test_runs_are_given_with_verdict_reason_remedy_and_the_loss_of_guessing(tmp_path: Path) -> None:
    arms = facts(ARMS, TARGETS)["arms"]
    ill = {"verdict": "collapsed", "reason": "All images have nearly one feature", "remedy": "Lower --lr."}
    arms["moco"]["runs"][1]["health"] |= ill
    study = small(tmp_path / "s", arms=arms)
    part = provenance.pretraining(study)
    assert part["summary"] == "1 of 2 runs: learning; the others: collapsed."
    assert "MoCo, run 2: collapsed. All images have nearly one feature. Lower --lr." in part["lines"]
    assert part["table"].rows[0][2].endswith("(chance 8.32)")
    health = provenance.runs_with_health(study)[0][1]
    assert provenance.chance_loss(health) == pytest.approx(math.log(4097), abs=1e-9)
    assert provenance.arms(study).rows[0][4] == "2 runs: learning; collapsed"


def test_an_arm_says_what_it_is_what_trained_it_and_what_an_image_costs(tmp_path: Path) -> None:
    table = provenance.arms(small(tmp_path / "a"))
    row = dict(zip(table.head, table.rows[0], strict=True))
    assert row["Encoder"] == "runs/moco: resnet18 at 96 px, started from imagenet"
    assert row["Trained on"].startswith("pediatric: 3,400 images, 1,690 patients, split: train, 14 min")
    assert row["Inference time per image"] == "12 ms, 11.2 million parameters, 1,472 features (stages)"
    assert "on cpu" in table.note
    published = {"kind": "xrv", "encoder": "xrv:chex", "pretrained_on": None, "trained_on": "CheXpert", "runs": []}
    row = provenance.arms(small(tmp_path / "b", **about("arms", **published))).rows[0]
    assert row[1:3] == ["xrv:chex: resnet18 at 96 px", "CheXpert"]
    assert row[4] == "–"
    row = provenance.arms(small(tmp_path / "c", **about("arms", trained_on="CheXpert", seconds_per_image=1.44))).rows[0]
    assert row[2].endswith("; initialised from: CheXpert")
    assert row[3].startswith("1.4 s")


def test_runs_whose_name_is_a_path_are_found_under_their_arm(tmp_path: Path) -> None:
    runs = [{"run": name, "health": None} for name in ("a/exp1", "b/exp1")]
    both = {"moco/a/exp1": {"test_images": 514, "same": 0, "near_duplicates": 2}, "moco/b/exp1": None}
    study = small(tmp_path / "s", **about("arms", runs=runs), images_in_both=both)
    assert provenance.transfer(study).rows == [
        ["MoCo", "a/exp1", "pediatric", "pediatric", "514", "0", "2"],
        ["MoCo", "b/exp1", "pediatric", "pediatric", *["not checked"] * 3],
    ]


def test_the_test_set_is_what_has_a_label_and_was_scored_and_not_the_whole_split(tmp_path: Path) -> None:
    targets = facts(ARMS, ("Effusion", "Pneumonia"))["targets"]
    assert headline.judged(small(tmp_path / "a")) == "512 images, 309 patients"
    targets["Pneumonia"] |= {"test_images": 401, "test_patients": 290}
    many = SMALL | {"targets": ("Effusion", "Pneumonia")}
    study = read_results(fake_study(tmp_path / "b", **many, recorded={"targets": targets}))
    counts = "Effusion: 512 images, 309 patients; Pneumonia: 401 images, 290 patients"
    assert headline.judged(study) == counts
    methods = manuscript.methods(study)
    assert "test, 401 images of 290 patients (300 positive)" in methods
    assert "3 further files could not be read and were left out." in methods
    assert (
        "2 further files are not images of their own (reports, localizers, second copies) and were left out." in methods
    )


def test_images_of_another_store_are_named_and_counted(tmp_path: Path) -> None:
    other = facts(ARMS, TARGETS)["store"] | {"source": "nih", "path_name": "store2"}
    other |= {"splits": {"test": {"images": 77, "patients": 66}}, "split_rule": "all of it", "synthetic": True}
    study = small(tmp_path / "s", test_store=other)
    assert headline.subtitle(study).endswith("Judged on another store, nih: 512 images, 309 patients.")
    data = provenance.data(study)
    assert data["tables"][0][1].rows[-1] == ["Test, of the other store", "77", "66"]
    assert ("Test images", "those of another store: nih (store store2; split: all of it)") in data["facts"]
    assert alerts(study)[0].title == "Synthetic images"
    assert {"33", "32"} & {row[1] for row in manuscript.checklist(study).rows} == {"33"}


def test_the_state_of_labels_that_were_entered_later_is_named(study: StudyResults, tmp_path: Path) -> None:
    state = {"sha256": "0123456789abcdef", "events": 1200, "last": "2026-03-31T14:30:00Z"}
    shown = dict(provenance.data(small(tmp_path / "s", **about("store", labels=state)))["facts"])
    words = "1,200 events, the last 2026-03-31T14:30:00Z (state 0123456789ab)"
    assert shown["Labels entered after prepare"] == words
    elsewhere = {"test_store": about("store", labels=state)["store"]}
    tested = dict(provenance.data(small(tmp_path / "e", **elsewhere))["facts"])
    assert tested["Labels of the test images entered after prepare"] == words
    assert "Labels entered after prepare" not in tested
    none = small(tmp_path / "t", **about("store", labels=state | {"events": 0, "last": None}))
    for untouched in (study, none):
        assert "Labels entered after prepare" not in dict(provenance.data(untouched)["facts"])


def test_the_paragraphs_hold_the_facts_and_no_other(study: StudyResults) -> None:
    methods, results = manuscript.methods(study), manuscript.results(study)
    for fact in (
        "4,114 images of 2,100 patients (source: pediatric)", "training, 3,400 images of 1,690 patients", "seed 0",
        "resnet18 at 96 pixels", "without labels on 3,400 images of 1,690 patients of pediatric in 2 runs",
        "from imagenet weights", "1 %, 10 % and 100 %", "1 to 5 label subsets", "DeLong over test patients",
        "mococxr 0.1.0",
    ):  # fmt: skip
        assert fact in methods
    for verdict in headline.verdicts(study):
        assert verdict.sentence in results
    for row in study.cells[:1]:
        assert f"{headline.arm_label(study, row['arm'])} {fmt.interval(row, 'auroc')}" in results
    assert results.count("Brier score 0.110") == 2 * len(headline.verdicts(study))  # of the arm and of its reference
    for fact in (
        "Obuchowski 1997",
        f"{study.facts['replicates']:,} resamples of the test patients",
        "alone (200 validation labels)",
    ):
        assert fact in methods
    rates = "sensitivity 0.910 (0.880 to 0.940) and specificity 0.780 (0.750 to 0.810) at threshold 0.410"
    assert f"Brier score 0.110 (0.080 to 0.140); {rates} (chosen on 200 validation labels)." in results
    assert re.search(r"p = 0\.\d{3} over label subsets and pretraining runs too; 1\.000 adjusted by Holm\.", results)
    gap = "In age 5 to 9 the AUROC of MoCo differed from that in 0 to 4 by −0.060 (−0.090 to −0.030); p = 0.010"
    assert gap.replace("0 to 4", study.rows("subgroups", group="5 to 9")[0]["against_group"]) in results
    assert "None" not in methods + results


def test_only_items_that_the_study_answers_are_listed_and_they_point_to_sections(
    study: StudyResults, tmp_path: Path
) -> None:
    table = manuscript.checklist(study)
    headings = {*manuscript.TITLES.values(), manuscript.METHODS, manuscript.RESULTS}
    assert {row[3] for row in table.rows} <= headings
    assert {"10", "23a"} <= {row[0] for row in table.rows}
    bare = small(tmp_path / "s", planning={}, **about("store", patients_known=False))
    assert not {"20", "21"} & {row[1] for row in manuscript.checklist(bare).rows}


def test_macros_escape_what_they_show() -> None:
    text = render("pages/base.md.j2", "md", title="a_b <i>", lead="c|d")
    assert text == "# a\\_b &lt;i&gt;\n\nc\\|d\n"
    assert "<h1>a_b &lt;i&gt;</h1>" in render("pages/base.html.j2", title="a_b <i>", lead="")


def test_a_draw_that_is_undefined_is_listed_beside_undefined_cells(tmp_path: Path) -> None:
    entry = {"arm": "moco", "mode": "linear", "target": "Effusion", "fraction": 1.0, "draw": 3, "reason": WHY}
    key = ("moco", "linear", "Effusion", 0.01)
    folder = fake_study(tmp_path / "s", **SMALL, undefined={key: "other"})
    recorded = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(recorded | {"undefined": [*recorded["undefined"], entry]}))
    table = rows.undefined(read_results(folder))
    assert [row[3:] for row in table.rows] == [["1 %", "all", "other"], ["100 %", "3", WHY]]


def test_encoders_side_by_side_are_named_each_in_the_methods_and_in_the_table(tmp_path: Path) -> None:
    parts = [PART, PART | {"timm": "resnet50", "size": 288, "features": "last"}]
    study = small(tmp_path / "a", **about("arms", parts=parts, encoder="run@96 + imagenet@288"))
    methods = manuscript.methods(study)
    assert "resnet18 at 96 pixels beside resnet50 at 288 pixels, run@96 + imagenet@288, the run pretrained" in methods
    assert "Features were those of the last layer, or of the last four stages, too." in methods
    row = provenance.arms(study).rows[0]
    assert row[1] == "run@96 + imagenet@288: resnet18 at 96 px beside resnet50 at 288 px"
    assert row[3].endswith("1,472 features (stages, last layer)")
