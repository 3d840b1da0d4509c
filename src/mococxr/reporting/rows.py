"""The tables of the sections that take a closer look, with their summaries and sentences: rows in, text out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mococxr.measure.measures import MEASURES
from mococxr.pages import format as fmt
from mococxr.pages.render import IntervalBar, Table, interval_bar, tabulate
from mococxr.reporting.headline import (
    arm_label,
    headline_cells,
    headline_row,
    interval_name,
    labels_used,
    mode_name,
    units,
)
from mococxr.results import Row, StudyResults

CELL = ("arm", "mode", "target", "fraction")
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
Columns = dict[str, Callable[..., str]]


def compared(study: StudyResults) -> Columns:
    """The first columns of a table of comparisons."""
    return {
        "Target, mode": lambda row: f"{row['target']}, {_modes(row)}",
        "Arms": lambda row: f"{arm_label(study, row['arm'])} / {arm_label(study, row['against'])}",
        "Labels": lambda row: fmt.percent(row["fraction"]),
    }


def _modes(row: Row) -> str:
    return f"{row['mode']} / {row['against_mode']}" if "against_mode" in row else row["mode"]


def of_cell(study: StudyResults) -> Columns:
    """The first columns of a table of cells."""
    return {
        "Target, mode": lambda row: f"{row['target']}, {row['mode']}",
        "Arm": lambda row: arm_label(study, row["arm"]),
        "Labels": lambda row: fmt.percent(row["fraction"]),
    }


@dataclass(frozen=True)
class Part:
    """One part of a bar: `share` of its width in per cent, `text` its size in words, `style` its colour and hatching."""

    label: str
    share: float
    text: str
    style: int


@dataclass(frozen=True)
class Bar:
    """A whole and its parts. Parts that could not be measured have no share and say so in `missing`."""

    caption: str
    parts: list[Part]
    missing: list[str]


def variance(study: StudyResults) -> dict[str, Any]:
    """What makes a difference uncertain: patients, draws of labels, pretraining runs (`variance.csv`)."""
    main = [row for target in study.targets if (row := headline_row(study, target, "variance"))]
    defined = [row for row in main if _whole(row) > 0]
    columns: Columns = {
        **compared(study),
        "Difference, over all": lambda row: fmt.interval(row, "difference", sign=True),
        "Subsets × runs": lambda row: f"{fmt.count(row['count_draws'])} × {fmt.count(row['count_runs'])}",
    }
    spreads = {"patients": "Patients", "draws": "Subsets", "runs": "Runs", "draw_x_run": "Subset with run"}
    columns |= {title: lambda row, name=name: _spread(row[name]) for name, title in spreads.items()}
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
    bars = [_bar(study, row) for row in defined]
    return {"summary": _main_source(defined), "bars": bars, "words": lines, "table": table}


def _whole(row: Row) -> float:
    return sum(row[name] or 0.0 for name in SOURCES)


def _spread(part: float | None) -> str:
    return fmt.dash(part, lambda value: fmt.number(math.sqrt(max(0.0, value))))


def _shares(row: Row) -> dict[str, float]:
    """Per cent of one trial's variance, by source; sources that were not measured are left out."""
    return {name: 100 * row[name] / _whole(row) for name in SOURCES if row[name] is not None}


def _main_source(rows: list[Row]) -> str:
    if not rows:
        return "The data do not define it; the reasons are inside."
    shares = _shares(rows[0])
    name = max(shares, key=lambda source: shares[source])
    single = [SOURCES[source].lower() for source in ("draws", "runs") if rows[0][source] is None]
    text = f"Most of the variance comes from the choice of {SOURCES[name].lower()} ({shares[name]:.0f} %)"
    return f"{text}; {' and '.join(single)} could not be estimated: there was only one." if single else f"{text}."


def _bar(study: StudyResults, row: Row) -> Bar:
    styles = {name: i + 1 for i, name in enumerate(SOURCES)}
    parts = [
        Part(SOURCES[name], round(share, 2), f"{share:.0f} %, ± {_spread(row[name])}", styles[name])
        for name, share in _shares(row).items()
        if share >= 100 - WHOLE
    ]
    missing = [f"{SOURCES[name]}: only one, not estimated" for name in ("draws", "runs") if row[name] is None]
    arms = f"{arm_label(study, row['arm'])} against {arm_label(study, row['against'])}"
    condition = f"{row['target']}, {mode_name(row['mode']).lower()}, "
    condition += labels_used(study, row["target"], row["fraction"])
    limits = fmt.between(row, "low", "high", fmt.signed)
    over = f" {fmt.signed(row['difference'])} ({interval_name(study)} over all of these: {limits})" if limits else ""
    return Bar(f"{arms}: {condition}.{over}", parts, missing)


def saved(study: StudyResults) -> dict[str, Any]:
    """How many labels the reference needs to reach what an arm reaches (`labels_saved.csv`)."""
    main = [row for target in study.targets if (row := headline_row(study, target, "labels_saved"))]
    columns: Columns = {
        **compared(study),
        "Labelled images": lambda row: fmt.count(row["train_images"]),
        "Labels the reference needs": lambda row: _images(row["reference_images"]),
        "Interval": lambda row: f"{_images(row['low'])} to {_images(row['high'])}",
        "Ratio": _times,
    }
    said = [row for row in main if row["words"]]
    summary = saved_words(study, main[0]) if main and main[0]["words"] else "See the table."
    if main and not main[0]["words"]:
        summary = f"Not defined: {fmt.fact(main[0]['reason'])}."
    lines = [f"{row['target']}: {saved_words(study, row)}" for row in said]
    return {"summary": summary, "lines": lines, "table": tabulate(study.rows("labels_saved"), columns, 2)}


def saved_words(study: StudyResults, row: Row) -> str:
    """The study's sentence with the names of the arms in it."""
    arm, against = arm_label(study, row["arm"]), arm_label(study, row["against"])
    text = row["words"].replace("What the arm reaches", f"What {arm} reaches")
    text = text.replace("takes the reference ", f"takes {against} ")
    return text.replace("The reference does not reach it", f"{against} does not reach what {arm} reaches")


def _images(value: str | None) -> str:
    """A number of images, or the bound that stands in its place."""
    try:
        return f"{float((value or '').replace(',', '')):,.0f}"
    except ValueError:
        return value or fmt.DASH


def _times(row: Row) -> str:
    limits = fmt.between(row, "factor_low", "factor_high", lambda value: f"{value:,.1f}")
    return fmt.dash(row["factor"], lambda value: f"{value:,.1f}") + (f" ({limits})" if limits else "")


def comparisons(study: StudyResults, table: str) -> Table:
    """Every row of `differences.csv` or `across_modes.csv`; p-values that no row has are left out."""
    rows = study.rows(table)
    columns: Columns = {
        **compared(study),
        "Difference": lambda row: fmt.interval(row, "difference", sign=True),
        "p": lambda row: fmt.p_value(row["p"]),
    }
    adjusted = {
        "p_holm": "p (Holm)",
        "p_bh": "p (BH)",
        "p_noninferior": "p (non-inferiority)",
        "p_equivalent": "p (equivalence)",
    }
    for name, title in adjusted.items():
        if any(row[name] is not None for row in rows):
            columns[title] = lambda row, name=name: fmt.dash(row[name], fmt.p_value)
    columns["Verdict"] = lambda row: row["verdict"]
    methods = dict.fromkeys(row["method"] or fmt.NOT_RECORDED for row in rows)
    return tabulate(rows, columns, 2, f"Method: {'; '.join(methods)}.")


def comparison_lines(study: StudyResults) -> tuple[str, list[str]]:
    """How many comparisons there are of each verdict, and how their number is taken into account."""
    rows = [*study.differences, *study.rows("across_modes")]
    words = [row["verdict"] for row in study.differences]
    order = ("better", "worse", "no difference shown", "too few", "undefined")
    counts = [f"{words.count(word)} {word}" for word in order if word in words]
    lines = [study.facts["tests"]["words"]]
    if any(row["p_holm"] is not None for row in rows):
        lines.append(
            "With many comparisons some differences appear by chance. p (Holm) controls the chance of any false positive; "
            "p (BH, Benjamini-Hochberg) controls the share of false positives among the differences called significant."
        )
    lines += [
        f"Pre-specified margin: {fmt.number(margin)} AUROC. p (non-inferiority): the arm is worse by more than the margin; "
        "p (equivalence): the two differ by more than the margin."
        for margin in sorted({row["margin"] for row in rows if row["margin"] is not None})
    ]
    few = [row["reason"] or row["words"] for row in study.differences if row["verdict"] == "too few"]
    lines += [f"Too little data in {few.count(why)} of {len(words)}: {why}" for why in dict.fromkeys(few)]
    summary = f"{len(words)} comparisons: {', '.join(counts)}"
    sure = [row["p_holm"] for row in study.differences if row["verdict"] in ("better", "worse")]
    if sure and None not in sure:
        left = sum(p < 0.05 for p in sure)
        summary += f"; {left} of {len(sure)} remain significant after Holm correction"
    return f"{summary}.", lines


def subgroups(study: StudyResults) -> dict[str, Any]:
    """AUROC of each subgroup, its interval drawn, and the gap to the largest one (`subgroups.csv`)."""
    rows = [row for target in study.targets for row in headline_cells(study, "subgroups", target)]
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row[name] for name in CELL), []).append(row)
    tables = []
    for (arm, mode, target, fraction), part in cells.items():
        condition = f"{mode_name(mode).lower()}, {labels_used(study, target, fraction)}"
        tables.append((f"{target}, {arm_label(study, arm)}: {condition}", _subgroup_table(part, units(study))))
    more = len({tuple(row[name] for name in CELL) for row in study.rows("subgroups")}) - len(tables)
    first = next(iter(cells.values()))
    measured, flagged = ([row for row in first if row["auroc"] is not None], [row for row in first if row["flagged"]])
    summary = (
        f"{arm_label(study, first[0]['arm'])}, {first[0]['target']}: {len(flagged)} of {len(measured)} groups flagged"
    )
    named = "; ".join(f"{row['attribute']} {row['group']}, {fmt.signed(row['gap'])}" for row in flagged)
    summary += f": {named}." if flagged else "."
    if not measured:
        summary = "No group has enough patients for a number."
    return {"summary": summary, "tables": tables, "more": more}


def _subgroup_table(rows: list[Row], unit: str) -> Table:
    ends = [row[name] for row in rows for name in ("auroc", "low", "high") if row[name] is not None] or [0.0, 1.0]
    margin = max(0.01, 0.05 * (max(ends) - min(ends)))
    scale = (min(ends) - margin, max(ends) + margin)
    largest = {row["attribute"]: row["auroc"] for row in rows if row["against_group"] == row["group"]}
    columns: Columns = {
        "": lambda row: row["attribute"],
        "Group": lambda row: row["group"],
        unit.capitalize(): lambda row: fmt.count(row["n"]),
        "Patients": lambda row: fmt.count(row["patients"]),
        "Positive": lambda row: fmt.count(row["positives"]),
        "AUROC": lambda row: fmt.fact(row["reason"]) if row["auroc"] is None else fmt.interval(row, "auroc"),
        "Gap": lambda row: fmt.DASH if row["gap"] is None else fmt.interval(row, "gap", sign=True),
        "p (Holm)": lambda row: fmt.dash(row["p_holm"], fmt.p_value),
        "Flag": lambda row: f"{FLAG} {'lower' if row['gap'] < 0 else 'higher'}" if row["flagged"] else "",
    }

    def bar(row: Row) -> IntervalBar | None:
        if row["low"] is None or row["high"] is None:
            return None
        reference: Any = largest.get(row["attribute"], row["auroc"])
        drawn = interval_bar(row["low"], row["auroc"], row["high"], reference, scale)
        state = ("loss" if row["gap"] < 0 else "gain") if row["flagged"] else "none"
        return IntervalBar(drawn.low, drawn.high, drawn.middle, drawn.zero, state)

    note = (
        f"Drawn: the group's interval, all on one scale from {fmt.number(scale[0], 2)} to {fmt.number(scale[1], 2)}; the "
        "grey line is the AUROC of the largest group of its kind."
    )
    return tabulate(rows, columns, 2, note, bar, "Interval")


def planning(study: StudyResults) -> Table:
    """How many test patients would show a difference of interest."""
    columns: Columns = {
        "Target": lambda row: row["target"],
        "Target difference": lambda row: fmt.fact(row["difference"]),
        "Power": lambda row: fmt.fact(row["power"]),
        "Test patients needed": lambda row: fmt.fact(row["patients"]),
        "This study: positive": lambda row: fmt.fact(study.facts["targets"][row["target"]]["test_positive_patients"]),
        "negative": lambda row: fmt.fact(study.facts["targets"][row["target"]]["test_negative_patients"]),
    }
    return tabulate([{"target": name} | plan for name, plan in study.facts["planning"].items()], columns)


def cells(study: StudyResults) -> Table:
    """Every cell of `cells.csv`, with every measure."""
    columns: Columns = {
        "Target": lambda row: row["target"],
        "Mode": lambda row: row["mode"],
        "Arm": lambda row: arm_label(study, row["arm"]),
        "Labels": lambda row: fmt.percent(row["fraction"]),
        "AUROC": lambda row: fmt.interval(row, "auroc"),
        "SD over subsets": lambda row: fmt.dash(row["draw_sd"]),
        "Test n": lambda row: fmt.count(row["n_units"]),
        "Positives": lambda row: fmt.count(row["positives"]),
    }
    for name, (title, ends) in measured(study).items():
        if name != "auroc":
            columns[fmt.first_upper(title)] = lambda row, name=name, ends=ends: fmt.interval(row, name, ends=ends)
    return tabulate(study.cells, columns, 3, f"In brackets: {interval_name(study)}.")


def measured(study: StudyResults) -> dict[str, tuple[str, tuple[str, str]]]:
    """The measures that the study has: column -> its name, and the columns of its interval."""
    return {
        name: (words.name, (f"{words.prefix}low", f"{words.prefix}high"))
        for name, words in MEASURES.items()
        if name == "auroc" or study.frames["cells"][name].count()
    }


def undefined(study: StudyResults) -> Table:
    """The undefined cells, then the single draws that are undefined in cells that have a number."""
    rows = [row | {"reason": study.reason(*(row[name] for name in CELL)), "draw": "all"}
            for row in study.cells if row["auroc"] is None]  # fmt: skip
    whole = {tuple(row[name] for name in CELL) for row in rows}
    rows += [row for row in study.facts["undefined"] if tuple(row[name] for name in CELL) not in whole]
    columns: Columns = {
        "Target": lambda row: row["target"],
        "Mode": lambda row: row["mode"],
        "Arm": lambda row: arm_label(study, row["arm"]),
        "Labels": lambda row: fmt.percent(row["fraction"]),
        "Draw": lambda row: fmt.fact(row["draw"]),
        "Reason": lambda row: fmt.fact(row["reason"]),
    }
    return tabulate(rows, columns, 6)
