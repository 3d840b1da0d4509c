"""How a list of images to label is recognised, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr.kinds import About, Content, Kind, columns_of

COLUMNS = ("rank", "path", "patient", "split", "chosen_by", "probability", "readers")


def _read(path: Path, _: Content) -> About:
    table = pl.read_csv(path, infer_schema=False)
    findings = [name for name in table.columns if name not in COLUMNS]
    return About(
        numbers={
            "images": len(table),
            "patients": table["patient"].n_unique(),
            **{f"labelled, {name}": table[name].count() for name in findings},
        },
        next="mococxr label STORE {path}",
    )


def _fits(path: Path) -> bool:
    return set(COLUMNS) <= set(columns_of(path))


KIND = Kind("list", "next", "", frozenset(), _read, _fits)
