"""Can the probabilities be believed, and what happens at the threshold (`calibration.csv`, `prevalence.csv`)."""

from __future__ import annotations

from mococxr.reporting.figures import Picture
from mococxr.reporting.findings import chosen
from mococxr.reporting.section import CLOSER, Section
from mococxr.reporting.tables import Table, between, count
from mococxr.reporting.words import (
    UNDEFINED,
    display,
    labels_used,
    mode_name,
    percent,
    plain,
    shown,
    threshold,
    units,
)
from mococxr.results import CELL_KEYS, Row
from mococxr.results import StudyResults as Study

OF = 1000
"""The test images, studies or patients of which the table at the threshold speaks."""


def calibration_section(study: Study, figures: list[Picture]) -> Section | None:
    """Calibration and operating point; None where the study did not measure them."""
    rows = study.rows("calibration")
    if not rows:
        return None
    shown_rows = [row for target in study.targets for row in shown_cells(study, "calibration", target)]
    point = next((row for row in shown_rows if row.get("sensitivity") is not None), None)
    tables = []
    if point is not None:
        tables.append(
            (
                f"At the threshold, of {OF:,} test {units(study)}: {_cell_name(study, point)}",
                _crossed(point, units(study)),
            )
        )
    mine = shown_rows or rows
    if any(row.get("brier") is not None for row in mine):
        tables.append(("Probabilities (calibration.csv)", _probabilities(study, mine, rows)))
    if any(row.get("sensitivity") is not None for row in mine):
        tables.append(("At the threshold (calibration.csv)", _threshold(study, mine)))
    if other := study.rows("prevalence"):
        tables.append(
            ("Where the finding is rarer or more common (prevalence.csv)", _prevalence(study, other))
        )
    return Section(
        "calibration",
        "Can the probabilities be believed, and what happens at the threshold?",
        _lines(study, shown_rows),
        tables,
        gist=_gist(study, shown_rows),
        group=CLOSER,
        figures=[picture for picture in figures if picture.metric == "reliability"],
    )


def shown_cells(study: Study, table: str, target: str) -> list[Row]:
    """Rows of the cells that the target's verdict compares: the arm and its reference, at one mode and fraction."""
    row = chosen(study, target)
    if row is None:
        return study.rows(table, target=target)
    key = {"mode": row["mode"], "target": target, "fraction": row["fraction"]}
    return [found for arm in (row["arm"], row["against"]) for found in study.rows(table, arm=arm, **key)]


def _cell_name(study: Study, row: Row) -> str:
    used = labels_used(study, row["target"], row["fraction"])
    return f"{display(study, row['arm'])}, {row['target']}, {mode_name(row['mode']).lower()}, {used}"


def _lines(study: Study, rows: list[Row]) -> list[str]:
    unit = units(study)
    fitted = {row["validation_images"] for row in rows if row.get("validation_images") is not None}
    positives = {row["validation_positives"] for row in rows if row.get("validation_positives") is not None}
    lines = [
        f"A calibrated probability of 30 % means that 30 of 100 such {unit} have the finding. The curve on the "
        "diagonal is right; below it the probabilities are too high, above it too low.",
    ]
    if fitted:
        used = f"{_span(fitted)} {unit}, {_span(positives)} of them positive"
        lines.append(
            f"Probabilities (Platt's method) and thresholds were fitted on the validation {unit} alone ({used}); "
            f"the numbers here are of the test {unit}."
        )
    if any(row.get("draw") is not None for row in rows):
        lines.append(
            "Each row is about one classifier, that of the first draw of labels and the first pretraining run; AUROC "
            "elsewhere on this page is a mean over all."
        )
    wanted = {row["wanted_sensitivity"] for row in rows if row.get("wanted_sensitivity") is not None}
    if wanted:
        lines.append(
            f"The threshold is the one that reaches a sensitivity of {_share(min(wanted))} on the validation {unit}; "
            f"on test {unit} it may reach more or less."
        )
    reasons = dict.fromkeys(
        f"{display(study, row['arm'])}, {row['target']}: {str(row['reason']).rstrip('.')}."
        for row in rows
        if row.get("reason")
    )
    return [*lines, *reasons]


def _span(values: set[float]) -> str:
    low, high = count(min(values, default=None)), count(max(values, default=None))
    return low if low == high else f"{low} to {high}"


def _share(value: float | None) -> str:
    """A proportion in per cent, one decimal."""
    return UNDEFINED if value is None else f"{100 * value:.1f} %"


def _shares(row: Row, name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    ends = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return "–" if row.get(name) is None else _share(row[name]) + ends


def _value(row: Row, name: str) -> str:
    ends = between(row, f"{name}_low", f"{name}_high")
    return "–" if row.get(name) is None else plain(row[name]) + (f" ({ends})" if ends else "")


def _gist(study: Study, rows: list[Row]) -> str:
    if not rows:
        return "The cells of the verdict were not measured; the others stand inside."
    row = rows[0]
    if row.get("sensitivity") is None:
        return f"{display(study, row['arm'])}: {shown(row.get('reason'))}"
    return (
        f"{display(study, row['arm'])}, {row['target']}: at the threshold it finds {_share(row['sensitivity'])} of the "
        f"{units(study)} with the finding and clears {_share(row.get('specificity'))} of those without."
    )


def _crossed(row: Row, unit: str) -> Table:
    """What is marked and what is there, of `OF` units at the prevalence of the test set."""
    sensitivity, specificity, prevalence = (
        row.get(name) for name in ("sensitivity", "specificity", "prevalence")
    )
    head = ["", "With the finding", "Without it"]
    if sensitivity is None or specificity is None or prevalence is None:
        return Table(head, [["Marked", "–", "–"], ["Not marked", "–", "–"]])
    with_it = round(OF * prevalence)
    found, cleared = round(with_it * sensitivity), round((OF - with_it) * specificity)
    rows = [
        ["Marked", f"{found:,} found", f"{OF - with_it - cleared:,} false alarms"],
        ["Not marked", f"{with_it - found:,} missed", f"{cleared:,} cleared"],
        ["All", f"{with_it:,}", f"{OF - with_it:,}"],
    ]
    return Table(head, rows, 1, f"Rounded to whole {unit}, at the share of positives in the test set.")


def _probabilities(study: Study, rows: list[Row], every: list[Row]) -> Table:
    head = [
        "Target, mode",
        "Arm",
        "Labels",
        "Brier score",
        "Calibration error",
        "if perfect",
        "Slope",
        "Intercept",
    ]
    lines = [
        [
            *_key(study, row), _value(row, "brier"), _value(row, "ece"),
            *("–" if row.get(name) is None else plain(row[name]) for name in ("ece_if_perfect", "slope", "intercept")),
        ]
        for row in rows
    ]  # fmt: skip
    note = (
        "Brier score: mean squared error of the probability, 0 is perfect. Calibration error: mean distance from the "
        f"diagonal; few {units(study)} show some even where probabilities are perfect, so much stands in the "
        f"next column. Slope 1 and intercept 0 are right.{_further(rows, every, 'calibration')}"
    )
    return Table(head, lines, 2, note)


def _key(study: Study, row: Row) -> list[str]:
    return [f"{row['target']}, {row['mode']}", display(study, row["arm"]), percent(row["fraction"])]


def _further(rows: list[Row], every: list[Row], table: str) -> str:
    """Where the cells stand that are not shown."""
    keys = [{tuple(row[name] for name in CELL_KEYS) for row in some} for some in (every, rows)]
    more = len(keys[0] - keys[1])
    return f" {more:,} further cells stand in {table}.csv." if more else ""


def _threshold(study: Study, rows: list[Row]) -> Table:
    head = ["Target, mode", "Arm", "Labels", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV"]
    names = ("sensitivity", "specificity", "ppv", "npv")
    lines = []
    for row in rows:
        at = "–" if row.get("threshold") is None else threshold(row["threshold"])
        lines.append([*_key(study, row), at, *(_shares(row, name) for name in names)])
    common = {row["target"]: row["prevalence"] for row in rows if row.get("prevalence") is not None}
    shares = "; ".join(f"{target} {_share(value)}" for target, value in common.items())
    note = (
        f"Sensitivity: share of {units(study)} with the finding that are marked. Specificity: share of those without "
        "that are not. PPV, NPV: share of the marked that have it, of the unmarked that have it not, where it is as "
        f"common as in this test set ({shares or 'unknown'})."
    )
    return Table(head, lines, 2, note)


def _prevalence(study: Study, rows: list[Row]) -> Table:
    """PPV and NPV at other prevalences, for the cells of the verdicts where they are among the rows."""
    mine = [row for target in study.targets for row in shown_cells(study, "prevalence", target)] or rows
    head = ["Target, mode", "Arm", "Labels", "Prevalence", "PPV", "NPV"]
    lines = [
        [*_key(study, row), percent(row["prevalence"]), _shares(row, "ppv"), _shares(row, "npv")]
        for row in mine
        if row.get("prevalence") is not None
    ]
    why = "".join(
        f" {display(study, arm)}, {target}, {reason}."
        for arm, target, reason in dict.fromkeys(
            (row["arm"], row["target"], row.get("reason")) for row in mine
        )
        if reason
    )
    more = _further(mine, rows, "prevalence")
    note = f"Sensitivity and specificity are taken to stay as they are; where patients differ they may not.{why}{more}"
    return Table(head, lines, 2, note)
