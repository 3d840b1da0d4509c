"""The commands `label` and `retract`: a table of labels -> events in the history of a store, and how its labels stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import polars as pl

from mococxr import console, files
from mococxr.errors import InputError, Shown
from mococxr.labelling.state import counts, describe
from mococxr.labelling.table import read_labels
from mococxr.privacy import redacted_errors
from mococxr.settings import LabelSettings, RetractSettings
from mococxr.store import Store
from mococxr.store.label_history import CELL, EVENTS, FILE, standing
from mococxr.store.reader import SPLITS
from mococxr.store.untested import untested

LOCK = ".labels.lock"
SAID = ("reader", "date", "chosen_by", "probability", "note")
"""What an event says beside the label."""


def run_label(settings: LabelSettings) -> Store:
    """Enter the labels of a table, or without one say how the labels stand.

    Returns:
        The store with the labels that it then shows.

    Raises:
        InputError: bad settings or a bad table; nothing was written.
    """
    if settings.table is None:
        return _show(settings)
    if settings.as_of is not None or settings.out is not None:
        raise InputError("--as-of and --out show labels, and a table enters them.", "Leave out the one or the other.")
    stated = {"reader": settings.reader, "chosen_by": settings.chosen_by}
    entries = _entries(settings.store, partial(read_labels, settings.table, named=settings.label, stated=stated))
    store, new = enter(settings.store, entries)
    before = _values(store, new)
    tally = {
        "added": int(before.is_null().sum()),
        "changed": int((before != new["value"]).fill_null(False).sum()),
        "confirmed": int((before == new["value"]).fill_null(False).sum()),
        "as they are": len(entries) - len(new),
    }
    return _say(settings.store, tally, len(new), new["target"])


def enter(path: Path, entries: pl.DataFrame, same: Sequence[str] = SAID) -> tuple[Store, pl.DataFrame]:
    """Write labels into the history of a store; they are on the disk when this returns.

    Args:
        path: the store.
        entries: a row a label, with the columns of `EVENTS` but `event` and `entered`; a null value takes a reader's back.
        same: what must agree, beside image, finding and value, for a label to be there already; such are left out.

    Returns:
        The store as it was before, and the labels that were written.
    """
    with _open_to_change(path) as store:
        on = [*CELL, "value", *same]
        known = standing(store.history).select(*on, known=True)
        again = entries.join(known, on=on, how="left", nulls_equal=True, maintain_order="left")["known"]
        new = entries.filter(again.is_null())
        _append(store, new)
        return store, new


def run_retract(settings: RetractSettings) -> Store:
    """Take labels back: those of a table's filled cells, of all readers or of one.

    Returns:
        The store without them.

    Raises:
        InputError: bad settings or a bad table; nothing was written.
    """
    entries = _entries(settings.store, partial(read_labels, settings.table, named=settings.label, to_retract=True))
    entries = entries.unique(CELL, keep="first", maintain_order=True)
    entries = entries.with_columns(value=pl.lit(None, pl.Int8), reader=pl.lit(settings.reader, pl.String))
    with _open_to_change(settings.store) as store:
        if settings.reader is None:
            present = _values(store, entries).is_not_null()
        else:
            theirs = standing(store.history).filter(pl.col("reader") == settings.reader).with_columns(present=True)
            present = entries.join(theirs, on=CELL, how="left", maintain_order="left")["present"].is_not_null()
        gone = entries.filter(present)
        _append(store, gone)
        tally = {"taken back": len(gone), "not there": len(entries) - len(gone)}
    return _say(settings.store, tally, len(gone), gone["target"])


def _entries(path: Path, read: Callable[[Store], pl.DataFrame]) -> pl.DataFrame:
    """What a table says, refused before anything is written; errors of a store under pseudonyms quote no value."""
    store = Store.open(path)
    files.check_place(store.path / FILE)
    with redacted_errors() if store.manifest.get("pseudonyms") else nullcontext():
        return read(store)


@contextmanager
def _open_to_change(path: Path) -> Iterator[Store]:
    """A store whose history nobody else changes meanwhile."""
    with files.lock(path / LOCK):  # waits: another reader's answer takes a moment
        yield Store.open(path)  # with what was entered while this waited


def _append(store: Store, new: pl.DataFrame) -> None:
    """Write the history with these events at its end, whole or not at all."""
    if not len(new):
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    # a clock that was put back must not make an earlier state out of a later one
    entered = max([now, *store.history["entered"][-1:]])
    first = store.label_events + 1
    events = new.with_columns(event=pl.int_range(first, first + len(new), dtype=pl.Int64), entered=pl.lit(entered))
    files.write_parquet(store.path / FILE, pl.concat([store.history, events.select(list(EVENTS))]))
    files.flush_to_disk(store.path)  # the new name, too


def _values(store: Store, cells: pl.DataFrame) -> pl.Series:
    """The label that stands in each of these cells, null where there is none."""
    values = store.index.select("path", *(name for name in cells["target"].unique() if name in store.labels))
    long = values.unpivot(index="path", variable_name="target", value_name="before")
    before = cells.select(*CELL).join(long, on=CELL, how="left", maintain_order="left")["before"]
    return before.cast(pl.Int8)


def _say(path: Path, tally: dict[str, int], events: int, targets: pl.Series) -> Store:
    """Say what a table came to, and how its findings stand; the store as it now is."""
    store = Store.open(path)
    if not events:
        console.say(f"Nothing new: {', '.join(f'{count:,} labels {word}' for word, count in tally.items() if count)}.")
        return store
    shown = ", ".join(f"{count:,} {word}" for word, count in tally.items() if count)
    numbers = f"events {store.label_events - events + 1:,} to" if events > 1 else "event"
    console.say(f"Labels: {shown} ({numbers} {store.label_events:,} in {store.path / FILE}).")
    _describe(store, targets.unique(maintain_order=True).to_list())
    return store


def _describe(store: Store, findings: Sequence[str]) -> None:
    """Say how findings stand, and of those that are labelled which no test patient has a label of."""
    console.result(describe(store, findings))
    table = counts(store, findings).with_columns(known=pl.col("positive") + pl.col("negative"))
    for name, known in table.group_by("finding", maintain_order=True).agg("known").iter_rows():
        of_split = dict(zip(SPLITS, known, strict=True))
        if any(known) and (blind := untested(store, name, of_split["test"])):
            console.warn(blind)


def _show(settings: LabelSettings) -> Store:
    for name in ("label", "reader", "chosen_by"):
        if getattr(settings, name):
            raise InputError(
                "--{name} goes with a table of labels.", "Give TABLE behind STORE, or leave it out.",
                name=Shown(name.replace("_", "-")),
            )  # fmt: skip
    store = Store.open(settings.store, settings.as_of)
    if settings.out is not None:
        files.write_csv(settings.out, store.history)
        console.say(f"{store.label_events:,} label events: {settings.out}")
    _describe(store, store.labels)
    return store
