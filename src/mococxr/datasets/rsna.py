"""RSNA pneumonia challenge (2018): `stage_2_train_labels.csv` and `stage_2_train_images/IMAGE.dcm`.

The table has a row a box; an image is 1 where any row of it is. Its `patientId` is the image's: who the patient is says
only `pneumonia-challenge-dataset-mappings_2018.json`, which names the image of ChestX-ray14 that each was made from.
With that file the patients and studies are ChestX-ray14's, and the store knows that it shares them with that set;
without it `--patients-unknown` is needed. The challenge's own test images have no public labels and are left out.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr import files
from mococxr.datasets import columns, places
from mococxr.datasets.dataset import Cohort, Request, finish
from mococxr.datasets.tables import Table, read_table
from mococxr.errors import InputError

LABELS = ("Lung Opacity", "Normal")
"""Target, and the class `Normal` of the table of classes."""
COLUMNS = {"patientId", "Target"}
"""Columns by which the table is known."""


def find_table(request: Request) -> Path | None:
    """The table named, the source itself, or the one in the source."""
    return places.main_table(request, "stage_2_train_labels.csv*")


def read(request: Request) -> Cohort:
    """Read the table, and beside it the classes and the origin of the images where these files are there.

    Raises:
        InputError: see `read_cohort`.
    """
    path = places.needed(find_table(request), request.source, "stage_2_train_labels.csv")
    table = read_table(path)
    image = table.frame[table.column("patientId")]
    boxes = pl.DataFrame(
        {"image": image, LABELS[0]: columns.labels(table.frame[table.column("Target")], table.place)}
    )
    total = pl.col(LABELS[0]).sum().cast(pl.Int64).alias("boxes")
    rows = boxes.group_by("image", maintain_order=True).agg(total, pl.col(LABELS[0]).max())
    classes = next(iter(places.tables(request.root, "stage_2_detailed_class_info.csv*")), None)
    used = [table, *([read_table(classes)] if classes else [])]
    if classes:
        rows = rows.join(_classes(used[1]), on="image", how="left", maintain_order="left")
    there = [name for name in LABELS if name in rows.columns]
    labels = columns.wanted(request.label, there, table.path.name)
    origin = next(iter(places.tables(request.root, "pneumonia-challenge-dataset-mappings*.json")), None)
    if origin:
        rows = _with_patients(rows, origin)
    folders = ["stage_2_train_images", "images", "", "*/stage_2_train_images"]
    missing = "stage_2_train_images/" + rows["image"] + ".dcm"
    cohort = Cohort(
        name="rsna",
        source="nih" if origin else "rsna",
        root=request.root,
        rows=rows.with_columns(places.on_disk(rows["image"], request.root, folders, missing)),
        labels=labels,
        metadata=("boxes", *(["class"] if classes else [])),
        notes=(
            *(note for each in used for note in each.notes),
            *((f"Patients are those of ChestX-ray14, by {origin.name}.",) if origin else ()),
        ),
        inputs={each.path.name: each.sha256 for each in used}
        | ({origin.name: files.sha256_file(origin)} if origin else {}),
    )
    return finish(cohort, lambda row: f"image {rows['image'][row]}", request.patients_unknown)


def _classes(table: Table) -> pl.DataFrame:
    """`image, class, Normal`: the three classes that the readers chose from."""
    image, kind = (table.frame[table.column(name)] for name in ("patientId", "class"))
    frame = pl.DataFrame({"image": image, "class": kind}).unique("image", maintain_order=True)
    return frame.with_columns((pl.col("class") == "Normal").cast(pl.Int8).alias(LABELS[1]))


def _with_patients(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Patient and study of ChestX-ray14: `00025669_003.png` is the third follow-up of patient 25669.

    Raises:
        InputError: the file is no list of images, or an image of the table is not in it.
    """
    content = files.read_json(path)
    entries = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
    pairs = [(str(entry.get("subset_img_id")), str(entry.get("img_id"))) for entry in entries]
    known = pl.DataFrame(pairs, schema={"image": pl.String, "origin": pl.String}, orient="row").unique(
        "image"
    )
    parts = pl.col("origin").str.extract_groups(r"^(\d+)_(\d+)\.").struct.field("1", "2").cast(pl.Int64)
    rows = rows.join(known, on="image", how="left", maintain_order="left").with_columns(parts)
    lost = rows["1"].is_null()
    if lost.any():
        raise InputError(
            f"{path} names no ChestX-ray14 image for {lost.sum():,} images, e.g. {rows['image'][lost.arg_max() or 0]!r}.",
            "Restore the file, or take it away and give --patients-unknown.",
        )
    study = pl.format("{}-{}", "1", "2")
    return rows.with_columns(patient=pl.col("1").cast(pl.String), study=study).drop("1", "2", "origin")
