"""Write the tables of a study into docs/contract.md, from `mococxr.results.TABLES`: `make docs`."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr.results import TABLES

CONTRACT = Path(__file__).parent / "contract.md"
BEGIN, END = "<!-- tables of a study: written by docs/make_tables.py -->\n", "<!-- end -->\n"
TYPES: dict[type[pl.DataType], str] = {pl.String: "text", pl.Float64: "number", pl.Int64: "count"}


def contract_tables() -> str:
    """A Markdown table of columns for each file."""
    lines = []
    for name, columns in TABLES.items():
        lines += [f"### `{name}.csv`", "", "| column | type | what it holds |", "|---|---|---|"]
        lines += [f"| `{column}` | {TYPES[kind.dtype]} | {kind.words} |" for column, kind in columns.items()]
        lines.append("")
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """The contract with the tables as they are declared now."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + "\n" + contract_tables() + END + rest.split(END)[1]


if __name__ == "__main__":
    CONTRACT.write_text(with_tables(CONTRACT.read_text(encoding="utf-8")), encoding="utf-8")
