"""Which reader a source is for, by how it is laid out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mococxr.datasets import (
    brax,
    chexpert,
    mimic,
    nih,
    openi,
    own,
    padchest,
    places,
    rsna,
    shenzhen,
    tbx11k,
    vindr,
    xrv,
)
from mococxr.datasets.dataset import Request
from mococxr.datasets.dicom_scan import holds_dicom
from mococxr.datasets.tables import header

_COLUMNS = {
    "nih": nih.COLUMNS,
    "brax": brax.COLUMNS,
    "padchest": padchest.COLUMNS,
    "vindr": vindr.COLUMNS,
    "rsna": rsna.COLUMNS,
    "tbx11k": tbx11k.COLUMNS,
    "openi": openi.COLUMNS,
}
"""Reader -> the columns, in any case, by which its table is known."""


def detect(request: Request) -> tuple[str, tuple[str, ...]]:
    """The name of the reader and a note that says why."""
    table = request.labels or (request.source if request.source.is_file() else None)
    name, why = _by_table(table, request) if table else _by_folder(request)
    return name, (f"The source is read as {name}: {why}.",)


def _by_table(table: Path, request: Request) -> tuple[str, str]:
    """By the columns of the table that was named."""
    names = set(header(table))
    if chexpert.knows(names):
        return "chexpert", f"{table.name} has CheXpert's columns"
    if names >= mimic.COLUMNS and mimic.table_of(request, "metadata"):
        return "mimic", f"{table.name} has the columns of MIMIC-CXR-JPG"
    lower = {name.lower() for name in names}
    for name, columns in _COLUMNS.items():
        if lower >= {column.lower() for column in columns}:
            return name, f"{table.name} has the columns of that data set"
    if request.source.is_dir() and holds_dicom(request.source):
        return "dicom", "its files are DICOM"
    return "csv", f"{table.name} is a table of images"


def _by_folder(request: Request) -> tuple[str, str]:
    """By the tables and the images in the folder."""
    for found in chexpert.tables(request):
        if chexpert.knows(set(header(found))):
            return "chexpert", f"{found.name} has CheXpert's columns"
    for name, look in _MARKS.items():
        if entry := look(request):
            return name, f"it holds {entry.name}"
    for name, prefix in (("shenzhen", "CHNCXR"), ("montgomery", "MCUCXR")):
        if shenzhen.images(request.source, prefix):
            return name, f"it holds images named {prefix}_NNNN_N.png"
    if holds_dicom(request.source):
        return "dicom", "its files are DICOM"
    if any(request.source.glob("*.csv")):
        return "csv", f"it holds {own.find_table(request).name}"
    return "folder", "it holds no table that is known"


def _vindr(request: Request) -> Path | None:
    """One of VinDr-CXR's tables; the name `train.csv` alone says nothing."""
    known = [path for path, split in vindr.tables(request).items() if split or _has(path, vindr.COLUMNS)]
    return known[0] if known else None


def _tbx11k(request: Request) -> Path | None:
    """TBX11K's lists, or its simplified table, whose name `data.csv` alone says nothing."""
    table = request.source / "data.csv"
    return table if _has(table, tbx11k.COLUMNS) else next(iter(tbx11k.lists(request.source)), None)


def _openi(request: Request) -> Path | None:
    """The folder of Open-i's reports, or Kaggle's table of its images."""
    folder = request.source / "ecgen-radiology"
    return (
        folder
        if folder.is_dir()
        else next(iter(places.tables(request.source, "indiana_projections.csv*")), None)
    )


def _has(table: Path, columns: set[str]) -> bool:
    return columns <= {name.lower() for name in header(table)}


_MARKS: dict[str, Callable[[Request], Path | None]] = {
    "nih": nih.find_table,
    "mimic": lambda request: mimic.table_of(request, "metadata"),
    "brax": brax.find_table,
    "padchest": padchest.find_table,
    "vindr": _vindr,
    "rsna": rsna.find_table,
    "tbx11k": _tbx11k,
    "openi": _openi,
    "xrv": xrv.find_table,
}
"""Reader -> the file by which a folder of its data set is known."""
