"""Cells that hold lists of findings: `TB|Edema`, `mass; nodule`, `['pleural effusion', 'nodule']`."""

from __future__ import annotations

import polars as pl

SEPARATORS = "|;,"
SAMPLE = 5_000
"""Different values that are looked at."""


def separator_of(text: pl.Series) -> str | None:
    """What separates the findings in the cells of a column, or None where they are no lists.

    They are where a part of one value is another value, or a part of one.

    >>> separator_of(pl.Series(["TB|Edema", "TB", "Mass"])), separator_of(pl.Series(["Ulm, room 3", "Bonn"]))
    ('|', None)
    """
    values = text.drop_nulls().unique().sort().head(SAMPLE)  # sorted: the same answer for rows in any order
    for separator in SEPARATORS:
        if values.str.contains(separator, literal=True).any():
            parts = elements(values, separator).explode().drop_nulls()
            return separator if parts.is_duplicated().any() else None  # free text repeats no parts
    return None


def elements(text: pl.Series, separator: str) -> pl.Series:
    """The findings in each cell, trimmed, without brackets and quotes around; null stays null.

    >>> elements(pl.Series(["['a b', 'c']", "d", None]), ",").to_list()
    [['a b', 'c'], ['d'], None]
    """
    inner = text.str.strip_chars("[]{}() ")  # as Python writes lists and sets
    part = pl.element().str.strip_chars(" '\"\t")
    return inner.str.split(separator).list.eval(part.filter(part != ""))


def holds(text: pl.Series, finding: str) -> pl.Series:
    """Whether the list in each cell has a finding, whatever its case; null where the cell is."""
    lists = elements(text.str.to_lowercase(), separator_of(text) or SEPARATORS[0])
    return lists.list.contains(finding.strip().lower())
