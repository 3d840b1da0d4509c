"""RSNA pneumonia challenge (2018): `stage_2_train_labels.csv` and `stage_2_train_images/IMAGE.dcm`.

The table has a row a box; an image is 1 where any row of it is. Its `patientId` is the image's: who the patient is says
only `pneumonia-challenge-dataset-mappings_2018.json`, which names the image of ChestX-ray14 that each was made from.
With that file the patients and studies are ChestX-ray14's, and the store knows that it shares them with that set;
without it `--patients-unknown` is needed. The challenge's own test images have no public labels and are left out.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr import files, tables
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.datasets.search import locate, needed, newest_table, tables_in
from mococxr.errors import InputError, message
from mococxr.tables import Table, read_table

LABELS = ("Lung Opacity", "Normal")
"""Target, and the class `Normal` of the table of classes."""
_COLUMNS = frozenset({"patientId", "x", "y", "width", "height", "Target"})
_find = newest_table("stage_2_train_labels.csv*", _COLUMNS)


def _read(request: Request) -> Rows:
    """Read the table, and beside it the classes and the origin of the images where these files are there."""
    table = read_table(needed(_find(request), request.source, "stage_2_train_labels.csv"))
    target = tables.label_values(table["Target"], table.describe_row)
    boxes = pl.DataFrame({"image": table["patientId"], LABELS[0]: target})
    total = pl.col(LABELS[0]).sum().cast(pl.Int64).alias("boxes")
    rows = boxes.group_by("image", maintain_order=True).agg(total, pl.col(LABELS[0]).max())  # a row a box
    classes = next(iter(tables_in(request.root, "stage_2_detailed_class_info.csv*")), None)
    used = [table, *([read_table(classes)] if classes else [])]
    if classes:
        rows = rows.join(_classes(used[1]), on="image", how="left", maintain_order="left")
    available = [name for name in LABELS if name in rows.columns]
    origin = next(iter(tables_in(request.root, "pneumonia-challenge-dataset-mappings*.json")), None)
    if origin:
        rows = _with_patients(rows, origin)
    image = rows["image"]
    folders = ["stage_2_train_images", "images", "", "*/stage_2_train_images"]
    return Rows(
        rows.with_columns(locate(image, request.root, folders, "stage_2_train_images/" + image + ".dcm")),
        tables.choose_labels(request.label, available, table.path.name),
        metadata=("boxes", *(["class"] if classes else [])),
        describe_row=lambda row: f"image {image[row]}",
        tables=tuple(used),
        inputs={origin.name: files.sha256_file(origin)} if origin else {},
        source="nih" if origin else "",  # the same people: stores of both are then checked against each other
        notes=(message("Patients are those of ChestX-ray14, by {table}.", table=origin.name),) if origin else (),
    )


def _classes(table: Table) -> pl.DataFrame:
    """`image, class, Normal`: the three classes that the readers chose from."""
    frame = pl.DataFrame({"image": table["patientId"], "class": table["class"]})
    frame = frame.unique("image", maintain_order=True)  # a row a box here too
    return frame.with_columns((pl.col("class") == "Normal").cast(pl.Int8).alias(LABELS[1]))


def _with_patients(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Patient and study of ChestX-ray14: `00025669_003.png` is the third follow-up of patient 25669.

    Raises:
        InputError: the file is no list of images, or an image of the table is not in it.
    """
    content = files.read_json(path)
    entries = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
    pairs = [(str(entry.get("subset_img_id")), str(entry.get("img_id"))) for entry in entries]
    known = pl.DataFrame(pairs, schema={"image": pl.String, "origin": pl.String}, orient="row").unique("image")
    # Numbers: 00025669 is 25669 in the other set's table.
    parts = pl.col("origin").str.extract_groups(r"^(\d+)_(\d+)\.").struct.field("1", "2").cast(pl.Int64)
    rows = rows.join(known, on="image", how="left", maintain_order="left").with_columns(parts)
    lost = rows["1"].is_null()
    if lost.any():
        raise InputError(
            "{path} names no ChestX-ray14 image for {count:,} images, e.g. {value!r}.",
            "Restore the file, or take it away and give --patients-unknown.",
            path=path,
            count=lost.sum(),
            value=rows["image"][lost.arg_max() or 0],
        )
    study = pl.format("{}-{}", "1", "2")
    return rows.with_columns(patient=pl.col("1").cast(pl.String), study=study).drop("1", "2", "origin")


READER = Reader("rsna", _find, _read, _COLUMNS)
