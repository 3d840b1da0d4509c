"""Labels of an archive's images: a table keyed as report systems key theirs, by image, request, study or patient."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Request
from mococxr.datasets.own import other_columns, relative_to
from mococxr.errors import InputError, Shown, message
from mococxr.tables import Table, first_names, keys

KEYS = {
    "path": ("path", "image", "file", "filename"),
    "sop": ("sopinstanceuid", "sop", "instance"),
    "accession": ("accessionnumber", "accession"),
    "study": ("studyinstanceuid", "study", "studyid"),
    "patient": ("patientid", "patient", "subjectid", "mrn"),
}
"""What finds an image in a label table, finest first, and the names it goes by (case, blanks, `_` and `-` ignored)."""
_PLURAL = {"path": "files", "sop": "images", "accession": "accession numbers", "study": "studies"}


def labels_of(
    table: Table, images: pl.DataFrame, request: Request, known: Sequence[str]
) -> tuple[pl.DataFrame, tuple[str, ...], tuple[str, ...], tuple[Shown, ...]]:
    """The table's values for each image, blank where it has no row.

    Args:
        table: with at least one column that finds images.
        images: a row an image, with the columns of `KEYS`.
        known: names of metadata that the headers give already; a column of such a name gets `_in_table` behind it.

    Returns:
        A row an image (`split` where the table has one, labels, metadata), the names of the labels and of the
        metadata, and notes.

    Raises:
        InputError: no such column, no row for any image, a finer key that fits nothing, two rows that differ for one
            image, no label.
    """
    columns = first_names(table.frame.columns, KEYS)
    column, image_keys, table_keys, notes = _best_key(table, columns, images, request)
    split = next((name for name in table.frame.columns if name.lower() == "split"), None)
    fixed = columns | {"key": column} | ({} if split is None else {"split": split})
    labels, metadata, remarks = other_columns(table, fixed, request.label)
    renamed = {name: f"{name}_in_table" for name in (*labels.columns, *metadata.columns) if name in known}
    labels, metadata = labels.rename(renamed, strict=False), metadata.rename(renamed, strict=False)
    values = pl.concat([labels, metadata], how="horizontal")
    if split is not None:
        values = values.with_columns(split=tables.split_names(table.frame[split], table.describe_row))
    values = values.with_columns(_key=table_keys, _row=pl.int_range(pl.len()))
    # Rows that agree are one.
    values = values.filter(pl.col("_key").is_not_null()).unique(pl.exclude("_row"), keep="first", maintain_order=True)
    # Only rows about images here can contradict.
    used = values.filter(pl.col("_key").is_in(image_keys.drop_nulls().implode()))
    again = used.filter(~pl.col("_key").is_first_distinct())  # which row is right cannot be known
    if again.height:
        first = used.filter(pl.col("_key") == again["_key"][0])["_row"][0]
        raise InputError(
            "By {column} {count:,} rows of the label table contradict another row about the same image, first {row} and "
            "{other}.",
            "Keep one row for each value of {column}, or name a finer column by --label-key.",
            column=Shown(column), count=again.height, row=table.describe_row(again["_row"][0]),
            other=table.describe_row(first),
        )  # fmt: skip
    joined = pl.DataFrame({"_key": image_keys}).join(values, on="_key", how="left", maintain_order="left")
    matched = int((image_keys.is_in(values["_key"].implode()) & image_keys.is_not_null()).sum())
    note = message(
        "Labels by {column}: of {count:,} images {matched:,} have a row, {none:,} none; {unused:,} rows have no image.",
        column=Shown(column), count=len(images), matched=matched, none=len(images) - matched,
        unused=len(values) - len(used) + table_keys.null_count(),
    )  # fmt: skip
    return joined.drop("_key", "_row"), tuple(labels.columns), tuple(metadata.columns), (note, *notes, *remarks)


def _best_key(
    table: Table, columns: dict[str, str], images: pl.DataFrame, request: Request
) -> tuple[str, pl.Series, pl.Series, list[Shown]]:
    """The column that was named, or the finest by which any image is found; its values for images and rows; notes.

    Raises:
        InputError: none, or a finer one that fits nothing while the coarser one would give an image the labels of others.
    """
    if request.label_key is not None:
        columns = _named(table, request.label_key, images, request)
    if not columns:
        raise InputError(
            "{table} has no column by which an image is found.",
            "It has one or more of: path, SOPInstanceUID, AccessionNumber, StudyInstanceUID, PatientID; or name a column by "
            "--label-key.",
            table=table.path,
        )  # fmt: skip
    passed: dict[str, str] = {}
    for kind, column in columns.items():
        image_keys = tables.identifiers(images[kind]) if kind != "path" else images[kind]
        table_keys, changed = keys.as_known(_keys(table, column, kind, request), image_keys)
        if image_keys.is_in(table_keys.drop_nulls().implode()).any():
            notes = keys.notes(table_keys, column, changed)
            if passed:
                notes.append(_passed(passed, kind, column, images, table_keys))
            return column, image_keys, table_keys, notes
        # Of a blank column it is not said that another was used instead.
        passed |= {kind: column} if table_keys.null_count() < len(table_keys) else {}
    raise InputError(
        "No row of {table} is about an image of the archive, by {names}.",
        "Check that the table belongs to this archive, or name the column that finds the images by --label-key.",
        table=table.path,
        names=Shown(" or ".join(columns.values())),
    )


def _named(table: Table, name: str, images: pl.DataFrame, request: Request) -> dict[str, str]:
    """The column that was named, as the kind of key that it is called after, or else that finds most images."""
    column = table.column(name)
    if by_name := first_names([column], KEYS):
        return by_name

    def matched(kind: str) -> int:
        table_keys, _ = keys.as_known(_keys(table, column, kind, request), images[kind])
        return int(images[kind].is_in(table_keys.implode()).sum())

    return {max(KEYS, key=matched): column}


def _passed(passed: dict[str, str], kind: str, column: str, images: pl.DataFrame, table_keys: pl.Series) -> Shown:
    """What is said of finer keys that fit nothing, where the coarser one gives no image the labels of another.

    Raises:
        InputError: one value of the coarser key is several of the finer in the archive, so its labels may be another's.
    """
    finer, finer_column = next(iter(passed.items()))
    labelled = images.filter(images[kind].is_in(table_keys.drop_nulls().implode()))
    several = labelled.group_by(kind).agg(pl.col(finer).n_unique()).filter(pl.col(finer) > 1).height
    if several:
        raise InputError(
            "No image is found by {finer}, the finer key of the table. By {column} some are, but {several:,} of its values "
            "stand for several {kinds} in the archive, and the labels may be of one of them only.",
            "Correct {finer}, or name the column that is meant: --label-key {column}.",
            finer=Shown(finer_column), column=Shown(column), several=several,
            kinds=Shown(_PLURAL[finer]),
        )  # fmt: skip
    names = Shown(", ".join(passed.values()))
    return message("No image is found by {names}: {column} is used instead.", names=names, column=Shown(column))


def _keys(table: Table, column: str, kind: str, request: Request) -> pl.Series:
    """A table's keys; paths relative to the source."""
    if kind != "path":
        return tables.identifiers(table.frame[column])
    values = table.frame[column].str.replace_all("\\", "/", literal=True).str.replace(r"^(\./)+", "")
    return relative_to(values, request.root)
