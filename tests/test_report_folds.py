"""What folds out below the first screen: each table's numbers, each answer in words, and what is not there."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from fake_numbers import read, write
from fake_study import facts, fake_study
from mococxr.reporting.calibration import OF
from mococxr.reporting.doubt import doubt_section, of_target
from mococxr.reporting.findings import verdicts
from mococxr.reporting.markdown import escaped
from mococxr.reporting.paper import checklist, methods_paragraph, results_paragraph
from mococxr.reporting.pretraining import guessing, runs_of
from mococxr.reporting.report import write_report
from mococxr.results import read_results
from test_report import SMALL, rows_of, words

FOLDS = (
    "doubt",
    "saved",
    "comparisons",
    "calibration",
    "groups",
    "pretraining",
    "planning",
    "numbers",
    "paper",
)
NEW = SMALL


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = fake_study(tmp_path_factory.mktemp("folds") / "study")
    write_report(place)
    return place


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return (study / "report.html").read_text(encoding="utf-8")


def changed(place: Path, table: str, **values: Any) -> Path:
    """The folder with other values in the first row of a table."""
    rows = read(place / f"{table}.csv")
    rows[0].update({name: str(value) for name, value in values.items()})
    write(place / f"{table}.csv", rows)
    return place


def test_every_fold_is_there_and_says_its_answer_before_it_is_opened(page: str) -> None:
    for key in FOLDS:
        fold = re.search(
            rf'<section id="{key}" class="fold">\s*<details><summary>(.*?)</summary>', page, re.S
        )
        assert fold, key
        assert '<span class="gist">' in fold[1], key
    assert "Not measured here" not in page
    assert page.count("<details") > len(FOLDS)
    assert "<script" not in page


def test_the_first_screen_is_sentence_curve_and_table_and_nothing_of_the_folds(page: str) -> None:
    first = page[: page.index('<section id="others"')]
    assert (
        first.index('class="sentence"') < first.index("<figure") < first.index('<table class="differences"')
    )
    assert "<details" not in first
    assert first.count("<figure") == 2


def test_a_difference_is_said_over_patients_and_over_all_that_was_repeated(study: Path) -> None:
    row = read(study / "differences.csv")[0]
    verdict = verdicts(read_results(study))[0]
    assert [over.label for over in verdict.over] == [
        "Over other test patients",
        "Over other test patients, draws of labels and pretraining runs",
    ]
    ends = [
        (float(row[low]), float(row[high])) for low, high in (("low", "high"), ("low_draws", "high_draws"))
    ]
    assert [over.interval[1:] for over in verdict.over] == ends
    assert verdict.missing == "Two pretraining runs tell little of what others would give."


def test_what_was_done_once_is_named_as_missing_from_the_interval(tmp_path: Path) -> None:
    place = fake_study(tmp_path / "s", **NEW)
    changed(place, "variance", count_runs=1, runs="")
    verdict = verdicts(read_results(place))[0]
    assert verdict.over[1].label == "Over other test patients and draws of labels"
    assert verdict.missing == "Another pretraining is not in them."
    changed(place, "differences", low_draws="", high_draws="")
    verdict = verdicts(read_results(place))[0]
    assert len(verdict.over) == 1
    assert verdict.missing == "Other labelled images, and another pretraining, are not in it."


def test_better_over_test_patients_alone_is_not_called_better_without_saying_so(tmp_path: Path) -> None:
    place = changed(fake_study(tmp_path / "s", **NEW), "differences", low_draws=-0.01)
    verdict = verdicts(read_results(place))[0]
    assert verdict.chip == "Better, over test patients only"
    assert [over.word for over in verdict.over] == ["better", "no difference shown"]


def test_too_few_patients_give_words_and_no_p(tmp_path: Path) -> None:
    why = "Only 3 positive test patients: no test is made"
    few = {"verdict": "too few", "p": "", "p_holm": "", "p_bh": "", "reason": why, "words": why}
    place = changed(fake_study(tmp_path / "s", **NEW), "differences", **few)
    verdict = verdicts(read_results(place))[0]
    assert (verdict.chip, verdict.state) == ("Too few", "undefined")
    assert verdict.sentence.endswith(f"{why}.")
    page = write_report(place).read_text(encoding="utf-8")
    assert rows_of(page, "comparisons")[0][4:] == ["undefined", "–", "–", "too few"]
    assert f"Too little data in 1 of 2: {why}" in words(page)
    cell = page[page.index('<td data-label="1\u00a0%"') :].split("</td>")[0]
    assert "glyph none" in cell
    assert f"too few {why}" in rows_of(page, "found")[0][1]


def test_the_parts_of_a_bar_are_the_shares_of_the_variance(study: Path) -> None:
    found = read_results(study)
    section, row = doubt_section(found), of_target(found, "Pneumonia")
    assert section is not None
    assert row is not None
    bar = section.bars[0]
    assert sum(part.share for part in bar.parts) == pytest.approx(100, abs=0.1)
    whole = sum(row[name] for name in ("patients", "draws", "runs", "rest", "interactions"))
    assert bar.parts[0].share == pytest.approx(100 * row["patients"] / whole, abs=0.01)
    assert "± 0.017" in bar.parts[0].text


def test_a_source_of_doubt_that_was_not_repeated_is_not_a_part_of_the_bar(tmp_path: Path) -> None:
    place = changed(
        fake_study(tmp_path / "s", **NEW), "variance", runs="", draws="", count_runs=1, count_draws=1
    )
    section = doubt_section(read_results(place))
    assert section is not None
    assert [part.label for part in section.bars[0].parts][:1] == ["Test patients"]
    assert section.bars[0].missing == [
        "Draws of labels: one only, not measured",
        "Pretraining runs: one only, not measured",
    ]


def test_what_the_study_says_of_its_intervals_stands_once_with_its_targets(tmp_path: Path) -> None:
    said = "2 pretraining runs tell little of what others would give."
    two = NEW | {"targets": ("Pneumonia", "Effusion")}
    place = changed(fake_study(tmp_path / "s", **two), "variance", words=said)
    section = doubt_section(read_results(place))
    assert section is not None
    assert [line for line in section.lines if said in line] == [f"Pneumonia: {said}"]


def test_every_comparison_stands_with_its_adjusted_p(study: Path, page: str) -> None:
    for row, one in zip(rows_of(page, "comparisons"), read(study / "differences.csv"), strict=True):
        assert row[4:7] == [f"{float(one[name]):.3f}" for name in ("p", "p_holm", "p_bh")]
        assert row[7] == one["verdict"]


def test_margins_are_shown_where_they_were_given(tmp_path: Path) -> None:
    place = fake_study(tmp_path / "s", **NEW)
    assert "Margin, named beforehand" not in words(write_report(place).read_text(encoding="utf-8"))
    rows = [
        row | {"margin": 0.05, "p_noninferior": 0.012, "p_equivalent": 0.345}
        for row in read(place / "differences.csv")
    ]
    write(place / "differences.csv", rows)
    page = write_report(place).read_text(encoding="utf-8")
    assert "Margin, named beforehand: 0.050 AUROC." in words(page)
    assert rows_of(page, "comparisons")[0][7:9] == ["0.012", "0.345"]


def test_labels_saved_name_the_arms_and_keep_bounds_as_bounds(page: str) -> None:
    assert "What MoCo reaches with 34 labels takes ImageNet 412 (95 % interval" in words(page)
    assert rows_of(page, "saved")[0][3:] == ["34", "412", "180 to more than 3,400", "12.1"]


def test_the_table_at_the_threshold_counts_every_image_once(page: str) -> None:
    rows = rows_of(page, "calibration")[:3]
    counts = [[int(re.sub(r"\D", "", cell)) for cell in row[1:]] for row in rows]
    assert [sum(column) for column in zip(*counts[:2], strict=True)] == counts[2]
    assert sum(counts[2]) == OF
    assert counts[0][0] / counts[2][0] == pytest.approx(0.91, abs=0.002)
    assert counts[1][1] / counts[2][1] == pytest.approx(0.78, abs=0.002)


def test_calibration_and_other_prevalences_are_those_of_the_files(page: str) -> None:
    rows = rows_of(page, "calibration")
    assert rows[3] == [
        "Pneumonia, linear", "MoCo", "1 %", "0.110 (0.080 to 0.140)", "0.040 (0.010 to 0.070)", "0.025", "0.930",
        "0.080",
    ]  # fmt: skip
    assert [
        "Pneumonia, linear",
        "MoCo",
        "1 %",
        "5 %",
        "17.9 % (14.9 to 20.9)",
        "99.5 % (96.5 to 100.0)",
    ] in rows
    assert "32 further cells stand in calibration.csv" in words(page)


def test_a_predictive_value_that_is_undefined_gives_its_reason(tmp_path: Path) -> None:
    why = "NPV: too few rows are called negative"
    place = changed(
        fake_study(tmp_path / "s", **NEW), "prevalence", npv="", npv_low="", npv_high="", reason=why
    )
    page = write_report(place).read_text(encoding="utf-8")
    assert f"{why}." in words(page)


def test_of_the_differences_shown_it_is_said_how_many_are_left_by_holm(tmp_path: Path) -> None:
    place = fake_study(tmp_path / "s", **NEW)
    rows = read(place / "differences.csv")
    for row, p in zip(rows, (0.01, 0.2), strict=False):
        row.update(verdict="better", p_holm=str(p))
    write(place / "differences.csv", rows)
    page = write_report(place).read_text(encoding="utf-8")
    shown = sum(row["verdict"] in ("better", "worse") for row in rows)
    left = sum(row["verdict"] in ("better", "worse") and float(row["p_holm"]) < 0.05 for row in rows)
    assert left < shown
    assert (
        f"; {left} of these {shown} differences are left when their number is taken into account (Holm)."
        in words(page)
    )


def test_where_scores_belong_to_patients_the_page_counts_patients(tmp_path: Path) -> None:
    place = fake_study(tmp_path / "s", **NEW, recorded={"unit": "patient"})
    page = write_report(place).read_text(encoding="utf-8")
    text = words(page)
    assert "At the threshold, of 1,000 test patients" in text
    assert "fitted on the validation patients alone (200 patients, 110 of them positive)" in text
    groups = page[page.index('<section id="groups"') :]
    assert re.findall(r"<th [^>]*>(.*?)</th>", groups)[:3] == ["", "Group", "Patients"]


def test_a_cell_without_calibration_gives_its_reason(tmp_path: Path) -> None:
    why = "there are no validation images with a label and a score"
    place = fake_study(tmp_path / "s", **NEW)
    blank = dict.fromkeys(("brier", "ece", "threshold", "sensitivity", "specificity", "ppv", "npv"), "")
    write(
        place / "calibration.csv", [row | blank | {"reason": why} for row in read(place / "calibration.csv")]
    )
    page = write_report(place).read_text(encoding="utf-8")
    assert f"MoCo: {why}" in words(page)
    assert "At the threshold, of 1,000 test images" not in words(page)


def test_a_flagged_group_is_marked_by_a_word_and_not_by_colour_alone(page: str) -> None:
    rows = rows_of(page, "groups")
    assert [row[8] for row in rows[:5]] == ["", "", "", "⚑ lower", ""]
    assert rows[4][5].startswith("Only 4 positive test patients")
    assert "1 of 4 groups flagged: age 5 to 9, −0.060." in words(page)


def test_runs_stand_with_verdict_reason_remedy_and_the_loss_of_guessing(tmp_path: Path) -> None:
    place = fake_study(tmp_path / "s", **NEW)
    recorded = json.loads((place / "study.json").read_text())
    ill = {"verdict": "collapsed", "reason": "All images have nearly one feature", "remedy": "Lower --lr."}
    recorded["arms"]["moco"]["runs"][1]["health"].update(ill)
    (place / "study.json").write_text(json.dumps(recorded))
    page = write_report(place).read_text(encoding="utf-8")
    assert "1 of 2 runs: learning; the others: collapsed." in words(page)
    assert "MoCo, run 2: collapsed. All images have nearly one feature. Lower --lr." in words(page)
    assert "guessing 8.32" in rows_of(page, "pretraining")[0][2]
    assert "ln(K+1): guessing" in page
    assert (place / "figures" / "pretraining-02-moco-run-2.png").is_file()
    (run, _) = runs_of(read_results(place), "moco")
    assert guessing(run) == pytest.approx(math.log(4097), abs=1e-9)


def test_the_paragraphs_hold_the_facts_and_no_other(study: Path) -> None:
    found = read_results(study)
    methods, results = methods_paragraph(found), results_paragraph(found)
    for fact in (
        "4,114 images of 2,100 patients (source: pediatric)", "training, 3,400 images of 1,690 patients", "seed 0",
        "resnet18 at 96 pixels",
        "without labels on 3,400 images of 1,690 patients of pediatric in 2 runs",
        "from imagenet weights", "1 %, 10 % and 100 %", "DeLong over test patients", "mococxr 0.1.0",
    ):  # fmt: skip
        assert fact in methods
    for verdict in verdicts(found):
        assert verdict.sentence in results
    assert "Brier score 0.110; sensitivity 0.910 and specificity 0.780 at threshold 0.410." in results
    assert "p = 0.220; 1.000 adjusted by Holm." in results
    assert (
        "In age 5 to 9 the AUROC of MoCo differed from that in 0 to 4 by −0.060 (−0.090 to −0.030); p = 0.010 adjusted "
        "by Holm for the gaps." in results
    )
    assert "None" not in methods + results


def test_only_items_that_the_study_answers_are_listed(tmp_path: Path, study: Path) -> None:
    full = checklist(read_results(study)).rows
    bare = checklist(read_results(fake_study(tmp_path / "s", **SMALL))).rows
    assert ["15", "–"] in [row[:2] for row in full]
    assert not {"15", "10"} & {row[0] for row in bare}
    assert not {"38", "33", "30", "21"} & {row[1] for row in bare}
    other = {"test_store": {"source": "nih", "splits": {"test": {"images": 77, "patients": 66}}}}
    judged = checklist(read_results(fake_study(tmp_path / "o", **SMALL, recorded=other))).rows
    assert {"33", "32"} & {row[1] for row in judged} == {"33"}
    unknown = facts(("moco", "imagenet"), ("Effusion",))["store"] | {"patients_known": False}
    place = fake_study(tmp_path / "u", **SMALL, recorded={"store": unknown})
    assert "20" not in [row[1] for row in checklist(read_results(place)).rows]


def test_the_markdown_says_what_the_page_says(study: Path, page: str) -> None:
    markdown = (study / "report.md").read_text(encoding="utf-8")
    for text in re.findall(r'<span class="(?:gist|title)">(.*?)</span>', page, re.S):
        assert escaped(words(text).replace("\u00a0", " ")) in markdown, text
    for key in FOLDS:
        for row in rows_of(page, key):
            for cell in row:
                assert escaped(cell.replace("\u00a0", " ")) in markdown
    for name in re.findall(r"\(figures/(.*?)\)", markdown):
        assert (study / "figures" / name).is_file()


def test_the_same_folder_with_all_tables_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        place = fake_study(tmp_path / name, **NEW)
        write_report(place)
        files = [place / "report.html", place / "report.md", *sorted((place / "figures").iterdir())]
        made.append({path.name: path.read_bytes() for path in files})
    assert made[0] == made[1]
    assert len(made[0]) == 2 + 2 * (1 + 1 + 2)


def test_folds_print_open(page: str) -> None:
    assert "details::details-content { content-visibility: visible" in page[page.index("@media print") :]
