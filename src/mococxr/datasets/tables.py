"""CSV tables as they come, read whole as text; and their text columns -> labels, ages, sexes, splits, metadata."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mococxr.errors import InputError, Shown, message
from mococxr.splits import SPLIT_WORDS

FIXED = ("path", "patient", "study", "view", "sex", "age", "split")
"""The columns every dataset has, in order, before its labels and its metadata."""
RESERVED = {*FIXED, "row", "height", "width", "sha256"}
"""Names of the store's own columns: a label or metadata column of such a name is renamed."""
LABEL_VALUES = (1.0, 0.0, -1.0)

DescribeRow = Callable[[int], str]
"""Row number from 0 -> where the user finds that row, e.g. `labels.csv, row 3 (line 4)`."""


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
    notes: tuple[Shown, ...] = ()

    def describe_row(self, row: int) -> str:
        """Where a row (from 0) is found; the line is right where no value holds a line break."""
        position = f"row {row + 1} (line {row + 2})"
        return Shown(f"{self.path.name}, {position}", redacted=position)

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
        raise InputError(
            "{path} has no column {name!r}.",
            "It has, among others: {names}.",
            path=self.path,
            name=Shown(name),
            names=", ".join(near),
        )

    def __getitem__(self, name: str) -> pl.Series:
        """The values of the column of that name; see `column`."""
        return self.frame[self.column(name)]


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
            raise InputError("{path} is a damaged gzip file.", "Restore it, or give it unpacked.", path=path) from error
    if not data.strip():
        raise InputError("{path} is empty.", "Give a table with a header line and one line an image.", path=path)
    if b"\0" in data[:4096]:
        raise InputError("{path} is not a text table.", "Give a CSV file.", path=path)
    text, notes = _text(data, path)
    separator = _separator(text[: text.find("\n")] if "\n" in text else text)
    try:
        frame = pl.read_csv(io.BytesIO(text.encode()), infer_schema=False, separator=separator)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            "{path} cannot be read as a table: {reason}.",
            "Check that every line has as many values as the header.",
            path=path,
            reason=reason,
        ) from error
    frame = _tidy(frame, path)
    if not frame.height:
        raise InputError("{path} has a header and no rows.", "Add one line an image.", path=path)
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
            "Cannot read {path}: {reason}.",
            "Check the path and its permissions.",
            path=path,
            reason=Shown(error.strerror),
        ) from error


def _text(data: bytes, path: Path) -> tuple[str, tuple[Shown, ...]]:
    """UTF-8 with or without its mark, else Latin-1 (which reads any bytes, so it is said)."""
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return data.decode("latin-1"), (message("{table} is not UTF-8: it was read as Latin-1.", table=path.name),)


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
            "{path}: the column {value!r} appears twice in the header.",
            "Rename one of them.",
            path=path,
            value=repeated[0],
        )
    frame.columns = names
    text = pl.all().str.strip_chars()
    frame = frame.select(pl.when(text != "").then(text))
    nameless = [name for name in names if not name and frame[name].null_count() == frame.height]
    while frame.height and all(value is None for value in frame.row(-1)):
        frame = frame.head(-1)
    return frame.drop(nameless)


# --- columns


def known_labels(text: pl.Series) -> pl.Series:
    """True where a value is 1, 0 or -1, however written (`1`, `1.0`); blanks are False."""
    return text.cast(pl.Float64, strict=False).is_in(LABEL_VALUES).fill_null(False)


def is_label(text: pl.Series) -> bool:
    """Whether all values are among 1, 0, -1 and blank."""
    return bool((known_labels(text) | text.is_null()).all())


def refuse_rows(wrong: pl.Series, describe_row: DescribeRow, problem: str, way_out: str, **values: object) -> None:
    """Refuse the first row where `wrong` holds; the sentences may name it as `{row}`, and how many are as `{count}`.

    Args:
        problem, way_out: see `InputError`.
        values: the other names in them; a series stands for its value in that row.

    Raises:
        InputError: there is one.
    """
    if wrong.any():
        at = wrong.arg_max() or 0
        values = {name: value[at] if isinstance(value, pl.Series) else value for name, value in values.items()}
        raise InputError(problem, way_out, row=describe_row(at), count=wrong.sum(), **values)


def label_values(text: pl.Series, describe_row: DescribeRow) -> pl.Series:
    """A column of 1, 0, -1 and blank -> Int8, blank as null.

    Raises:
        InputError: any other value; the text names row and column.
    """
    refuse_rows(
        ~known_labels(text) & text.is_not_null(), describe_row,
        "{row}, column {column!r}: {value!r} is not a label ({count:,} such values).",
        "Labels are 1, 0, -1 (uncertain) and blank (unknown): correct it or name other label columns.",
        column=Shown(text.name), value=text,
    )  # fmt: skip
    return text.cast(pl.Float64).cast(pl.Int8)


def ages(text: pl.Series) -> pl.Series:
    """Years from 0 as Float64; `58`, `058Y`, `7M` (months) and `3D` (days) are understood, anything else is null.

    Negative numbers are null: -1 is a usual code for an unknown age.
    """
    number = text.str.extract(r"(?i)^(\d+(?:\.\d+)?)\s*(?:y|m|w|d|yrs?|years?)?$", 1).cast(pl.Float64, strict=False)
    unit = text.str.extract(r"(?i)([mwd])$", 1).str.to_lowercase()
    return number / unit.replace_strict({"m": 12.0, "w": 52.18, "d": 365.25}, default=1.0, return_dtype=pl.Float64)


def sexes(text: pl.Series) -> pl.Series:
    """`M`, `F` or null: Male and Female in any case; Unknown and the rest are null."""
    return text.str.to_lowercase().replace_strict({"m": "M", "male": "M", "f": "F", "female": "F"}, default=None)


def views(text: pl.Series) -> pl.Series:
    """`AP`, `PA` or `Lateral`; another view as it is written, no or an unknown view as null."""
    known = {"AP": "AP", "AP_HORIZONTAL": "AP", "PA": "PA", "UNK": None, "UNKNOWN": None, "EXCLUDE": None}
    known |= dict.fromkeys(("L", "LL", "RL", "LAT", "LATERAL"), "Lateral")
    upper = text.str.to_uppercase()
    return pl.select(
        pl.when(upper.is_in(list(known))).then(upper.replace_strict(known, default=None)).otherwise(text)
    ).to_series()


def days_since_first_study(dates: pl.Series, patients: pl.Series) -> pl.Series:
    """Dates as text -> Int64, the days since the patient's first image here; no date is kept.

    Written 20140915, 2014-09-15 or with a time after it; anything else is null.
    """
    digits = dates.str.extract(r"^(\d{4}-?\d{2}-?\d{2})", 1).str.replace_all("-", "")
    day = digits.str.to_date("%Y%m%d", strict=False)
    frame = pl.DataFrame({"patient": patients, "day": day})
    since = pl.col("day") - pl.col("day").min().over("patient")
    return frame.select(since.dt.total_days()).to_series().alias("day")


def split_names(text: pl.Series, describe_row: DescribeRow) -> pl.Series:
    """train, val, test from the words in use.

    Raises:
        InputError: a word that names no split.
    """
    named = text.str.to_lowercase().replace_strict(SPLIT_WORDS, default=None, return_dtype=pl.String)
    refuse_rows(
        named.is_null() & text.is_not_null(), describe_row,
        "{row}, column {column!r}: {value!r} is not the name of a split.",
        "Write train, val or test, or leave it blank.", column=Shown(text.name), value=text,
    )  # fmt: skip
    return named


def typed(text: pl.Series) -> pl.Series:
    """Whole numbers as Int64, numbers as Float64, else text; ids with leading zeros stay text."""
    values = text.drop_nulls()
    if not len(values) or values.str.contains(r"^[+-]?0\d").any():
        return text
    for kind in (pl.Int64, pl.Float64):
        numbers = values.cast(kind, strict=False)
        if not numbers.null_count() and (kind == pl.Int64 or numbers.is_finite().all()):
            return text.cast(kind)
    return text


def unreserved(names: Sequence[str]) -> dict[str, str]:
    """Old name -> new name for the columns whose name is one of the store's own."""
    taken = set(names)
    renamed: dict[str, str] = {}
    for name in names:
        if name in RESERVED:
            fresh = f"{name}_in_table"
            while fresh in taken:
                fresh += "_"
            taken.add(fresh)
            renamed[name] = fresh
    return renamed


def choose_labels(asked: Sequence[str], available: Sequence[str], where: str) -> tuple[str, ...]:
    """The label columns asked for, or all there are.

    Raises:
        InputError: one of them is not there.
    """
    for name in asked:
        if name not in available:
            raise InputError(
                "{where} has no label {name!r}.",
                "Its labels are: {names}.",
                where=where,
                name=Shown(name),
                names=", ".join(available),
            )
    return tuple(dict.fromkeys(asked)) or tuple(available)


def common_labels(tables: Sequence[Sequence[str]]) -> tuple[list[str], tuple[Shown, ...]]:
    """The labels that every table has, in the order of the first, and a note on those that only some have.

    A label that the test images lack cannot be tested, and its blanks would pass for negatives.
    """
    common = [name for name in tables[0] if all(name in names for names in tables)]
    lost = sorted({name for names in tables for name in names} - set(common))
    note = message("Labels dropped, since not every table has them: {names}.", names=", ".join(lost))
    return common, (note,) if lost else ()
