"""NIH ChestX-ray14 (Wang et al., CVPR 2017): `Data_Entry_2017*.csv`; `images/` or `images_001/images/`."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.datasets.search import locate, needed, newest_table
from mococxr.errors import Shown
from mococxr.tables import Table, read_lines, read_table

LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia", "Infiltration",
    "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax", "No Finding",
)  # fmt: skip
_FOLDERS = ("images", "images_*/images", "images_*", "")  # joined into one folder, or in the parts of the release
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
_METADATA = {
    "Follow-up #": "follow_up",
    "OriginalImage[Width": "original_width",
    "Height]": "original_height",
    "OriginalImagePixelSpacing[x": "pixel_spacing_x",
    "y]": "pixel_spacing_y",
}
_COLUMNS = frozenset({"Image Index", "Finding Labels", "Patient ID"})
_find = newest_table("Data_Entry_2017*.csv*", _COLUMNS)


def _read(request: Request) -> Rows:
    """Read the table; the official lists are the split where both are there."""
    table = read_table(needed(_find(request), request.source, "Data_Entry_2017*.csv"))
    image, patient = table["Image Index"], table["Patient ID"]
    labels = tables.choose_labels(request.label, LABELS, table.path.name)
    frame = pl.DataFrame({
        "path": locate(image, request.root, _FOLDERS, "images/" + image),
        "patient": patient,
        "study": patient + "-" + table["Follow-up #"],  # the set names no studies: a follow-up is a visit
        "view": tables.views(table["View Position"]),
        "sex": tables.sexes(table["Patient Gender"]),
        "age": tables.ages(table["Patient Age"]),
    })  # fmt: skip
    kept = {old: new for old, new in _METADATA.items() if old in table.frame.columns}
    frame = frame.hstack(_findings(table, labels))
    frame = frame.hstack([tables.typed(table[old]).alias(new) for old, new in kept.items()])
    split = _official_split(image, request.root)
    return Rows(
        frame if split is None else frame.with_columns(split=split),
        labels,
        metadata=tuple(kept.values()),
        describe_row=table.describe_row,
        tables=(table,),
        has_official_split=split is not None,
        notes=() if split is None else (Shown("The official list train_val_list.txt is read as train."),),
    )


def _findings(table: Table, labels: tuple[str, ...]) -> list[pl.Series]:
    """`Mass|Nodule` -> one 1/0 column a finding; a blank cell leaves the image without labels.

    Raises:
        InputError: a finding that is none of the fifteen.
    """
    text = table["Finding Labels"]
    findings = text.str.split("|").list.eval(pl.element().str.strip_chars())
    # A misspelt finding would be a negative.
    strange = ~findings.list.set_difference(pl.Series([list(LABELS)])).list.len().eq(0) & text.is_not_null()
    tables.refuse_rows(
        strange, table.describe_row, "{row}, column 'Finding Labels': {value!r} is not a list of findings.",
        "Findings are: {names}.", value=text, names=Shown(", ".join(LABELS)),
    )  # fmt: skip
    return [findings.list.contains(name).cast(pl.Int8).alias(name) for name in labels]


def _official_split(names: pl.Series, root: Path) -> pl.Expr | None:
    """The split of each image, where both lists are in the source."""
    if not all((root / name).is_file() for name in _LISTS):  # one list alone does not say what the others are
        return None
    split = pl.lit(None, pl.String)
    for name, part in _LISTS.items():
        listed = pl.Series(read_lines(root / name), dtype=pl.String)  # a blank list has no type of its own
        split = pl.when(names.is_in(listed.implode())).then(pl.lit(part)).otherwise(split)
    return split


READER = Reader("nih", _find, _read, _COLUMNS)
