"""Draws of labels that somebody else has made: `--draws-from`, tables `<fraction>-<i>.csv` of images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.errors import InputError
from mococxr.heads.targets import Target
from mococxr.store import Store
from mococxr.studies.plan import Draw


def read_draws(
    folder: Path, store: Store, targets: Sequence[Target], fractions: Sequence[float]
) -> list[Draw]:
    """The draws in a folder, each for every target: all tables that there are at each fraction.

    An image is looked up by its path in the store; failing that by its patient and the last two parts of its
    path, so that a table of another release of the same images fits. Images that the store lacks (they are in
    quarantine, perhaps) are counted and said. Of the rest a target takes those that it has a label for.

    Args:
        folder: with `<fraction>-<i>.csv` (columns `path`, `patient`; others are not read), i from 0.

    Raises:
        InputError: a fraction without a table, a table that is none, or one with images that do not train.
    """
    made = []
    for fraction in sorted(fractions):
        tables = _tables(folder, fraction)
        rows = [_rows(table, store) for table in tables]
        for target in targets:
            made += [_draw(target, fraction, i, found) for i, found in enumerate(rows)]
    return made


def fingerprint(draws: Sequence[Draw]) -> str:
    """A hash of all that is in some draws."""
    digest = hashlib.sha256()
    for draw in draws:
        digest.update(f"{draw.target}\0{draw.fraction:g}\0{draw.draw}\0".encode())
        digest.update(np.array(draw.rows, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _tables(folder: Path, fraction: float) -> list[Path]:
    """`<fraction>-0.csv`, `<fraction>-1.csv` and so on, as far as they go."""
    found: list[Path] = []
    while (path := folder / f"{fraction:g}-{len(found)}.csv").is_file():
        found.append(path)
    if not found:
        raise InputError(
            f"{folder} has no draw {path.name}.", "Draws are named <fraction>-<i>.csv, i from 0."
        )
    return found


def _rows(table: Path, store: Store) -> NDArray[np.int64]:
    """The store's rows that a table names, in order."""
    try:
        images = pl.read_csv(table, infer_schema=False).select("path", "patient")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{table} is no table of `path, patient`: {error}.", "Mend or remove it.") from error
    index = store.index.select("row", "path", "patient")
    by_path = images.join(index.select("row", "path"), on="path", how="left", maintain_order="left")
    if by_path["row"].null_count():
        tails = _tails(index).unique("tail", keep="none").select("tail", at="row")
        by_path = _tails(by_path).join(tails, on="tail", how="left", maintain_order="left")
        by_path = by_path.with_columns(pl.coalesce("row", "at").alias("row"))
    lacking = by_path.filter(pl.col("row").is_null())
    if len(lacking):
        console.say(
            f"{table.name}: {len(lacking):,} of {len(images):,} images are not in the store, e.g. {lacking['path'][0]}."
        )
    rows = by_path["row"].drop_nulls().unique().sort().to_numpy()
    strangers = np.setdiff1d(rows, store.rows_in("train"))
    if len(strangers):
        raise InputError(
            f"{table}: {len(strangers):,} images are not of training patients, e.g. {index['path'][int(strangers[0])]}.",
            "Labels of validation and test patients must not train: draw from the training images.",
        )
    return rows


def _tails(images: pl.DataFrame) -> pl.DataFrame:
    """With `tail`: the patient and the last two parts of the path."""
    last = pl.col("path").str.extract(r"([^/]*/?[^/]+)$")
    return images.with_columns(tail=pl.concat_str("patient", last, separator="\n"))


def _draw(target: Target, fraction: float, number: int, rows: NDArray[np.int64]) -> Draw:
    own = np.intersect1d(rows, target.train)
    known = target.labels[np.intersect1d(own, target.known("train"))]
    for value, word in ((1, "positive"), (0, "negative")):
        if not (known == value).any():
            why = f"none of the {len(known):,} labelled images of draw {number} is {word}"
            return Draw(target.name, fraction, number, (), why)
    return Draw(target.name, fraction, number, tuple(own.tolist()))
