"""Subgroups of a table: AUROC of each group, and its gap to the largest."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import InputError, UndefinedError
from mococxr.evaluation.numbers import Block, Bootstrap, Rows
from mococxr.evaluation.predictions import Table
from mococxr.store.ages import age_bands

MOST = 20
"""Groups of a column above which it is refused: it rather counts or names something."""


def subgroup_blocks(table: Table, rows: Rows, how: Bootstrap) -> list[Block]:
    """A block a column; `p_holm` of a gap is adjusted for the gaps of all columns.

    Raises:
        InputError: a column of one group, or of more than `MOST`.
    """
    blocks = [_column(name, _groups(table, name), table.judged, rows, how) for name in table.groups]
    gaps = [gap for block in blocks for gap in block["gaps"]]
    adjusted = metrics.holm([np.nan if gap["p"] is None else gap["p"] for gap in gaps])
    for gap, p in zip(gaps, adjusted, strict=True):
        gap["p_holm"] = None if np.isnan(p) else float(p)
    return blocks


def _groups(table: Table, name: str) -> pl.Series:
    """The group of each row as text; ages in bands; null where nothing is known."""
    column = table.groups[name]
    text = column.cast(pl.String).str.strip_chars()
    text = text.set(text == "", None)
    years = text.cast(pl.Float64, strict=False)
    if name.lower() == "age" and years.null_count() == text.null_count():
        text = age_bands(text)
    known = text.filter(pl.Series(table.judged)).drop_nulls().unique().sort()
    if not 2 <= known.len() <= MOST:
        shown = ", ".join(known[:5].to_list()) or "none"
        raise InputError(
            f"{table.path}: --subgroup {name} makes {known.len()} groups of the labelled rows ({shown}).",
            f"Give a column of 2 to {MOST} groups; make bands of a number first.",
        )
    return text


def _column(name: str, text: pl.Series, judged: NDArray[np.bool_], rows: Rows, how: Bootstrap) -> Block:
    groups = text.filter(pl.Series(judged))
    there = groups.is_not_null().to_numpy()
    about: Block = {"column": name, "left_out": int((~there).sum())}
    try:
        found = _found(rows, groups, there, how)
    except UndefinedError as error:
        return {**about, "against": None, "groups": [], "gaps": [], "reason": str(error)}
    each = [{**dataclasses.asdict(group), "auroc": group.auroc.block()} for group in found.groups]
    gaps = [dataclasses.asdict(gap) for gap in found.gaps]
    return {**about, "against": found.against, "groups": each, "gaps": gaps}


def _found(rows: Rows, groups: pl.Series, there: NDArray[np.bool_], how: Bootstrap) -> metrics.Subgroups:
    return metrics.subgroups(
        rows.labels[there], rows.scores[there], groups.drop_nulls().to_numpy().astype(str), rows.patients[there],
        replicates=how.replicates, seed=how.seed, level=how.level,
    )  # fmt: skip
