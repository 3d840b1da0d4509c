"""Which images are to be labelled by whom: the list, the answers so far, and what a reader sees next."""

from __future__ import annotations

import hashlib
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mococxr.errors import InputError
from mococxr.labelling.label import enter
from mococxr.store import Store
from mococxr.store.label_history import EVENTS, RESOLVED, standing

AHEAD = 4
"""Images that are promised to a reader: the one shown, and those that the page loads meanwhile."""
HELD = 600.0
"""Seconds after which what was promised to a reader who is silent may go to another."""
PAUSE = 300.0
"""Seconds between two images above which the reader was away."""
RANDOM = "random"
LONGEST = {"reader": 60, "note": 2000}
"""Characters of what readers write."""


@dataclass(frozen=True)
class Item:
    """An image of the list: its row in the store, how it was chosen, and how many readers are to see it."""

    row: int
    path: str
    chosen_by: str | None = None
    probability: float | None = None
    readers: int = 1


@dataclass
class _Desk:
    """What is kept of a reader while the server runs: images put off, images promised and when, ends of images."""

    skipped: list[int] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    seen: float = 0.0
    finished: list[float] = field(default_factory=list)


class ChangedElsewhere(InputError):
    """The answer is another one than the page thinks: it was given in another tab."""


class Worklist:
    """The list and its answers; a reader's answers are events of the store's history before `answer` returns.

    Args:
        store: the folder.
        items: in the order in which they are shown; their numbers are 1, 2, ...
        targets: findings that each image is asked for.
        clock: seconds, from any moment on.
    """

    def __init__(
        self, store: Path, items: Sequence[Item], targets: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.targets, self._clock = store, tuple(targets), clock
        self.items = dict(enumerate(items, 1))
        self._desks: dict[str, _Desk] = {}
        self._lock = threading.RLock()
        self.refresh()

    def refresh(self) -> None:
        """Read the answers that stand in the store, whoever entered them."""
        numbers = {item.path: number for number, item in self.items.items()}
        with self._lock:  # an answer that comes meanwhile would be forgotten
            events = standing(Store.open(self.store).history).filter(
                (pl.col("reader") != RESOLVED)
                & pl.col("target").is_in(self.targets)
                & pl.col("path").is_in(list(numbers))
            )
            self._answers: dict[int, dict[str, dict[str, tuple[int, str | None]]]] = {n: {} for n in self.items}
            columns = events.select("path", "target", "value", "reader", "note")
            for path, target, value, reader, note in columns.iter_rows():
                self._answers[numbers[path]].setdefault(reader, {})[target] = value, note

    def readers(self) -> list[str]:
        """Who has answered anything, by name."""
        return sorted({reader for by_reader in self._answers.values() for reader in by_reader})

    def answers(self, number: int, reader: str) -> tuple[dict[str, int], str | None]:
        """What a reader has said of an image, and the note.

        Raises:
            InputError: no such image.
        """
        if number not in self.items:
            raise InputError(f"The list has no image {number}.", f"It has 1 to {len(self.items)}.")
        stands = self._answers[number].get(reader, {})
        return {target: value for target, (value, _) in stands.items()}, next(
            (n for _, n in stands.values() if n), None
        )

    def answer(
        self,
        reader: str,
        number: int,
        values: Mapping[str, int | None],
        was: Mapping[str, int | None],
        note: str | None,
    ) -> None:
        """Enter what a reader says of an image; None takes an answer back. What stands already is not entered again.

        Args:
            was: the answers that the reader saw before.

        Raises:
            ChangedElsewhere: the answers are others by now; nothing was written.
            InputError: no such image, finding or value.
        """
        with self._lock:
            before, _ = self.answers(number, reader)
            self._check(values, note)
            if any(before.get(target) not in (value, was.get(target)) for target, value in values.items()):
                raise ChangedElsewhere("This image was answered in another tab.", "Look at its answers again.")
            new = {target: value for target, value in values.items() if value is not None or target in before}
            if new:
                enter(self.store, self._events(reader, number, new, note), same=("reader", "note"))
            stands = self._answers[number].setdefault(reader, {})
            for target, value in new.items():
                stands.pop(target, None)
                if value is not None:
                    stands[target] = value, note
            if len(before) < len(stands) == len(self.targets):
                self._desk(reader).finished.append(self._clock())

    def _check(self, values: Mapping[str, int | None], note: str | None) -> None:
        for target, value in values.items():
            if target not in self.targets:
                raise InputError(f"{target!r} is not asked for.", f"Asked for are {', '.join(self.targets)}.")
            if isinstance(value, bool) or value not in (1, 0, -1, None):
                raise InputError(f"{value!r} is not an answer.", "Give 1, 0, -1, or null to take it back.")
        if note is not None and (not isinstance(note, str) or len(note) > LONGEST["note"]):
            raise InputError("The note is too long.", f"Write at most {LONGEST['note']} characters.")

    def _events(self, reader: str, number: int, values: Mapping[str, int | None], note: str | None) -> pl.DataFrame:
        item, now = self.items[number], time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        schema = {name: kind for name, kind in EVENTS.items() if name not in ("event", "entered")}
        rows = [
            (item.path, target, value, reader, now, item.chosen_by, item.probability, note)
            for target, value in values.items()
        ]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def skip(self, reader: str, number: int) -> None:
        """Put an image off to the end; this is forgotten when the server ends.

        Raises:
            InputError: no such image.
        """
        with self._lock:
            self.answers(number, reader)
            skipped = self._desk(reader).skipped
            skipped[:] = [*(n for n in skipped if n != number), number]

    def upcoming(self, reader: str) -> list[int]:
        """The images that a reader has still to answer, in order; the first of them are promised to this reader."""
        with self._lock:
            desk, now = self._desk(reader), self._clock()
            promised = {n: d.held for n, d in self._desks.items() if n != reader and now - d.seen < HELD}
            open_to = [number for number in self.items if self._is_open(number, reader, promised)]
            late = [number for number in desk.skipped if number in open_to]
            order = [*(number for number in open_to if number not in late), *late]
            desk.held, desk.seen = set(order[:AHEAD]), now
            return order

    def _is_open(self, number: int, reader: str, promised: Mapping[str, set[int]]) -> bool:
        answers = self._answers[number]
        if begun := answers.get(reader):  # it is finished by whoever began
            return len(begun) < len(self.targets)
        busy = {name for name, answered in answers.items() if answered} | {
            n for n, held in promised.items() if number in held
        }
        return len(busy) < self.items[number].readers

    def done(self, reader: str) -> list[int]:
        """The images that a reader has answered whole, in the order of the list."""
        return [n for n, by_reader in self._answers.items() if len(by_reader.get(reader, ())) == len(self.targets)]

    def seconds_an_image(self, reader: str) -> float | None:
        """Median time of the last images, without pauses; None before there are three."""
        moments = self._desk(reader).finished[-30:]
        gaps = [b - a for a, b in itertools.pairwise(moments) if b - a < PAUSE]
        return statistics.median(gaps) if len(gaps) >= 3 else None

    def _desk(self, reader: str) -> _Desk:
        return self._desks.setdefault(reader, _Desk())


def unlabelled(store: Store, targets: Sequence[str], seed: int) -> pl.DataFrame:
    """`path, chosen_by, probability, readers` of all images that lack one of these labels, in random order.

    The order hangs on path and seed alone, and images that were labelled in it stay, so that a list begun goes on.
    """
    unknown = [pl.col(name).is_null() if name in store.index.columns else pl.lit(True) for name in targets]
    stands = standing(store.history).filter(pl.col("chosen_by") == RANDOM)["path"]
    rows = store.index.filter(pl.any_horizontal(unknown) | pl.col("path").is_in(stands.implode()))
    order = [hashlib.sha256(f"{seed}\0{path}".encode()).digest() for path in rows["path"]]
    listed = rows.select("path", chosen_by=pl.lit(RANDOM), probability=pl.lit(None, pl.Float64), readers=pl.lit(1))
    return listed.with_columns(order=pl.Series(order, dtype=pl.Binary)).sort("order").drop("order")


def items_of(store: Store, listed: pl.DataFrame) -> list[Item]:
    """The images of a list with their rows."""
    rows = listed.join(store.columns("path").with_row_index("row"), on="path", how="left", maintain_order="left")
    return [Item(**row) for row in rows.select("row", "path", "chosen_by", "probability", "readers").to_dicts()]
