"""Tables of a STUDY folder as rows, or refused with the name of the file, row and field at fault."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from mococxr.errors import InputError
from mococxr.files import read_json

AGAIN = "Run `mococxr study --config {study}/settings.yaml` again: trials that are done are skipped."

Row = dict[str, Any]


def read_text(path: Path) -> str:
    """The text of a file that must be there.

    Raises:
        InputError: it is missing, not readable, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing.", AGAIN.format(study=path.parent)) from error
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror}.", "Check the path and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text.", AGAIN.format(study=path.parent)) from error


def read_facts(path: Path) -> dict[str, Any]:
    """A JSON object that must be there."""
    read_text(path)
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise InputError(f"{path} is not a JSON object.", AGAIN.format(study=path.parent))
    return facts


def read_table(
    path: Path, keys: tuple[str, ...], numbers: tuple[str, ...], extras: tuple[str, ...] = ()
) -> list[Row]:
    """Rows of a CSV file: `fraction` and `numbers` as float or None, all other columns as text."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
        missing = [name for name in (*keys, *numbers) if name not in (reader.fieldnames or [])]
        rows = [] if missing else list(reader)
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV table: {error}.", AGAIN.format(study=path.parent)) from error
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]}.", AGAIN.format(study=path.parent))
    return [_parse(path, i + 1, row, keys, (*numbers, *extras)) for i, row in enumerate(rows)]


def _parse(path: Path, number: int, row: Row, keys: tuple[str, ...], numbers: tuple[str, ...]) -> Row:
    if None in row or None in row.values():
        raise InputError(
            f"{path}, row {number}, has another number of fields than its header.",
            AGAIN.format(study=path.parent),
        )
    parsed: Row = dict(row)
    for name in ("fraction", *numbers):
        if name in row:
            parsed[name] = _number(path, number, name, row[name])
    for name in keys:
        if parsed[name] in ("", None):
            raise InputError(f"{path}, row {number}: {name} is blank.", AGAIN.format(study=path.parent))
    if parsed["fraction"] <= 0:
        raise InputError(
            f"{path}, row {number}: fraction is {parsed['fraction']:g}, not above 0.",
            AGAIN.format(study=path.parent),
        )
    return parsed


def _number(path: Path, row: int, column: str, text: str) -> float | None:
    """The number, or None where the field is blank or NaN (undefined)."""
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(
            f"{path}, row {row}: {column} is {text!r}, not a number.", AGAIN.format(study=path.parent)
        ) from error
    return value if math.isfinite(value) else None


def refuse_twins(path: Path, rows: list[Row], keys: tuple[str, ...]) -> None:
    """Raise InputError where two rows have the same keys."""
    seen: set[tuple[Any, ...]] = set()
    for i, row in enumerate(rows):
        key = tuple(row[name] for name in keys)
        if key in seen:
            raise InputError(
                f"{path}, row {i + 1}, repeats an earlier one: {', '.join(map(str, key))}.",
                AGAIN.format(study=path.parent),
            )
        seen.add(key)
