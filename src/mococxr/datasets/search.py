"""Where the tables and images of a dataset lie on disk: by name, or by the columns of a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from mococxr.datasets.dataset import Request
from mococxr.errors import InputError, Shown
from mococxr.images import SUFFIXES


def tables_in(root: Path, pattern: str) -> list[Path]:
    """The files of that pattern in the root, or else in its folder `annotations`, sorted by name."""
    for start in ("", "annotations/"):
        tables = sorted(path for path in root.glob(start + pattern) if path.is_file())
        if tables:
            return tables
    return []


def newest_table(pattern: str, columns: Iterable[str]) -> Callable[[Request], Path | None]:
    """A `find`: the table that was named, else the last by name of that pattern in the source, else one by its columns."""
    return lambda request: (
        request.table or max(tables_in(request.source, pattern), default=None) or by_columns(request, columns)
    )


def by_columns(request: Request, columns: Iterable[str]) -> Path | None:
    """The only table in the source that has these columns, in any case and whatever it is called."""
    known = {name.lower() for name in columns}
    paths = [path for path, names in request.headers.items() if known <= {name.lower() for name in names}]
    return paths[0] if len(paths) == 1 else None  # with two alike the user must name one


def needed(table: Path | None, source: Path, name: str) -> Path:
    """The table that was found.

    Raises:
        InputError: none was; the text says what it would be called.
    """
    if table is None:
        raise InputError(
            "{source} holds no {name}.", "Name the table by --labels FILE.", source=Shown(source), name=Shown(name)
        )
    return table


def locate(names: pl.Series, root: Path, folders: Iterable[str], missing: pl.Series) -> pl.Series:
    """File name, with or without suffix -> path relative to the root.

    Args:
        names: of images.
        root: of the dataset.
        folders: patterns of folders below the root; the first that holds an image of the name wins.
        missing: the path for an image that is in none of them; decoding will then name it.
    """
    paths: dict[str, str] = {}
    for pattern in folders:
        # Sorted: the first wins, and on every disk the same.
        for folder in sorted(root.glob(pattern)) if pattern else [root]:
            if folder.is_dir():
                prefix = "" if folder == root else folder.relative_to(root).as_posix() + "/"
                # One listing a folder: asking for each of 100,000 files is slow.
                for name in sorted(os.listdir(folder)):
                    paths.setdefault(name, prefix + name)
                    stem, suffix = os.path.splitext(name)
                    if suffix.lower() in SUFFIXES:
                        paths.setdefault(stem, prefix + name)  # tables name images without suffix too (VinDr, RSNA)
    text = {"name": pl.String, "path": pl.String}
    table = pl.DataFrame({"name": list(paths), "path": list(paths.values())}, schema=text)
    rows = pl.DataFrame({"name": names, "missing": missing}, schema={"name": pl.String, "missing": pl.String})
    joined = rows.join(table, on="name", how="left", maintain_order="left")
    return joined.select(pl.coalesce("path", "missing")).to_series().alias("path")
