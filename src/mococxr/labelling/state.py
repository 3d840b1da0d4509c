"""How the labels of a store stand, in words: by finding and split, by reader, and when they last changed."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mococxr.store import Store
from mococxr.store.label_history import standing
from mococxr.store.reader import SPLITS

HEADS = ["finding", "split", "positive", "negative", "uncertain", "blank"]


def describe(store: Store, findings: Sequence[str]) -> str:
    """A table of the findings by split, then the labels of each reader, then the last change."""
    rows = [
        [f"{value:,}" if isinstance(value, int) else value for value in row]
        for row in counts(store, findings).iter_rows()
    ]
    return "\n".join([aligned([HEADS, *rows]), *_readers(store), _last(store)])


def counts(store: Store, findings: Sequence[str]) -> pl.DataFrame:
    """`finding, split, positive, negative, uncertain, blank`: images, a row for each finding and split."""
    images = store.index.select("patient", *findings).join(store.splits, on="patient", how="left")
    rows = []
    for name in findings:
        for split in SPLITS:
            values = images.filter(pl.col("split") == split)[name]
            rows.append((name, split, *(int((values == n).sum()) for n in (1, 0, -1)), values.null_count()))
    return pl.DataFrame(rows, schema=HEADS, orient="row")


def _readers(store: Store) -> list[str]:
    """How many labels of each reader stand; those of `prepare` have none."""
    by_reader = standing(store.history).group_by("reader").len().sort("reader", nulls_last=True)
    shown = [f"{reader or 'not named'} {count:,}" for reader, count in by_reader.iter_rows()]
    return [f"By reader: {', '.join(shown)}."] if shown else []


def _last(store: Store) -> str:
    if not store.label_events:
        return "No label was entered after `prepare`."
    return f"Label events: {store.label_events:,}, the last entered {store.history['entered'][-1]}."


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a table; the first two columns stand to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
