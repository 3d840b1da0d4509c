"""The command `next`: a store -> the list of images that are worth labelling next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.choosing.pool import Pool, Rounds, inclusion, read_pool
from mococxr.choosing.strategies import STRATEGIES, Pick, Situation
from mococxr.errors import InputError
from mococxr.files import check_place, write_csv
from mococxr.labelling.table import NAMES, check_new
from mococxr.settings import NextSettings, nearest
from mococxr.store import Store

COLUMNS = ("rank", "path", "patient", "split", "chosen_by", "probability", "readers")
"""Columns of the list; behind them stands a blank one for each finding."""


def run_next(settings: NextSettings) -> Path:
    """Choose images and write the list, which `label` reads when it is filled in.

    Raises:
        InputError: bad settings, or no image is left; nothing was written.
    """
    _check(settings)
    store = Store.open(settings.store)
    _check_targets(store, settings.target)
    pool = read_pool(store, settings.target, settings.split.split("+"), settings.seed)
    count = min(settings.count, len(pool.rows))
    at_random = count if settings.by == "random" else round(settings.random_share * count)
    rounds = Rounds(pool)
    situation = Situation(pool.order)
    drawn = take(rounds, STRATEGIES["random"](situation), at_random)
    chosen = take(rounds, STRATEGIES[settings.by](situation), count - at_random)
    table = _table(store, pool, drawn, chosen, settings)
    write_csv(settings.out, table)
    _tell(store, settings, pool, table)
    return settings.out


def take(rounds: Rounds, pick: Pick, count: int) -> list[int]:
    """So many candidates, one after the other."""
    taken = []
    for _ in range(count):
        taken.append(pick(rounds.allowed()))
        rounds.take(taken[-1])
    return taken


def _check(settings: NextSettings) -> None:
    """Refuse settings that contradict each other, before anything is read."""
    check_place(settings.out)
    if settings.out.exists():  # labels may have been written into it
        raise InputError(f"{settings.out} is there already, and may hold labels.", "Name another file: --out.")
    if settings.split == "test" and settings.by != "random":
        raise InputError(
            f"--split test cannot be combined with --by {settings.by}: a test set that was chosen judges nothing.",
            "Take --by random.",
        )


def _check_targets(store: Store, targets: Sequence[str]) -> None:
    """Refuse what can be no finding; say which are none of the store yet."""
    for name in targets:
        check_new(name, store, "--target")
        if (
            name in COLUMNS
            or name.lower() in {word for words in NAMES.values() for word in words}
            or set(name) & set("=~")
        ):
            raise InputError(f"--target {name} is no finding that a reader can fill in.", "Name the finding alone.")
        if name not in store.labels:
            near = nearest(name, store.labels) if store.labels else ""
            console.say(f"{name} is no finding of the store yet: `label --label {name}` adds it. {near}".rstrip())


def _table(
    store: Store, pool: Pool, drawn: Sequence[int], chosen: Sequence[int], settings: NextSettings
) -> pl.DataFrame:
    """The list: those at random evenly among the others, so that each beginning of it has its share of them."""
    where = [(np.arange(len(part)) + 0.5) / max(len(part), 1) for part in (drawn, chosen)]
    order = np.argsort(np.concatenate(where), kind="stable")
    candidates = np.array([*drawn, *chosen], dtype=np.int64)[order]
    random = order < len(drawn)
    shares = inclusion(pool.patients, pool.labelled, len(drawn))[candidates]
    images = store.index.select("path", "patient")[pool.rows[candidates]]
    return images.join(store.splits, on="patient", how="left", maintain_order="left").select(
        pl.int_range(1, pl.len() + 1).alias("rank"), "path", "patient", "split",
        pl.when(random).then(pl.lit("random")).otherwise(pl.lit(settings.by)).alias("chosen_by"),
        pl.when(random).then(shares).alias("probability"),
        pl.Series("readers", _readers(len(candidates), settings)),
        *(pl.lit(None, pl.Int8).alias(name) for name in settings.target),
    )  # fmt: skip


def _readers(count: int, settings: NextSettings) -> NDArray[np.int64]:
    """How many readers are to see each image: two of a share drawn at random."""
    readers = np.ones(count, dtype=np.int64)
    readers[np.random.default_rng(settings.seed).permutation(count)[: round(settings.overlap * count)]] = 2
    return readers


# --- what is said


def _tell(store: Store, settings: NextSettings, pool: Pool, table: pl.DataFrame) -> None:
    if len(table) < settings.count:
        console.warn(f"Only {len(table):,} images are left to label; --count {settings.count:,} asked for more.")
    if pool.copies:
        console.say(f"{pool.copies:,} images were left out: an image like them is labelled, or may be chosen.")
    if several := len(table) - table["patient"].n_unique():
        console.say(f"{several:,} images are further ones of a patient: there are no other patients.")
    for name in settings.target:
        console.say(_state(store, name, settings.split.split("+")))
        if settings.split != "test" and not _known(store, name, ["test"]):
            console.warn(
                f"No image of a test patient has a label of {name}: nothing can tell how good a classifier is. First: "
                f"mococxr next {settings.store} --target {name} --split test --by random --count 100 --out test.csv"
            )
    by = ", ".join(f"{n:,} {word}" for word, n in table.group_by("chosen_by", maintain_order=True).len().iter_rows())
    console.say(f"{len(table):,} images to label ({by}): {settings.out}")
    console.say(f"Fill in 1, 0 or -1 (uncertain), then: mococxr label {settings.store} {settings.out} --reader NAME")


def _known(store: Store, name: str, splits: Sequence[str]) -> list[int]:
    """The labels of 1 and 0 in these splits."""
    if name not in store.labels:
        return []
    return store.index[name][store.rows_in(*splits)].drop_nulls().replace(-1, None).drop_nulls().to_list()


def _state(store: Store, name: str, splits: Sequence[str]) -> str:
    """How many labels there are, and how many positive."""
    labels = _known(store, name, splits)
    positives = f"{sum(labels):,} positive" if sum(labels) else "no positive yet"
    return f"{name}: {len(labels):,} labels of {' and '.join(splits)} patients, {positives}."
