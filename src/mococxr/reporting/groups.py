"""Does it serve every group alike (`subgroups.csv`): each group's AUROC, its interval drawn, and the gap."""

from __future__ import annotations

from mococxr.reporting.calibration import shown_cells
from mococxr.reporting.section import CLOSER, Section
from mococxr.reporting.tables import Glyph, Table, between, count
from mococxr.reporting.words import display, labels_used, mode_name, p_value, plain, shown, signed, units
from mococxr.results import CELL_KEYS, Row
from mococxr.results import StudyResults as Study

FLAG = "⚑"


def groups_section(study: Study) -> Section | None:
    """Subgroups; None where the study has none."""
    rows = study.rows("subgroups")
    if not rows:
        return None
    mine = [row for target in study.targets for row in shown_cells(study, "subgroups", target)]
    tables = []
    for key in dict.fromkeys(tuple(row[name] for name in CELL_KEYS) for row in mine):
        own = [row for row in mine if tuple(row[name] for name in CELL_KEYS) == key]
        arm, mode, target, fraction = key
        where = f"{mode_name(mode).lower()}, {labels_used(study, target, fraction)}"
        tables.append((f"{target}, {display(study, arm)}: {where}", _table(own, units(study))))
    more = len({tuple(row[name] for name in CELL_KEYS) for row in rows}) - len(tables)
    return Section(
        "groups",
        "Does it serve every group alike?",
        [
            "Each group is held against the largest of its kind (no gap stands there). A gap is flagged where its "
            "interval leaves out 0; with many groups some gap will by chance, so p is also adjusted for their number.",
            "Groups with too few patients with or without the finding get no number, and the reason.",
            *([f"The same for {more:,} further cells stands in subgroups.csv."] if more > 0 else []),
        ],
        tables,
        gist=_gist(study, mine),
        group=CLOSER,
    )


def _gist(study: Study, rows: list[Row]) -> str:
    first = [row for row in rows if row["arm"] == rows[0]["arm"] and row["target"] == rows[0]["target"]]
    flagged = [row for row in first if row.get("flagged")]
    measured = [row for row in first if row.get("auroc") is not None]
    if not measured:
        return "No group has enough patients for a number."
    head = f"{display(study, first[0]['arm'])}, {first[0]['target']}: {len(flagged)} of {len(measured)} groups flagged"
    named = "; ".join(f"{row['attribute']} {row['group']}, {signed(row['gap'])}" for row in flagged)
    return f"{head}: {named}." if flagged else f"{head}."


def _table(rows: list[Row], unit: str) -> Table:
    ends = [row[name] for row in rows for name in ("auroc", "low", "high") if row.get(name) is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    room = max(0.01, 0.05 * (high - low))
    held = {row["attribute"]: row["auroc"] for row in rows if row.get("against_group") == row["group"]}
    lines, marks = [], []
    for row in rows:
        over, gap = between(row, "low", "high"), between(row, "gap_low", "gap_high", signed)
        flag = (
            f"{FLAG} {'lower' if row['gap'] < 0 else 'higher'}"
            if row.get("flagged") and row.get("gap")
            else ""
        )
        line = [
            row["attribute"],
            row["group"],
            *(count(row.get(name)) for name in ("n", "patients", "positives")),
        ]
        if row.get("auroc") is None:
            line += [shown(row.get("reason")), "–", "–", ""]
        else:
            line += [plain(row["auroc"]) + (f" ({over})" if over else "")]
            line += ["–" if row.get("gap") is None else signed(row["gap"]) + (f" ({gap})" if gap else "")]
            line += ["–" if row.get("p_holm") is None else p_value(row["p_holm"]), flag]
        lines.append(line)
        marks.append(_mark(row, held.get(row["attribute"]), low - room, high + room))
    head = ["", "Group", unit.capitalize(), "Patients", "Positive", "AUROC", "Gap", "p (Holm)", "Flag"]
    note = (
        f"Drawn: the group's interval, all on one scale from {plain(low - room, 2)} to {plain(high + room, 2)}; the "
        "grey line is the AUROC of the group that the others of its kind are held against."
    )
    return Table(head, lines, 2, note, marks, "Interval")


def _mark(row: Row, zero: float | None, start: float, end: float) -> Glyph | None:
    low, middle, high = row.get("low"), row.get("auroc"), row.get("high")
    if low is None or middle is None or high is None:
        return None

    def place(value: float) -> float:
        return round(100 * (value - start) / (end - start), 2)

    flagged = row.get("flagged") and row.get("gap") is not None
    state = ("loss" if row["gap"] < 0 else "gain") if flagged else "none"
    return Glyph(place(low), place(high), place(middle), place(middle if zero is None else zero), state)
