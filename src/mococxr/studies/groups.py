"""Does each arm serve every group alike? The groups of the test images, and the rows of `subgroups.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mococxr.errors import InputError
from mococxr.metrics import Gap, Number, holm, subgroups
from mococxr.results import Row as Record
from mococxr.settings.fields import nearest
from mococxr.store import Store
from mococxr.store.ages import age_bands
from mococxr.studies.results import LEVEL, Key, Measured, cell_names
from mococxr.studies.units import unit_values

USUAL = ("sex", "age", "view", "device", "source", "hospital")
"""Columns that are looked at where nobody names others, and where the test images have two known values or more."""
MOST = 20
"""Groups of one column, at the most."""


def attributes(store: Store, wanted: Sequence[str]) -> dict[str, pl.Series]:
    """Column -> group of each image of the store, as text; null where it is not known.

    Args:
        store: of the test images.
        wanted: columns; none for those of `USUAL` that the store has and that have at least two values.

    Raises:
        InputError: a column that the store lacks, that has no value, or that has more than 20 values.
    """
    index = store.index
    test = pl.Series(store.rows_in("test"))
    found = {}
    for name in wanted or [name for name in USUAL if name in index.columns]:
        if name not in index.columns:
            raise InputError(
                f"--subgroup {name}: {store.path} has no such column.", nearest(name, index.columns)
            )
        groups = age_bands(index[name]) if name == "age" else _as_text(index[name])
        count = groups.gather(test).drop_nulls().n_unique()
        if wanted and not 1 <= count <= MOST:
            raise InputError(
                f"--subgroup {name}: the test images have {count:,} values of it.",
                f"A column of groups has 1 to {MOST}.",
            )
        if wanted or 2 <= count <= MOST:
            found[name] = groups
    return found


def _as_text(values: pl.Series) -> pl.Series:
    text = values.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def of_units(found: Mapping[str, pl.Series], store: Store, measured: Measured) -> dict[str, pl.Series]:
    """Column -> group of each unit that is judged; a unit whose images differ (views of a patient) is in none."""
    if measured.images is None:
        return {}
    place = store.index.select("path", "row")
    rows = measured.images.select("path").join(place, on="path", how="left", maintain_order="left")["row"]
    return {
        name: unit_values(measured.images, values.gather(rows), measured.how.unit)
        for name, values in found.items()
    }


def subgroup_rows(key: Key, measured: Measured, groups: Mapping[str, pl.Series]) -> list[Record]:
    """Rows of `subgroups.csv` about one cell, of the mean over its trials; `p_holm` over all gaps of the cell."""
    if not measured.members(key):
        return []
    rows: list[Record] = []
    gaps: list[Gap | None] = []
    for name, values in groups.items():
        for row, gap in _one_column(key, measured, values):
            rows.append(cell_names(key) | {"attribute": name} | row)
            gaps.append(gap)
    adjusted = holm([np.nan if gap is None or gap.p is None else gap.p for gap in gaps])
    for row, gap, p in zip(rows, gaps, adjusted, strict=True):
        if gap is not None and gap.p is not None:
            row.update(gap=gap.difference, gap_low=gap.low, gap_high=gap.high)
            row.update(p_holm=float(p), flagged=int(gap.flagged))
    return rows


def _one_column(key: Key, measured: Measured, values: pl.Series) -> list[tuple[Record, Gap | None]]:
    known = values.is_not_null().to_numpy()
    labels, names = measured.labels[known], values.drop_nulls().to_numpy().astype(str)
    if not 0 < labels.sum() < labels.size:
        return []
    how = measured.how
    found = subgroups(
        labels, measured.scores(key)[:, known], names, measured.patients[known],
        minimum=how.group_minimum, replicates=how.replicates, seed=how.seed, level=LEVEL,
    )  # fmt: skip
    gaps = {gap.group: gap for gap in found.gaps}
    rows = []
    for group in found.groups:
        gap, area = gaps.get(group.name), group.auroc
        row: dict[str, Any] = {"group": group.name, "n": group.rows, "patients": group.patients}
        row |= {"positives": group.positives, "auroc": area.value, "low": area.low, "high": area.high}
        row |= {"against_group": found.against, "reason": _reason(area, gap)}
        rows.append((row, gap))
    return rows


def _reason(area: Number, gap: Gap | None) -> str | None:
    return area.reason or (gap.reason if gap is not None else None)
