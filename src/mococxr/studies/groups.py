"""Does each arm serve every group alike? The groups of the test images, and the rows of `subgroups.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from mococxr.errors import InputError
from mococxr.measure.measures import Block
from mococxr.measure.subgroups import MAX_GROUPS, as_groups, subgroup_blocks
from mococxr.results import Row as Record
from mococxr.settings.fields import nearest
from mococxr.store import Store
from mococxr.studies.results import Key, Measured, cell_names
from mococxr.studies.units import unit_values

USUAL = ("sex", "age", "view", "device", "source", "hospital")
"""Columns that are looked at where nobody names others, and where the test images have two known values or more."""


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
        groups = as_groups(index[name])
        count = groups.gather(test).drop_nulls().n_unique()
        if wanted and not 1 <= count <= MAX_GROUPS:
            raise InputError(
                f"--subgroup {name}: the test images have {count:,} values of it.",
                f"A column of groups has 1 to {MAX_GROUPS}.",
            )
        if wanted or 2 <= count <= MAX_GROUPS:
            found[name] = groups
    return found


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
    blocks = subgroup_blocks(
        groups, measured.labels, measured.scores(key), measured.patients, measured.how.resampling,
        measured.how.group_minimum,
    )  # fmt: skip
    return [
        cell_names(key) | {"attribute": block["column"]} | _row(group, block)
        for block in blocks
        for group in block["groups"]
    ]


def _row(group: Block, block: Block) -> Record:
    gap = next((gap for gap in block["gaps"] if gap["group"] == group["name"]), {})
    area = group["auroc"]
    row: Record = {"group": group["name"], "n": group["rows"], "against_group": block["against"]}
    row |= {name: group[name] for name in ("patients", "positives")}
    row |= {"auroc": area["value"], "low": area["low"], "high": area["high"]}
    row["reason"] = area.get("reason") or gap.get("reason")
    if gap.get("p") is not None:
        row |= {"gap": gap["difference"], "gap_low": gap["low"], "gap_high": gap["high"]}
        row |= {"p_holm": gap["p_holm"], "flagged": int(gap["flagged"])}
    return row
