"""Where a data set's tables and images lie in its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from mococxr.datasets.dataset import Request
from mococxr.errors import InputError
from mococxr.images import SUFFIXES

_TEXT = {"name": pl.String, "path": pl.String}


def tables(root: Path, pattern: str) -> list[Path]:
    """The files of that pattern in the root, or else in its folder `annotations`, sorted by name."""
    for start in ("", "annotations/"):
        found = sorted(path for path in root.glob(start + pattern) if path.is_file())
        if found:
            return found
    return []


def main_table(request: Request, pattern: str) -> Path | None:
    """The table named, the source itself, or the last by name of that pattern in the source."""
    if request.labels is not None or request.source.is_file():
        return request.labels or request.source
    return max(tables(request.source, pattern), default=None)


def needed(table: Path | None, source: Path, name: str) -> Path:
    """The table that was found.

    Raises:
        InputError: none was; the text says what it would be called.
    """
    if table is None:
        raise InputError(f"{source} holds no {name}.", "Name the table by --labels FILE.")
    return table


def on_disk(names: pl.Series, root: Path, folders: Iterable[str], missing: pl.Series) -> pl.Series:
    """File name, with or without suffix -> path relative to the root.

    Args:
        names: of images.
        root: of the cohort.
        folders: patterns of folders below the root; the first that holds an image of the name wins.
        missing: the path for an image that is in none of them; decoding will then name it.
    """
    held: dict[str, str] = {}
    for pattern in folders:
        for folder in sorted(root.glob(pattern)) if pattern else [root]:
            if folder.is_dir():
                prefix = "" if folder == root else folder.relative_to(root).as_posix() + "/"
                for name in sorted(os.listdir(folder)):
                    held.setdefault(name, prefix + name)
                    stem, suffix = os.path.splitext(name)
                    if suffix.lower() in SUFFIXES:
                        held.setdefault(stem, prefix + name)
    table = pl.DataFrame({"name": list(held), "path": list(held.values())}, schema=_TEXT)
    rows = pl.DataFrame({"name": names, "missing": missing}, schema={"name": pl.String, "missing": pl.String})
    joined = rows.join(table, on="name", how="left", maintain_order="left")
    return joined.select(pl.coalesce("path", "missing")).to_series().alias("path")
