"""What a page says of a study with a baseline: the first sentence, and no gain over a weaker arm without that row."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from fake_numbers import read, write
from fake_study import BASELINE, fake_study
from mococxr.reporting import headline, manuscript, provenance, report, rows
from mococxr.reporting.alerts import alerts
from mococxr.reporting.calibration import calibration
from mococxr.reporting.figures import draw_curves
from mococxr.reporting.report import write_report
from mococxr.results import StudyResults, read_results

pytestmark = pytest.mark.usefixtures("light_figures")
ARMS = ("moco", "imagenet", BASELINE)
NAME = "ImageNet 288 px"


def study_of(root: Path, changes: dict[str, dict[str, Any]] | None = None, **how: Any) -> StudyResults:
    """A study of one target; `changes`: other values of the rows against an arm."""
    folder = fake_study(root, **{"arms": ARMS, "targets": ("Effusion",), "modes": ("linear", "finetune"), **how})
    lines = read(folder / "differences.csv")
    for line in lines:
        line.update({name: str(value) for name, value in (changes or {}).get(line["against"], {}).items()})
    write(folder / "differences.csv", lines)
    return read_results(folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """Better than the reference, and not better than the baseline."""
    none = {"low": -0.01, "low_total": -0.03, "verdict": "no difference shown"}
    return study_of(tmp_path_factory.mktemp("rows") / "study", {BASELINE: none, "imagenet": {"verdict": "better"}})


def test_the_first_sentence_compares_with_the_baseline_and_the_next_with_the_reference(study: StudyResults) -> None:
    (verdict,) = headline.verdicts(study)
    first, second = verdict.sentence.split(" Against ")
    assert re.search(
        rf"a linear classifier on MoCo features reaches AUROC 0\.\d+ against 0\.\d+ from {NAME} features "
        r"\(the baseline\): .* The interval includes 0: no difference was shown\.$", first,
    )  # fmt: skip
    assert re.match(r"ImageNet \(0\.\d+\): \+0\.\d+ \(95 % interval ", second)
    assert (verdict.chip, verdict.state) == (f"No difference shown against {NAME}", "none")
    assert [over.label.split(",")[0] for over in verdict.over] == [
        "Over other test patients", "Over other test patients", "Against ImageNet",
    ]  # fmt: skip
    assert manuscript.results(study).index(first) == len("Effusion: ")


def test_the_order_of_the_rows_does_not_decide_what_is_compared_first(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "s", arms=ARMS, targets=("Effusion",), modes=("linear",))
    write(folder / "differences.csv", read(folder / "differences.csv")[::-1])
    (verdict,) = headline.verdicts(read_results(folder))
    assert "(the baseline)" in verdict.sentence.split(" Against ")[0]


def test_a_verdict_on_the_baseline_names_it(tmp_path: Path) -> None:
    for i, (word, chip) in enumerate((("better", f"Better than {NAME}"), ("worse", f"Worse than {NAME}"))):
        (verdict,) = headline.verdicts(study_of(tmp_path / str(i), {BASELINE: {"verdict": word}}))
        assert verdict.chip.startswith(chip)


def test_no_row_says_better_than_another_arm_without_the_row_against_the_baseline_before_it(
    study: StudyResults,
) -> None:
    key = ("arm", "mode", "target", "fraction")
    better = [row for row in study.differences if row["verdict"] == "better" and row["against"] != BASELINE]
    assert len(better) == 6
    for row in better:
        before = study.differences[: study.differences.index(row)]
        assert any(all(one[name] == row[name] for name in key) and one["against"] == BASELINE for one in before)
    for table in (rows.comparisons(study, "differences"), rows.variance(study)["table"], rows.saved(study)["table"]):
        pairs = [line[:3] for line in table.rows]
        shown = [(line[0].partition(" / ")[0], line[1].partition(" / ")[0], line[2]) for line in pairs]
        for i, line in enumerate(pairs):
            if not line[1].endswith(NAME):
                assert any(shown[j] == shown[i] and pairs[j][1].endswith(NAME) for j in range(i)), line
    summary, _ = rows.comparison_lines(study)
    assert summary.index(f"against {NAME}") < summary.index("against ImageNet 6 better")
    table = headline.differences(study, "Effusion")
    assert table is not None
    assert [(row["mode"], row["arms"]) for row in table["rows"]] == [
        ("Linear classifier", f"MoCo / {NAME}"),
        ("Linear classifier", "MoCo / ImageNet"),
        ("Linear classifier", f"ImageNet / {NAME}"),
        ("Fine-tuning against linear classifier", f"MoCo / {NAME}"),
        ("Fine-tuning", "MoCo / ImageNet"),
        ("Fine-tuning against linear classifier", f"ImageNet / {NAME}"),
    ]


def test_the_page_compares_with_the_baseline_before_the_reference(tmp_path: Path) -> None:
    none = {BASELINE: {"verdict": "no difference shown"}}
    page = write_report(study_of(tmp_path / "s", none, modes=("linear",), fractions=(0.01, 1.0)).path).read_text(
        "utf-8"
    )
    text = html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ")
    first = text[: text.index("differences between arms")]
    assert f"No difference shown against {NAME}" in first
    assert first.index("(the baseline)") < first.index("Against ImageNet")
    assert "never saw an X-ray; then with the reference, ImageNet." in text
    assert "(baseline)" in text
    assert "None" not in re.sub(r"None\.", "", text)


def test_calibration_and_thresholds_are_of_arm_baseline_and_reference(study: StudyResults) -> None:
    tables = dict(calibration(study)["tables"])
    assert [row[1] for row in tables["Probabilities (calibration.csv)"].rows] == ["MoCo", NAME, "ImageNet"]
    pairs = [row[1] for row in tables["Differences at their thresholds (threshold_differences.csv)"].rows]
    assert pairs == [f"MoCo / {NAME}"] * 2 + ["MoCo / ImageNet"] * 2


def test_the_linear_baseline_is_drawn_and_named_in_every_mode(study: StudyResults, tmp_path: Path) -> None:
    tuned = study_of(tmp_path / "s", modes=("finetune",), fractions=(0.1,))
    (figure,) = draw_curves(tuned)["auroc"]["Effusion"]  # no panel of the baseline alone
    assert f"{NAME} (baseline), linear classifier<" in figure.svg.decode()
    assert "with a linear classifier alone: every other encoder was compared with it first" in manuscript.methods(study)
    assert [row[0] for row in provenance.arms(study).rows] == ["MoCo", "ImageNet (reference)", f"{NAME} (baseline)"]


def test_fine_tuning_alone_is_compared_with_the_linear_baseline_in_words(tmp_path: Path) -> None:
    primary = {"target": "Effusion", "mode": "finetune", "fraction": 0.01, "arm": "moco", "against": BASELINE}
    study = study_of(tmp_path / "s", modes=("finetune",), recorded={"primary": primary})
    (verdict,) = headline.verdicts(study)
    assert "fine-tuning from MoCo weights reaches AUROC" in verdict.sentence
    assert f"from a linear classifier on {NAME} features (the baseline)" in verdict.sentence


def test_the_words_of_a_saving_name_the_arm_that_they_are_against(study: StudyResults) -> None:
    row = study.rows("labels_saved", against=BASELINE)[0]
    for words, named in (
        ("No saving: the reference reaches it with the fewest labels measured (34).", f"{NAME} reaches what MoCo"),
        ("The reference does not reach it with all 34 labels.", f"{NAME} does not reach what MoCo"),
        ("What the arm reaches with 34 labels takes the reference 412.", f"takes {NAME} 412"),
    ):
        text = rows.saved_words(study, row | {"words": words})
        assert named in text
        assert "reference" not in text


def test_a_baseline_that_was_asked_for_and_is_missing_is_an_alert(tmp_path: Path) -> None:
    why = "the ImageNet weights of resnet18 are not on this machine. Where there is network, fetch them"
    missing = {"arm": None, "added": False, "reason": why}
    for asked, titles in ((True, ["No baseline"]), (False, [])):
        recorded = {"baseline": missing, "settings": {"draws": 5, "baseline": asked}}
        study = study_of(tmp_path / str(asked), arms=("moco", "imagenet"), recorded=recorded)
        assert [alert.title for alert in alerts(study)] == titles
        assert report._baseline(study) == f"none: {why}"
