"""The command `next`: a store -> the list of images that are worth labelling next."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.choosing.evidence import labels_of, situation_of
from mococxr.choosing.pool import Pool, Rounds, inclusion, labelled_rows, read_pool
from mococxr.choosing.strategies import STRATEGIES, Pick, first
from mococxr.errors import InputError
from mococxr.files import check_place, write_csv
from mococxr.labelling.table import NAMES, check_new
from mococxr.settings import NextSettings, nearest
from mococxr.settings.labelling import Strategy
from mococxr.store import Store
from mococxr.store.untested import untested

COLUMNS = ("rank", "path", "patient", "split", "chosen_by", "probability", "readers")
"""Columns of the list; behind them stands a blank one for each finding."""
SCORED = ("uncertainty", "balanced")
"""Strategies that go by scores."""
MOST = 10_000
"""Candidates among which a strategy chooses; what is near is a table of them all."""


def run_next(settings: NextSettings) -> Path:
    """Choose images and write the list, which `label` reads when it is filled in.

    Raises:
        InputError: bad settings, or no image is left; nothing was written.
    """
    _check(settings)
    store = Store.open(settings.store)
    _check_targets(store, settings.target)
    pool = read_pool(store, settings.target, settings.split.split("+"), settings.seed)
    by = _possible(store, settings)
    count = min(settings.count, len(pool.rows))
    at_random = count if by == "random" else round(settings.random_share * count)
    rounds = Rounds(pool)
    drawn = take(rounds, partial(first, pool.order), at_random)
    chosen = take(rounds, _pick(settings, store, pool, by, drawn), count - at_random) if at_random < count else []
    table = _table(store, pool, drawn, chosen, by, settings)
    write_csv(settings.out, table)
    _tell(store, settings, pool, table)
    return settings.out


def _possible(store: Store, settings: NextSettings) -> Strategy:
    """`--by`, or what stands in for it where a target has labels of one class only, and no model tells scores."""
    if settings.by not in SCORED or settings.model is not None:
        return settings.by
    for name in settings.target:
        if len(set(labels_of(store, name, "train", "val")[1].tolist())) < 2:
            console.warn(f"{name} has no labels of both classes yet, so no score: images are chosen by coverage.")
            return "coverage"
    return settings.by


def _pick(settings: NextSettings, store: Store, pool: Pool, by: str, drawn: Sequence[int]) -> Pick:
    """The strategy, over the first `MOST` candidates in random order; beyond them images come at random."""
    considered = np.flatnonzero(pool.order < np.sort(pool.order)[:MOST][-1] + 1)
    rows = store.rows_in(*settings.split.split("+"))
    known = np.union1d(rows[labelled_rows(store, settings.target)[rows]], pool.rows[list(drawn)])
    pick = STRATEGIES[by](situation_of(settings, store, pool.rows[considered], pool.order[considered], known))

    def within(allowed: NDArray[np.bool_]) -> int:
        if not allowed[considered].any():
            return first(pool.order, allowed)
        return int(considered[pick(allowed[considered])])

    return within


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
    if settings.model is not None and settings.by not in SCORED:
        raise InputError("--model tells scores, which only --by uncertainty and balanced take.", "Leave --model out.")
    if settings.by != "random" and settings.encoder is None and settings.model is None:
        raise InputError(
            f"--by {settings.by} needs an encoder, or a model that tells scores.",
            "Name one as for `fit`: --encoder imagenet@288, or a run folder. --by random needs none.",
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
    store: Store, pool: Pool, drawn: Sequence[int], chosen: Sequence[int], by: str, settings: NextSettings
) -> pl.DataFrame:
    """The list: those at random evenly among the others, so that each beginning of it has its share of them."""
    where = [(np.arange(len(part)) + 0.5) / max(len(part), 1) for part in (drawn, chosen)]
    order = np.argsort(np.concatenate(where), kind="stable")
    candidates = np.array([*drawn, *chosen], dtype=np.int64)[order]
    random = pl.Series(order < len(drawn))
    shares = inclusion(pool.patients, pool.labelled, len(drawn))[candidates]
    images = store.index.select("path", "patient")[pool.rows[candidates]]
    return images.join(store.splits, on="patient", how="left", maintain_order="left").select(
        pl.int_range(1, pl.len() + 1).alias("rank"), "path", "patient", "split",
        pl.when(random).then(pl.lit("random")).otherwise(pl.lit(by)).alias("chosen_by"),
        pl.when(random).then(pl.Series(shares)).alias("probability"),
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
        blind = untested(store, name, len(labels_of(store, name, "test")[0])) if settings.split != "test" else None
        if blind:
            console.warn(blind)
    by = ", ".join(f"{n:,} {word}" for word, n in table.group_by("chosen_by", maintain_order=True).len().iter_rows())
    console.say(f"{len(table):,} images to label ({by}): {settings.out}")
    console.say(f"Fill in 1, 0 or -1 (uncertain), then: mococxr label {settings.store} {settings.out} --reader NAME")


def _state(store: Store, name: str, splits: Sequence[str]) -> str:
    """How many labels there are, and how many positive."""
    labels = labels_of(store, name, *splits)[1]
    positives = f"{labels.sum():,} positive" if labels.any() else "no positive yet"
    return f"{name}: {len(labels):,} labels of {' and '.join(splits)} patients, {positives}."
