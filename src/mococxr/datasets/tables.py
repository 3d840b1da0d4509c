"""CSV tables as they come: read whole as text, blanks as null, with errors that name file, row and column."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mococxr.errors import InputError


@dataclass(frozen=True)
class Table:
    """A CSV table as text.

    Args:
        path: the file.
        frame: every column a String, trimmed; blank is null. Column names are trimmed too.
        sha256: of the file's bytes.
        notes: what had to be guessed.
    """

    path: Path
    frame: pl.DataFrame
    sha256: str
    notes: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """Where a row (from 0) is found; the line is right where no value holds a line break."""
        return f"{self.path.name}, row {row + 1} (line {row + 2})"

    def column(self, name: str) -> str:
        """The column of that name: as written, else whatever its case.

        Raises:
            InputError: there is none; the text gives the nearest names.
        """
        lower = {column.lower(): column for column in reversed(self.frame.columns)}
        if name in self.frame.columns:
            return name
        if name.lower() in lower:
            return lower[name.lower()]
        near = difflib.get_close_matches(name, self.frame.columns, 3, 0.5) or self.frame.columns[:20]
        raise InputError(f"{self.path} has no column {name!r}.", f"It has, among others: {', '.join(near)}.")


def header(path: Path) -> list[str]:
    """The column names of a table, without reading the rest; empty where it cannot be read as one."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            line = file.readline(1 << 16).decode("utf-8-sig", errors="replace")
    except (OSError, EOFError, zlib.error):
        return []
    return [name.strip().strip('"') for name in line.rstrip("\r\n").split(_separator(line))]


def read_table(path: Path) -> Table:
    """Read a CSV table (also gzipped; comma, semicolon or tab).

    Raises:
        InputError: unreadable, empty, header only, repeated column names, or no table at all.
    """
    data = _bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is a damaged gzip file.", "Restore it, or give it unpacked.") from error
    if not data.strip():
        raise InputError(f"{path} is empty.", "Give a table with a header line and one line an image.")
    if b"\0" in data[:4096]:
        raise InputError(f"{path} is not a text table.", "Give a CSV file.")
    text, notes = _text(data, path)
    separator = _separator(text[: text.find("\n")] if "\n" in text else text)
    try:
        frame = pl.read_csv(io.BytesIO(text.encode()), infer_schema=False, separator=separator)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"{path} cannot be read as a table: {reason}.",
            "Check that every line has as many values as the header.",
        ) from error
    frame = _tidy(frame, path)
    if not frame.height:
        raise InputError(f"{path} has a header and no rows.", "Add one line an image.")
    return Table(path, frame, sha256, notes)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, trimmed.

    Raises:
        InputError: unreadable.
    """
    text, _ = _text(_bytes(path), path)
    return [line.strip() for line in text.split("\n") if line.strip()]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror}.", "Check the path and its permissions."
        ) from error


def _text(data: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    """UTF-8 with or without its mark, else Latin-1 (which reads any bytes, so it is said)."""
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return data.decode("latin-1"), (f"{path.name} is not UTF-8: it was read as Latin-1.",)


def _separator(line: str) -> str:
    """Whichever of comma, semicolon and tab the header has most of."""
    return max(",;\t", key=line.count)


def _tidy(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Trim names and values, make blanks null, and leave out rows and nameless columns that are all blank."""
    names = [name.strip() for name in frame.columns]
    repeated = [name.partition("_duplicated_")[0] for name in names if "_duplicated_" in name]
    repeated += [name for name in names if name and names.count(name) > 1]
    if repeated:
        raise InputError(
            f"{path}: the column {repeated[0]!r} stands twice in the header.", "Rename one of them."
        )
    frame.columns = names
    text = pl.all().str.strip_chars()
    frame = frame.select(pl.when(text != "").then(text))
    nameless = [name for name in names if not name and frame[name].null_count() == frame.height]
    while frame.height and all(value is None for value in frame.row(-1)):
        frame = frame.head(-1)
    return frame.drop(nameless)
