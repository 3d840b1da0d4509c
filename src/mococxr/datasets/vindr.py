"""VinDr-CXR (Nguyen et al., 2022): `train/IMAGE.dicom`, `test/IMAGE.dicom` and tables with several readers an image.

PhysioNet's `annotations/image_labels_train.csv` has a row an image and reader, `image_labels_test.csv` a row an image (a
consensus); Kaggle's `train.csv` has a row an image, reader and box. A label is what more than half of an image's readers
say; where they are evenly divided it is uncertain (-1). The share of readers who saw the finding is kept as metadata,
`FINDING votes`. The images name no patients: `--patients-unknown` is needed.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.datasets.search import by_columns, locate, tables_in
from mococxr.errors import InputError, Shown
from mococxr.tables import Table, header, read_table

_TABLES = {"image_labels_train.csv*": "train", "image_labels_test.csv*": "test"}


def _tables(request: Request) -> dict[Path, str | None]:
    """Table -> the split it is for; Kaggle's `train.csv` only where PhysioNet's are not there."""
    if request.table is not None:
        split = next((part for part in ("train", "test") if f"_{part}." in request.table.name), None)
        return {request.table: split}
    paths: dict[Path, str | None] = {}
    for name, split in _TABLES.items():
        paths |= dict.fromkeys(tables_in(request.source, name)[:1], split)
    other = by_columns(request, READER.columns)
    return paths or dict.fromkeys([other] if other else tables_in(request.source, "train.csv")[:1])


def _find(request: Request) -> Path | None:
    """The first table; the name `train.csv` alone says nothing."""
    named = _tables(request).items()
    return next((path for path, split in named if split or READER.has_columns(header(path))), None)


def _read(request: Request) -> Rows:
    """Read the tables there are; train and test are the official split where both are."""
    read = [(read_table(path), split) for path, split in _tables(request).items()]
    if not read:
        raise InputError(
            "{source} holds no image_labels_train.csv or train.csv.",
            "Name the table by --labels FILE.",
            source=Shown(request.source),
        )
    votes = [_votes(table, split) for table, split in read]
    names, dropped = tables.common_labels([part.columns[3:] for part in votes])
    labels = tables.choose_labels(request.label, names, read[0][0].path.name)
    rows = pl.concat([part.select("image", "split", "readers", *labels) for part in votes])
    folders = ["train", "test", "images", "", "*/train", "*/test"]
    missing = rows.select(pl.format("{}/{}.dicom", pl.col("split").fill_null("train"), "image")).to_series()
    image = rows["image"]
    rows = rows.with_columns(
        *(pl.col(name).alias(f"{name} votes") for name in labels),
        # More than half of the readers: 1; fewer: 0; just half: -1, uncertain.
        *((pl.col(name) * 2 - 1).sign().replace({-1.0: 0.0, 0.0: -1.0}).cast(pl.Int8) for name in labels),
        locate(image, request.root, folders, missing),
    )
    official = rows["split"].n_unique() > 1  # one table alone is no split
    return Rows(
        rows if official else rows.drop("split"),
        labels,
        metadata=("readers", *(f"{name} votes" for name in labels)),
        describe_row=lambda row: f"image {image[row]}",
        tables=tuple(table for table, _ in read),
        has_official_split=official,
        notes=dropped,
    )


def _votes(table: Table, split: str | None) -> pl.DataFrame:
    """`image, split, readers` and for each finding the share of readers who saw it, in the order of the images."""
    image = table["image_id"]
    long = "class_name" in table.frame.columns
    column = next((name for name in table.frame.columns if name.lower() == "rad_id"), None)
    # The test table has none.
    reader = table.frame[column] if column else pl.repeat("consensus", len(image), eager=True)
    frame = pl.DataFrame({"image": image, "reader": reader})
    blank, problem = image.is_null() | reader.is_null(), "{row}: the image or the reader is blank."
    tables.refuse_rows(blank, table.describe_row, problem, "Fill it in or drop the row.")
    if long:
        seen = table.frame["class_name"].fill_null("")
        names = sorted(set(seen) - {""})
        frame = frame.with_columns((seen == name).cast(pl.Float64).alias(name) for name in names)
    else:
        names = [name for name in table.frame.columns if name.lower() not in ("image_id", "rad_id", "")]
        frame = frame.hstack(
            [tables.label_values(table.frame[name], table.describe_row).cast(pl.Float64) for name in names]
        )
    # A reader with two boxes votes once.
    each = frame.group_by("image", "reader", maintain_order=True).agg(pl.col(names).max())
    readers = pl.len().cast(pl.Int64).alias("readers")
    shares = each.group_by("image", maintain_order=True).agg(readers, pl.col(names).mean())
    shares = shares.select("image", pl.lit(split, pl.String).alias("split"), "readers", *names)
    return shares.rename({"Other disease": "Other diseases"}, strict=False)  # so named in the test table only


READER = Reader("vindr", _find, _read, frozenset({"image_id", "rad_id"}))
