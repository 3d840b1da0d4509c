"""The tables of the sections that take a closer look, with their summaries and sentences: rows in, text out."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from mococxr.measure.measures import MEASURES
from mococxr.pages import format as fmt
from mococxr.pages.render import Column, IntervalBar, Table, interval_bar, tabulate
from mococxr.reporting.headline import (
    arm_label,
    condition,
    headline_cells,
    headline_row,
    interval_name,
    pair_label,
    units,
)
from mococxr.results import CELL_KEYS, Row, StudyResults

SOURCES = {
    "patients": "Test patients",
    "draws": "Label subsets",
    "runs": "Pretraining runs",
    "draw_x_run": "Subset and run together",
    "patient_interactions": "Patients together with subsets or runs",
}
"""Column of `variance.csv` -> what would have to be exchanged."""
WHOLE = 99.5
"""From this share on, in per cent, a part is all there is."""
FLAG = "⚑"
AT_THRESHOLD = ", at the threshold (subgroup_rates.csv)"
Columns = dict[str, Column]


def of_pair(study: StudyResults) -> Columns:
    """The first columns of a table of comparisons."""
    return {
        "Target, mode": lambda row: (
            f"{row['target']}, {row['mode']}"
            + (f" / {row['against_mode']}" if row["against_mode"] != row["mode"] else "")
        ),
        "Arms": lambda row: pair_label(study, row),
        "Labels": ("fraction", fmt.percent),
    }


def of_cell(study: StudyResults) -> Columns:
    """The first columns of a table of cells."""
    return {
        "Target, mode": lambda row: f"{row['target']}, {row['mode']}",
        "Arm": lambda row: arm_label(study, row["arm"]),
        "Labels": ("fraction", fmt.percent),
    }


def cell_key(row: Row) -> tuple[Any, ...]:
    """Arm, mode, target and fraction of a row."""
    return tuple(row[name] for name in CELL_KEYS)


def variance(study: StudyResults) -> dict[str, Any]:
    """What makes a difference uncertain: patients, draws of labels, pretraining runs (`variance.csv`)."""
    main = [row for target in study.targets if (row := headline_row(study, target, "variance"))]
    defined = [row for row in main if _whole(row) > 0]  # a variance of 0 has no shares
    spreads = {"Patients": "patients", "Subsets": "draws", "Runs": "runs", "Subset × run": "draw_x_run"}
    columns: Columns = {
        **of_pair(study),
        "Difference, over all": lambda row: fmt.interval(row, "difference", sign=True),
        "Subsets × runs": lambda row: f"{fmt.count(row['count_draws'])} × {fmt.count(row['count_runs'])}",
        **{title: (name, _spread) for title, name in spreads.items()},
    }
    note = (
        "The last four columns: standard deviation of one trial's difference (in AUROC) over that source alone; –: only one "
        "was run, so this component cannot be estimated."
    )
    words: dict[str, list[str]] = {}
    for row in main:
        if row["words"]:
            words.setdefault(row["words"], []).append(row["target"])
    lines = [f"{fmt.join_words(names)}: {text}" if len(main) > 1 else text for text, names in words.items()]
    table = tabulate(study.rows("variance"), columns, 2, note)
    return {
        "summary": _main_source(defined),
        "bars": [_bar(study, row) for row in defined],
        "words": lines,
        "table": table,
    }


def _whole(row: Row) -> float:
    return sum(row[name] or 0.0 for name in SOURCES)  # a source with one value is blank, and counts for nothing


def _spread(part: float) -> str:
    return fmt.number(math.sqrt(max(0.0, part)))  # an estimated component may be negative


def _shares(row: Row) -> dict[str, float]:
    """Per cent of one trial's variance, by source; sources that were not measured are left out."""
    return {name: 100 * row[name] / _whole(row) for name in SOURCES if row[name] is not None}


def _main_source(rows: list[Row]) -> str:
    if not rows:
        return "The data do not define it; the reasons are inside."
    shares = _shares(rows[0])
    name = max(shares, key=lambda source: shares[source])
    single = [SOURCES[source].lower() for source in ("draws", "runs") if rows[0][source] is None]
    text = f"The largest part of the variance comes from the choice of {SOURCES[name].lower()} ({shares[name]:.0f} %)"
    return f"{text}; {' and '.join(single)} could not be estimated: there was only one." if single else f"{text}."


def _bar(study: StudyResults, row: Row) -> dict[str, Any]:
    """The variance of one difference as a bar: its parts in per cent, and which could not be measured."""
    styles = {name: i + 1 for i, name in enumerate(SOURCES)}
    parts = [
        {"label": SOURCES[name], "share": round(share, 2), "style": styles[name],
         "text": f"{share:.0f} %, ± {_spread(row[name])}"}
        for name, share in _shares(row).items()
        if share >= 100 - WHOLE
    ]  # fmt: skip
    missing = [f"{SOURCES[name]}: only one, not estimated" for name in ("draws", "runs") if row[name] is None]
    limits = fmt.between(row, "low", "high", fmt.signed)
    over = f" {fmt.signed(row['difference'])} ({interval_name(study)} over all of these: {limits})" if limits else ""
    caption = f"{pair_label(study, row, ' against ')}: {row['target']}, {condition(study, row)}.{over}"
    return {"caption": caption, "parts": parts, "missing": missing}


def saved(study: StudyResults) -> dict[str, Any]:
    """How many labels the baseline, or the reference, needs to reach what an arm reaches (`labels_saved.csv`)."""
    main = [row for target in study.targets if (row := headline_row(study, target, "labels_saved"))]
    columns: Columns = {
        **of_pair(study),
        "Labelled images": ("train_images", fmt.count),
        "Labels the other needs": ("reference_images", _images),
        "Interval": lambda row: " to ".join(dict.fromkeys(fmt.dash(row[end], _images) for end in ("low", "high"))),
        "Ratio": _ratio,
    }
    summary = "See the table."
    if main:
        first = main[0]
        summary = saved_words(study, first) if first["words"] else f"Not defined: {fmt.fact(first['reason'])}."
    lines = [f"{row['target']}: {saved_words(study, row)}" for row in main if row["words"]]
    return {"summary": summary, "lines": lines, "table": tabulate(study.rows("labels_saved"), columns, 2)}


def saved_words(study: StudyResults, row: Row) -> str:
    """The study's sentence with the names of the arms in it."""
    arm, against = arm_label(study, row["arm"]), arm_label(study, row["against"])
    text = row["words"].replace("What the arm reaches", f"What {arm} reaches")
    text = text.replace("takes the reference ", f"takes {against} ")
    text = text.replace("the reference reaches it", f"{against} reaches what {arm} reaches")
    return text.replace("The reference does not reach it", f"{against} does not reach what {arm} reaches")


def _images(value: str) -> str:
    """A number of images, or the bound that stands in its place."""
    try:
        return f"{float(value.replace(',', '')):,.0f}"
    except ValueError:
        return value


def _ratio(row: Row) -> str:
    limits = fmt.between(row, "factor_low", "factor_high", lambda value: f"{value:,.1f}")
    return fmt.dash(row["factor"], lambda value: f"{value:,.1f}") + (f" ({limits})" if limits else "")


def comparisons(study: StudyResults, table: str) -> Table:
    """Every row of `differences.csv` or `across_modes.csv`; p-values that no row has are left out."""
    rows = study.rows(table)
    adjusted = {
        "p (over all)": "p_total",
        "p (Holm)": "p_holm",
        "p (BH)": "p_bh",
        "p (non-inferiority)": "p_noninferior",
        "p (equivalence)": "p_equivalent",
    }
    columns: Columns = {
        **of_pair(study),
        "Difference": lambda row: fmt.interval(row, "difference", sign=True),
        "p": lambda row: fmt.p_value(row["p"]),
        **{
            title: (name, fmt.p_value) for title, name in adjusted.items() if any(row[name] is not None for row in rows)
        },
        "Verdict": "verdict",
    }
    if any(row["margin_words"] for row in rows):
        columns["Against the margin"] = "margin_words"
    methods = dict.fromkeys(row["method"] or fmt.NOT_RECORDED for row in rows)
    return tabulate(rows, columns, 2, f"Method: {'; '.join(methods)}.")


def comparison_lines(study: StudyResults) -> tuple[str, list[str]]:
    """How many comparisons there are of each verdict, and how their number is taken into account."""
    rows = [*study.differences, *study.rows("across_modes")]
    words = {against: list[str]() for against in dict.fromkeys(row["against"] for row in study.differences)}
    for row in study.differences:
        words[row["against"]].append(row["verdict"])
    order = ("better", "worse", "no difference shown", "too few", "undefined")
    # Apart: better than the reference is not yet better than the baseline.
    counts = [
        (f"against {arm_label(study, against)} " if len(words) > 1 else "")
        + ", ".join(f"{of_one.count(word)} {word}" for word in order if word in of_one)
        for against, of_one in words.items()
    ]
    lines = [study.facts["tests"]["words"]]
    if any(row["p_holm"] is not None for row in rows):
        lines.append(
            "p is over test patients, p (over all) over repeated label subsets and pretraining runs too. With many "
            "comparisons some differences appear by chance. Holm below 0.05: the chance of even one false positive among "
            "all is at most 5 %. BH (Benjamini-Hochberg) below 0.05: of the differences so marked at most 5 % are "
            "expected to be false (roughly, since test patients are shared)."
        )
    lines += [
        f"Pre-specified margin: {fmt.number(margin)} AUROC. p (non-inferiority), one-sided, held against 0.025: the arm is "
        "worse by more than the margin; p (equivalence), the larger of two one-sided, held against 0.05: the two differ by "
        "more than the margin. Neither is adjusted for the number of comparisons; there is none against a reference whose "
        "interval holds 0.5."
        for margin in sorted({row["margin"] for row in rows if row["margin"] is not None})
    ]
    few = [row["reason"] or row["words"] for row in study.differences if row["verdict"] == "too few"]
    number = len(study.differences)
    lines += [f"Too little data in {few.count(why)} of {number}: {why}" for why in dict.fromkeys(few)]
    summary = f"{number} comparisons: {'; '.join(counts)}"
    # Verdicts are by unadjusted intervals.
    sure = [row["p_holm"] for row in study.differences if row["verdict"] in ("better", "worse")]
    if sure and None not in sure:
        left = sum(p < 0.05 for p in sure)
        summary += f"; {left} of {len(sure)} remain significant after Holm correction"
    return f"{summary}.", lines


def subgroups(study: StudyResults) -> dict[str, Any]:
    """AUROC of each subgroup, its interval drawn, and the gap to the largest one (`subgroups.csv`)."""
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for target in study.targets:
        for row in headline_cells(study, "subgroups", target):
            cells.setdefault(cell_key(row), []).append(row)
    tables = []
    for rows in cells.values():
        first = rows[0]
        caption = f"{first['target']}, {arm_label(study, first['arm'])}: {condition(study, first)}"
        tables.append((caption, _subgroup_table(rows, units(study))))
        rates = study.rows("subgroup_rates", **{name: first[name] for name in CELL_KEYS})
        if any(row["value"] is not None for row in rates):
            tables.append((f"{caption}{AT_THRESHOLD}", _rates_table(rates)))
    more = len(set(map(cell_key, study.rows("subgroups")))) - len(cells)
    rows = next(iter(cells.values()))
    measured, flagged = ([row for row in rows if row["auroc"] is not None], [row for row in rows if row["flagged"]])
    names = "; ".join(f"{row['attribute']} {row['group']}, {fmt.signed(row['gap'])}" for row in flagged)
    counts = f"{len(flagged)} of {len(measured)} groups flagged"
    summary = f"{arm_label(study, rows[0]['arm'])}, {rows[0]['target']}: {counts}{f': {names}' if names else ''}."
    if not measured:
        summary = "No group has enough patients for a number."
    return {"summary": summary, "tables": tables, "more": more}


GAP: Columns = {
    "Gap": lambda row: fmt.DASH if row["gap"] is None else fmt.interval(row, "gap", sign=True),
    "p (Holm)": ("p_holm", fmt.p_value),
    "Flag": lambda row: f"{FLAG} {'lower' if row['gap'] < 0 else 'higher'}" if row["flagged"] else "",
}
"""The columns of a subgroup's gap to the largest one."""


def _subgroup_table(rows: list[Row], unit: str) -> Table:
    ends = [row[name] for row in rows for name in ("auroc", "low", "high") if row[name] is not None] or [0.0, 1.0]
    margin = max(0.01, 0.05 * (max(ends) - min(ends)))  # one group alone would have a scale without a width
    scale = (min(ends) - margin, max(ends) + margin)  # one for all rows: bars are compared by eye
    # One reference a column (sex, age).
    largest = {row["attribute"]: row["auroc"] for row in rows if row["against_group"] == row["group"]}
    columns: Columns = {
        "": "attribute",
        "Group": "group",
        unit.capitalize(): ("n", fmt.count),
        "Patients": ("patients", fmt.count),
        "Positive": ("positives", fmt.count),
        "AUROC": lambda row: fmt.fact(row["reason"]) if row["auroc"] is None else fmt.interval(row, "auroc"),
        **GAP,
    }

    def bar(row: Row) -> IntervalBar | None:
        if row["low"] is None or row["high"] is None:
            return None
        reference: Any = largest.get(row["attribute"], row["auroc"])
        state = ("loss" if row["gap"] < 0 else "gain") if row["flagged"] else "none"
        return interval_bar(row["low"], row["auroc"], row["high"], reference, scale, state)

    note = (
        f"Drawn: the group's interval, all on one scale from {fmt.number(scale[0], 2)} to {fmt.number(scale[1], 2)}; the "
        "grey line is the AUROC of the largest group of its kind."
    )
    return replace(tabulate(rows, columns, 2, note), bars=[bar(row) for row in rows], bar_head="Interval")


RATES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "observed_expected": "Observed / expected"}
"""The rates of `subgroup_rates.csv` as headings."""


def _rates_table(rows: list[Row]) -> Table:
    """A row for each group and rate, with its gap to the largest group."""
    columns: Columns = {
        "": "attribute",
        "Group": "group",
        "Rate": lambda row: RATES[row["rate"]],
        "Value": lambda row: fmt.fact(row["reason"]) if row["value"] is None else fmt.interval(row, "value"),
        **GAP,
    }
    note = (
        "Of one classifier: the first label subset and pretraining run. Observed / expected: positives by the sum of the "
        "probabilities; 1 is right, above 1 they are too low. p is adjusted for the gaps of a rate."
    )
    return tabulate(rows, columns, 3, note)


def planning(study: StudyResults) -> Table:
    """How many test patients would show a difference of interest."""
    columns: Columns = {
        "Target": "target",
        "Target difference": "difference",
        "Power": "power",
        "Test patients needed": "patients",
        "This study: positive": "test_positive_patients",
        "negative": "test_negative_patients",
    }
    rows = [study.facts["targets"][name] | {"target": name} | plan for name, plan in study.facts["planning"].items()]
    return tabulate(rows, columns)


def cells(study: StudyResults) -> Table:
    """Every cell of `cells.csv`, with every measure."""
    columns: Columns = _cell_names(study) | {
        "AUROC": lambda row: fmt.interval(row, "auroc"),
        "SD over subsets": ("draw_sd", fmt.number),
        "Test n": ("n_units", fmt.count),
        "Positives": ("positives", fmt.count),
    }
    for name, ends in measured(study).items():
        if name != "auroc":
            title = fmt.first_upper(MEASURES[name].name)
            columns[title] = partial(fmt.interval, name=name, ends=ends)
    return tabulate(study.cells, columns, 3, f"In brackets: {interval_name(study)}.")


def _cell_names(study: StudyResults) -> Columns:
    return {
        "Target": "target",
        "Mode": "mode",
        "Arm": lambda row: arm_label(study, row["arm"]),
        "Labels": ("fraction", fmt.percent),
    }


def measured(study: StudyResults) -> dict[str, tuple[str, str]]:
    """The measures that the study has: column -> the columns of its interval."""
    return {
        name: (f"{words.prefix}low", f"{words.prefix}high")
        for name, words in MEASURES.items()
        if name == "auroc" or study.frames["cells"][name].count()
    }


def undefined(study: StudyResults) -> Table:
    """The undefined cells, then the single draws that are undefined in cells that have a number."""
    rows = [
        row | {"reason": study.reason(*cell_key(row)), "draw": "all"} for row in study.cells if row["auroc"] is None
    ]
    whole = set(map(cell_key, rows))  # a cell without any number is listed once, not once a draw
    rows += [row for row in study.facts["undefined"] if cell_key(row) not in whole]
    return tabulate(rows, _cell_names(study) | {"Draw": "draw", "Reason": "reason"}, 6)
