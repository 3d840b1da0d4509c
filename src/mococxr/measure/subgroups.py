"""AUROC and rates by group, and the gap of each group to the largest one, for every column of groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.measure.measures import Block, Resampling, picked
from mococxr.metrics.checks import TOO_FEW, Floats

MAX_GROUPS = 20
"""Groups of a column above which it is refused: it rather counts or names something."""

USUAL = ("sex", "age", "view", "device", "source", "hospital")
"""Columns that are looked at where nobody names others, and where the test images have two known values or more."""


def as_groups(values: pl.Series) -> pl.Series:
    """The group of each row as text, blank as null; a column named `age` that holds numbers alone in bands of age."""
    text = values.cast(pl.String).str.strip_chars()
    text = text.set(text == "", None)
    # A column that holds bands already stays as it is.
    numeric = text.cast(pl.Float64, strict=False).null_count() == text.null_count()  # "40 to 59" is no number
    if values.name.lower() == "age" and numeric:
        return metrics.age_bands(text).alias(values.name)
    return text


def subgroup_blocks(
    groups: Mapping[str, pl.Series],
    labels: NDArray,
    scores: Floats,
    patients: NDArray,
    how: Resampling,
    minimum: int = TOO_FEW,
    called: NDArray[np.bool_] | None = None,
    probabilities: Floats | None = None,
) -> list[Block]:
    """A block a column: `groups`, `gaps` and `rate_gaps`, whose `p_holm` is adjusted for the gaps of all columns.

    Args:
        groups: column -> group of each row (N,), null where unknown (that row is left out and counted).
        labels, patients: of the rows, (N,).
        scores: (N,), or (T, N) for the mean over trials.
        how: its level is used.
        minimum: patients of each class that a group needs.
        called, probabilities: of one classifier, (N,): for sensitivity and specificity, and for observed by expected.
    """
    rows = {"labels": labels, "scores": scores, "patients": patients, "called": called, "probabilities": probabilities}
    blocks = [_column(name, values, rows, how, minimum) for name, values in groups.items()]
    every = [[gap for block in blocks for gap in block["gaps"]]]  # one family of tests: the gaps of all columns
    rates = dict.fromkeys(name for block in blocks for name in block["rate_gaps"])
    every += [[gap for block in blocks for gap in block["rate_gaps"].get(name, [])] for name in rates]
    for gaps in every:
        adjusted = metrics.holm([np.nan if gap["p"] is None else gap["p"] for gap in gaps])
        for gap, p in zip(gaps, adjusted, strict=True):
            gap["p_holm"] = None if np.isnan(p) else float(p)
    return blocks


def _column(name: str, values: pl.Series, rows: Mapping[str, NDArray | None], how: Resampling, minimum: int) -> Block:
    known = values.is_not_null().to_numpy()
    block: Block = {"column": name, "left_out": int((~known).sum())}
    # Rows are the last axis, of (T, N) too.
    some: dict[str, Any] = {name: None if array is None else array[..., known] for name, array in rows.items()}
    try:
        result = metrics.subgroups(**some, groups=values.drop_nulls(), minimum=minimum, level=how.level)
    except UndefinedError as error:  # the known rows are of one class
        return {**block, "against": None, "groups": [], "gaps": [], "rate_gaps": {}, "reason": str(error)}
    each = [_group(group) for group in result.groups]
    gaps = [dataclasses.asdict(gap) for gap in result.gaps]
    rate_gaps = {rate: [dataclasses.asdict(gap) for gap in gaps] for rate, gaps in result.rate_gaps.items()}
    return {**block, "against": result.against, "groups": each, "gaps": gaps, "rate_gaps": rate_gaps}


def _group(group: metrics.Group) -> Block:
    numbers = {"auroc": group.auroc, **group.rates}
    return picked(group, ("name", "rows", "patients", "positives")) | {n: e.block() for n, e in numbers.items()}
