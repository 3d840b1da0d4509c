"""CheXpert (Irvin et al., AAAI 2019): `train.csv`, `valid.csv` and, where there is one, the test set's table.

Paths such as `CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg` hold patient and study; what
stands before the split's folder is the name of the release, and is replaced by where the films really are.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr.cohorts import columns
from mococxr.cohorts.cohort import Cohort, Request, finish
from mococxr.cohorts.tables import Table, read_table
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
COLUMNS = {"Path", "Enlarged Cardiomediastinum", "Pleural Effusion", "Support Devices"}
"""Columns by which a CheXpert table is known."""
_FILES = {"train": ("train.csv",), "val": ("valid.csv",), "test": ("test.csv", "test_labels.csv")}
_PATH = r"^(.*?)/?((train|valid|test)/(patient[^/]+)/(study[^/]+)/[^/]+)$"


def tables(request: Request) -> list[Path]:
    """The tables: the one named, or those in the source or in a release folder directly in it."""
    if request.labels is not None:
        return [request.labels]
    if request.source.is_file():
        return [request.source]
    for folder in [request.source, *sorted(request.source.glob("CheXpert*/"))]:
        found = [
            next((folder / name for name in names if (folder / name).is_file()), None)
            for names in _FILES.values()
        ]
        if any(found):
            return [path for path in found if path is not None]
    return []


def read(request: Request) -> Cohort:
    """Read the tables there are; `valid.csv` is the validation split.

    Raises:
        InputError: see `read_cohort`.
    """
    found = [read_table(path) for path in tables(request)]
    if not found:
        raise InputError(
            f"{request.source} holds no train.csv or valid.csv.",
            "Give the folder of the release, or --labels FILE.",
        )
    there = [name for name in LABELS if all(name in table.frame.columns for table in found)]
    labels = columns.wanted(request.label, there, found[0].path.name)
    rows = pl.concat([_rows(table, labels, request) for table in found], how="diagonal")
    splits = set(rows["split"].unique())
    notes = [note for table in found for note in table.notes]
    if len(splits) < 2:
        notes.append(f"Only the {splits.pop()} table is there: its films are split anew.")
        rows = rows.with_columns(split=pl.lit(None, pl.String))
    elif "test" not in splits:
        notes.append("The public release has no test set: the official split is train and val.")
    cohort = Cohort(
        name="chexpert",
        source="chexpert",
        root=request.root,
        rows=rows,
        labels=labels,
        metadata=tuple(name for name in ("Frontal/Lateral", "AP/PA") if name in rows.columns),
        official_splits=len(splits) > 1,
        blank="negative",
        notes=tuple(notes),
        inputs={table.path.name: table.sha256 for table in found},
    )
    return finish(cohort, lambda row: _place(found, row), request.patients_unknown)


def _place(found: list[Table], row: int) -> str:
    """Where a row of the joined tables stands."""
    for table in found:
        if row < table.frame.height:
            return table.place(row)
        row -= table.frame.height
    raise IndexError(row)


def _rows(table: Table, labels: tuple[str, ...], request: Request) -> pl.DataFrame:
    """The rows of one table."""
    text = table.frame
    paths = text[table.column("Path")]
    parts = paths.str.extract_groups(_PATH).struct.unnest()
    parts.columns = ["release", "inside", "split", "patient", "study"]
    strange = parts["inside"].is_null()
    if strange.any():
        at = strange.arg_max() or 0
        raise InputError(
            f"{table.place(at)}, column 'Path': {paths[at]!r} is not .../train/patientN/studyN/film.",
            "CheXpert's own paths are needed; read other tables with --format csv.",
        )
    prefix = _prefix(table, parts, request)
    rows = parts.select(
        path=prefix + pl.col("inside"),
        patient="patient",
        study=pl.col("patient") + "/" + pl.col("study"),
        split=pl.col("split").replace_strict({"train": "train", "valid": "val", "test": "test"}),
    )
    if "Sex" in text.columns:
        rows = rows.with_columns(sex=columns.sexes(text["Sex"]))
    if "Age" in text.columns:
        rows = rows.with_columns(age=columns.ages(text["Age"]))
    rows = rows.hstack([text[name] for name in ("Frontal/Lateral", "AP/PA") if name in text.columns])
    rows = rows.with_columns(view=_views(rows))
    return rows.hstack([columns.labels(text[name], table.place) for name in labels])


def _views(rows: pl.DataFrame) -> pl.Expr:
    """AP or PA; else Frontal or Lateral by the table or the file's name (raw columns stay as metadata)."""
    side = pl.col("path").str.extract(r"(?i)_(frontal|lateral)\.", 1).str.to_titlecase()
    if "Frontal/Lateral" in rows.columns:
        side = pl.coalesce("Frontal/Lateral", side)
    if "AP/PA" not in rows.columns:
        return side
    return pl.when(pl.col("AP/PA").is_in(["AP", "PA"])).then("AP/PA").otherwise(side)


def _prefix(table: Table, parts: pl.DataFrame, request: Request) -> str:
    """What stands between the root and `train/` or `valid/` on disk; empty where no film folder is found."""
    release = parts["release"][0] or ""
    split = parts["split"][0]
    near = [request.root, request.root / release, request.root / Path(release).name, table.path.parent]
    for folder in [*near, *sorted(request.root.glob("CheXpert*/"))]:
        if (folder / split).is_dir() and folder.resolve().is_relative_to(request.root.resolve()):
            inside = folder.resolve().relative_to(request.root.resolve()).as_posix()
            return "" if inside == "." else f"{inside}/"
    return ""
