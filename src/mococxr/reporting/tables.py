"""The tables of the page: plain ones (text in rows) and the paper's table of differences with its glyphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mococxr.reporting.words import (
    NOT_RECORDED,
    UNDEFINED,
    display,
    interval_name,
    mode_name,
    percent,
    plain,
    shown,
    signed,
    span,
)
from mococxr.results import CELL_KEYS, Row
from mococxr.results import StudyResults as Study

SPLITS = (("train", "Training"), ("val", "Validation"), ("test", "Test"))


@dataclass(frozen=True)
class Glyph:
    """An interval on a common scale, in per cent of its width; `state`: gain, loss or none."""

    low: float
    high: float
    middle: float
    zero: float
    state: str


@dataclass(frozen=True)
class Table:
    """A table of text. The columns from `numbers_from` on hold numbers and are set right.

    `marks`: where there are any, a last column of drawn intervals, one a row, with the heading `mark_head`.
    """

    head: list[str]
    rows: list[list[str]]
    numbers_from: int = 1
    note: str = ""
    marks: list[Glyph | None] = field(default_factory=list)
    mark_head: str = ""


@dataclass(frozen=True)
class DifferenceCell:
    """`0.967 / 0.893`, `+0.074`, `(+0.050 to +0.098)`, `better`; `reason` where something is undefined."""

    pair: str = ""
    difference: str = ""
    within: str = ""
    glyph: Glyph | None = None
    reason: str = ""
    word: str = ""

    @property
    def text(self) -> str:
        """The cell on one line, as the paper prints it."""
        line = " ".join(part for part in (self.pair, self.difference, self.within, self.word) if part)
        return f"{line} [{self.reason}]" if self.reason else line or "–"


@dataclass(frozen=True)
class DifferenceTable:
    """One target: rows of (mode, arm, against, cells), one cell a fraction."""

    target: str
    fractions: list[str]
    rows: list[tuple[str, str, str, list[DifferenceCell]]] = field(default_factory=list)


def widest(study: Study) -> float:
    """Half the width of the common scale of all glyphs: the largest end of any interval."""
    ends = [abs(row[name]) for row in study.differences for name in ("low", "high") if row[name] is not None]
    return max([*ends, 0.01]) * 1.05


def glyph(difference: float | None, low: float | None, high: float | None, reach: float) -> Glyph | None:
    """The interval's place between -reach and +reach; None where it is not defined."""
    if difference is None or low is None or high is None:
        return None

    def place(value: float) -> float:
        return round(50 + 50 * max(-1.0, min(1.0, value / reach)), 2)

    state = "gain" if low > 0 else "loss" if high < 0 else "none"
    return Glyph(place(low), place(high), place(difference), place(0), state)


def difference_tables(study: Study) -> list[DifferenceTable]:
    """The paper's table, one a target; empty where nothing is compared."""
    reach = widest(study)
    tables = [_difference_table(study, target, reach) for target in study.targets]
    return [table for table in tables if table.rows]


def _difference_table(study: Study, target: str, reach: float) -> DifferenceTable:
    fractions = study.fractions(target)
    pairs = dict.fromkeys(
        (row["mode"], row["arm"], row["against"]) for row in study.differences if row["target"] == target
    )
    rows = []
    for mode, arm, against in pairs:
        cells = [
            _difference_cell(study, (mode, arm, against, target, fraction), reach) for fraction in fractions
        ]
        rows.append((mode_name(mode), display(study, arm), display(study, against), cells))
    return DifferenceTable(target, [percent(fraction) for fraction in fractions], rows)


def _difference_cell(study: Study, key: tuple[str, str, str, str, float], reach: float) -> DifferenceCell:
    mode, arm, against, target, fraction = key
    row = study.difference(arm, against, mode, target, fraction)
    ours, theirs = study.cell(arm, mode, target, fraction), study.cell(against, mode, target, fraction)
    if row is None and ours is None and theirs is None:
        return DifferenceCell()
    values = [cell["auroc"] if cell else None for cell in (ours, theirs)]
    pair = " / ".join(plain(value) for value in values)
    missing = [name for name, value in zip((arm, against), values, strict=True) if value is None]
    reasons = [f"{display(study, name)}: {study.reason(name, mode, target, fraction)}" for name in missing]
    if row is None or row["difference"] is None:
        return DifferenceCell(pair, UNDEFINED, "", None, "; ".join(reasons))
    drawn = glyph(row["difference"], row["low"], row["high"], reach)
    over = between(row, "low", "high", signed)
    if row.get("verdict") in ("too few", "undefined"):
        reasons.append(str(row.get("reason") or row.get("words") or ""))
        drawn = replace(drawn, state="none") if drawn else None
    return DifferenceCell(
        pair,
        signed(row["difference"]),
        f"({over})" if over else "(interval undefined)",
        drawn,
        "; ".join(reason for reason in reasons if reason),
        row["verdict"],
    )


def between(row: Row, low: str, high: str, form: Callable[[float | None], str] = plain) -> str:
    """The ends of an interval, `0.892 to 0.951`; nothing where there is none."""
    if row.get(low) is None or row.get(high) is None:
        return ""
    return f"{form(row[low])} to {form(row[high])}"


def comparison_name(study: Study, row: Row, between: str = "against") -> str:
    """`MoCo against ImageNet`."""
    return f"{display(study, row['arm'])} {between} {display(study, row['against'])}"


COMPARED = ("Target, mode", "Arms", "Labels")
"""The headings of `comparison_key`."""


def comparison_key(study: Study, row: Row) -> list[str]:
    """What a row of a table of comparisons is about."""
    mode = f"{row['mode']} / {row['against_mode']}" if row.get("against_mode") else row["mode"]
    return [f"{row['target']}, {mode}", comparison_name(study, row, "/"), percent(row["fraction"])]


def cell_table(study: Study) -> Table:
    """Every cell of `cells.csv`."""
    precision = any(row.get("average_precision") is not None for row in study.cells)
    head = ["Target", "Mode", "Arm", "Labels", "AUROC", "SD of draws", "Test n", "Positives"]
    if precision:
        head.append("Average precision")
    rows = []
    for row in study.cells:
        line = [row["target"], row["mode"], display(study, row["arm"]), percent(row["fraction"])]
        line += [plain(row["auroc"]) + _within(row, "low", "high")]
        line += ["–" if row["draw_sd"] is None else plain(row["draw_sd"])]
        line += [count(row["n_test"]), count(row["positives"])]
        if precision:
            line += [plain(row.get("average_precision")) + _within(row, "ap_low", "ap_high")]
        rows.append(line)
    return Table(head, rows, 3, f"In brackets: {interval_name(study)}.")


def count(value: float | None) -> str:
    """A whole number; – where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def _within(row: Row, low: str, high: str) -> str:
    ends = between(row, low, high)
    return f" ({ends})" if ends else ""


def split_table(study: Study) -> Table:
    """Images and patients of the three splits."""
    splits = study.fact("store", "splits")
    rows = [
        [word, *(shown(study.fact("store", "splits", name, unit)) for unit in ("images", "patients"))]
        for name, word in SPLITS
        if isinstance(splits, dict) and name in splits
    ]
    rows.append(["All", shown(study.fact("store", "images")), shown(study.fact("store", "patients"))])
    if study.external:
        judged = [shown(study.fact("test_store", "splits", "test", unit)) for unit in ("images", "patients")]
        rows = [[f"{word}, not judged" if word == "Test" else word, *counts] for word, *counts in rows]
        rows.append(["Test, of the other store", *judged])
    return Table(["Split", "Images", "Patients"], rows)


def target_table(study: Study) -> Table:
    """Positives and negatives of each target."""
    columns = {
        "Training +": "train_positives",
        "Training −": "train_negatives",
        "Test +": "test_positives",
        "Test −": "test_negatives",
        "Test patients +": "test_positive_patients",
        "Test patients −": "test_negative_patients",
        "unknown": "unknown",
        "uncertain": "uncertain",
    }
    rows = [
        [target, *(shown(study.fact("targets", target, key)) for key in columns.values())]
        for target in study.targets
    ]
    return Table(["Target", *columns], rows)


def budget_table(study: Study) -> Table:
    """How many labels each fraction stands for, over the draws of `trials.csv`."""
    rows = []
    for target in study.targets:
        for fraction in study.fractions(target):
            trials = study.rows("trials", target=target, fraction=fraction)
            counts = [
                span([row[f"train_{what}"] for row in trials]) for what in ("images", "patients", "positives")
            ]
            draws = {row.get("draw") for row in trials}
            rows.append([target, percent(fraction), shown(len(draws) or None), *counts])
    return Table(["Target", "Labels", "Draws", "Images", "Patients", "Positives"], rows)


def undefined_table(study: Study) -> Table:
    """The undefined cells, then the single draws that are undefined in cells that stand."""
    rows = []
    for row in study.undefined_cells:
        key = (row["arm"], row["mode"], row["target"], row["fraction"])
        rows.append([row["target"], row["mode"], display(study, row["arm"]), percent(row["fraction"]), "all"])
        rows[-1].append(study.reason(*key))
    whole = {tuple(row[name] for name in CELL_KEYS) for row in study.undefined_cells}
    for row in study.facts["undefined"]:
        if tuple(row.get(name) for name in CELL_KEYS) not in whole:
            fraction = (
                percent(row["fraction"]) if isinstance(row.get("fraction"), int | float) else NOT_RECORDED
            )
            arm = display(study, str(row.get("arm"))) if row.get("arm") is not None else "all"
            line = [shown(row.get("target")), shown(row.get("mode") or "all"), arm, fraction]
            rows.append([*line, shown(row.get("draw")), shown(row.get("reason"))])
    return Table(["Target", "Mode", "Arm", "Labels", "Draw", "Reason"], rows, 6)
