"""CheXpert (Irvin et al., AAAI 2019): `train.csv`, `valid.csv` and, where there is one, the test set's table.

Paths such as `CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg` hold patient and study; where
the images really are is found out by `chexpert_images`. The test set, which is released apart, may be read alone;
its table has a row an image (`Path`) or a row a study (`Study`).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr.datasets import chexpert_images, columns
from mococxr.datasets.dataset import Cohort, Request, finish
from mococxr.datasets.tables import Table, read_table
from mococxr.errors import InputError

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
_FILES = {
    "train": ("train.csv",),
    "val": ("valid.csv",),
    "test": ("test.csv", "test_labels.csv", "groundtruth.csv"),
}
"""The tables by split; of several names the first that is there."""


def knows(names: set[str]) -> bool:
    """Whether a table with such columns is one of CheXpert's."""
    return bool(names & {"Path", "Study"}) and names >= {"Enlarged Cardiomediastinum", "Pleural Effusion"}


def tables(request: Request) -> list[Path]:
    """The tables: the one named, or those in the source or in a release folder directly in it."""
    if request.labels is not None:
        return [request.labels]
    if request.source.is_file():
        return [request.source]
    folders = [request.source, *sorted(request.source.glob("CheXpert*/"))]
    found = [
        next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)
        for names in _FILES.values()
    ]
    return [path for path in found if path is not None]


def read(request: Request) -> Cohort:
    """Read the tables there are; `valid.csv` is the validation split.

    Raises:
        InputError: see `read_cohort`.
    """
    found = [read_table(path) for path in tables(request)]
    if not found:
        raise InputError(
            f"{request.source} holds no train.csv, valid.csv or test set's table.",
            "Give the folder of the release, or --labels FILE.",
        )
    there, left_out = columns.in_all(
        [[name for name in LABELS if name in table.frame.columns] for table in found]
    )
    labels = columns.wanted(request.label, there, found[0].path.name)
    parts = [_rows(table, labels, request) for table in found]
    rows = pl.concat(parts, how="diagonal")
    places = [(table, row) for table, part in zip(found, parts, strict=True) for row in part["at"]]
    rows, official, notes = _with_splits(rows)
    cohort = Cohort(
        name="chexpert",
        source="chexpert",
        root=request.root,
        rows=rows,
        labels=labels,
        metadata=tuple(name for name in ("Frontal/Lateral", "AP/PA") if name in rows.columns),
        official_splits=official,
        blank="negative",
        notes=(*(note for table in found for note in table.notes), *left_out, *notes),
        inputs={table.path.name: table.sha256 for table in found},
    )
    return finish(cohort, lambda row: places[row][0].place(places[row][1]), request.patients_unknown)


def _with_splits(rows: pl.DataFrame) -> tuple[pl.DataFrame, bool, tuple[str, ...]]:
    """The rows, whether their split is the official one, and what to say of it."""
    splits = set(rows["split"].unique())
    if splits == {"test"}:
        return rows, True, ("Only the test table is there: all its images are test images.",)
    if len(splits) < 2:
        said = f"Only the {splits.pop()} table is there: its images are split anew."
        return rows.with_columns(split=pl.lit(None, pl.String)), False, (said,)
    said = "The public release has no test set: the official split is train and val."
    return rows, True, () if "test" in splits else (said,)


def _rows(table: Table, labels: tuple[str, ...], request: Request) -> pl.DataFrame:
    """The rows of one table, each with `at`, its row in the table."""
    parts = chexpert_images.parts_of(table, request)
    text = table.frame[parts["at"]]
    rows = parts.select(
        path=pl.col("home") + pl.col("patient") + "/" + pl.col("study") + "/" + pl.col("image"),
        patient="patient",
        study=pl.col("patient") + "/" + pl.col("study"),
        split=pl.col("split").replace_strict(chexpert_images.SPLITS),
        at="at",
    )
    if "Sex" in text.columns:
        rows = rows.with_columns(sex=columns.sexes(text["Sex"]))
    if "Age" in text.columns:
        rows = rows.with_columns(age=columns.ages(text["Age"]))
    rows = rows.hstack([text[name] for name in ("Frontal/Lateral", "AP/PA") if name in text.columns])
    rows = rows.with_columns(view=_views(rows))
    return rows.hstack(
        [columns.labels(text[name], lambda row: table.place(parts["at"][row])) for name in labels]
    )


def _views(rows: pl.DataFrame) -> pl.Expr:
    """AP or PA; else Frontal or Lateral by the table or the file's name (raw columns stay as metadata)."""
    side = pl.col("path").str.extract(r"(?i)_(frontal|lateral)\.", 1).str.to_titlecase()
    if "Frontal/Lateral" in rows.columns:
        side = pl.coalesce("Frontal/Lateral", side)
    if "AP/PA" not in rows.columns:
        return side
    return pl.when(pl.col("AP/PA").is_in(["AP", "PA"])).then("AP/PA").otherwise(side)
