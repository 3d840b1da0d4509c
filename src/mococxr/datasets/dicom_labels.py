"""Labels of an archive's images: a table keyed as report systems key theirs, by image, request, study or patient."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from mococxr.datasets import columns, own
from mococxr.datasets.dataset import Request
from mococxr.datasets.tables import Table
from mococxr.errors import InputError

KEYS = {
    "path": ("path", "image", "file", "filename"),
    "sop": ("sopinstanceuid", "sop", "instance"),
    "accession": ("accessionnumber", "accession"),
    "study": ("studyinstanceuid", "study", "studyid"),
    "patient": ("patientid", "patient", "subjectid", "mrn"),
}
"""What finds an image, finest first, and the names it goes by (case, blanks, `_` and `-` ignored)."""


@dataclass(frozen=True)
class Found:
    """What a label table says of images.

    Args:
        rows: a row an image: `split` where the table has one, labels, metadata.
        labels: names of the label columns.
        metadata: names of the others.
        notes: what is to be said.
    """

    rows: pl.DataFrame
    labels: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


NONE = Found(pl.DataFrame())


def labels_of(table: Table, images: pl.DataFrame, request: Request, taken: set[str]) -> Found:
    """The table's values for each image, blank where no row is about it.

    Args:
        table: with at least one column that finds images.
        images: a row an image, with the columns of `KEYS`.
        request: what the user asked for.
        taken: names that columns of the table may not have; they get `_in_table` behind theirs.

    Raises:
        InputError: no such column, no row about any image, two rows that differ about one, no label.
    """
    keyed = _keys(table)
    kind, column = _best(table, keyed, images, request)
    wanted, given = images[kind].str.strip_chars(), _given(table, column, kind, request)
    split = next((name for name in table.frame.columns if name.lower() == "split"), None)
    keyed |= {} if split is None else {"split": split}
    values, metadata, said = own.other_columns(table, keyed, request.label)
    labels = values.columns
    both = pl.concat([values, metadata], how="horizontal")
    both = both.rename({name: f"{name}_in_table" for name in both.columns if name in taken})
    if split is not None:
        both = both.with_columns(split=columns.splits(table.frame[split], table.place))
    both = both.with_columns(_key=given).filter(pl.col("_key").is_not_null()).unique(maintain_order=True)
    _refuse_two_minds(both, wanted)
    found = pl.DataFrame({"_key": wanted}).join(both, on="_key", how="left", maintain_order="left")
    hits = wanted.is_in(both["_key"].implode()) & wanted.is_not_null()
    idle = both.filter(~pl.col("_key").is_in(wanted.drop_nulls().implode())).height
    note = (
        f"Labels by {column}: of {len(images):,} images {hits.sum():,} have a row, {(~hits).sum():,} none; "
        f"{idle:,} rows have no image."
    )
    new = {name: f"{name}_in_table" if name in taken else name for name in (*labels, *metadata.columns)}
    return Found(
        found.drop("_key"),
        tuple(new[name] for name in labels),
        tuple(new[name] for name in metadata.columns),
        (note, *said),
    )


def _keys(table: Table) -> dict[str, str]:
    """Kind of key -> the table's column of it."""
    plain = {re.sub(r"[\s_-]", "", name).lower(): name for name in reversed(table.frame.columns)}
    keys = {
        kind: next(plain[name] for name in names if name in plain)
        for kind, names in KEYS.items()
        if any(name in plain for name in names)
    }
    if not keys:
        raise InputError(
            f"{table.path} has no column by which an image is found.",
            "It has one or more of: path, SOPInstanceUID, AccessionNumber, StudyInstanceUID, PatientID.",
        )
    return keys


def _best(table: Table, keys: dict[str, str], images: pl.DataFrame, request: Request) -> tuple[str, str]:
    """The finest key by which any image is found."""
    for kind, column in keys.items():
        given = _given(table, column, kind, request).drop_nulls()
        if images[kind].str.strip_chars().is_in(given.implode()).any():
            return kind, column
    raise InputError(
        f"No row of {table.path} is about an image of the archive, by {' or '.join(keys.values())}.",
        "Check that the table belongs to this archive, and that leading zeros were not lost.",
    )


def _given(table: Table, column: str, kind: str, request: Request) -> pl.Series:
    """A table's keys as text; paths relative to the source."""
    values = table.frame[column]
    if kind != "path":
        return values
    values = values.str.replace_all("\\", "/", literal=True).str.replace(r"^(\./)+", "")
    for root in (request.root.absolute(), request.root.resolve()):
        values = values.str.strip_prefix(root.as_posix().rstrip("/") + "/")
    return values


def _refuse_two_minds(rows: pl.DataFrame, wanted: pl.Series) -> None:
    """Two rows that say different things of one image."""
    about = rows.filter(pl.col("_key").is_in(wanted.drop_nulls().implode()))
    again = about.filter(~pl.col("_key").is_first_distinct()).height
    if again:
        raise InputError(
            f"The label table has {again:,} rows that contradict another row about the same image.",
            "Keep one row for each key, or key the table by a finer column.",
        )
