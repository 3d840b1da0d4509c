"""NIH ChestX-ray14 (Wang et al., CVPR 2017): `Data_Entry_2017*.csv`; `images/` or `images_001/images/`."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr.datasets import columns, places
from mococxr.datasets.dataset import Cohort, Request, finish
from mococxr.datasets.tables import Table, read_lines, read_table
from mococxr.errors import InputError

LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
    "No Finding",
)
COLUMNS = {"Image Index", "Finding Labels", "Patient ID"}
"""Columns by which the table is known."""
_FOLDERS = ("images", "images_*/images", "images_*", "")
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
_METADATA = {
    "Follow-up #": "follow_up",
    "OriginalImage[Width": "original_width",
    "Height]": "original_height",
    "OriginalImagePixelSpacing[x": "pixel_spacing_x",
    "y]": "pixel_spacing_y",
}


def find_table(request: Request) -> Path | None:
    """The table named, the source itself, or the newest `Data_Entry_2017*` in the source."""
    return places.main_table(request, "Data_Entry_2017*.csv*")


def read(request: Request) -> Cohort:
    """Read the table; the official lists are the split where both are there.

    Raises:
        InputError: see `read_cohort`.
    """
    path = places.needed(find_table(request), request.source, "Data_Entry_2017*.csv")
    table = read_table(path)
    text, image = table.frame, table.column("Image Index")
    labels = columns.wanted(request.label, LABELS, table.path.name)
    rows = text.select(
        path=places.on_disk(text[image], request.root, _FOLDERS, "images/" + text[image]),
        patient=table.column("Patient ID"),
        study=pl.format("{}-{}", table.column("Patient ID"), pl.col(table.column("Follow-up #"))),
        view=table.column("View Position"),
        sex=columns.sexes(text[table.column("Patient Gender")]),
        age=columns.ages(text[table.column("Patient Age")]),
    )
    rows, official = _with_splits(rows, text[image], request.root)
    kept = {old: new for old, new in _METADATA.items() if old in text.columns}
    rows = rows.hstack(_findings(table, labels))
    rows = rows.hstack([columns.metadata(text[old]).alias(new) for old, new in kept.items()])
    cohort = Cohort(
        name="nih",
        source="nih",
        root=request.root,
        rows=rows,
        labels=labels,
        metadata=tuple(kept.values()),
        official_splits=official,
        notes=(
            *table.notes,
            *(("The official list train_val_list.txt is read as train.",) if official else ()),
        ),
        inputs={table.path.name: table.sha256},
    )
    return finish(cohort, table.place, request.patients_unknown)


def _findings(table: Table, labels: tuple[str, ...]) -> list[pl.Series]:
    """`Mass|Nodule` -> one 1/0 column a finding; a blank cell leaves the image without labels.

    Raises:
        InputError: a finding that is none of the fifteen.
    """
    text = table.frame[table.column("Finding Labels")]
    found = text.str.split("|").list.eval(pl.element().str.strip_chars())
    strange = ~found.list.set_difference(pl.Series([list(LABELS)])).list.len().eq(0) & text.is_not_null()
    if strange.any():
        at = strange.arg_max() or 0
        raise InputError(
            f"{table.place(at)}, column 'Finding Labels': {text[at]!r} is no list of findings.",
            f"Findings are: {', '.join(LABELS)}.",
        )
    return [found.list.contains(name).cast(pl.Int8).alias(name) for name in labels]


def _with_splits(rows: pl.DataFrame, names: pl.Series, root: Path) -> tuple[pl.DataFrame, bool]:
    """The official split, where both lists are in the source."""
    if not all((root / name).is_file() for name in _LISTS):
        return rows, False
    split = pl.lit(None, pl.String)
    for name, part in _LISTS.items():
        listed = pl.Series(read_lines(root / name), dtype=pl.String)
        split = pl.when(names.is_in(listed.implode())).then(pl.lit(part)).otherwise(split)
    return rows.with_columns(split=split), True
