"""What a classifier is asked: `--target` and `--where` on a store's index -> labels, by a stated policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import tables
from mococxr.errors import InputError, UndefinedError
from mococxr.settings.fields import nearest
from mococxr.splits import sample_patients
from mococxr.tables import findings, words

if TYPE_CHECKING:
    from mococxr.store import Store

LEFT_OUT, UNCERTAIN_CLASS = -1, 2
SHOWN_VALUES = 8


@dataclass(frozen=True)
class Target:
    """The labels of one target, a value for each row of the store.

    Args:
        name: as the user wrote it.
        labels: 1, 0, 2 (uncertain, where that is a class) or -1 (left out); int8, one a row.
        train, val, test: the rows that count in each split, in order; val and test hold 1 and 0 only.
        unknown: rows left out because nothing is known of them.
        uncertain: rows that are labelled -1, whatever they count as.
        left_out: why a row does not count; int8, one a row: 0 it does, 1 --where, 2 uncertain, 3 no label.
    """

    name: str
    labels: NDArray[np.int8]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    unknown: int
    uncertain: int
    left_out: NDArray[np.int8]

    def known(self, split: str) -> NDArray[np.int64]:
        """Rows of a split that are 1 or 0."""
        rows: NDArray[np.int64] = getattr(self, split)
        return rows[self.labels[rows] != UNCERTAIN_CLASS]


def read_target(
    store: Store, name: str, *, where: Sequence[str] = (), uncertain: str = "ignore", blank: str | None = None
) -> Target:
    """Work out who is positive, negative and left out.

    Args:
        name: a label column; COLUMN=VALUE: 1 where equal, 0 where another known value; or COLUMN~FINDING: 1 where the
            list in the cell (`TB|Edema`) has it, 0 where it has others.
        where: COLUMN=VALUE or COLUMN~FINDING that a row must have as stored, all of them.
        uncertain: what -1 counts as: `ignore`, `zeros`, `ones`, or `multiclass` (a class of its own in
            training; never judged in validation and test).
        blank: what a blank in a label column counts as, `negative` or `unknown`; None is as the store says.

    Raises:
        InputError: no such column or value, a column that is no label, or COLUMN=VALUE where lists hold the value.
    """
    kept = _restricted(store, where)
    raw = _raw(store, name, blank or store.blank_of(name))
    is_uncertain = (raw == -1) & kept
    meaning = {"ignore": LEFT_OUT, "zeros": 0, "ones": 1, "multiclass": UNCERTAIN_CLASS}[uncertain]
    values = np.where(raw == -1, meaning, np.where(np.isnan(raw), LEFT_OUT, raw)).astype(np.int8)
    labels = np.where(kept, values, LEFT_OUT).astype(np.int8)
    rows = {split: store.rows_in(split) for split in ("train", "val", "test")}
    return Target(
        name,
        labels,
        rows["train"][labels[rows["train"]] != LEFT_OUT],
        rows["val"][np.isin(labels[rows["val"]], (0, 1))],  # uncertain as a class is for training only
        rows["test"][np.isin(labels[rows["test"]], (0, 1))],
        int((np.isnan(raw) & kept).sum()),
        int(is_uncertain.sum()),
        # the first that holds: --where before any label
        np.select([~kept, labels != LEFT_OUT, raw == -1], [1, 0, 2], 3).astype(np.int8),
    )


def _raw(store: Store, name: str, blank: str) -> NDArray[np.float64]:
    """1, 0, -1 or NaN for each row."""
    index = store.index
    if name in index.columns:
        if name not in store.labels:
            raise InputError(f"--target {name}: this column holds no labels of 1, 0 and -1.", _way_out(index[name]))
        raw = index[name].cast(pl.Float64).fill_null(0.0 if blank == "negative" else float("nan"))
        return raw.set(store.taken_back(name), float("nan")).to_numpy().copy()  # whatever a blank counts as
    column, sign, value = _split(store, name, "--target")
    text = index[column].cast(pl.String)
    known = (tables.identifiers(text).is_not_null()).to_numpy().copy()  # polars hands out memory that cannot be written
    equal = _equal(store, name, "--target")
    if sign == "=" and (others := int((findings.holds(text, value).fill_null(False).to_numpy() & ~equal).sum())):
        raise InputError(
            f"--target {name}: {others:,} images have {value} among others in a list, and would count as negative.",
            f"Write --target {column}~{value} for every image whose list in {column} has it.",
        )
    if column in store.labels:
        known &= (index[column] != -1).fill_null(False).to_numpy() | equal  # uncertain is no other value
    return np.where(known, equal.astype(np.float64), np.nan)


def column_of(store: Store, name: str) -> str | None:
    """The column that a target COLUMN=VALUE or COLUMN~FINDING is about; None for a label."""
    return None if name in store.index.columns else _split(store, name, "--target")[0]


def _restricted(store: Store, where: Sequence[str]) -> NDArray[np.bool_]:
    kept = np.ones(len(store), dtype=bool)
    for condition in where:
        kept &= _equal(store, condition, "--where")
    if not kept.any():
        raise InputError(f"No image has {' and '.join(where)}.", "Leave one --where out.")
    return kept


def _split(store: Store, text: str, flag: str) -> tuple[str, str, str]:
    """COLUMN=VALUE or COLUMN~FINDING -> column, sign, value; the longest column that fits, should its name hold a sign."""
    columns = store.index.columns
    fits = [column for column in columns if text.startswith((f"{column}=", f"{column}~"))]
    if fits:
        column = max(fits, key=len)
        return column, text[len(column)], text[len(column) + 1 :]
    if "=" not in text and text in columns:
        raise InputError(f"{flag} {text} names no value.", f"Its values are {_values(store.index[text])}.")
    known = store.labels if flag == "--target" and "=" not in text else columns
    column = text.partition("=")[0]
    raise InputError(f"{flag} {text}: the store has no column {column!r}.", nearest(column, known or columns))


def _equal(store: Store, text: str, flag: str) -> NDArray[np.bool_]:
    """Rows whose column equals the value: numbers as numbers, all else as text; or whose list there has the finding."""
    column, sign, value = _split(store, text, flag)
    series = store.index[column]
    if sign == "~":
        equal = findings.holds(series.cast(pl.String), value).fill_null(False)
    elif series.dtype.is_numeric():
        try:
            equal = (series.cast(pl.Float64) == float(value)).fill_null(False)
        except ValueError:
            equal = pl.Series([False] * len(series))  # a word is no value of numbers: said below, with those there are
    else:
        equal = (series.cast(pl.String) == value).fill_null(False)
    if not equal.any():
        raise InputError(f"{flag} {text}: no image has that value.", f"Its values are {_values(series)}.")
    return equal.to_numpy()


def _way_out(series: pl.Series) -> str:
    """What to write where a column that is no label column was named as one."""
    text = series.cast(pl.String)
    if words.is_spelled(text):
        return f"Prepare the images again with --label {series.name}: its words ({_values(series)}) are then labels."
    if findings.separator_of(text):
        return f"Write --target {series.name}~FINDING; its lists are {_values(series)}."
    return f"Write --target {series.name}=VALUE; its values are {_values(series)}."


def _values(series: pl.Series) -> str:
    values = [str(value) for value in series.drop_nulls().unique().sort().to_list()]
    more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
    return ", ".join(values[:SHOWN_VALUES]) + more if values else "all blank"


def draw_labelled(store: Store, target: Target, fraction: float, draw: int, seed: int) -> NDArray[np.int64]:
    """The training rows whose labels may be used: by patient, nested across fractions, both classes in it.

    Patients with uncertain images only (where that is a class) are drawn apart, in the same share.

    Args:
        fraction: share of the labelled training patients.
        draw: number of the draw, from 0.

    Returns:
        Row numbers, in order.

    Raises:
        UndefinedError: the draw cannot hold both classes.
    """
    patients = store.index["patient"]
    known = target.known("train")
    if not len(known):
        raise UndefinedError("no training image has a label")
    table = pl.DataFrame({"patient": patients[known], "label": target.labels[known]})
    drawn = sample_patients(table, fraction, draw, seed)
    others = np.setdiff1d(patients[target.train].unique().to_numpy(), table["patient"].unique().to_numpy())
    if len(others):
        # [seed, draw] is `sample_patients`' stream
        order = np.random.default_rng([seed, draw, 1]).permutation(len(others))
        drawn = [*drawn, *others[order[: round(fraction * len(others))]].tolist()]
    chosen = patients[target.train].is_in(pl.Series(drawn, dtype=pl.String).implode()).to_numpy()
    return target.train[chosen]
