"""MIMIC-CXR-JPG 2.x (Johnson et al., 2019): `files/p10/p10000032/s50414267/IMAGE.jpg` and its tables.

`mimic-cxr-2.0.0-metadata.csv` lists the images, `-split.csv` the official split, `-chexpert.csv` the labels of each
study; `--labels` names another table of studies, such as `-negbio.csv`. Sex and age are in none of them: they are
taken from MIMIC-IV's `patients.csv` where that lies beside. All may be gzipped.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr.datasets import chexpert, columns, places
from mococxr.datasets.dataset import Cohort, Request, finish
from mococxr.datasets.tables import Table, read_table
from mococxr.errors import InputError

COLUMNS = {"subject_id", "study_id", "Pleural Effusion"}
"""Columns by which a table of its labels is known."""


def table_of(request: Request, kind: str) -> Path | None:
    """The newest table of that kind: metadata, split, chexpert or negbio."""
    return max(places.tables(request.root, f"mimic-cxr-*-{kind}.csv*"), default=None)


def read(request: Request) -> Cohort:
    """Read the tables; the images are those of the metadata.

    Raises:
        InputError: see `read_cohort`.
    """
    images = read_table(_needed(request, "metadata"))
    studies = read_table(request.labels or _needed(request, "chexpert"))
    labels = columns.wanted(
        request.label, [name for name in chexpert.LABELS if name in studies.frame.columns], studies.path.name
    )
    ids = {name: images.column(name) for name in ("subject_id", "study_id", "dicom_id")}
    frame = images.frame.select(patient=ids["subject_id"], study=ids["study_id"], image=ids["dicom_id"])
    frame = frame.with_columns(day=columns.days(images.frame[images.column("StudyDate")], frame["patient"]))
    view = images.frame[images.column("ViewPosition")]
    frame = frame.with_columns(columns.views(view).alias("view"), view.alias("view_position"))
    used = [images, studies]
    for add in (_with_split, _with_people):
        frame, table = add(frame, images, request)
        used += [table] if table else []
    frame = frame.join(_of_studies(studies, labels), on="study", how="left", maintain_order="left")
    folder = next((name for name in ("files/", "") if (request.root / name).is_dir() and name), "")
    folder = folder if folder or list(request.root.glob("p1[0-9]")) else "files/"
    path = pl.format(
        "{}p{}/p{}/s{}/{}.jpg", pl.lit(folder), pl.col("patient").str.head(2), "patient", "study", "image"
    )
    cohort = Cohort(
        name="mimic",
        source="mimic",
        root=request.root,
        rows=frame.with_columns(path=path),
        labels=labels,
        metadata=("view_position", "day"),
        official_splits="split" in frame.columns,
        blank="negative",
        notes=tuple(note for table in used for note in table.notes),
        inputs={table.path.name: table.sha256 for table in used},
    )
    return finish(cohort, images.place, request.patients_unknown)


def _needed(request: Request, kind: str) -> Path:
    found = table_of(request, kind)
    if found is None:
        raise InputError(
            f"{request.root} holds no mimic-cxr-2.x.x-{kind}.csv.",
            "Put the tables of MIMIC-CXR-JPG beside its folder `files`.",
        )
    return found


def _of_studies(table: Table, labels: tuple[str, ...]) -> pl.DataFrame:
    """`study` and the labels, one row a study.

    Raises:
        InputError: a study that stands twice, or a value that is no label.
    """
    study = table.frame[table.column("study_id")]
    again = ~study.is_first_distinct()
    if again.any():
        at = again.arg_max() or 0
        raise InputError(f"{table.place(at)}: the study {study[at]!r} stands twice.", "Keep one row a study.")
    return pl.DataFrame(
        [study.alias("study"), *(columns.labels(table.frame[n], table.place) for n in labels)]
    )


def _with_split(frame: pl.DataFrame, images: Table, request: Request) -> tuple[pl.DataFrame, Table | None]:
    """The official split, where its table is there."""
    path = table_of(request, "split")
    if path is None:
        return frame, None
    table = read_table(path)
    split = columns.splits(table.frame[table.column("split")], table.place)
    named = pl.DataFrame({"image": table.frame[table.column("dicom_id")], "split": split}).unique("image")
    frame = frame.join(named, on="image", how="left", maintain_order="left")
    if frame["split"].null_count():
        at = frame["split"].is_null().arg_max() or 0
        image = frame["image"][at]
        raise InputError(
            f"{images.place(at)}: {path.name} has no split for {image!r}.", "Use tables of one release."
        )
    return frame, table


def _with_people(frame: pl.DataFrame, images: Table, request: Request) -> tuple[pl.DataFrame, Table | None]:
    """Sex and age by MIMIC-IV's table of patients, where it is there: the age at the study, by its year."""
    path = next(
        (path for name in ("patients.csv", "patients.csv.gz") if (path := request.root / name).is_file()),
        None,
    )
    if path is None:
        return frame, None
    table = read_table(path)
    text = table.frame
    people = pl.DataFrame({
        "patient": text[table.column("subject_id")],
        "sex": columns.sexes(text[table.column("gender")]),
        "born": columns.ages(text[table.column("anchor_year")]) - columns.ages(text[table.column("anchor_age")]),
    }).unique("patient")  # fmt: skip
    year = images.frame[images.column("StudyDate")].str.head(4).cast(pl.Float64, strict=False)
    frame = frame.join(people, on="patient", how="left", maintain_order="left")
    return frame.with_columns(age=year - pl.col("born")).drop("born"), table
