"""One reader for every table that a user gives: labels, predictions, splits, subsets, lists.

A file is unpacked, its kind is known by its first bytes and never by its name, its cells become text, and what is blank
or a word for unknown becomes null. Everything that was guessed on the way is a note.

    table = read_table(path)
    table["patient"]            # text, null where unknown
    table.describe_row(3)       # labels.csv, row 4 (line 6)
"""

from __future__ import annotations

import difflib
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mococxr.errors import InputError, Shown, message
from mococxr.tables import content, frames, sheets, text, words

HEAD = 1 << 18
"""Bytes of a file in which its header stands."""


@dataclass(frozen=True)
class Table:
    """A table as text.

    Args:
        path: the file.
        frame: every column a String, trimmed; blank and unknown are null. Names are trimmed too.
        sha256: of the file's bytes.
        lines: where each row stands in the file; `line_format` says what that is called.
        wide: columns that were not read, since their cells hold lists or the like, and what they hold.
        notes: what had to be guessed, and what was left out.
    """

    path: Path
    frame: pl.DataFrame
    sha256: str
    lines: pl.Series
    line_format: str = "line {line}"
    wide: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Shown, ...] = ()

    def position(self, row: int) -> str:
        """Where a row (from 0) is in the file: `row 3 (line 4)`."""
        inside = self.line_format.format(line=self.lines[row])
        return f"row {row + 1} ({inside})" if inside else f"row {row + 1}"

    def describe_row(self, row: int) -> str:
        """Where a row (from 0) is found: `labels.csv, row 3 (line 4)`."""
        position = self.position(row)
        return Shown(f"{self.path.name}, {position}", redacted=position)  # a file's name may name a patient

    def column(self, name: str) -> str:
        """The column of that name: as written, else whatever its case.

        Raises:
            InputError: there is none (the text gives the nearest names), or several that differ by case only.
        """
        columns, name = self.frame.columns, tidy_name(name)
        alike = [column for column in columns if column.lower() == name.lower()]
        if name in columns or len(alike) == 1:
            return name if name in columns else alike[0]
        if alike:
            raise InputError(
                "{path} has the columns {names}, which differ by case only.", "Write the one that is meant as it is there.",
                path=self.path, names=" and ".join(alike),
            )  # fmt: skip
        if name in self.wide:
            raise InputError(
                "{path}, column {name!r} holds {kind}.", "Give a column of numbers or text.",
                path=self.path, name=Shown(name), kind=self.wide[name],
            )  # fmt: skip
        near = difflib.get_close_matches(name, columns, 3, 0.5) or columns[:20]  # 0.5: names that are half alike
        raise InputError(
            "{path} has no column {name!r}.", "It has, among others: {names}.",
            path=self.path, name=Shown(name), names=", ".join(near),
        )  # fmt: skip

    def __getitem__(self, name: str) -> pl.Series:
        """The values of the column of that name; see `column`."""
        return self.frame[self.column(name)]


def read_table(path: Path, *, may_be_empty: bool = False) -> Table:
    """Read a table: Parquet, an Excel workbook, or text of any usual encoding and separator; also gzipped.

    Args:
        may_be_empty: a header without a row is a table, too, as that of a label subset that drew nobody.

    Raises:
        InputError: unreadable, empty, header only, repeated column names, or no table at all.
    """
    data = content.read_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()  # of the file as it is, before it is unpacked
    data = content.unpacked(data, path)
    if not data.strip():
        raise InputError("{path} is empty.", "Give a table with a header line and one row per image.", path=path)
    notes: Sequence[Shown] = ()
    if data.startswith(content.PARQUET):
        cells = frames.read_parquet(data, path)
    elif data.startswith(content.ZIP):
        cells, notes = sheets.read_sheet(data, path)
    else:
        string, notes = content.as_text(data, path)
        cells = text.read_cells(string, path)
    frame, lines, remarks = _tidy(cells, path)
    if not frame.height and not may_be_empty:
        raise InputError("{path} has a header and no rows.", "Add one row per image.", path=path)
    return Table(path, frame, sha256, lines, cells.line_format, cells.wide, (*notes, *remarks))


def header(path: Path) -> list[str]:
    """The column names of a table, without reading the rest; empty where it cannot be read as one."""
    try:
        data = content.unpacked(content.read_bytes(path, HEAD), path, HEAD)
        if data.startswith((content.PARQUET, content.ZIP)):  # their names stand at the end of the file
            packed = data.startswith(content.ZIP)
            data = content.unpacked(content.read_bytes(path), path)
            names = sheets.sheet_names(data, path) if packed else frames.parquet_names(data)
            return [name for written in names if (name := tidy_name(written))]
        whole = len(data) < HEAD
        string, _ = content.as_text(data if whole else data[:HEAD], path, whole)
    except InputError:
        return []
    return [name for written in text.column_names(string) if (name := tidy_name(written))]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, trimmed.

    Raises:
        InputError: unreadable.
    """
    string, _ = content.as_text(content.unpacked(content.read_bytes(path), path), path)
    return [line.strip() for line in string.split("\n") if line.strip()]


def tidy_name(name: str) -> str:
    """A column's name as it is compared: trimmed, letters with accents as one sign."""
    return unicodedata.normalize("NFC", name).strip()


def _tidy(cells: text.Cells, path: Path) -> tuple[pl.DataFrame, pl.Series, list[Shown]]:
    """Names and values trimmed, unknown ones null; rows that are blank all over and columns without a name left out."""
    names = [tidy_name(name) for name in cells.names] + [""] * (cells.frame.width - len(cells.names))
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(
                "{path}: the column {value!r} appears twice in the header.",
                "Rename one of them.",
                path=path,
                value=name,
            )
        seen |= {name} - {""}  # several columns without a name are no repetition
    if not seen:
        raise InputError("{path} has no column names.", "Give a table with a header line.", path=path)
    columns = [words.trimmed(column) for column in cells.frame]
    nameless = [i for i, name in enumerate(names) if not name]
    # Blank ones are the remains of a separator at the end.
    unnamed = [i + 1 for i in nameless if columns[i].null_count() < columns[i].len()]
    frame = pl.DataFrame([column.alias(name) for column, name in zip(columns, names, strict=True) if name])
    filled = frame.select(~pl.all_horizontal(pl.all().is_null())).to_series()
    lines = cells.lines
    if not filled.all():
        frame, lines = frame.filter(filled), lines.filter(filled)
    frame, unknown = words.without_unknown(frame)  # after blank rows are gone: a row of "NA" is a row
    notes = []
    if unnamed:
        text_ = "{table}: columns without a name are left out (number {numbers})."
        notes.append(message(text_, table=path.name, numbers=Shown(", ".join(map(str, unnamed)))))
    if unknown:
        text_ = "{table}: {count:,} cells are read as unknown ({names})."
        notes.append(message(text_, table=path.name, count=sum(unknown.values()), names=Shown(", ".join(unknown))))
    return frame, lines, notes
