"""Excel's workbooks (.xlsx) -> the cells of a text table, by openpyxl, row by row."""

from __future__ import annotations

import datetime
import re
import warnings
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from mococxr.errors import InputError, Shown, message
from mococxr.tables.text import Cells, from_records

MOST_ROWS = 1 << 20
"""Rows of a sheet in Excel; a damaged one may name others."""
MOST_CELLS = 1 << 26
MOST_BYTES = 1 << 28
"""Bytes that a workbook may unpack to; its words are held in memory while it is read."""
_OTHERS = (
    ("xl/workbook.bin", "a binary Excel workbook (.xlsb)"),
    ("content.xml", "an OpenDocument file"),
    ("word/document.xml", "a Word document"),
    ("ppt/presentation.xml", "a PowerPoint presentation"),
    ("Index/Document.iwa", "a Numbers document"),
)
_WITHOUT_VALUE = re.compile(
    rb"<c\b(?![^>]*\bt=\"str\")[^>]*>\s*<f\b(?:[^>]*/>|[^>]*>[^<]*</f>)\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>"
)
"""A cell with a formula that was never computed."""


def read_sheet(data: bytes, path: Path) -> tuple[Cells, list[Shown]]:
    """The cells of the first sheet whose header has two values or more, and what is to be said of it.

    Raises:
        InputError: no workbook, damaged, too large, blank, or openpyxl is not installed.
    """
    size = _checked_size(data, path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of styles, validations and dates that openpyxl leaves out
            return _read(data, path)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # openpyxl raises whatever its parsers do
        raise InputError(
            "{path} is a damaged workbook ({size:,} bytes unpacked): {reason}.", "Save it again, or as CSV (UTF-8).",
            path=path, size=size, reason=Shown(type(error).__name__),
        ) from error  # fmt: skip


def sheet_names(data: bytes, path: Path) -> list[str]:
    """The names in the header of the sheet that `read_sheet` reads; empty where there is none."""
    try:
        _checked_size(data, path)
        with warnings.catch_warnings(action="ignore"):
            headers = _headers(data, path)
        return headers[_table_of(headers)]
    except Exception:  # what is wrong is said when the table is read
        return []


def _checked_size(data: bytes, path: Path) -> int:
    """The bytes that a workbook unpacks to.

    Raises:
        InputError: it is another kind of file, or unpacks to more than `MOST_BYTES`.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            # As declared: nothing is unpacked yet.
            members = {member.filename: member.file_size for member in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise InputError("{path} is a damaged ZIP file.", "Restore it, or give it unpacked.", path=path) from error
    if "xl/workbook.xml" not in members:
        kind = next((kind for name, kind in _OTHERS if name in members), "a ZIP file")
        raise InputError(
            "{path} is {kind}, not a table.", "Unpack it, or save the table as CSV (UTF-8), .xlsx or Parquet.",
            path=path, kind=Shown(kind),
        )  # fmt: skip
    size = sum(members.values())
    if size > MOST_BYTES:
        raise InputError(
            "{path} unpacks to {size:,} MB, more than {most:,}.", "Save the table as CSV (UTF-8).",
            path=path, size=size >> 20, most=MOST_BYTES >> 20,
        )  # fmt: skip
    return size


def _headers(data: bytes, path: Path) -> dict[Any, list[str]]:
    """The worksheets that are not blank, in order, each with its first row that is not; hidden ones where all are."""
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(
            "Workbooks are read by the package openpyxl, which is not installed.",
            "pip install openpyxl; or save the table as CSV (UTF-8).",
        ) from error
    # data_only: values, not formulas.
    sheets = openpyxl.load_workbook(BytesIO(data), read_only=True, data_only=True, keep_links=False).worksheets
    # Hidden ones are not what the user sees.
    sheets = [sheet for sheet in sheets if sheet.sheet_state == "visible"] or sheets
    rows = {sheet: (values for _, values in _records(sheet, path) if any(map(str.strip, values))) for sheet in sheets}
    return {sheet: names for sheet in sheets if (names := next(rows[sheet], []))}


def _table_of(headers: dict[Any, list[str]]) -> Any:
    """The first sheet whose header has two values or more, else the first: a page of remarks has one value a row."""
    wide = (sheet for sheet, names in headers.items() if sum(map(bool, map(str.strip, names))) > 1)
    return next(wide, next(iter(headers)))


def _read(data: bytes, path: Path) -> tuple[Cells, list[Shown]]:
    headers = _headers(data, path)
    if not headers:
        raise InputError(
            "{path} is empty.", "Give a workbook whose first sheet has a header and one row per image.", path=path
        )
    sheet = _table_of(headers)
    notes = []
    if len(headers) > 1:
        text = "{table}: the sheet {name!r} is read; not read: {others}."
        others = ", ".join(repr(other.title) for other in headers if other is not sheet)
        notes.append(message(text, table=path.name, name=sheet.title, others=others))
    with zipfile.ZipFile(BytesIO(data)) as archive:
        # openpyxl gives None for these and for blanks alike.
        uncounted = len(_WITHOUT_VALUE.findall(archive.read(sheet._worksheet_path)))
    if uncounted:
        text = "{table}: {count:,} formulas have no value and are blank: open the workbook in Excel and save it."
        notes.append(message(text, table=path.name, count=uncounted))
    return from_records(_records(sheet, path), path, "row {line} of the sheet"), notes


def _records(sheet: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each row and its cells as text.

    Raises:
        InputError: more rows or cells than a sheet can have.
    """
    sheet.reset_dimensions()  # what a program wrote there may be wrong
    cells = 0
    for number, row in enumerate(sheet.iter_rows(), start=1):
        cells += len(row)
        if number > MOST_ROWS or cells > MOST_CELLS:
            raise InputError("{path} has too many cells.", "Save the table as CSV (UTF-8).", path=path)
        yield number, [_text(cell) for cell in row]


def _text(cell: Any) -> str:
    """A cell as it would stand in a CSV file; zeros that only its format shows are written."""
    value = cell.value
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):  # before int, which bool is
        return "true" if value else "false"
    # Excel has floats alone: 12.0 was typed as 12.
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    # A format of zeros: 00012 is stored as 12.
    if isinstance(value, int) and re.fullmatch("0{2,}", cell.number_format or ""):
        return f"{value:0{len(cell.number_format)}d}"
    if isinstance(value, datetime.datetime):
        # Excel has no dates without a time.
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    return str(value)
