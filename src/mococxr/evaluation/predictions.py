"""Tables of predictions: read, checked cell by cell, and paired row by row.

Rows are counted from 1 below the header in every message.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.errors import InputError
from mococxr.evaluation.numbers import Floats, Rows

ONE_ROW_EACH = "Give both tables one row for each image, in the same order or paired by --key COLUMN."


@dataclass(frozen=True)
class Table:
    """Rows in the order of the file. Labels are 1, 0, -1 (uncertain) or NaN (blank).

    `groups`: column -> the group of each row as it stands in the file, null where blank.
    """

    path: Path
    label: str
    labels: Floats
    scores: Floats
    patients: NDArray | None
    keys: NDArray | None
    groups: dict[str, pl.Series]

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Rows whose label is 1 or 0."""
        return np.isin(self.labels, (0, 1))


def read(
    path: Path,
    label: str,
    score: str,
    patient: str | None,
    key: str | None,
    groups: tuple[str, ...] = (),
) -> Table:
    """Read the named columns; scores and patients are checked on the rows whose label is 1 or 0.

    Raises:
        InputError: a file that is no table, a missing column, or a cell that cannot be used.
    """
    path = Path(path)
    frame = _frame(path)
    for column in (label, score, patient, key, *groups):
        if column is not None:
            _column(path, frame, column)
    if not frame.height:
        raise InputError(f"{path} has a header and no rows.", "Give a table with one row for each image.")
    labels = _numbers(path, frame, label)
    _refuse(
        path, frame, label, ~(np.isnan(labels) | np.isin(labels, (0, 1, -1))), "Labels are 1, 0, -1 or blank."
    )
    scores = _numbers(path, frame, score)
    judged = np.isin(labels, (0, 1))
    _refuse(path, frame, score, judged & ~np.isfinite(scores), "Every labelled row needs a finite score.")
    patients = _names(path, frame, patient, judged) if patient else None
    keys = _names(path, frame, key, np.full(frame.height, True)) if key else None
    if key and keys is not None:
        repeated = frame.select(pl.col(key).cast(pl.String).is_first_distinct().not_()).to_series().to_numpy()
        _refuse(path, frame, key, repeated, "Each key may stand on one row only.")
    return Table(path, label, labels, scores, patients, keys, {name: frame[name] for name in groups})


def pair(first: Table, second: Table, key: str | None) -> Table:
    """The second table in the row order of the first, once rows, labels and patients agree.

    Raises:
        InputError: rows without a partner, or partners that differ in label or patient.
    """
    order = _partners(first, second, key)
    moved = replace(
        second,
        labels=second.labels[order],
        scores=second.scores[order],
        patients=None if second.patients is None else second.patients[order],
        keys=first.keys,
    )
    _agree(first, moved, first.label, first.labels, moved.labels, key)
    if first.patients is not None and moved.patients is not None:
        _agree(first, moved, "patient", first.patients, moved.patients, key)
    return moved


def kept(table: Table) -> Rows:
    """The rows whose label is 1 or 0; where no patient is named, each row is one.

    Raises:
        InputError: these rows do not hold both classes.
    """
    judged = table.judged
    labels = table.labels[judged]
    if np.unique(labels).size < 2:
        what = f"all {labels.size} known labels are {int(labels[0])}" if labels.size else "no label is 1 or 0"
        raise InputError(
            f"{table.path}, column {table.label!r}: {what}.",
            "AUROC needs at least one row of each class: check the column, or add rows.",
        )
    patients = np.flatnonzero(judged) if table.patients is None else table.patients[judged]
    return Rows(str(table.path), labels, table.scores[judged], patients)


def _frame(path: Path) -> pl.DataFrame:
    """The table as it stands: every cell of a CSV is text."""
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path} is neither .csv nor .parquet.", "Save the table as one of them.")
    try:
        content = path.read_bytes()  # polars would take `*` and `[` in a name for a pattern
        if path.suffix == ".csv":
            return pl.read_csv(content, infer_schema=False)
        return pl.read_parquet(BytesIO(content))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        problem = f"{path} cannot be read as a table: {reason}."
        raise InputError(problem, "Save it again as CSV (UTF-8) or Parquet.") from error


def _column(path: Path, frame: pl.DataFrame, column: str) -> None:
    """Refuse a column that is absent, stands twice, or holds no single values."""
    if column not in frame.columns:
        raise InputError(f"{path} has no column {column!r}.", f"Its columns are: {', '.join(frame.columns)}.")
    if f"{column}_duplicated_0" in frame.columns:
        raise InputError(f"{path} has two columns {column!r}.", "Rename one of them.")
    kind = frame[column].dtype
    if kind.is_nested() or kind.is_temporal():
        raise InputError(f"{path}, column {column!r} holds {kind}.", "Give a column of numbers or text.")


def _numbers(path: Path, frame: pl.DataFrame, column: str) -> Floats:
    """A column as float64; blank is NaN."""
    cells = frame[column]
    if not (cells.dtype.is_numeric() or cells.dtype == pl.Boolean):
        cells = cells.cast(pl.String).str.strip_chars()
        cells = cells.set(cells == "", None)
    numbers = cells.cast(pl.Float64, strict=False)
    unread = (numbers.is_null() & cells.is_not_null()).to_numpy()
    _refuse(path, frame, column, unread, "This column must hold numbers.")
    return numbers.fill_null(float("nan")).to_numpy().astype(np.float64)


def _names(path: Path, frame: pl.DataFrame, column: str, needed: NDArray[np.bool_]) -> NDArray:
    """A column of ids as text; blank is refused where `needed`."""
    cells = frame[column].cast(pl.String).fill_null("")
    _refuse(path, frame, column, needed & (cells.str.strip_chars() == "").to_numpy(), "No id may be blank.")
    return cells.to_numpy().astype(str)


def _refuse(path: Path, frame: pl.DataFrame, column: str, bad: NDArray[np.bool_], way_out: str) -> None:
    """Name the first bad cell of a column."""
    if bad.any():
        row = int(np.argmax(bad))
        value = frame[column][row]
        more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
        shown = "blank" if value is None else repr(value)
        raise InputError(f"{path}, row {row + 1}, column {column!r}: {shown}{more}.", way_out)


def _partners(first: Table, second: Table, key: str | None) -> NDArray[np.intp]:
    """For each row of the first table, its row in the second."""
    mine, theirs = first.keys, second.keys
    if mine is None or theirs is None:
        if first.labels.size != second.labels.size:
            sizes = f"{first.path} has {first.labels.size} rows, {second.path} has {second.labels.size}"
            raise InputError(f"{sizes}: they cannot pair by position.", ONE_ROW_EACH)
        return np.arange(first.labels.size)
    for table, lone in ((first, mine[~np.isin(mine, theirs)]), (second, theirs[~np.isin(theirs, mine)])):
        if lone.size:
            other = second if table is first else first
            problem = f"{table.path} has {lone.size} rows without a partner in {other.path}"
            raise InputError(f"{problem}, first {key} {str(lone[0])!r}.", ONE_ROW_EACH)
    order = np.argsort(theirs)
    return order[np.searchsorted(theirs, mine, sorter=order)]


def _agree(first: Table, second: Table, what: str, a: NDArray, b: NDArray, key: str | None) -> None:
    differing = (a != b) & ~((a != a) & (b != b))
    if differing.any():
        row = int(np.argmax(differing))
        place = f"row {row + 1}" if first.keys is None else f"{key} {str(first.keys[row])!r}"
        raise InputError(
            f"{first.path} and {second.path} differ in {what!r} at {place}: {a[row]} and {b[row]}.",
            ONE_ROW_EACH,
        )
