"""Columns of a table by name and by row: which there are, and the first row whose value cannot be what it should."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from mococxr.errors import InputError, Shown, message
from mococxr.tables import words

DescribeRow = Callable[[int], str]
"""Row number from 0 -> where the user finds that row, e.g. `labels.csv, row 3 (line 4)`."""


def first_names(columns: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Kind of column -> the column of a table that goes by the first of its names; case, blanks, `_` and `-` ignored."""

    def plain(name: str) -> str:
        return name.lower().translate(str.maketrans("", "", " _-\t"))

    by_name = {plain(name): name for name in reversed(columns)}  # reversed: of columns named alike the first
    columns_of = {
        kind: [by_name[plain(name)] for name in some if plain(name) in by_name] for kind, some in names.items()
    }
    return {kind: some[0] for kind, some in columns_of.items() if some}


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
    """A column of labels -> Int8: 1, 0, -1, or null where blank; words for them are read (`words.labels`).

    Raises:
        InputError: any other value; the text names row and column.
    """
    values = words.labels(text)
    refuse_rows(
        values.is_null() & text.is_not_null(), describe_row,
        "{row}, column {column!r}: {value!r} is not a label ({count:,} such values).",
        "Labels are 1, 0, -1 (uncertain) and blank (unknown), or yes and no, positive and negative, true and false: "
        "correct it or name other label columns.",
        column=Shown(text.name), value=text,
    )  # fmt: skip
    return values


def split_names(text: pl.Series, describe_row: DescribeRow) -> pl.Series:
    """train, val, test from the words in use.

    Raises:
        InputError: a word that names no split.
    """
    named = words.splits(text)
    refuse_rows(
        named.is_null() & text.is_not_null(), describe_row,
        "{row}, column {column!r}: {value!r} is not the name of a split.",
        "Write train, val or test, or leave it blank.", column=Shown(text.name), value=text,
    )  # fmt: skip
    return named


def choose_labels(asked: Sequence[str], available: Sequence[str], where: str) -> tuple[str, ...]:
    """The label columns asked for, or all there are.

    Raises:
        InputError: one of them is not there.
    """
    for name in asked:
        if name not in available:
            raise InputError(
                "{where} has no label {name!r}.", "Its labels are: {names}.",
                where=where, name=Shown(name), names=", ".join(available),
            )  # fmt: skip
    return tuple(dict.fromkeys(asked)) or tuple(available)  # a label asked for twice is one


def common_labels(tables: Sequence[Sequence[str]]) -> tuple[list[str], tuple[Shown, ...]]:
    """The labels that every table has, in the order of the first, and a note on those that only some have.

    A label that the test images lack cannot be tested, and its blanks would pass for negatives.
    """
    common = [name for name in tables[0] if all(name in names for names in tables)]
    lost = sorted({name for names in tables for name in names} - set(common))
    note = message("Labels dropped, since not every table has them: {names}.", names=", ".join(lost))
    return common, (note,) if lost else ()
