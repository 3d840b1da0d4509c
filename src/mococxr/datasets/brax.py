"""BRAX (Reis et al., 2022): `master_spreadsheet_update.csv` and `images/.../*.png`, labelled as CheXpert is."""

from __future__ import annotations

import polars as pl

from mococxr import tables
from mococxr.datasets import chexpert
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.datasets.search import needed, newest_table
from mococxr.tables import read_table

_COLUMNS = frozenset({"PngPath", "PatientID", "AccessionNumber"})
_find = newest_table("master_spreadsheet*.csv*", _COLUMNS)  # the updated table is the last by name


def _read(request: Request) -> Rows:
    """Read the table. The images are its PNG ones; ages are groups of five years, `85 or more` is 85."""
    table = read_table(needed(_find(request), request.source, "master_spreadsheet_update.csv"))
    available = [name for name in chexpert.LABELS if name in table.frame.columns]
    labels = tables.choose_labels(request.label, available, table.path.name)
    view, patient, path = table["ViewPosition"], table["PatientID"], table["PngPath"]
    if request.root.name == "images" and not (request.root / "images").is_dir():  # SOURCE may be `images` itself
        path = path.str.strip_prefix("images/")
    frame = pl.DataFrame({
        "path": path,
        "patient": patient,
        "study": table["AccessionNumber"],
        "view": tables.views(view),
        "sex": tables.sexes(table["PatientSex"]),
        "age": tables.ages(table["PatientAge"].str.replace(r"(?i)\s*or more$", "")),
        "view_position": view,
        "manufacturer": table["Manufacturer"],
        "day": tables.days_since_first_study(table["StudyDate"], patient),
    })  # fmt: skip
    return Rows(
        frame.hstack([tables.label_values(table[name], table.describe_row) for name in labels]),
        labels,
        metadata=("view_position", "manufacturer", "day"),
        describe_row=table.describe_row,
        tables=(table,),
        blank_means="negative",  # labelled as CheXpert is
    )


READER = Reader("brax", _find, _read, _COLUMNS, frozenset({"day"}))
