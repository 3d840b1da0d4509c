"""Calibration and operating point of the cells that the verdicts compare (`calibration.csv`, `prevalence.csv`)."""

from __future__ import annotations

from typing import Any

from mococxr.pages import format as fmt
from mococxr.pages.render import Table, tabulate
from mococxr.reporting.headline import arm_label, headline_cells, labels_used, mode_name, units
from mococxr.reporting.rows import CELL, Columns, of_cell
from mococxr.results import Row, StudyResults

OF = 1000
"""The test images, studies or patients of which the table at the threshold speaks."""


def calibration(study: StudyResults) -> dict[str, Any]:
    """Calibration and operating point of the cells of the verdicts (`calibration.csv`, `prevalence.csv`)."""
    rows = [row for target in study.targets for row in headline_cells(study, "calibration", target)]
    points = [row for row in rows if row["sensitivity"] is not None]
    unit = units(study)
    tables = []
    if points:
        caption = f"At the threshold, of {OF:,} test {unit}: {_cell_name(study, points[0])}"
        tables.append((caption, _confusion(points[0], unit)))
    if any(row["brier"] is not None for row in rows):
        tables.append(("Probabilities (calibration.csv)", _probabilities(study, rows)))
    if points:
        tables.append(("At the threshold (calibration.csv)", _threshold(study, rows)))
    if study.rows("prevalence"):
        caption = "Predictive values at other prevalences (prevalence.csv)"
        tables.append((caption, _prevalence(study)))
    first = rows[0]
    summary = f"{arm_label(study, first['arm'])}: {fmt.fact(first['reason'])}"
    if first["sensitivity"] is not None:
        summary = (
            f"{arm_label(study, first['arm'])}, {first['target']}: sensitivity "
            f"{fmt.share(first['sensitivity'])}, specificity {fmt.share(first['specificity'])} at the threshold."
        )
    return {"summary": summary, "lines": _calibration_lines(study, rows), "tables": tables}


def _cell_name(study: StudyResults, row: Row) -> str:
    used = labels_used(study, row["target"], row["fraction"])
    return f"{arm_label(study, row['arm'])}, {row['target']}, {mode_name(row['mode']).lower()}, {used}"


def _calibration_lines(study: StudyResults, rows: list[Row]) -> list[str]:
    unit = units(study)
    fitted, positives = (
        [row[name] for row in rows if row[name] is not None] for name in ("n_validation", "validation_positives")
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
            "elsewhere on this page is a mean over all."
        )
    wanted = [row["wanted_sensitivity"] for row in rows if row["wanted_sensitivity"] is not None]
    if wanted:
        lines.append(
            f"The threshold is the one that reaches a sensitivity of {fmt.share(min(wanted))} on the validation "
            f"{unit}; on test {unit} it may reach more or less."
        )
    reasons = [(row, row["reason"].rstrip(".")) for row in rows if row["reason"]]
    return [*lines, *dict.fromkeys(f"{arm_label(study, row['arm'])}, {row['target']}: {why}." for row, why in reasons)]


def _confusion(row: Row, unit: str) -> Table:
    """What is called and what is there, of `OF` units at the prevalence of the test set."""
    with_it = round(OF * row["prevalence"])
    without = OF - with_it
    true_positives = round(with_it * row["sensitivity"])
    true_negatives = round(without * row["specificity"])
    rows = [
        ["Called positive", f"{true_positives:,} TP", f"{without - true_negatives:,} FP"],
        ["Called negative", f"{with_it - true_positives:,} FN", f"{true_negatives:,} TN"],
        ["All", f"{with_it:,}", f"{without:,}"],
    ]
    note = f"Rounded to whole {unit}, at the share of positives in the test set."
    return Table(["", "With the finding", "Without it"], rows, 1, note)


def _probabilities(study: StudyResults, rows: list[Row]) -> Table:
    numbers = {"Brier score": "brier", "ECE": "ece"}
    plain = {"Expected if perfect": "ece_if_perfect", "Slope": "slope", "Intercept": "intercept"}
    columns: Columns = {
        **of_cell(study),
        **{
            title: lambda row, name=name: fmt.DASH if row[name] is None else fmt.interval(row, name)
            for title, name in numbers.items()
        },
        **{title: lambda row, name=name: fmt.dash(row[name]) for title, name in plain.items()},
    }
    note = (
        "Brier score: mean squared error of the probability, 0 is perfect. ECE (expected calibration error): mean distance "
        f"from the diagonal; it is positive even for perfect probabilities on few {units(study)}, so the expected value is "
        f"in the next column. Slope 1 and intercept 0 are perfect.{_further(study, rows, 'calibration')}"
    )
    return tabulate(rows, columns, 2, note)


def _further(study: StudyResults, rows: list[Row], table: str) -> str:
    """Where the cells stand that are not shown."""
    every, shown = ({tuple(row[name] for name in CELL) for row in part} for part in (study.rows(table), rows))
    return f" {len(every - shown):,} further cells are in {table}.csv." if every - shown else ""


def _threshold(study: StudyResults, rows: list[Row]) -> Table:
    names = {"Sensitivity": "sensitivity", "Specificity": "specificity", "PPV": "ppv", "NPV": "npv"}
    columns: Columns = {
        **of_cell(study),
        "Threshold": lambda row: fmt.dash(row["threshold"], fmt.threshold),
        **{title: lambda row, name=name: fmt.share_interval(row, name) for title, name in names.items()},
    }
    common = {row["target"]: row["prevalence"] for row in rows if row["prevalence"] is not None}
    shares = "; ".join(f"{target} {fmt.share(value)}" for target, value in common.items())
    note = (
        f"Sensitivity: share of {units(study)} with the finding that are called positive. Specificity: share of those "
        "without it that are called negative. PPV, NPV: share of positive calls with the finding, of negative calls "
        f"without it, at the prevalence of this test set ({shares or 'unknown'})."
    )
    return tabulate(rows, columns, 2, note)


def _prevalence(study: StudyResults) -> Table:
    """PPV and NPV at other prevalences, for the cells of the verdicts where they are among the rows."""
    every = study.rows("prevalence")
    rows = [row for target in study.targets for row in headline_cells(study, "prevalence", target)] or every
    columns: Columns = {
        **of_cell(study),
        "Prevalence": lambda row: fmt.percent(row["prevalence"]),
        "PPV": lambda row: fmt.share_interval(row, "ppv"),
        "NPV": lambda row: fmt.share_interval(row, "npv"),
    }
    reasons = dict.fromkeys((row["arm"], row["target"], row["reason"]) for row in rows if row["reason"])
    why = "".join(f" {arm_label(study, arm)}, {target}, {reason}." for arm, target, reason in reasons)
    note = f"Sensitivity and specificity are assumed unchanged; with other patients they may differ.{why}"
    return tabulate(rows, columns, 2, note + _further(study, rows, "prevalence"))
