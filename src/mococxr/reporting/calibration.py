"""Calibration and operating point of the cells that the verdicts compare (`calibration.csv`, `prevalence.csv`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mococxr.measure.operating import SHOWN_THRESHOLDS
from mococxr.pages import format as fmt
from mococxr.pages.render import Table, tabulate
from mococxr.reporting.headline import arm_label, condition, headline_cells, headline_rows, units
from mococxr.reporting.rows import Columns, cell_key, of_cell, of_pair
from mococxr.results import PAIR_KEYS, Row, StudyResults

OF = 1000
"""The test images, studies or patients of which the table at the threshold speaks."""


def calibration(study: StudyResults) -> dict[str, Any]:
    """Calibration and operating point of the cells of the verdicts: a summary, sentences, and tables that have rows."""
    # The verdicts' cells alone: the others are in the files.
    rows = [row for target in study.targets for row in headline_cells(study, "calibration", target)]
    points = [row for row in rows if row["sensitivity"] is not None]
    unit, first = units(study), rows[0]
    tables = []
    if points:
        point = points[0]
        cell = f"{arm_label(study, point['arm'])}, {point['target']}, {condition(study, point)}"
        tables.append((f"At the threshold, of {OF:,} test {unit}: {cell}", _confusion(point, unit)))
    if any(row["brier"] is not None for row in rows):
        tables.append(("Probabilities (calibration.csv)", _probabilities(study, rows)))
    if points:
        tables.append(("At the threshold (calibration.csv)", _threshold(study, rows)))
    if any(row["lr_positive"] is not None or row["observed_expected"] is not None for row in rows):
        tables.append(("Ratios (calibration.csv)", _ratios(study, rows)))
    spread = [row for target in study.targets for row in headline_cells(study, "decisions", target)]
    if any(row["classifiers"] > 1 for row in spread):  # of one classifier there is no spread
        tables.append(("Over all label subsets and pretraining runs (decisions.csv)", _spread(study, spread)))
    if points and study.rows("threshold_differences"):
        tables.append(("Differences at their thresholds (threshold_differences.csv)", _differences(study)))
    if benefit := [row for target in study.targets for row in headline_cells(study, "decision_curve", target)]:
        tables.append(("Net benefit (decision_curve.csv)", _benefit(study, benefit)))
    if study.rows("prevalence"):
        tables.append(("Predictive values at other prevalences (prevalence.csv)", _prevalence(study)))
    summary = f"{arm_label(study, first['arm'])}: {fmt.fact(first['reason'])}"
    if first["sensitivity"] is not None:
        rates = f"sensitivity {fmt.share(first['sensitivity'])}, specificity {fmt.share(first['specificity'])}"
        summary = f"{arm_label(study, first['arm'])}, {first['target']}: {rates} at the threshold."
    return {"summary": summary, "lines": _lines(study, rows, unit), "tables": tables}


def _lines(study: StudyResults, rows: list[Row], unit: str) -> list[str]:
    fitted, positives, sensitivities = (
        [row[name] for row in rows if row[name] is not None]
        for name in ("n_validation", "validation_positives", "wanted_sensitivity")
    )
    lines = [
        f"A calibrated probability of 30 % means that 30 of 100 such {unit} have the finding. On the diagonal calibration "
        "is perfect; below it probabilities are too high, above it too low."
    ]
    if fitted:
        lines.append(
            f"Probabilities (Platt's method) and thresholds were fitted on the validation {unit} alone "
            f"({fmt.span(fitted)} {unit}, {fmt.span(positives)} of them positive); the numbers here are of the test "
            f"{unit}."
        )
    if any(row["draw"] is not None for row in rows):
        lines.append(
            "Each row is about one classifier, that of the first label subset and the first pretraining run; AUROC "
            "elsewhere on this page is a mean over all. How far the classifiers differ is in the table over all of them."
        )
    if sensitivities:
        lines.append(
            f"The threshold is the one that reaches a sensitivity of {fmt.share(min(sensitivities))} on the validation "
            f"{unit}; on test {unit} it may reach more or less."
        )
    if study.rows("errors"):
        lines.append(
            f"errors.csv lists the wrong calls of each classifier whose scores are farthest from the threshold: test {unit} "
            "to look at. They are named there alone."
        )
    reasons = [(row, row["reason"].rstrip(".")) for row in rows if row["reason"]]
    return [*lines, *dict.fromkeys(f"{arm_label(study, row['arm'])}, {row['target']}: {why}." for row, why in reasons)]


def _confusion(row: Row, unit: str) -> Table:
    """What is called and what is there, of `OF` units at the prevalence of the test set."""
    with_it = round(OF * row["prevalence"])  # whole units, so that the table adds up
    without = OF - with_it  # the difference, not a second rounding
    true_positives, true_negatives = round(with_it * row["sensitivity"]), round(without * row["specificity"])
    rows = [
        ["Called positive", f"{true_positives:,} TP", f"{without - true_negatives:,} FP"],
        ["Called negative", f"{with_it - true_positives:,} FN", f"{true_negatives:,} TN"],
        ["All", f"{with_it:,}", f"{without:,}"],
    ]
    note = f"Rounded to whole {unit}, at the share of positives in the test set."
    return Table(["", "With the finding", "Without it"], rows, 1, note)


def _probabilities(study: StudyResults, rows: list[Row]) -> Table:
    columns: Columns = {
        **of_cell(study),
        "Brier score": lambda row: _or_dash(row, "brier"),
        "ECE": lambda row: _or_dash(row, "ece"),
        "If perfect": ("ece_if_perfect", fmt.number),
        "Slope": lambda row: _or_dash(row, "slope"),
        "Intercept": lambda row: _or_dash(row, "intercept"),
    }
    note = (
        "Brier score: mean squared error of the probability, 0 is perfect. ECE (expected calibration error): mean distance "
        f"from the diagonal; it is positive even for perfect probabilities on few {units(study)}, so the value expected of "
        f"those is in the next column (if perfect). Perfect: slope 1, intercept 0.{_further(study, rows, 'calibration')}"
    )
    return tabulate(rows, columns, 2, note)


def _or_dash(row: Row, name: str) -> str:
    return fmt.DASH if row[name] is None else fmt.interval(row, name)


def _further(study: StudyResults, rows: list[Row], table: str) -> str:
    """Where the cells stand that are not shown."""
    left = set(map(cell_key, study.rows(table))) - set(map(cell_key, rows))
    return f" {len(left):,} further cells are in {table}.csv." if left else ""


def _threshold(study: StudyResults, rows: list[Row]) -> Table:
    columns: Columns = {
        **of_cell(study),
        "Threshold": ("threshold", fmt.threshold),
        "Sensitivity": lambda row: fmt.share_interval(row, "sensitivity"),
        "Specificity": lambda row: fmt.share_interval(row, "specificity"),
        "PPV": lambda row: fmt.share_interval(row, "ppv"),
        "NPV": lambda row: fmt.share_interval(row, "npv"),
    }
    # PPV and NPV hold for this share alone.
    common = {row["target"]: row["prevalence"] for row in rows if row["prevalence"] is not None}
    shares = "; ".join(f"{target} {fmt.share(value)}" for target, value in common.items())
    note = (
        f"Sensitivity: share of {units(study)} with the finding that are called positive. Specificity: share of those "
        "without it that are called negative. PPV, NPV: share of positive calls with the finding, of negative calls "
        f"without it, at the prevalence of this test set ({shares or 'unknown'})."
    )
    return tabulate(rows, columns, 2, note)


def _ratios(study: StudyResults, rows: list[Row]) -> Table:
    columns: Columns = {
        **of_cell(study),
        "LR+": lambda row: _or_dash(row, "lr_positive"),
        "LR−": lambda row: _or_dash(row, "lr_negative"),
        "Observed / expected": lambda row: _or_dash(row, "observed_expected"),
    }
    note = (
        "LR+ and LR− (likelihood ratios): what a positive and a negative call multiply the odds of the finding by. "
        "Observed / expected: positives by the sum of the probabilities; 1 is right, above 1 they are too low."
    )
    return tabulate(rows, columns, 2, note)


SPREAD: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "threshold": ("Threshold", fmt.threshold),
    "sensitivity": ("Sensitivity", fmt.share),
    "specificity": ("Specificity", fmt.share),
    "brier": ("Brier score", fmt.number),
}
"""The numbers of `decisions.csv`: heading and form."""


def _spread(study: StudyResults, rows: list[Row]) -> Table:
    """Of every classifier of a cell, each with its own threshold and calibration: the first, and the spread."""
    numbers = [  # a row a number: side by side they would not fit the page
        row | {"name": title, "first": form(row[name]), "median": form(row[f"{name}_median"])}
        | {"range": f"{form(row[f'{name}_least'])} to {form(row[f'{name}_most'])}"}
        for row in rows
        for name, (title, form) in SPREAD.items()
        if row[f"{name}_median"] is not None
    ]  # fmt: skip
    columns: Columns = {
        **of_cell(study),
        "Number": "name",
        "Classifiers": ("classifiers", fmt.count),
        "First": "first",
        "Median": "median",
        "Least to greatest": "range",
    }
    note = (
        "First: of the first label subset and pretraining run, which the other tables are about; then over all of them, "
        "each with the threshold and the calibration of its own validation scores."
    )
    return tabulate(numbers, columns, 4, note)


def _differences(study: StudyResults) -> Table:
    """Sensitivity and specificity of the arm less those of the other, for the comparisons of the verdicts."""
    heads = [row for target in study.targets for row in headline_rows(study, target)]
    pairs = [{name: row[name] for name in PAIR_KEYS} for row in heads]
    rows = [row for pair in pairs for row in study.rows("threshold_differences", **pair)]
    columns: Columns = {
        **of_pair(study),
        "Rate": "rate",
        "Difference": lambda row: fmt.DASH if row["difference"] is None else fmt.interval(row, "difference", sign=True),
        "Right by the arm alone": ("only_arm", fmt.count),
        "by the other alone": ("only_reference", fmt.count),
        "p": ("p", fmt.p_value),
    }
    reasons = dict.fromkeys([row["method"] or row["reason"] for row in rows])  # where there is no test, its reason
    note = (
        "Each arm at the threshold that it got on its own validation scores, on the same test "
        f"{units(study)}; of the first label subset and pretraining run. {'; '.join(reasons)}."
    )
    return tabulate(rows, columns, 4, note)


def _benefit(study: StudyResults, rows: list[Row]) -> Table:
    columns: Columns = {
        **of_cell(study),
        "Threshold": ("threshold", fmt.percent),
        "Net benefit": lambda row: fmt.interval(row, "model"),
        "All called positive": lambda row: fmt.interval(row, "all_positive"),
        "Gain": lambda row: fmt.interval(row, "gain", sign=True),
    }
    note = (
        f"True positives less false ones, by all test {units(study)}, where a false positive at the threshold pt costs "
        "pt / (1 − pt) of what a true one is worth (Vickers and Elkin 2006); 0 where none is called positive. A model is of "
        "use where its net benefit is above both. The other thresholds are in decision_curve.csv."
    )
    return tabulate([row for row in rows if row["threshold"] in SHOWN_THRESHOLDS], columns, 2, note)


def _prevalence(study: StudyResults) -> Table:
    """PPV and NPV at other prevalences, for the cells of the verdicts where they are among the rows."""
    rows = [row for target in study.targets for row in headline_cells(study, "prevalence", target)]
    rows = rows or study.rows("prevalence")  # the verdicts' arms may have no threshold while others have
    columns: Columns = {
        **of_cell(study),
        "Prevalence": ("prevalence", fmt.percent),
        "PPV": lambda row: fmt.share_interval(row, "ppv"),
        "NPV": lambda row: fmt.share_interval(row, "npv"),
    }
    reasons = dict.fromkeys((row["arm"], row["target"], row["reason"]) for row in rows if row["reason"])
    why = "".join(f" {arm_label(study, arm)}, {target}, {reason}." for arm, target, reason in reasons)
    note = f"Sensitivity and specificity are assumed unchanged; with other patients they may differ.{why}"
    return tabulate(rows, columns, 2, note + _further(study, rows, "prevalence"))
