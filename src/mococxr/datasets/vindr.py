"""VinDr-CXR (Nguyen et al., 2022): `train/IMAGE.dicom`, `test/IMAGE.dicom` and tables with several readers an image.

PhysioNet's `annotations/image_labels_train.csv` has a row an image and reader, `image_labels_test.csv` a row an image (a
consensus); Kaggle's `train.csv` has a row an image, reader and box. A label is what more than half of an image's readers
say; where they are evenly divided it is uncertain (-1). The share of readers who saw the finding is kept as metadata,
`FINDING votes`. The images name no patients: `--patients-unknown` is needed.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr.datasets import columns, places
from mococxr.datasets.dataset import Cohort, Request, finish
from mococxr.datasets.tables import Table, read_table
from mococxr.errors import InputError

COLUMNS = {"image_id", "rad_id"}
"""Columns by which a table of readers is known (in lower case)."""
_TABLES = {"image_labels_train.csv*": "train", "image_labels_test.csv*": "test"}


def tables(request: Request) -> dict[Path, str | None]:
    """Table -> the split it is for; Kaggle's `train.csv` only where PhysioNet's are not there."""
    named = request.labels or (request.source if request.source.is_file() else None)
    if named is not None:
        split = next((part for part in ("train", "test") if f"_{part}." in named.name), None)
        return {named: split}
    found: dict[Path, str | None] = {}
    for name, split in _TABLES.items():
        found |= dict.fromkeys(places.tables(request.source, name)[:1], split)
    return found or dict.fromkeys(places.tables(request.source, "train.csv")[:1])


def read(request: Request) -> Cohort:
    """Read the tables there are; train and test are the official split where both are.

    Raises:
        InputError: see `read_cohort`.
    """
    found = [(read_table(path), split) for path, split in tables(request).items()]
    if not found:
        raise InputError(
            f"{request.source} holds no image_labels_train.csv or train.csv.",
            "Name the table by --labels FILE.",
        )
    votes = [_votes(table, split) for table, split in found]
    names, left_out = columns.in_all([part.columns[3:] for part in votes])
    labels = columns.wanted(request.label, names, found[0][0].path.name)
    rows = pl.concat([part.select("image", "split", "readers", *labels) for part in votes])
    rows = rows.with_columns(
        *(pl.col(name).alias(f"{name} votes") for name in labels),
        *((pl.col(name) * 2 - 1).sign().replace({-1.0: 0.0, 0.0: -1.0}).cast(pl.Int8) for name in labels),
        _paths(rows, request),
    )
    official = rows["split"].n_unique() > 1
    cohort = Cohort(
        name="vindr",
        source="vindr",
        root=request.root,
        rows=rows if official else rows.drop("split"),
        labels=labels,
        metadata=("readers", *(f"{name} votes" for name in labels)),
        official_splits=official,
        notes=(*(note for table, _ in found for note in table.notes), *left_out),
        inputs={table.path.name: table.sha256 for table, _ in found},
    )
    return finish(cohort, lambda row: f"image {rows['image'][row]}", request.patients_unknown)


def _votes(table: Table, split: str | None) -> pl.DataFrame:
    """`image, split, readers` and for each finding the share of readers who saw it, in the order of the images."""
    image = table.frame[table.column("image_id")]
    long = "class_name" in table.frame.columns
    reader = next((name for name in table.frame.columns if name.lower() == "rad_id"), None)
    reader_of = table.frame[reader] if reader else pl.repeat("consensus", len(image), eager=True)
    frame = pl.DataFrame({"image": image, "reader": reader_of})
    if image.null_count() or reader_of.null_count():
        at = (image.is_null() | reader_of.is_null()).arg_max() or 0
        raise InputError(
            f"{table.place(at)}: the image or the reader is blank.", "Fill it in or drop the row."
        )
    if long:
        seen = table.frame["class_name"].fill_null("")
        names = sorted(set(seen) - {""})
        frame = frame.with_columns((seen == name).cast(pl.Float64).alias(name) for name in names)
    else:
        names = [name for name in table.frame.columns if name.lower() not in ("image_id", "rad_id", "")]
        frame = frame.hstack(
            [columns.labels(table.frame[name], table.place).cast(pl.Float64) for name in names]
        )
    each = frame.group_by("image", "reader", maintain_order=True).agg(pl.col(names).max())
    readers = pl.len().cast(pl.Int64).alias("readers")
    shares = each.group_by("image", maintain_order=True).agg(readers, pl.col(names).mean())
    shares = shares.select("image", pl.lit(split, pl.String).alias("split"), "readers", *names)
    return shares.rename({"Other disease": "Other diseases"}, strict=False)  # so named in the test table only


def _paths(rows: pl.DataFrame, request: Request) -> pl.Series:
    """`train/IMAGE.dicom` and so on, in whatever form the images are there."""
    folders = ["train", "test", "images", "", "*/train", "*/test"]
    missing = rows.select(pl.format("{}/{}.dicom", pl.col("split").fill_null("train"), "image")).to_series()
    return places.on_disk(rows["image"], request.root, folders, missing)
