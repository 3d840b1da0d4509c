"""A STUDY folder read whole, or refused with the name of the file at fault."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mococxr.errors import InputError
from mococxr.files import read_json

AGAIN = "Run `mococxr study --config {study}/settings.yaml` again: trials that are done are skipped."

CELL_KEYS = ("arm", "mode", "target", "fraction")
CELL_NUMBERS = ("auroc", "low", "high", "draw_sd", "n_test", "positives")
CELL_EXTRAS = ("average_precision", "ap_low", "ap_high", "draws", "films", "patients")
DIFFERENCE_KEYS = ("arm", "against", "mode", "target", "fraction")
DIFFERENCE_NUMBERS = ("difference", "low", "high", "p")
DIFFERENCE_EXTRAS = ("low_draws", "high_draws", "ap_difference", "ap_low", "ap_high")
ACROSS_KEYS = (*DIFFERENCE_KEYS, "against_mode")
TRIAL_KEYS = ("arm", "mode", "target", "fraction")
TRIAL_NUMBERS = ("train_films", "train_patients", "train_positives", "auroc")

Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What a STUDY folder says. Numbers that are blank in a file are None here: undefined, never invented."""

    path: Path
    cells: list[Row]
    differences: list[Row]
    trials: list[Row]
    facts: dict[str, Any]
    settings_text: str
    across: list[Row] = field(default_factory=list)
    """Differences between modes, where the study wrote `across.csv`."""

    def fact(self, *names: str) -> Any:
        """A recorded fact by its path in `study.json` (`fact("store", "films")`); None when absent."""
        found: Any = self.facts
        for name in names:
            if not isinstance(found, dict):
                return None
            found = found.get(name)
        return found

    @property
    def patients_known(self) -> bool:
        """False where a store was made without patient identifiers."""
        return not any(self.fact(name, "patients_known") is False for name in ("store", "test_store"))

    @property
    def phantom(self) -> bool:
        """Whether films that train or are judged were drawn by a program."""
        return any(self.fact(name, "phantom") is True for name in ("store", "test_store"))

    @property
    def external(self) -> bool:
        """Whether the test films are those of another store."""
        return isinstance(self.fact("test_store"), dict)

    @property
    def tested(self) -> str:
        """The name of the facts about the store whose test films are judged."""
        return "test_store" if self.external else "store"

    def values(self, column: str) -> list[str]:
        """The different values of a column of `cells.csv`, in order of first appearance."""
        return list(dict.fromkeys(row[column] for row in self.cells))

    @property
    def targets(self) -> list[str]:
        """Targets, that of the primary comparison first."""
        primary = self.fact("primary", "target")
        return sorted(self.values("target"), key=lambda target: target != primary)

    @property
    def modes(self) -> list[str]:
        """Modes in order of appearance."""
        return self.values("mode")

    @property
    def arms(self) -> list[str]:
        """Arms in order of appearance."""
        return self.values("arm")

    @property
    def reference(self) -> str | None:
        """The arm that the others are compared with; None when no arm is compared."""
        named = self.fact("reference")
        if isinstance(named, str):
            return named
        return next((row["against"] for row in self.differences), None)

    def fractions(self, target: str) -> list[float]:
        """Label fractions of one target, ascending."""
        return sorted({row["fraction"] for row in self.cells if row["target"] == target})

    def cell(self, arm: str, mode: str, target: str, fraction: float) -> Row | None:
        """The row of `cells.csv`, or None."""
        return _find(self.cells, arm=arm, mode=mode, target=target, fraction=fraction)

    def difference(self, arm: str, against: str, mode: str, target: str, fraction: float) -> Row | None:
        """The row of `differences.csv`, or None."""
        wanted = {"mode": mode, "target": target, "fraction": fraction}
        return _find(self.differences, arm=arm, against=against, **wanted)

    def trials_of(self, **wanted: Any) -> list[Row]:
        """The rows of `trials.csv` that agree with all of `wanted`."""
        return [row for row in self.trials if all(row[name] == value for name, value in wanted.items())]

    def reason(self, arm: str, mode: str, target: str, fraction: float) -> str:
        """Why a cell is undefined, as `study` wrote it down."""
        wanted = {"arm": arm, "mode": mode, "target": target, "fraction": fraction}
        reasons = [
            str(row.get("reason")) for row in self.undefined if _agrees(row, wanted) and row.get("reason")
        ]
        if not reasons:
            statuses = [
                str(row.get("status") or "").removeprefix("undefined: ") for row in self.trials_of(**wanted)
            ]
            reasons = [text for text in statuses if text.lower() not in ("", "done", "ok", "undefined")]
        return "; ".join(dict.fromkeys(reasons)) or "reason not recorded"

    @property
    def undefined(self) -> list[Row]:
        """The entries of `undefined` in `study.json`."""
        recorded = self.fact("undefined")
        return [row for row in recorded if isinstance(row, dict)] if isinstance(recorded, list) else []

    @property
    def undefined_cells(self) -> list[Row]:
        """The rows of `cells.csv` without a number."""
        return [row for row in self.cells if row["auroc"] is None]


def _agrees(row: Row, wanted: Row) -> bool:
    """True where the keys that `row` has agree with `wanted` (an entry may speak of several cells)."""
    return all(row.get(name) in (None, value) for name, value in wanted.items())


def _find(rows: list[Row], **wanted: Any) -> Row | None:
    return next((row for row in rows if all(row[name] == value for name, value in wanted.items())), None)


def read_study(path: Path) -> Study:
    """Read the files that `study` left.

    Raises:
        InputError: the folder or one of its files is missing, not readable, or not what the contract says.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder.", "Name the STUDY folder that `mococxr study --out` made.")
    cells = _read_table(path / "cells.csv", CELL_KEYS, CELL_NUMBERS, CELL_EXTRAS)
    if not cells:
        raise InputError(f"{path / 'cells.csv'} holds no cell.", AGAIN.format(study=path))
    _refuse_twins(path / "cells.csv", cells, CELL_KEYS)
    differences = _read_table(
        path / "differences.csv", DIFFERENCE_KEYS, DIFFERENCE_NUMBERS, DIFFERENCE_EXTRAS
    )
    across = []
    if (path / "across.csv").is_file():
        across = _read_table(path / "across.csv", ACROSS_KEYS, DIFFERENCE_NUMBERS, DIFFERENCE_EXTRAS)
    _refuse_twins(path / "differences.csv", differences, DIFFERENCE_KEYS)
    trials = _read_table(path / "trials.csv", TRIAL_KEYS, TRIAL_NUMBERS)
    facts = _read_facts(path / "study.json")
    return Study(path, cells, differences, trials, facts, _read_text(path / "settings.yaml"), across)


def _read_text(path: Path) -> str:
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


def _read_facts(path: Path) -> dict[str, Any]:
    _read_text(path)
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise InputError(f"{path} is not a JSON object.", AGAIN.format(study=path.parent))
    return facts


def _read_table(
    path: Path, keys: tuple[str, ...], numbers: tuple[str, ...], extras: tuple[str, ...] = ()
) -> list[Row]:
    """Rows of a CSV file: `fraction` and `numbers` as float or None, all other columns as text."""
    try:
        reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
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


def _refuse_twins(path: Path, rows: list[Row], keys: tuple[str, ...]) -> None:
    seen: set[tuple[Any, ...]] = set()
    for i, row in enumerate(rows):
        key = tuple(row[name] for name in keys)
        if key in seen:
            raise InputError(
                f"{path}, row {i + 1}, repeats an earlier one: {', '.join(map(str, key))}.",
                AGAIN.format(study=path.parent),
            )
        seen.add(key)
