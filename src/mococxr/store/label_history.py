"""Labels that came after `prepare`: events that are only ever added, and the labels that stand at any of them.

What a reader says of an image and a finding stands until that reader says otherwise, or takes it back, or until
somebody takes back what all have said; of several readers the last counts. Splits are no part of it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import polars as pl

from mococxr.errors import InputError

FILE = "labels.parquet"
EVENTS = {
    "event": pl.Int64, "entered": pl.String, "path": pl.String, "target": pl.String, "value": pl.Int8, "reader": pl.String,
    "date": pl.String, "chosen_by": pl.String, "probability": pl.Float64, "note": pl.String,
}  # fmt: skip
"""Columns of the history: number from 1; when it was entered (UTC); image; finding; 1, 0, -1, or null where a label is
taken back; whose label it is (null: nobody's in particular, and of a label taken back everybody's); when the image was
read, by which rule it was chosen and with which probability, as far as known."""
RESOLVED = "resolved"
"""Whose labels are those that a rule made of what several readers said."""
CELL = ["path", "target"]
"""What has one label: an image and a finding."""


def read_history(store: Path, events: int | None = None) -> pl.DataFrame:
    """The events of a store in order: the first `events` of them, or all there are.

    Raises:
        InputError: the file is damaged.
    """
    file = store / FILE
    if not file.is_file():
        return pl.DataFrame(schema=EVENTS)
    try:
        data = file.read_bytes()  # polars would open it twice, and it may be replaced in between
        table = pl.read_parquet(BytesIO(data), columns=list(EVENTS)).cast(EVENTS)  # type: ignore[arg-type]
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{file} cannot be read: {error}.", "Restore the file: it is the history of labels."
        ) from error
    return table if events is None else table.head(events)


def event_at(store: Path, as_of: str | None) -> int:
    """How many events there are at a moment: a number of events, a date (that day, UTC, included) or a date with a time.

    Args:
        as_of: None is now.

    Raises:
        InputError: it is none of these, or a number that is not reached.
    """
    entered = read_history(store)["entered"]
    if as_of is None:
        return len(entered)
    if re.fullmatch(r"\d{1,12}", as_of):
        if int(as_of) > len(entered):
            raise InputError(
                f"{store} has {len(entered):,} label events, not {int(as_of):,}.", "Give a smaller number, or a date."
            )
        return int(as_of)
    try:
        moment = utc(as_of)
    except ValueError as error:
        raise InputError(
            f"{as_of!r} is neither a date nor a number of label events.",
            "Write 2026-03-31 (that day included), 2026-03-31T14:30:00Z, or a number.",
        ) from error
    last = moment if "T" in moment else f"{moment}T23:59:59Z"
    return int((entered <= last).sum())


def utc(text: str) -> str:
    """A date as it is, or a date and time in UTC to the second; equal moments are equal text, and text sorts as time.

    Raises:
        ValueError: it is neither in the form of ISO 8601.
    """
    moment = datetime.fromisoformat(text.strip())
    if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text.strip()):
        return moment.date().isoformat()
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def standing(events: pl.DataFrame) -> pl.DataFrame:
    """The labels that stand, one an image, finding and reader, in the order in which they were entered."""
    last = events.sort("event").unique([*CELL, "reader"], keep="last")
    taken = last.join(_taken_back(events), on=CELL, how="left")
    kept = pl.col("value").is_not_null() & (pl.col("event") > pl.col("taken").fill_null(0))
    return taken.filter(kept).select(events.columns).sort("event")


def current(events: pl.DataFrame) -> pl.DataFrame:
    """`path, target, value` of each image and finding that the events decide; null where all was taken back."""
    stands = standing(events).unique(CELL, keep="last").select(*CELL, "value")
    gone = _taken_back(events).join(stands, on=CELL, how="anti").select(*CELL, value=pl.lit(None, pl.Int8))
    return pl.concat([stands, gone])


def first_choice(events: pl.DataFrame) -> pl.DataFrame:
    """`path, target, chosen_by, probability, taken` of the first label of each image and finding since all was taken back.

    Later readers see an image because it was chosen before, so that the first event alone says how it was.
    `taken` is null where never all was taken back.
    """
    labels = events.join(_taken_back(events), on=CELL, how="left")
    labels = labels.filter(pl.col("value").is_not_null() & (pl.col("event") > pl.col("taken").fill_null(0)))
    first = labels.sort("event").unique(CELL, keep="first")
    return first.select(*CELL, "chosen_by", "probability", "taken")


def _taken_back(events: pl.DataFrame) -> pl.DataFrame:
    """`path, target, taken`: the last event by which what all readers said was taken back."""
    for_all = events.filter(pl.col("value").is_null() & pl.col("reader").is_null())
    return for_all.group_by(CELL).agg(taken=pl.col("event").max())
