"""MIMIC-CXR-JPG 2.x (Johnson et al., 2019): `files/p10/p10000032/s50414267/IMAGE.jpg` and its tables.

`mimic-cxr-2.0.0-metadata.csv` lists the images, `-split.csv` the official split, `-chexpert.csv` the labels of each
study; `--labels` names another table of studies, such as `-negbio.csv`. Sex and age are in none of them: they are
taken from MIMIC-IV's `patients.csv` where that lies beside. All may be gzipped.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr import tables
from mococxr.datasets import chexpert
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.datasets.search import by_columns, tables_in
from mococxr.errors import InputError, Shown
from mococxr.tables import Table, read_table

_COLUMNS = {
    "metadata": ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate"),
    "split": ("dicom_id", "subject_id", "study_id", "split"),
    "chexpert": ("subject_id", "study_id", "Pleural Effusion"),
}
"""What each kind of table is known by, where it has another name."""


def _table_of(request: Request, kind: str) -> Path | None:
    """The newest table of that kind, or the only one with its columns: metadata, split or chexpert."""
    # The version is in the name: the last is the newest.
    named = max(tables_in(request.root, f"mimic-cxr-*-{kind}.csv*"), default=None)
    return named or by_columns(request, _COLUMNS[kind])


def _read(request: Request) -> Rows:
    """Read the tables; the images are those of the metadata."""
    images = read_table(_needed(request, "metadata"))
    studies = read_table(request.labels or _needed(request, "chexpert"))
    available = [name for name in chexpert.LABELS if name in studies.frame.columns]
    labels = tables.choose_labels(request.label, available, studies.path.name)
    view, patient = images["ViewPosition"], images["subject_id"]
    frame = pl.DataFrame({
        "patient": patient,
        "study": images["study_id"],
        "image": images["dicom_id"],
        "day": tables.days_since_first_study(images["StudyDate"], patient),
        "view": tables.views(view),
        "view_position": view,
    })  # fmt: skip
    used = [images, studies]
    for add in (_with_split, _with_patients):
        frame, table = add(frame, images, request)
        used += [table] if table else []
    # A study without a row has no labels.
    frame = frame.join(_of_studies(studies, labels), on="study", how="left", maintain_order="left")
    # SOURCE may be `files` itself.
    in_root = not (request.root / "files").is_dir() and any(request.root.glob("p1[0-9]"))
    start = pl.lit("" if in_root else "files/")
    path = pl.format("{}p{}/p{}/s{}/{}.jpg", start, pl.col("patient").str.head(2), "patient", "study", "image")
    return Rows(
        frame.with_columns(path=path),
        labels,
        metadata=("view_position", "day"),
        describe_row=images.describe_row,
        tables=tuple(used),
        has_official_split="split" in frame.columns,
        blank_means="negative",  # as with CheXpert, whose labeller was used
    )


def _needed(request: Request, kind: str) -> Path:
    path = _table_of(request, kind)
    if path is None:
        raise InputError(
            "{source} holds no mimic-cxr-2.x.x-{kind}.csv.",
            "Put the tables of MIMIC-CXR-JPG beside its folder `files`.",
            source=Shown(request.root),
            kind=Shown(kind),
        )
    return path


def _of_studies(table: Table, labels: tuple[str, ...]) -> pl.DataFrame:
    """`study` and the labels, one row a study.

    Raises:
        InputError: a study that appears twice, or a value that is no label.
    """
    study = table["study_id"]
    again, row = ~study.is_first_distinct(), table.describe_row
    tables.refuse_rows(again, row, "{row}: the study {study!r} appears twice.", "Keep one row a study.", study=study)
    values = [tables.label_values(table[name], table.describe_row) for name in labels]
    return pl.DataFrame([study.alias("study"), *values])


def _with_split(frame: pl.DataFrame, images: Table, request: Request) -> tuple[pl.DataFrame, Table | None]:
    """The official split, where its table is there."""
    path = _table_of(request, "split")
    if path is None:
        return frame, None
    table = read_table(path)
    split = tables.split_names(table["split"], table.describe_row)
    named = pl.DataFrame({"image": table["dicom_id"], "split": split}).unique("image")
    frame = frame.join(named, on="image", how="left", maintain_order="left")
    tables.refuse_rows(
        frame["split"].is_null(), images.describe_row, "{row}: {file} has no split for {image!r}.",
        "Use tables of one release.", file=Shown(path.name), image=frame["image"],
    )  # fmt: skip
    return frame, table


def _with_patients(frame: pl.DataFrame, images: Table, request: Request) -> tuple[pl.DataFrame, Table | None]:
    """Sex and age by MIMIC-IV's table of patients, where it is there: the age at the study, by its year."""
    paths = [request.root / name for name in ("patients.csv", "patients.csv.gz")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return frame, None
    table = read_table(path)
    patients = pl.DataFrame({
        "patient": table["subject_id"],
        "sex": tables.sexes(table["gender"]),
        # Years shifted for each patient, as StudyDate is.
        "born": tables.ages(table["anchor_year"]) - tables.ages(table["anchor_age"]),
    }).unique("patient")  # fmt: skip
    year = images["StudyDate"].str.head(4).cast(pl.Float64, strict=False)
    frame = frame.join(patients, on="patient", how="left", maintain_order="left")
    return frame.with_columns(age=year - pl.col("born")).drop("born"), table


READER = Reader(
    "mimic",
    find=lambda request: _table_of(request, "metadata"),
    read=_read,
    columns=frozenset({"subject_id", "study_id", "Pleural Effusion"}),
    safe=frozenset({"day"}),
)
