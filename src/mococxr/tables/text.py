"""Text -> cells: which character separates, where lines begin, and what is wrong with a line that does not fit."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mococxr.errors import InputError, Shown

SEPARATORS = ",;\t|"
MOST_COLUMNS = 20_000
LINE = "line {line}"
SAMPLE = 20
"""Lines that are looked at to find the separator."""


@dataclass(frozen=True)
class Cells:
    """What a file holds before it is tidied.

    Args:
        names: of the columns, as written.
        frame: a String column for each, called `0`, `1` and so on.
        lines: where each row is in the file, counted from 1.
        line_format: how that is said; `{line}` stands for the number. Empty where rows have no other number.
        wide: columns that were not read, since their cells hold no single values, and what they hold.
    """

    names: list[str]
    frame: pl.DataFrame
    lines: pl.Series
    line_format: str = LINE
    wide: Mapping[str, str] = field(default_factory=dict)


def read_cells(text: str, path: Path) -> Cells:
    """The cells of a text table; blank lines above the header are passed by.

    Raises:
        InputError: empty, a line with more values than the header, or a quote that is not closed.
    """
    separator, text, above = _start(text)
    if not text.strip():
        raise InputError("{path} is empty.", "Give a table with a header line and one row per image.", path=path)
    if '"' in text:  # a quoted value may hold line ends: csv says where records begin
        try:
            return from_records(_records(text, separator, above, path), path, LINE)
        except InputError:  # a blank behind a quote is forgiven, but not taken out of values that are well quoted
            closed = re.sub(rf'" +(?={re.escape(separator)}|\n)', '"', text)
            if closed == text:
                raise
            return from_records(_records(closed, separator, above, path), path, LINE)
    head, _, body = text.partition("\n")
    _check_width(head.count(separator) + 1, path)
    names = head.split(separator)
    frame = _parsed(body, len(names), separator, path, above + 1)
    lines = pl.int_range(above + 2, above + 2 + frame.height, dtype=pl.UInt32, eager=True)
    return Cells(names, frame, lines)


def column_names(text: str) -> list[str]:
    """The names in the header of a text whose rest may be cut off; empty where there is none."""
    separator, text, _ = _start(text)
    try:
        # Not strict: the text is cut off.
        names = next(csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [name.strip() for name in names]


def _start(text: str) -> tuple[str, str, int]:
    """The separator, the text from its header on, and the lines above that."""
    stated, above, position = "", 0, 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position : min(end, position + (1 << 16))]
        if match := re.fullmatch(r'"?sep=([,;\t|:^~])"?[,;\t|]*', line.strip(" "), re.IGNORECASE):
            stated = match[1]
        elif line.strip(' ,;|\t\u00a0"'):
            break
        above, position = above + 1, end + 1
    text = text[position:]
    return stated or _separator(text), text, above


def _separator(text: str) -> str:
    """Whichever of comma, semicolon, tab and bar divides most of the first lines into as many parts as the header."""
    lines = re.sub(r'"[^"]*"', "", text[: 1 << 16]).split("\n")[:SAMPLE]  # separators inside quotes separate nothing
    lines = [line for line in lines if line.strip()] or [""]

    def fit(separator: str) -> tuple[int, int]:
        width = lines[0].count(separator)
        # Of two that fit as many lines the one that makes more columns.
        return sum(line.count(separator) == width for line in lines) if width else 0, width

    return max(SEPARATORS, key=fit)


def _check_width(columns: int, path: Path) -> None:
    if columns > MOST_COLUMNS:
        raise InputError(
            "{path} has more than {most:,} columns.", "Give a table with one row per image.",
            path=path, most=MOST_COLUMNS,
        )  # fmt: skip


def _parsed(body: str, width: int, separator: str, path: Path, above: int, quote: str | None = None) -> pl.DataFrame:
    """The rows as text columns; values behind the last name are taken where they are blank."""
    header = separator.join(map(str, range(width)))  # numbers for names: polars renames those that occur twice
    data = f"{header}\n{body}".encode()
    try:
        # Text: a guess would lose zeros.
        return pl.read_csv(data, infer_schema=False, separator=separator, quote_char=quote)
    except pl.exceptions.PolarsError as error:
        wider = width if quote else _width(body, width, separator, path, above)  # what polars says of it names no line
        if wider > width:
            return _parsed(body, wider, separator, path, above)
        reason = str(error).splitlines()[0].rstrip(".")  # it may quote a cell
        raise InputError(
            "{path} cannot be read as a table: {reason}.", "Save it again as CSV (UTF-8).", path=path, reason=reason
        ) from error


def _width(body: str, width: int, separator: str, path: Path, above: int) -> int:
    """The most values on a line, all of them blank behind the last name."""
    widest = width
    for number, line in enumerate(io.StringIO(body), start=above + 1):
        if line.count(separator) >= width:
            widest = max(widest, _checked(line.rstrip("\n").split(separator), width, path, f"line {number}"))
    return widest


def _checked(values: list[str], width: int, path: Path, line: str) -> int:
    """How many values a line has.

    Raises:
        InputError: more than the header has names, and not blank.
    """
    if (len(values) > width and any(value.strip() for value in values[width:])) or len(values) > MOST_COLUMNS:
        raise InputError(
            "{path}, {line}: it has {count} values, the header {width} names: it cannot be read as a table.",
            "The header is the first line that is not blank: take away what stands above it, put values that hold the "
            "separator into quotes, and leave row numbers out (in R row.names = FALSE).",
            path=path, line=Shown(line), count=len(values), width=width,
        )  # fmt: skip
    return len(values)


def from_records(records: Iterable[tuple[int, list[str]]], path: Path, line_format: str) -> Cells:
    """The cells of a table that comes row by row, each with its number; blank rows are left out.

    Raises:
        InputError: no row, or one with more values than the header.
    """
    # Spreadsheets leave blank rows at the end.
    rows = ((line, values) for line, values in records if any(map(str.strip, values)))
    _, names = next(rows, (0, [""]))
    _check_width(len(names), path)
    body, numbers, width = io.StringIO(), array("L"), len(names)
    writer = csv.writer(body, lineterminator="\n")
    for line, values in rows:
        width = max(width, _checked(values, len(names), path, line_format.format(line=line)))
        writer.writerow(values)
        numbers.append(line)
    frame = _parsed(body.getvalue(), width, ",", path, 0, '"')
    lines = pl.Series(numbers, dtype=pl.UInt32)
    if frame.height != len(lines):  # lines would be told wrongly in messages
        raise InputError("{path} cannot be read as a table.", "Save it again as CSV (UTF-8).", path=path)
    return Cells(names, frame, lines, line_format)


def _records(text: str, separator: str, above: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line where it begins.

    Raises:
        InputError: a quote that is not closed, or is followed by something else than the separator.
    """
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    begins = above + 1
    try:
        for values in reader:
            yield begins, values
            begins = above + reader.line_num + 1  # a record may take several lines
    except csv.Error as error:
        if "expected after" in str(error):
            raise InputError(
                "{path}, line {line}: a quote is not followed by {separator!r}.",
                "Write a quote inside a quoted value twice, or leave the quotes out.",
                path=path, line=above + reader.line_num, separator=Shown(separator),
            ) from error  # fmt: skip
        raise InputError(
            "{path}, line {line}: a quote is opened and not closed.", 'Close it, or write "" for a quote in a value.',
            path=path, line=begins,
        ) from error  # fmt: skip
