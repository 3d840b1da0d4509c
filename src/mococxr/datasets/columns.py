"""Text columns -> labels, ages, sexes, splits and metadata, whole columns at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from mococxr.datasets.dataset import RESERVED, SPLITS
from mococxr.errors import InputError

LABEL_VALUES = (1.0, 0.0, -1.0)
NEARLY = 0.9
"""Share of label values from which a column that is none is worth a remark."""


def known_labels(text: pl.Series) -> pl.Series:
    """True where a value is 1, 0 or -1, however written (`1`, `1.0`); blanks are False."""
    return text.cast(pl.Float64, strict=False).is_in(LABEL_VALUES).fill_null(False)


def is_label(text: pl.Series) -> bool:
    """Whether all values are among 1, 0, -1 and blank."""
    return bool((known_labels(text) | text.is_null()).all())


def labels(text: pl.Series, place: Callable[[int], str]) -> pl.Series:
    """A column of 1, 0, -1 and blank -> Int8, blank as null.

    Raises:
        InputError: any other value; the text names row and column.
    """
    wrong = ~known_labels(text) & text.is_not_null()
    if wrong.any():
        at = wrong.arg_max() or 0
        raise InputError(
            f"{place(at)}, column {text.name!r}: {text[at]!r} is no label ({wrong.sum():,} such values).",
            "Labels are 1, 0, -1 (uncertain) and blank (unknown): correct it or name other label columns.",
        )
    return text.cast(pl.Float64).cast(pl.Int8)


def ages(text: pl.Series) -> pl.Series:
    """Years as Float64; `58`, `058Y`, `7M` (months) and `3D` (days) are understood, anything else is null."""
    number = text.str.extract(r"(?i)^(-?\d+(?:\.\d+)?)\s*(?:y|m|w|d|yrs?|years?)?$", 1).cast(
        pl.Float64, strict=False
    )
    unit = text.str.extract(r"(?i)([mwd])$", 1).str.to_lowercase()
    return number / unit.replace_strict(
        {"m": 12.0, "w": 52.18, "d": 365.25}, default=1.0, return_dtype=pl.Float64
    )


def sexes(text: pl.Series) -> pl.Series:
    """`M`, `F` or null: Male and Female in any case; Unknown and the rest are null."""
    return text.str.to_lowercase().replace_strict(
        {"m": "M", "male": "M", "f": "F", "female": "F"}, default=None
    )


def views(text: pl.Series) -> pl.Series:
    """`AP`, `PA` or `Lateral`; another view as it is written, no or an unknown view as null."""
    known = {"AP": "AP", "AP_HORIZONTAL": "AP", "PA": "PA", "UNK": None, "UNKNOWN": None, "EXCLUDE": None}
    known |= dict.fromkeys(("L", "LL", "RL", "LAT", "LATERAL"), "Lateral")
    upper = text.str.to_uppercase()
    return pl.select(
        pl.when(upper.is_in(list(known))).then(upper.replace_strict(known, default=None)).otherwise(text)
    ).to_series()


def days(dates: pl.Series, patients: pl.Series) -> pl.Series:
    """Dates as text -> Int64, the days since the patient's first image here; no date is kept.

    Written 20140915, 2014-09-15 or with a time after it; anything else is null.
    """
    digits = dates.str.extract(r"^(\d{4}-?\d{2}-?\d{2})", 1).str.replace_all("-", "")
    day = digits.str.to_date("%Y%m%d", strict=False)
    frame = pl.DataFrame({"patient": patients, "day": day})
    since = pl.col("day") - pl.col("day").min().over("patient")
    return frame.select(since.dt.total_days()).to_series().alias("day")


def splits(text: pl.Series, place: Callable[[int], str]) -> pl.Series:
    """train, val, test from the words in use.

    Raises:
        InputError: a word that names no split.
    """
    named = text.str.to_lowercase().replace_strict(SPLITS, default=None, return_dtype=pl.String)
    wrong = named.is_null() & text.is_not_null()
    if wrong.any():
        at = wrong.arg_max() or 0
        raise InputError(
            f"{place(at)}, column {text.name!r}: {text[at]!r} names no split.",
            "Write train, val or test, or leave it blank.",
        )
    return named


def metadata(text: pl.Series) -> pl.Series:
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
    new: dict[str, str] = {}
    for name in names:
        if name in RESERVED:
            fresh = f"{name}_in_table"
            while fresh in taken:
                fresh += "_"
            taken.add(fresh)
            new[name] = fresh
    return new


def wanted(asked: Sequence[str], there: Sequence[str], where: str) -> tuple[str, ...]:
    """The label columns asked for, or all there are.

    Raises:
        InputError: one of them is not there.
    """
    for name in asked:
        if name not in there:
            raise InputError(f"{where} has no label {name!r}.", f"Its labels are: {', '.join(there)}.")
    return tuple(dict.fromkeys(asked)) or tuple(there)


def in_all(tables: Sequence[Sequence[str]]) -> tuple[list[str], tuple[str, ...]]:
    """The labels that every table has, in the order of the first, and a note on those that only some have.

    A label that the test images lack cannot be tested, and its blanks would pass for negatives.
    """
    there = [name for name in tables[0] if all(name in names for names in tables)]
    lost = sorted({name for names in tables for name in names} - set(there))
    note = f"Labels left out, since not every table has them: {', '.join(lost)}."
    return there, (note,) if lost else ()
