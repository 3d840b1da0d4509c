"""Tables of predictions: a file is read once, its columns are checked cell by cell, two tables are paired row by row.

Rows are counted from 1 below the header in every message.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import InputError
from mococxr.metrics.checks import count_patients

Floats = NDArray[np.float64]
ONE_ROW_EACH = "Give both tables one row per image, in the same order or paired by --key COLUMN."


@dataclass(frozen=True)
class Rows:
    """The rows of a table that are judged: labels 1 or 0, both present, finite scores, patients; all (N,).

    Patients are numbers from 0, in the order of their names (`names`, (U,)); None where each row is one.
    """

    name: str
    labels: Floats
    scores: Floats
    patients: NDArray[np.intp]
    names: pl.Series | None = None

    @property
    def count(self) -> int:
        """Patients."""
        return count_patients(self.patients)

    @property
    def clustered(self) -> bool:
        """Whether a patient has several rows."""
        return self.count < self.labels.size

    @property
    def too_few(self) -> str | None:
        """The sentence where a class has too few patients."""
        return metrics.too_few(self.labels, self.patients)

    def shared_patients(self, other: Rows) -> list[str]:
        """The patients that are in both, sorted; none where they have no names."""
        if self.names is None or other.names is None:
            return []
        return self.names.filter(self.names.is_in(other.names.implode())).to_list()


@dataclass(frozen=True)
class Table:
    """One label and score of a file, in its order. Labels are 1, 0, -1 (uncertain) or NaN (blank).

    `groups`: column -> the group of each row as the file has it, null where blank.
    """

    path: Path
    label: str
    labels: Floats
    scores: Floats
    patients: NDArray | None
    keys: NDArray | None
    groups: dict[str, pl.Series]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows whose label is 1 or 0."""
        return np.isin(self.labels, (0, 1))

    def rows(self) -> Rows:
        """The rows whose label is known; where no patient is named, each row is one.

        Raises:
            InputError: these rows do not hold both classes.
        """
        known = self.known
        labels = self.labels[known]
        if np.unique(labels).size < 2:
            problem = f"all {labels.size} known labels are {int(labels[0])}" if labels.size else "no label is 1 or 0"
            raise InputError(
                f"{self.path}, column {self.label!r}: {problem}.",
                "AUROC needs at least one row of each class: check the column, or add rows.",
            )
        if self.patients is None:
            return Rows(str(self.path), labels, self.scores[known], np.arange(labels.size))
        cells = pl.Series(self.patients[known])
        names = cells.unique().sort()
        patients = cells.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.intp)
        return Rows(str(self.path), labels, self.scores[known], patients, names)


@dataclass(frozen=True)
class PredictionFile:
    """A file of predictions; every cell of a CSV is text until a column is asked for."""

    path: Path
    frame: pl.DataFrame

    @classmethod
    def read(cls, path: Path) -> PredictionFile:
        """Read a .csv or .parquet.

        Raises:
            InputError: it cannot be read as a table, or has no rows.
        """
        path = Path(path)
        if path.suffix not in (".csv", ".parquet"):
            raise InputError(f"{path} is neither .csv nor .parquet.", "Save the table as one of them.")
        try:
            content = path.read_bytes()  # polars would take `*` and `[` in a name for a pattern
            if path.suffix == ".csv":
                return cls(path, pl.read_csv(content, infer_schema=False))
            return cls(path, pl.read_parquet(BytesIO(content)))
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0].rstrip(".")
            problem = f"{path} cannot be read as a table: {reason}."
            raise InputError(problem, "Save it again as CSV (UTF-8) or Parquet.") from error

    def table(
        self, label: str, score: str, patient: str | None, key: str | None, groups: tuple[str, ...] = ()
    ) -> Table:
        """The named columns; scores and patients are checked on the rows whose label is 1 or 0.

        Raises:
            InputError: a missing column, or a cell that cannot be used.
        """
        for column in (label, score, patient, key, *groups):
            if column is not None:
                self._check(column)
        if not self.frame.height:
            raise InputError(f"{self.path} has a header and no rows.", "Give a table with one row per image.")
        labels, scores = self._numbers(label), self._numbers(score)
        known = np.isin(labels, (0, 1))
        bad_labels = ~(np.isnan(labels) | known | (labels == -1))
        self._refuse(label, bad_labels, "Labels are 1, 0, -1 or blank.")
        self._refuse(score, known & ~np.isfinite(scores), "Every labelled row needs a finite score.")
        patients = self._names(patient, known) if patient else None
        keys = self._names(key, np.full(self.frame.height, True)) if key else None
        if key:
            repeated = self.frame[key].cast(pl.String).is_first_distinct().not_().to_numpy()
            self._refuse(key, repeated, "Each key may occur on one row only.")
        return Table(self.path, label, labels, scores, patients, keys, {name: self.frame[name] for name in groups})

    def _check(self, column: str) -> None:
        """Refuse a column that is absent, occurs twice, or holds no single values."""
        if column not in self.frame.columns:
            names = ", ".join(self.frame.columns)
            raise InputError(f"{self.path} has no column {column!r}.", f"Its columns are: {names}.")
        if f"{column}_duplicated_0" in self.frame.columns:  # the name that polars gives the second one
            raise InputError(f"{self.path} has two columns {column!r}.", "Rename one of them.")
        kind = self.frame[column].dtype
        if kind.is_nested() or kind.is_temporal():
            raise InputError(f"{self.path}, column {column!r} holds {kind}.", "Give a column of numbers or text.")

    def _numbers(self, column: str) -> Floats:
        """A column as float64; blank is NaN."""
        cells = self.frame[column]
        if not (cells.dtype.is_numeric() or cells.dtype == pl.Boolean):
            cells = cells.cast(pl.String).str.strip_chars()
            cells = cells.set(cells == "", None)
        numbers = cells.cast(pl.Float64, strict=False)
        unread = (numbers.is_null() & cells.is_not_null()).to_numpy()
        self._refuse(column, unread, "This column must hold numbers.")
        return numbers.fill_null(float("nan")).to_numpy().astype(np.float64)

    def _names(self, column: str, needed: NDArray[np.bool_]) -> NDArray:
        """A column of ids as text; blank is refused where `needed`."""
        cells = self.frame[column].cast(pl.String).fill_null("")
        self._refuse(column, needed & (cells.str.strip_chars() == "").to_numpy(), "No id may be blank.")
        return cells.to_numpy().astype(str)

    def _refuse(self, column: str, bad: NDArray[np.bool_], way_out: str) -> None:
        """Name the first bad cell of a column."""
        if bad.any():
            row = int(np.argmax(bad))
            value = self.frame[column][row]
            more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
            shown = "blank" if value is None else repr(value)
            raise InputError(f"{self.path}, row {row + 1}, column {column!r}: {shown}{more}.", way_out)


def paired(first: Table, second: Table, key: str | None) -> Table:
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


def _partners(first: Table, second: Table, key: str | None) -> NDArray[np.intp]:
    """For each row of the first table, its row in the second."""
    if first.keys is None or second.keys is None:
        if first.labels.size != second.labels.size:
            sizes = f"{first.path} has {first.labels.size} rows, {second.path} has {second.labels.size}"
            raise InputError(f"{sizes}: they cannot pair by position.", ONE_ROW_EACH)
        return np.arange(first.labels.size)
    for table, other in ((first, second), (second, first)):
        alone = table.keys[~np.isin(table.keys, other.keys)]  # type: ignore[index, arg-type]
        if alone.size:
            problem = f"{table.path} has {alone.size} rows without a partner in {other.path}"
            raise InputError(f"{problem}, first {key} {str(alone[0])!r}.", ONE_ROW_EACH)
    order = np.argsort(second.keys)
    return order[np.searchsorted(second.keys, first.keys, sorter=order)]


def _agree(first: Table, second: Table, column: str, a: NDArray, b: NDArray, key: str | None) -> None:
    differing = (a != b) & ~((a != a) & (b != b))  # NaN, a blank label, agrees with NaN
    if differing.any():
        row = int(np.argmax(differing))
        where = f"row {row + 1}" if first.keys is None else f"{key} {str(first.keys[row])!r}"
        raise InputError(
            f"{first.path} and {second.path} differ in {column!r} at {where}: {a[row]} and {b[row]}.", ONE_ROW_EACH
        )
