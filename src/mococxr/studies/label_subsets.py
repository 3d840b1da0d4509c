"""Label subsets: which labelled training images each trial learns from, drawn here or given as tables."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.errors import InputError, UndefinedError
from mococxr.heads.targets import Target, draw_labelled
from mococxr.store import Store
from mococxr.tables import identifiers, read_table


@dataclass(frozen=True)
class Draw:
    """The training rows of one label subset; `rows` is empty where `undefined` gives the reason."""

    target: str
    fraction: float
    draw: int
    rows: tuple[int, ...]
    undefined: str = ""


def make_draws(
    store: Store, targets: Sequence[Target], fractions: Sequence[float], draws: int, seed: int
) -> list[Draw]:
    """All label subsets: the same for every arm and mode; at fraction 1 there is one."""
    made = []
    for target, fraction in itertools.product(targets, sorted(fractions)):
        for draw in range(1 if fraction == 1 else draws):  # all labels can be drawn in one way only
            try:
                rows = draw_labelled(store, target, fraction, draw, seed)
                made.append(Draw(target.name, fraction, draw, tuple(rows.tolist())))
            except UndefinedError as error:
                made.append(Draw(target.name, fraction, draw, (), str(error)))
    return made


def draw_table(store: Store, draw: Draw) -> pl.DataFrame:
    """`row, path, patient` of a label subset."""
    rows = pl.Series("row", list(draw.rows), dtype=pl.Int64)
    return store.index.select("path", "patient")[rows.to_list()].select(rows, "path", "patient")


def read_draws(folder: Path, store: Store, targets: Sequence[Target], fractions: Sequence[float]) -> list[Draw]:
    """The label subsets in a folder, each for every target: all tables that there are at each fraction.

    An image is looked up by its path in the store; failing that by its patient and the last two parts of its
    path, so that a table of another release of the same images fits. Images that the store lacks (they are in
    quarantine, perhaps) are counted and said. Of the rest a target takes those that it has a label for.

    Args:
        folder: with `<fraction>-<i>.csv` (columns `path`, `patient`; others are not read), i from 0.

    Raises:
        InputError: a fraction without a table, a damaged table, or one with images that do not train.
    """
    made = []
    for fraction in sorted(fractions):
        rows_of = [_table_rows(table, store) for table in _tables(folder, fraction)]  # read once, for every target
        made += [_given(target, fraction, i, rows) for target in targets for i, rows in enumerate(rows_of)]
    return made


def _tables(folder: Path, fraction: float) -> list[Path]:
    """`<fraction>-0.csv`, `<fraction>-1.csv` and so on, as far as they go."""
    tables: list[Path] = []
    while (path := folder / f"{fraction:g}-{len(tables)}.csv").is_file():
        tables.append(path)
    if not tables:
        raise InputError(f"{folder} has no table {path.name}.", "Name them <fraction>-<i>.csv, i from 0.")
    return tables


def _table_rows(table: Path, store: Store) -> NDArray[np.int64]:
    """The store's rows that a table names, in order."""
    read = read_table(table, may_be_empty=True)
    images = pl.DataFrame({"path": read["path"], "patient": identifiers(read["patient"])})
    for note in read.notes:
        console.say(note)
    if blank := images["path"].null_count():
        console.say(f"{table.name}: {blank:,} rows name no image.")
        images = images.filter(pl.col("path").is_not_null())
    index = store.index.select("row", "path", "patient")
    matched = images.join(index.select("row", "path"), on="path", how="left", maintain_order="left")
    if matched["row"].null_count():
        # "none": a tail of two images names neither.
        tails = _tails(index).unique("tail", keep="none").select("tail", by_tail="row")
        matched = _tails(matched).join(tails, on="tail", how="left", maintain_order="left")
        matched = matched.with_columns(pl.coalesce("row", "by_tail").alias("row"))
    lacking = matched.filter(pl.col("row").is_null())
    if len(lacking):
        console.say(
            f"{table.name}: {len(lacking):,} of {len(images):,} images are not in the store, e.g. {lacking['path'][0]}."
        )
    rows = matched["row"].drop_nulls().unique().sort().to_numpy()  # an image listed twice trains once
    others = np.setdiff1d(rows, store.rows_in("train"))
    if len(others):
        raise InputError(
            f"{table}: {len(others):,} images are not of training patients, e.g. {index['path'][int(others[0])]}.",
            "Labels of validation and test patients must not train: draw from the training images.",
        )
    return rows


def _tails(images: pl.DataFrame) -> pl.DataFrame:
    """With `tail`: the patient and the last two parts of the path."""
    last = pl.col("path").str.extract(r"([^/]*/?[^/]+)$")
    return images.with_columns(tail=pl.concat_str("patient", last, separator="\n"))


def _given(target: Target, fraction: float, number: int, rows: NDArray[np.int64]) -> Draw:
    training = np.intersect1d(rows, target.train)
    # An uncertain image may train as a class of its own: it is neither positive nor negative.
    known = target.labels[np.intersect1d(training, target.known("train"))]
    for value, word in ((1, "positive"), (0, "negative")):
        if not (known == value).any():
            why = f"none of the {len(known):,} labelled images of draw {number} is {word}"
            return Draw(target.name, fraction, number, (), why)
    return Draw(target.name, fraction, number, tuple(training.tolist()))


def hash_of(draws: Sequence[Draw]) -> str:
    """A hash of all that is in some label subsets."""
    digest = hashlib.sha256()
    for draw in draws:
        digest.update(f"{draw.target}\0{draw.fraction:g}\0{draw.draw}\0".encode())
        digest.update(np.array(draw.rows, dtype=np.int64).tobytes())  # a fixed type: the same bytes on every machine
    return digest.hexdigest()
