"""Tables of predictions: a file is read once, its columns are checked cell by cell, two tables are paired row by row.

Rows are counted from 1 below the header in every message.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import metrics, tables
from mococxr.errors import InputError
from mococxr.measure.units import join_units, unit_numbers, unit_values
from mococxr.metrics.checks import count_patients
from mococxr.tables import words

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

    `groups`: column -> the group of each row as the file has it, null where blank. `left_out`: rows that are blank, and
    uncertain, in the file. `reads`: column -> what a reader called each row, as the labels.
    """

    path: Path
    label: str
    labels: Floats
    scores: Floats
    patients: NDArray | None
    keys: NDArray | None
    groups: dict[str, pl.Series]
    studies: NDArray | None = None
    left_out: tuple[int, int] = (0, 0)
    reads: dict[str, Floats] = field(default_factory=dict)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows whose label is 1 or 0."""
        return np.isin(self.labels, (0, 1))

    def joined(self, unit: str, how: str) -> Table:
        """The rows with a known label joined to units (`join_units`); a unit of no such row stays, with a blank label.

        Args:
            unit: `study` or `patient`; the columns of these have been read.
            how: `max` or `mean`.
        """
        names = {"patient": self.patients, "study": self.studies, "label": self.labels}
        images = pl.DataFrame({name: values for name, values in names.items() if values is not None})
        number_N, known = unit_numbers(images, unit) - 1, self.known  # from 0: places in arrays
        first = np.unique(number_N, return_index=True)[1]
        # A unit without a label keeps its place, since tables may pair by position.
        labels, scores = np.full(first.size, np.nan), np.zeros(first.size)
        units = np.unique(number_N[known])
        labels[units], scores[units], _ = join_units(images.filter(known), self.scores[known], unit, how)
        groups = {name: unit_values(images, values, unit) for name, values in self.groups.items()}
        reads = {}
        for name, values in self.reads.items():
            read = known & np.isin(values, (0, 1))
            reads[name] = np.full(first.size, np.nan)
            np.fmax.at(reads[name], number_N[read], values[read])  # positive where any image of the unit was called so
        assert self.patients is not None  # asked for with the settings
        return replace(
            self, labels=labels, scores=scores, patients=self.patients[first], keys=None, groups=groups, studies=None,
            reads=reads,
        )  # fmt: skip

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
        # In the order of the sorted names.
        patients = cells.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.intp)
        return Rows(str(self.path), labels, self.scores[known], patients, names)


@dataclass(frozen=True)
class PredictionFile:
    """A file of predictions; every cell is text until a column is asked for."""

    raw: tables.Table

    @classmethod
    def read(cls, path: Path) -> PredictionFile:
        """Read a table; errors as `tables.read_table`."""
        return cls(tables.read_table(Path(path)))

    @property
    def path(self) -> Path:
        """The file."""
        return self.raw.path

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be guessed in reading it."""
        return self.raw.notes

    def table(
        self,
        label: str,
        score: str,
        patient: str | None,
        key: str | None,
        groups: tuple[str, ...] = (),
        study: str | None = None,
        readers: tuple[str, ...] = (),
    ) -> Table:
        """The named columns; scores and patients are checked on the rows whose label is 1 or 0.

        Raises:
            InputError: a missing column, or a cell that cannot be used.
        """
        labels, scores = self._labels(label), self._scores(score)
        known = np.isin(labels, (0, 1))  # other rows are left out, whatever stands in their scores
        self._refuse(score, known & ~np.isfinite(scores), "Every labelled row needs a finite score.")
        patients = self._names(patient, known) if patient else None
        keys = self._names(key, np.full(labels.size, True)) if key else None
        if key and keys is not None:
            repeated = pl.Series(keys).is_first_distinct().not_().to_numpy()  # pairing needs one partner a row
            self._refuse(key, repeated, "Each key may occur on one row only.")
        left_out = int(np.isnan(labels).sum()), int((labels == -1).sum())
        studies = self._names(study, known) if study else None
        by_name = {name: self._groups(name) for name in groups}
        reads = {name: self._labels(name) for name in readers}
        return Table(self.path, label, labels, scores, patients, keys, by_name, studies, left_out, reads)

    def _labels(self, column: str) -> Floats:
        """1, 0, -1 or NaN where blank."""
        cells = self.raw[column]
        values = words.labels(cells)
        unread = (values.is_null() & cells.is_not_null()).to_numpy()
        self._refuse(column, unread, "Labels are 1, 0, -1 or blank, or words such as yes and no.")
        return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()

    def _scores(self, column: str) -> Floats:
        """A column as float64; blank is NaN."""
        cells = self.raw[column]
        numbers = tables.numbers(cells)
        unread = (numbers.is_null() & cells.is_not_null()).to_numpy()
        self._refuse(column, unread, "This column must hold numbers.")
        return numbers.fill_null(float("nan")).to_numpy()

    def _names(self, column: str, needed: NDArray[np.bool_]) -> NDArray:
        """A column of ids as text; blank is refused where `needed`."""
        cells = tables.identifiers(self.raw[column])
        self._refuse(column, needed & cells.is_null().to_numpy(), "No id may be blank.")
        return cells.fill_null("").to_numpy().astype(str)  # blank ones are of rows without a label, or were refused

    def _groups(self, column: str) -> pl.Series:
        """The group of each row, null where unknown; sex and view by the words in use."""
        cells = self.raw[column]
        if column.lower() in ("sex", "gender"):
            return tables.sexes(cells, others=True)
        return tables.views(cells) if column.lower() == "view" else tables.identifiers(cells)

    def _refuse(self, column: str, bad: NDArray[np.bool_], way_out: str) -> None:
        """Name the first bad cell of a column."""
        if bad.any():
            row = int(np.argmax(bad))
            value = self.raw[column][row]
            more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
            shown = "unknown or blank" if value is None else repr(value)
            raise InputError(f"{self.path}, {self.raw.position(row)}, column {column!r}: {shown}{more}.", way_out)


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
        studies=None if second.studies is None else second.studies[order],
        keys=first.keys,
    )
    _agree(first, moved, first.label, first.labels, moved.labels, key)
    # The second table need not name patients: its rows are those of the first.
    if first.patients is not None and moved.patients is not None:
        _agree(first, moved, "patient", first.patients, moved.patients, key)
    if first.studies is not None and moved.studies is not None:
        _agree(first, moved, "study", first.studies, moved.studies, key)
    return moved


def _partners(first: Table, second: Table, key: str | None) -> NDArray[np.intp]:
    """For each row of the first table, its row in the second."""
    if first.keys is None or second.keys is None:
        if first.labels.size != second.labels.size:
            sizes = f"{first.path} has {first.labels.size} rows, {second.path} has {second.labels.size}"
            raise InputError(f"{sizes}: they cannot pair by position.", ONE_ROW_EACH)
        return np.arange(first.labels.size)  # without keys rows pair by position
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
