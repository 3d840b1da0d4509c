"""AUROC by group, and the gap of each group to the largest one, for every column of groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.measure.measures import Block, Resampling
from mococxr.metrics.checks import TOO_FEW, Floats

MAX_GROUPS = 20
"""Groups of a column above which it is refused: it rather counts or names something."""


def as_groups(values: pl.Series) -> pl.Series:
    """The group of each row as text, blank as null; a column named `age` that holds numbers alone in bands of age."""
    text = values.cast(pl.String).str.strip_chars()
    text = text.set(text == "", None)
    # A column that holds bands already stays as it is.
    numeric = text.cast(pl.Float64, strict=False).null_count() == text.null_count()
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
) -> list[Block]:
    """A block a column: `groups` and `gaps`, whose `p_holm` is adjusted for the gaps of all columns.

    Args:
        groups: column -> group of each row (N,), null where unknown (that row is left out and counted).
        labels, patients: of the rows, (N,).
        scores: (N,), or (T, N) for the mean over trials.
        how: its level is used.
        minimum: patients of each class that a group needs.
    """
    blocks = [_column(name, values, labels, scores, patients, how, minimum) for name, values in groups.items()]
    gaps = [gap for block in blocks for gap in block["gaps"]]
    adjusted = metrics.holm([np.nan if gap["p"] is None else gap["p"] for gap in gaps])
    for gap, p in zip(gaps, adjusted, strict=True):
        gap["p_holm"] = None if np.isnan(p) else float(p)
    return blocks


def _column(
    name: str, values: pl.Series, labels: NDArray, scores: Floats, patients: NDArray, how: Resampling,
    minimum: int,
) -> Block:  # fmt: skip
    known = values.is_not_null().to_numpy()
    block: Block = {"column": name, "left_out": int((~known).sum())}
    try:
        result = metrics.subgroups(
            labels[known], scores[..., known], values.drop_nulls().to_numpy().astype(str), patients[known],
            minimum=minimum, level=how.level,
        )  # fmt: skip
    except UndefinedError as error:  # the known rows are of one class
        return {**block, "against": None, "groups": [], "gaps": [], "reason": str(error)}
    each = [{**dataclasses.asdict(group), "auroc": group.auroc.block()} for group in result.groups]
    gaps = [dataclasses.asdict(gap) for gap in result.gaps]
    return {**block, "against": result.against, "groups": each, "gaps": gaps}
