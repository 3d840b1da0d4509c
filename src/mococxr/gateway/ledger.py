"""The ledger of `pacs`: one row an image and model, and what has become of it. SQLite, one file.

Every change is one transaction, on the disk before the call returns, so that a process killed at any moment finds its
work where it left it. The states of an image:

    waiting -> scored -> reported     fetched and scored; the report is in the archive
    waiting -> declined               no frontal chest X-ray, or not surely one, or not readable: `reason`
    waiting, scored -> gone           no longer in the archive
    waiting, scored -> dead           tried too often: `reason` is what happened last

Rows hold UIDs, which name a patient's images to whoever has the archive: the file is its owner's alone.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.classifier.findings import Finding
from mococxr.errors import InputError, Shown
from mococxr.files import check_place

WAITING, SCORED, REPORTED, DECLINED, GONE, DEAD = "waiting", "scored", "reported", "declined", "gone", "dead"
OPEN = (WAITING, SCORED)
"""States in which there is something left to do."""
FORMAT = 2
FIRST_WAIT, LONGEST_WAIT = 30.0, 3600.0
"""Seconds before an image is tried again; twice as many after each further failure, up to the longest."""
LOOK_AGAIN = 3600.0
"""Seconds after which a study is looked through again although its number of images is as it was."""
_TABLES = f"""
begin immediate;
create table images (
    number integer primary key,
    image text not null,        -- SOPInstanceUID
    model text not null,        -- the version of the model
    study text not null,
    series text not null,
    file text,                  -- where an image that was sent to us lies until it is reported
    state text not null default '{WAITING}',
    reason text,
    tries integer not null default 0,
    due real not null default 0,
    found_at text not null,
    scored_at text,
    view text,
    device text,
    warning text,
    unique (image, model)
);
create index open_images on images (model, state, due);
create table scores (
    number integer not null references images (number),
    target text not null,
    score real not null,
    calibrated real,
    decision integer,
    threshold real,             -- of the score
    calibrated_threshold real,
    primary key (number, target)
);
create table studies (
    study text not null,
    model text not null,
    images integer not null,
    looked_at real not null,
    primary key (study, model)
);
create table models (
    model text primary key,     -- its version
    name text not null,
    reference text              -- JSON: scores, views and devices of the images that it learned from
);
create view dead as select number, study, series, image, model, tries, reason from images where state = '{DEAD}';
pragma user_version = {FORMAT};
commit;
"""


@dataclass(frozen=True)
class Found:
    """An image that is to be looked at: its UIDs, and the file where it was sent to us."""

    image: str
    study: str
    series: str
    file: str | None = None


@dataclass(frozen=True)
class Entry(Found):
    """A row: `number` names it in messages, where a UID would say too much."""

    number: int = 0
    state: str = WAITING
    tries: int = 0


@dataclass(frozen=True)
class Scored:
    """What is known of an image once it is scored: its view and device, a remark on it, and the findings."""

    at: str
    view: str | None
    device: str | None
    warning: str | None
    findings: tuple[Finding, ...]


class Ledger:
    """The open ledger; several threads of a process each have their own (`Ledger(path, model)`).

    >>> ledger = Ledger(Path("ledger.sqlite"), "1a2b3c")
    >>> ledger.add([Found("1.2.3", "1.2", "1.2.1")]), ledger.add([Found("1.2.3", "1.2", "1.2.1")])
    (1, 0)
    >>> entry = ledger.next_due(now=0.0)
    >>> ledger.begin(entry); ledger.end(entry, DECLINED, "view: Lateral")
    >>> ledger.counts()
    {'declined': 1}

    Args:
        path: of the file, made where there is none.
        model: the version of the model, whose rows these are.

    Raises:
        InputError: the file is another thing, or another version's, or cannot be made.
    """

    def __init__(self, path: Path, model: str) -> None:
        check_place(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.model = path, model
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # before SQLite makes it for everybody
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._check()

    def _check(self) -> None:
        try:
            self._connection.execute("pragma synchronous = full")
            self._connection.execute("pragma foreign_keys = on")
            (version,) = self._connection.execute("pragma user_version").fetchone()
            (tables,) = self._connection.execute("select count(*) from sqlite_master").fetchone()
            if not version and not tables:
                self._connection.executescript(_TABLES)
                version = FORMAT
        except sqlite3.DatabaseError as error:
            self.close()
            raise InputError("{path} is not a ledger.", "Name another --ledger.", path=Shown(self.path)) from error
        if version != FORMAT:
            self.close()
            raise InputError("{path} is no ledger of this version.", "Name another --ledger.", path=Shown(self.path))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def introduce(self, name: str, reference: Mapping[str, Any] | None) -> None:
        """Keep what the model is called, and how the images were that it learned from."""
        text = None if reference is None else json.dumps(reference)
        self._do("insert or replace into models values (?, ?, ?)", self.model, name, text)

    # --- what is found

    def add(self, images: Iterable[Found]) -> int:
        """Enter images that are not in it yet; returns how many those were."""
        at = now_text()
        rows = [(each.image, self.model, each.study, each.series, each.file, at) for each in images]
        statement = (
            "insert or ignore into images (image, model, study, series, file, found_at) values (?, ?, ?, ?, ?, ?)"
        )
        with closing(self._connection.cursor()) as cursor:
            cursor.execute("begin immediate")
            cursor.executemany(statement, rows)
            new = cursor.rowcount
            cursor.execute("commit")
        return max(new, 0)  # -1 where there were no rows

    def is_new(self, study: str, images: int | None) -> bool:
        """Whether a study is to be looked through: it has another number of images than last time, or it was long ago."""
        row = self._one("select images, looked_at from studies where study = ? and model = ?", study, self.model)
        return row is None or images is None or row["images"] != images or time.time() - row["looked_at"] > LOOK_AGAIN

    def looked(self, study: str, images: int | None) -> None:
        """Keep that a study was looked through."""
        if images is not None:
            self._do("insert or replace into studies values (?, ?, ?, ?)", study, self.model, images, time.time())

    # --- what is done

    def next_due(self, now: float, but: Collection[int] = ()) -> Entry | None:
        """The image that is to be worked on next, or None.

        Args:
            now: in seconds; infinity for whatever waits.
            but: numbers of images that had their turn.
        """
        rows = self._connection.execute(
            "select * from images where model = ? and state in (?, ?) and due <= ? order by due, number",
            (self.model, *OPEN, now),
        )
        with closing(rows):
            row = next((row for row in rows if row["number"] not in but), None)
        return None if row is None else _entry(row)

    def entry_of(self, image: str) -> Entry | None:
        """The row of an image, or None."""
        row = self._one("select * from images where image = ? and model = ?", image, self.model)
        return None if row is None else _entry(row)

    def sent(self, entry: Entry, file: str) -> None:
        """Keep where an image lies that was sent to us."""
        self._do("update images set file = ? where number = ?", file, entry.number)

    def begin(self, entry: Entry) -> None:
        """Count a try before it is made: an image that kills the process does not do so for ever."""
        self._do("update images set tries = tries + 1 where number = ?", entry.number)

    def scored(self, entry: Entry, scored: Scored) -> None:
        """Keep the findings of an image; the report is made of them, now or after a restart."""
        rows = [(entry.number, *astuple(each)) for each in scored.findings]
        with closing(self._connection.cursor()) as cursor:
            cursor.execute("begin immediate")
            cursor.execute("delete from scores where number = ?", (entry.number,))
            cursor.executemany("insert into scores values (?, ?, ?, ?, ?, ?, ?)", rows)
            cursor.execute(
                "update images set state = ?, scored_at = ?, view = ?, device = ?, warning = ? where number = ?",
                (SCORED, scored.at, scored.view, scored.device, scored.warning, entry.number),
            )
            cursor.execute("commit")

    def scored_at(self, entry: Entry) -> tuple[str, str | None]:
        """When an image was scored, and the warning that it has."""
        row = self._one("select scored_at, warning from images where number = ?", entry.number)
        assert row is not None
        return row["scored_at"], row["warning"]

    def findings(self, entry: Entry) -> tuple[Finding, ...]:
        """What was found in an image that is scored."""
        rows = self._connection.execute("select * from scores where number = ? order by rowid", (entry.number,))
        return tuple(Finding(**{name: row[name] for name in Finding.__dataclass_fields__}) for row in rows)

    def end(self, entry: Entry, state: str, reason: str | None = None) -> None:
        """Keep that an image is done, and why where it has no report."""
        self._do(
            "update images set state = ?, reason = ?, file = iif(? = ?, file, null) where number = ?",
            state, reason, state, DEAD, entry.number,
        )  # fmt: skip

    def failed(self, entry: Entry, reason: str, tries: int, now: float) -> bool:
        """Keep that a try failed: the image waits longer each time, and is dead after `tries`; returns whether it is."""
        made = entry.tries + 1
        if made >= tries:
            self.end(entry, DEAD, reason)
            return True
        wait = min(FIRST_WAIT * 2 ** (made - 1), LONGEST_WAIT)
        self._do("update images set reason = ?, due = ? where number = ?", reason, now + wait, entry.number)
        return False

    def undo_begin(self, entry: Entry) -> None:
        """A try that the archive cut short is none of the image's."""
        self._do("update images set tries = ? where number = ?", entry.tries, entry.number)

    # --- what is there

    def counts(self) -> dict[str, int]:
        """State -> images of this model in it."""
        rows = self._connection.execute(
            "select state, count(*) from images where model = ? group by state order by state", (self.model,)
        )
        return {state: count for state, count in rows}

    def files(self) -> set[str]:
        """The files of images that were sent to us and are not done."""
        return {name for (name,) in self._connection.execute("select file from images where file is not null")}

    def dead(self) -> list[dict[str, Any]]:
        """The dead letters of this model, as rows of a table."""
        rows = self._connection.execute("select * from dead where model = ? order by number", (self.model,))
        return [dict(row) for row in rows]

    def revive(self) -> int:
        """Let dead letters wait again, their tries forgotten; returns how many."""
        state = f"case when scored_at is null then '{WAITING}' else '{SCORED}' end"
        return self._do(
            f"update images set state = {state}, tries = 0, due = 0 where model = ? and state = ?", self.model, DEAD
        )

    def drop(self) -> int:
        """Give dead letters up: they count as declined, with the reason that they have; returns how many."""
        return self._do("update images set state = ? where model = ? and state = ?", DECLINED, self.model, DEAD)

    def _one(self, statement: str, *values: object) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._connection.execute(statement, values).fetchone()
        return row

    def _do(self, statement: str, *values: object) -> int:
        return self._connection.execute(statement, values).rowcount  # each statement is a transaction of its own


@dataclass(frozen=True)
class Tables:
    """A ledger as tables: its images, their scores (`number` names the image), and version -> `name, reference`."""

    images: pl.DataFrame
    scores: pl.DataFrame
    models: dict[str, dict[str, Any]]


def read_ledger(path: Path) -> Tables:
    """Read a ledger, also one that a `pacs` writes to.

    Raises:
        InputError: it is none, or another version's.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            (version,) = connection.execute("pragma user_version").fetchone()
            if version == FORMAT:
                images, scores = (_table(connection, name) for name in ("images", "scores"))
                rows = connection.execute("select model, name, reference from models")
                models = {
                    model: {"name": name, "reference": json.loads(text) if text else None} for model, name, text in rows
                }
                return Tables(images, scores, models)
    except sqlite3.DatabaseError as error:
        raise InputError("{path} is not a ledger.", "Name one of `mococxr pacs`.", path=Shown(path)) from error
    raise InputError("{path} is not a ledger of this version.", "Name one of `mococxr pacs`.", path=Shown(path))


def _table(connection: sqlite3.Connection, name: str) -> pl.DataFrame:
    """All of a table."""
    rows = connection.execute(f"select * from {name}")
    kinds = {"number": pl.Int64, "tries": pl.Int64, "decision": pl.Int64, "due": pl.Float64, "score": pl.Float64}
    kinds |= dict.fromkeys(("calibrated", "threshold", "calibrated_threshold"), pl.Float64)
    schema = {column[0]: kinds.get(column[0], pl.String) for column in rows.description}
    return pl.DataFrame(rows.fetchall(), schema=schema, orient="row")


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(**{name: row[name] for name in Entry.__dataclass_fields__})


def now_text() -> str:
    """The time as 2026-01-31T12:00:00+01:00, in this machine's zone as the archive's clocks are."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return f"{text[:-2]}:{text[-2:]}"
