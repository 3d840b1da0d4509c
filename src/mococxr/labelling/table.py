"""A table of labels that a user gives -> one row a label, checked against the store that it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from mococxr import console, tables
from mococxr.datasets.dataset import RESERVED
from mococxr.errors import InputError, Shown, message
from mococxr.labelling.label_studio import read_tasks
from mococxr.settings import nearest
from mococxr.store import Store
from mococxr.store.label_history import CELL, EVENTS, utc
from mococxr.tables import Table, first_names, read_table, refuse_rows

NAMES = {
    "path": ("path", "image", "file", "filename"),
    "target": ("target", "finding"),
    "value": ("value",),
    "reader": ("reader", "annotator"),
    "date": ("date", "updated_at"),
    "chosen_by": ("chosen_by",),
    "probability": ("probability",),
    "note": ("note",),
    "readers": ("readers",),
}
"""What a column says and the names it goes by. With `target` and `value` a row is a label; else a column is a finding."""


def read_labels(
    path: Path,
    store: Store,
    *,
    named: Sequence[str] = (),
    stated: Mapping[str, str | None] | None = None,
    to_retract: bool = False,
) -> pl.DataFrame:
    """The labels of a table in the order of its rows, or of its dates where it has some.

    Args:
        path: the table.
        store: whose images it names by their `path`.
        named: findings to read, new ones too; none for those that the store has.
        stated: column of the history -> what it holds where the table says nothing.
        to_retract: cells need not hold labels: each that is filled, or each image where there is no such column, counts.

    Returns:
        The columns of `label_history.EVENTS` but `event` and `entered`; no value is null.

    Raises:
        InputError: an image that the store lacks, a value that is none, labels that contradict each other, no finding;
            each is named.
    """
    table, columns = _read(path)
    _say(store, *table.notes)
    for name in named:
        check_new(name, store)
    frame = pl.DataFrame({"path": _paths(table, columns["path"], store), **_extras(table, columns)})
    frame = frame.with_columns(pl.col(name).fill_null(text) for name, text in (stated or {}).items() if text)
    frame = frame.with_row_index("row")
    if "target" in columns and ("value" in columns or to_retract):
        labels = _long(table, columns, frame, tuple(named) or tuple(store.labels), to_retract)
    else:
        labels = _wide(table, columns, frame, store, tuple(named), to_retract)
    labels = labels.filter(pl.col("value").is_not_null())  # a blank says nothing
    if not to_retract:
        _refuse_contradictions(labels, table)
    return labels.unique([*CELL, "reader", "date"], keep="first", maintain_order=True).sort(
        "date", nulls_last=False, maintain_order=True
    )[[name for name in EVENTS if name not in ("event", "entered")]]


def read_list(path: Path, store: Store) -> pl.DataFrame:
    """The images of a list in its order: `path, chosen_by, probability, readers` (1 where it does not say).

    Raises:
        InputError: no path column, an image that the store lacks or that stands twice, a number of readers that is none.
    """
    table, columns = _read(path)
    frame = pl.DataFrame({"path": _paths(table, columns["path"], store), **_extras(table, columns)})
    refuse_rows(
        ~frame["path"].is_first_distinct(), table.describe_row, "{row}: {path!r} stands twice in the list.",
        "Drop one of the rows.", path=frame["path"],
    )  # fmt: skip
    written = table.frame[columns["readers"]] if "readers" in columns else pl.repeat("1", len(frame), eager=True)
    readers = written.fill_null("1").str.strip_suffix(".0").cast(pl.Int64, strict=False)
    refuse_rows(
        ~(readers >= 1).fill_null(False), table.describe_row, "{row}: {value!r} is not a number of readers.",
        "Write 1, or 2 for an image that two readers see.", value=written,
    )  # fmt: skip
    return frame.select("path", "chosen_by", "probability", readers=readers)


def _read(path: Path) -> tuple[Table, dict[str, str]]:
    """A table, and which of its columns is what; it has paths."""
    table = read_tasks(path) or read_table(path)
    columns = first_names(table.frame.columns, NAMES)
    if "path" not in columns:
        raise InputError(
            "{table} has no path column; its columns: {names}.",
            "Name that column one of: {known}. It holds the paths of the store's index.",
            table=path, names=", ".join(table.frame.columns[:20]), known=Shown(", ".join(NAMES["path"])),
        )  # fmt: skip
    return table, columns


def _say(store: Store, *notes: Shown) -> None:
    """Say notes on a table, of a store under pseudonyms without values."""
    for note in notes:
        console.say(note.redacted if store.manifest.get("pseudonyms") else note)


def _paths(table: Table, column: str, store: Store) -> pl.Series:
    """The images as the store's index names them."""
    paths = tables.identifiers(table.frame[column])
    paths = paths.str.replace_all("\\", "/", literal=True).str.replace(r"^(\./)+", "").alias("path")
    refuse_rows(paths.is_null(), table.describe_row, "{row}: the path is blank.", "Fill it in or drop the row.")
    absent = ~paths.is_in(store.columns("path")["path"].implode())
    if absent.all():
        raise InputError(
            "None of the {count:,} images in {table} is in {store}, e.g. {path!r}.",
            "Check that the table is of this store; an image is named by its path in the store's index.",
            count=len(paths), table=table.path, store=Shown(store.path), path=paths[0],
        )  # fmt: skip
    left_out = store.quarantine["path"] if (store.path / "quarantine.csv").is_file() else pl.Series([], dtype=pl.String)
    unread = absent & paths.is_in(left_out.implode())
    refuse_rows(
        unread, table.describe_row, "{row}: {path!r} is in quarantine ({count:,} such rows): the store has no image of it.",
        "Drop the row; quarantine.csv says why.", path=paths,
    )  # fmt: skip
    refuse_rows(
        absent, table.describe_row, "{row}: the store has no image {path!r} ({count:,} such rows).",
        "Correct the path or drop the row; new images enter by: mococxr prepare --add.", path=paths,
    )  # fmt: skip
    return paths


def _extras(table: Table, columns: dict[str, str]) -> dict[str, pl.Series]:
    """Reader, date, rule, probability and note of each row, null where the table has none."""
    blank = pl.repeat(None, table.frame.height, dtype=pl.String, eager=True)
    extras = {
        name: table.frame[columns[name]] if name in columns else blank
        for name in ("reader", "date", "chosen_by", "probability", "note")
    }
    days = extras["date"].map_elements(_day, return_dtype=pl.String)
    refuse_rows(
        days.is_null() & extras["date"].is_not_null(), table.describe_row, "{row}: {value!r} is not a date.",
        "Write 2026-03-31 or 2026-03-31T14:30:00Z.", value=extras["date"],
    )  # fmt: skip
    shares = tables.numbers(extras["probability"])
    wrong = extras["probability"].is_not_null() & ~((shares > 0) & (shares <= 1)).fill_null(False)
    refuse_rows(
        wrong, table.describe_row, "{row}: {value!r} is not a probability.",
        "It is above 0 and at most 1: how likely this image was to be chosen.", value=extras["probability"],
    )  # fmt: skip
    return {**extras, "date": days, "probability": shares}


def _day(text: str) -> str | None:
    try:
        return utc(text)
    except ValueError:
        return None


def _long(
    table: Table, columns: dict[str, str], frame: pl.DataFrame, findings: Sequence[str], to_retract: bool
) -> pl.DataFrame:
    """A row is a label."""
    targets = table.frame[columns["target"]]
    values = table.frame[columns["value"]] if "value" in columns else targets
    filled = values.is_not_null()
    refuse_rows(
        filled & targets.is_null(), table.describe_row, "{row}: the finding is blank.", "Fill it in or drop the row."
    )
    unknown = filled & ~targets.is_in(list(findings)).fill_null(True)
    if unknown.any():
        name = targets[unknown.arg_max() or 0]
        refuse_rows(
            unknown, table.describe_row, "{row}: the store has no finding {name!r}.",
            "{nearest} --label NAME adds a finding.",
            name=name, nearest=Shown(nearest(name, findings), "Compare the names."),
        )  # fmt: skip
    labels = _filled(values) if to_retract else tables.label_values(values, table.describe_row)
    return frame.with_columns(target=targets, value=labels)


def _wide(
    table: Table, columns: dict[str, str], frame: pl.DataFrame, store: Store, named: Sequence[str], to_retract: bool
) -> pl.DataFrame:
    """A column is a finding."""
    others = [name for name in table.frame.columns if name not in columns.values()]
    by_finding = {name: column for name in named or store.labels if (column := _column(name, others)) is not None}
    if to_retract and named and not by_finding:  # a list of images
        return pl.concat([frame.with_columns(target=pl.lit(name), value=pl.lit(1, pl.Int8)) for name in named])
    for name in named:
        if name not in by_finding:
            table.column(name)  # names the nearest columns
    if not by_finding:
        raise InputError(
            "{table} has no finding of the store ({labels}); its columns: {names}.",
            "Name the columns that hold labels: --label COLUMN, which adds a finding that the store has not yet.",
            table=table.path, labels=Shown(", ".join(store.labels) or "it has none"), names=", ".join(others[:20]) or "path",
        )  # fmt: skip
    if rest := [name for name in others if name not in by_finding.values()]:
        note = "Not read as labels: {count:,} columns ({names}); --label COLUMN reads a further one."
        _say(store, message(note, count=len(rest), names=", ".join(rest[:20])))
    parts = []
    for name, column in by_finding.items():
        text = table.frame[column]
        values = _filled(text) if to_retract else tables.label_values(text, table.describe_row)
        parts.append(frame.with_columns(target=pl.lit(name), value=values.alias("value")))
    return pl.concat(parts).sort("row", maintain_order=True)


def _column(name: str, columns: Sequence[str]) -> str | None:
    """The column of a finding: as it is written, else whatever its case where one is like it."""
    alike = [column for column in columns if column.lower() == name.lower()]
    return name if name in columns else alike[0] if len(alike) == 1 else None


def _filled(text: pl.Series) -> pl.Series:
    """1 where a cell holds anything."""
    return text.is_not_null().cast(pl.Int8).replace(0, None)


def check_new(name: str, store: Store, flag: str = "--label") -> None:
    """Refuse a name that no finding can have.

    Raises:
        InputError: it is blank, that of another column of the store, or a finding's but for its case.
    """
    if name in store.labels:
        return
    taken = name in RESERVED or name in store.index.columns
    if taken or not name.strip() or name != name.strip():
        kind = (
            "the store has a column of that name that holds no labels" if taken else "it is blank, or has blanks around"
        )
        raise InputError(f"{flag} {name!r} cannot be a finding: {kind}.", "Give it another name.")
    if alike := [label for label in store.labels if label.lower() == name.lower()]:
        raise InputError(f"{flag} {name!r}: the store has the finding {alike[0]!r}.", "Write it as the store does.")


def _refuse_contradictions(labels: pl.DataFrame, table: Table) -> None:
    """Refuse two values of one reader, at one date, for one image and finding.

    Raises:
        InputError: there are such; both rows are named.
    """
    by = [*CELL, "reader", "date"]
    several = labels.filter((pl.col("value").n_unique() > 1).over(by))
    if len(several):
        first = several.row(0, named=True)
        same = several.filter(pl.all_horizontal(pl.col(name).eq_missing(pl.lit(first[name], pl.String)) for name in by))
        other = same.filter(pl.col("value") != first["value"])["row"][0]
        raise InputError(
            "{row} and {other} contradict each other: {target!r} of {path!r} is {a} and {b}.",
            "Keep one of them, or name the readers in a column reader, or the days in a column date.",
            row=table.describe_row(first["row"]), other=table.describe_row(other),
            target=Shown(first["target"]), path=first["path"], a=first["value"],
            b=same.filter(pl.col("row") == other)["value"][0],
        )  # fmt: skip
