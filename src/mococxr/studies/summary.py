"""What the console says at the end of a study."""

from __future__ import annotations

from typing import Any

from mococxr.results import Row as Record
from mococxr.studies.measuring import Numbers

SURE = ("better", "worse")


def summary(numbers: Numbers) -> str:
    """A line for each target, mode and fraction, then the primary comparison in words.

    An asterisk marks an interval over test patients that does not hold 0; there is none where patients are too few.
    """
    lines: dict[tuple[Any, ...], list[str]] = {}
    for row in numbers.tables["cells"]:
        value = "undefined" if row.get("auroc") is None else f"{row['auroc']:.3f}"
        lines.setdefault(_place(row), []).append(f"{row['arm']} {value}")
    for row in numbers.tables["differences"]:
        lines[_place(row)].append(f"{row['arm']} - {row['against']} {_difference(row)}")
    table = [f"{t}  {m}  {100 * f:g} %  " + "  ".join(parts) for (t, m, f), parts in lines.items()]
    return "\n".join([*table, *_primary(numbers)])


def _place(row: Record) -> tuple[Any, ...]:
    return row["target"], row["mode"], row["fraction"]


def _difference(row: Record) -> str:
    if row.get("difference") is None:
        return "undefined"
    text = f"{row['difference']:+.3f}"
    if row.get("low") is not None:
        text += f" ({row['low']:+.3f}, {row['high']:+.3f})"
    return text + ("*" if row["verdict"] in SURE else " (too few)" if row["verdict"] == "too few" else "")


def _primary(numbers: Numbers) -> list[str]:
    chosen = numbers.facts.get("primary") or {}
    found = [
        row
        for row in numbers.tables["differences"]
        if all(row[name] == chosen.get(name) for name in ("arm", "mode", "target", "fraction"))
    ]
    return [
        f"{row['arm']} against {row['against']} ({row['target']}, {row['mode']}, {100 * row['fraction']:g} % of the "
        f"labels): {row['words']}"
        for row in found
    ]
