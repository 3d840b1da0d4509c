"""How many more labels: the section about `forecast.csv`."""

from __future__ import annotations

from typing import Any

from mococxr.pages import format as fmt
from mococxr.pages.render import Column, tabulate
from mococxr.reporting.headline import arm_label
from mococxr.results import Row, StudyResults

LINES = [
    "Power laws AUROC(n) = a - b n^-c through each arm's mean AUROCs over the shares of the labels, continued: what a new "
    "draw of so many labels is expected to give on these test images. 90 % intervals, over other test patients, label "
    "subsets and the shape of the curve; on real images they held less often (docs/statistics.md): take them as rough.",
    "It cannot be said yet with fewer than three shares of the labels, with too few test patients, or where the interval is "
    "wider than 0.2. The command forecast STUDY --auroc A counts the labels for an AUROC.",
]


def forecast(study: StudyResults) -> dict[str, Any]:
    """Summary, sentences and table: a row an arm, mode and target, a column a multiple of the labels."""
    times = study.frames["forecast"]["times"].unique(maintain_order=True).to_list()
    curves: dict[tuple[str, ...], dict[float, Row]] = {}
    for row in study.rows("forecast"):
        curves.setdefault((row["target"], row["mode"], row["arm"]), {})[row["times"]] = row
    rows = [
        {"target": target, "mode": mode, "arm": arm_label(study, arm), "labels": by_times[times[0]]["labels"]}
        | {f"{n:g}": _words(by_times[n]) for n in times}
        for (target, mode, arm), by_times in curves.items()
    ]
    columns: dict[str, Column] = {
        "Target, mode": lambda row: f"{row['target']}, {row['mode']}",
        "Arm": "arm",
        "Labels now": ("labels", fmt.count),
        **{"AUROC with as many" if n == 1 else f"{n:g} times as many": f"{n:g}" for n in times},
    }
    telling = [
        row for row in study.rows("forecast") if row["auroc"] is not None and not row["reason"] and row["times"] > 1
    ]
    summary = "It cannot be said yet; the reasons are inside."
    if telling:
        first = next((row for row in telling if row["target"] == study.targets[0]), telling[0])
        summary = (
            f"{first['target']}, {arm_label(study, first['arm'])}: with {fmt.count(first['labels'])} labels an AUROC of "
            f"{_words(first)} is expected."
        )
    return {"summary": summary, "lines": LINES, "table": tabulate(rows, columns, 2)}


def _words(row: Row) -> str:
    """The AUROC with its interval, or why it cannot be said yet."""
    if row["auroc"] is None:
        return fmt.fact(row["reason"])
    number = fmt.interval(row, "auroc")
    return f"cannot be said yet: {fmt.between(row, 'low', 'high', fmt.number)}" if row["reason"] else number
