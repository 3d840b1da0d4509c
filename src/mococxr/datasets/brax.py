"""BRAX (Reis et al., 2022): `master_spreadsheet_update.csv` and `images/.../*.png`, labelled as CheXpert is."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr.datasets import chexpert, columns, places
from mococxr.datasets.dataset import Cohort, Request, finish
from mococxr.datasets.tables import read_table

COLUMNS = {"PngPath", "PatientID", "AccessionNumber"}
"""Columns by which the table is known."""


def find_table(request: Request) -> Path | None:
    """The table named, the source itself, or the one in the source; the updated one first."""
    return places.main_table(request, "master_spreadsheet*.csv*")


def read(request: Request) -> Cohort:
    """Read the table. The images are its PNG ones; ages are groups of five years, `85 or more` is 85.

    Raises:
        InputError: see `read_cohort`.
    """
    path = places.needed(find_table(request), request.source, "master_spreadsheet_update.csv")
    table = read_table(path)
    text = table.frame
    there = [name for name in chexpert.LABELS if name in text.columns]
    labels = columns.wanted(request.label, there, table.path.name)
    view = text[table.column("ViewPosition")]
    patient = text[table.column("PatientID")]
    images = text[table.column("PngPath")]
    if request.root.name == "images" and not (request.root / "images").is_dir():
        images = images.str.strip_prefix("images/")
    rows = pl.DataFrame({
        "path": images,
        "patient": patient,
        "study": text[table.column("AccessionNumber")],
        "view": columns.views(view),
        "sex": columns.sexes(text[table.column("PatientSex")]),
        "age": columns.ages(text[table.column("PatientAge")].str.replace(r"(?i)\s*or more$", "")),
        "view_position": view,
        "manufacturer": text[table.column("Manufacturer")],
        "day": columns.days(text[table.column("StudyDate")], patient),
    })  # fmt: skip
    cohort = Cohort(
        name="brax",
        source="brax",
        root=request.root,
        rows=rows.hstack([columns.labels(text[name], table.place) for name in labels]),
        labels=labels,
        metadata=("view_position", "manufacturer", "day"),
        blank="negative",
        notes=table.notes,
        inputs={table.path.name: table.sha256},
    )
    return finish(cohort, table.place, request.patients_unknown)
