"""Settings of `label` and `retract`: labels of a store that grow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mococxr.settings.fields import setting, under
from mococxr.settings.preparation import STORE

_labels, _output = under("Labels", "Output")


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """Add labels to a store or change them, each with its date and reader; without a table, show how they stand."""

    store: Path = setting(STORE, positional=True)
    table: Path | None = setting(
        "Table of labels: path, and a column per finding (1, 0, -1 or words; blanks say nothing) or target and value; "
        "also reader, date, chosen_by, probability, note.",
        None,
        positional=True,
        table=True,
        group="Labels",
        shown="none: the labels are shown",
    )
    label: tuple[str, ...] = _labels(
        "Finding to read (repeatable); a name that the store does not have yet adds that finding.",
        (),
        shown="the store's findings",
    )
    reader: str | None = _labels("Who labelled, where the table does not say.", None, shown="not stated")
    chosen_by: str | None = _labels(
        "How the images were chosen, e.g. random, where the table does not say.", None, shown="not stated"
    )
    as_of: str | None = _labels(
        "Show the labels as they were: a date (UTC, that day included), or a number of label events.",
        None,
        shown="as they are now",
    )
    out: Path | None = _output("CSV file for the whole history of labels, one event per row.", None)


@dataclass(frozen=True, kw_only=True)
class RetractSettings:
    """Take labels of a store back: fit and study then know nothing of them; the history keeps that they were there."""

    store: Path = setting(STORE, positional=True)
    table: Path = setting(
        "Table as `label` takes it: each label in it is taken back, whatever its value; a list of images with --label.",
        positional=True,
        table=True,
    )
    label: tuple[str, ...] = _labels("Finding to take back (repeatable).", (), shown="the findings of the table")
    reader: str | None = _labels(
        "Take back what this reader said, and no more.", None, shown="what every reader and `prepare` said"
    )
