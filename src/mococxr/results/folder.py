"""A study's tables are written, and its folder is read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.errors import InputError
from mococxr.files import read_json, write_csv
from mococxr.results.tables import TABLES, Column, Row

UNDEFINED = "undefined: "
"""How the `status` of a trial that gave no number begins; the reason follows."""
AGAIN = "Run `mococxr study --config {study}/settings.yaml` again: trials that are done are skipped."


def write_tables(folder: Path, tables: Mapping[str, Iterable[Row]]) -> None:
    """Write every table of a study; what a row does not have is blank."""
    for name, columns in TABLES.items():
        # The declared columns alone, in their order.
        rows = [{column: row.get(column) for column in columns} for row in tables[name]]
        schema = {column: kind.dtype for column, kind in columns.items()}  # a table without rows has its types too
        write_csv(folder / f"{name}.csv", pl.DataFrame(rows, schema=schema))


def read_table(path: Path, name: str) -> pl.DataFrame:
    """A table of a study with the types of its columns.

    Raises:
        InputError: it is missing or damaged, lacks a column, or holds a value of another type (row and column named).
    """
    again = AGAIN.format(study=path.parent)
    try:
        # Types are those declared: a blank column would be guessed as text.
        text = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"{path} is not a CSV table: {problem}.", again) from error
    columns = TABLES[name]
    missing = [column for column in columns if column not in text.columns]
    if missing:
        raise InputError(f"{path} has no column {missing[0]}.", again)
    table = pl.DataFrame([_typed(path, text[column], kind) for column, kind in columns.items()])
    keys = [column for column, kind in columns.items() if kind.key]
    # A repeated key would make two rows of one cell.
    first = table.select(pl.struct(keys).is_first_distinct()).to_series()
    for row in (~first).arg_true():
        raise InputError(f"{path}, row {row + 1}, repeats an earlier one.", again)
    return table


def _typed(path: Path, texts: pl.Series, column: Column) -> pl.Series:
    again = AGAIN.format(study=path.parent)
    values = texts.cast(column.dtype, strict=False)
    for row in (values.is_null() & texts.is_not_null()).arg_true():
        raise InputError(f"{path}, row {row + 1}: {texts.name} is {texts[row]!r}, not a number.", again)
    for row in values.is_null().arg_true() if column.key else ():
        raise InputError(f"{path}, row {row + 1}: {texts.name} is blank.", again)
    return values


@dataclass(frozen=True, repr=False)
class StudyResults:
    """What a study folder says. A number that is blank in a file is null: undefined, never invented.

    Args:
        path: the folder.
        frames: the tables of `TABLES`, by name.
        facts: the content of study.json.
        settings_text: the content of settings.yaml.
    """

    path: Path
    frames: Mapping[str, pl.DataFrame]
    facts: dict[str, Any]
    settings_text: str

    def __repr__(self) -> str:
        counts = {"arms": "arm", "targets": "target", "modes": "mode", "fractions": "fraction"}
        words = "; ".join(f"{name}: {', '.join(map(str, self.values(column)))}" for name, column in counts.items())
        return f"Study {self.path.name} ({words})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the AUROC of each cell."""
        shown = self.frames["cells"].select("target", "mode", "arm", "fraction", "auroc", "low", "high")
        return f"<p>{escape(repr(self))}</p>{shown._repr_html_()}"

    @cached_property
    def _rows(self) -> dict[str, list[Row]]:
        return {name: frame.to_dicts() for name, frame in self.frames.items()}

    def rows(self, table: str, **keys: Any) -> list[Row]:
        """The rows of a table whose columns have the values of `keys`."""
        return [row for row in self._rows[table] if all(row[name] == value for name, value in keys.items())]

    @property
    def cells(self) -> list[Row]:
        """The rows of `cells.csv`."""
        return self._rows["cells"]

    @property
    def differences(self) -> list[Row]:
        """The rows of `differences.csv`."""
        return self._rows["differences"]

    def cell(self, arm: str, mode: str, target: str, fraction: float) -> Row | None:
        """The row of `cells.csv`, or None."""
        return next(iter(self.rows("cells", arm=arm, mode=mode, target=target, fraction=fraction)), None)

    def difference(self, arm: str, against: str, mode: str, target: str, fraction: float) -> Row | None:
        """The row of `differences.csv`, or None."""
        keys = {"mode": mode, "target": target, "fraction": fraction}
        return next(iter(self.rows("differences", arm=arm, against=against, **keys)), None)

    @property
    def external(self) -> bool:
        """Whether the test images are those of another store."""
        return self.facts["test_store"] is not None  # null where one store trains and is judged

    @property
    def test_store(self) -> Row:
        """Facts of the store whose test images are judged."""
        return self.facts["test_store"] or self.facts["store"]

    @property
    def patients_known(self) -> bool:
        """False where a store was made without patient identifiers."""
        return all(store["patients_known"] for store in (self.facts["store"], self.test_store))

    @property
    def synthetic(self) -> bool:
        """Whether images that train or are judged were drawn by a program."""
        return any(store["synthetic"] for store in (self.facts["store"], self.test_store))

    def values(self, column: str) -> list[Any]:
        """The different values of a column of `cells.csv`, in order of first appearance."""
        return self.frames["cells"][column].unique(maintain_order=True).to_list()

    @property
    def targets(self) -> list[str]:
        """Targets, that of the primary comparison first."""
        primary = (self.facts["primary"] or {}).get("target")
        # Sort is stable: the others keep their order.
        return sorted(self.values("target"), key=lambda target: target != primary)

    @property
    def added(self) -> str | None:
        """The baseline, where the study added it to the arms that were given."""
        return self.facts["baseline"]["arm"] if self.facts["baseline"]["added"] else None

    @property
    def modes(self) -> list[str]:
        """The modes of the arms that were given."""
        return list(dict.fromkeys(row["mode"] for row in self.cells if row["arm"] != self.added))

    def fractions(self, target: str) -> list[float]:
        """Label fractions of one target, ascending."""
        return sorted({row["fraction"] for row in self.rows("cells", target=target)})

    def reason(self, arm: str, mode: str, target: str, fraction: float) -> str:
        """Why a cell is undefined; empty where it is not."""
        cell = {"arm": arm, "mode": mode, "target": target, "fraction": fraction}
        lost = [entry["reason"] for entry in self.facts["undefined"] if cell.items() <= entry.items()]
        lost = lost or [row["reason"] for row in self.rows("cells", **cell) if row["reason"]]
        return "; ".join(dict.fromkeys(lost))  # draws may share a reason


def read_results(folder: Path | str) -> StudyResults:
    """Read the folder of a finished study.

    Raises:
        InputError: it is not such a folder, or a file is missing, damaged or lacks a column (named).
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder.", "Name the folder that `mococxr study --out` wrote.")
    facts, settings = path / "study.json", path / "settings.yaml"
    for file in (facts, settings, *(path / f"{name}.csv" for name in TABLES)):  # study.json first: it is written last
        if not file.is_file():
            raise InputError(f"{file} is missing: the study is not finished.", AGAIN.format(study=path))
    frames = {name: read_table(path / f"{name}.csv", name) for name in TABLES}
    if not len(frames["cells"]):
        raise InputError(f"{path / 'cells.csv'} has no rows.", AGAIN.format(study=path))
    return StudyResults(path, frames, read_json(facts), settings.read_text(encoding="utf-8"))
