"""Which reader a source is for, by how it is laid out."""

from __future__ import annotations

from mococxr.cohorts import chexpert, csv_table, nih, shenzhen
from mococxr.cohorts.cohort import Request
from mococxr.cohorts.tables import header


def detect(request: Request) -> tuple[str, tuple[str, ...]]:
    """The name of the reader and a note that says why."""
    name, why = _look(request)
    return name, (f"The source is read as {name}: {why}.",)


def _look(request: Request) -> tuple[str, str]:
    table = request.labels or (request.source if request.source.is_file() else None)
    if table is not None:
        columns = set(header(table))
        if chexpert.knows(columns):
            return "chexpert", f"{table.name} has CheXpert's columns"
        if columns.issuperset(nih.COLUMNS):
            return "nih", f"{table.name} has the columns of ChestX-ray14"
        return "csv", f"{table.name} is a table of films"
    for found in chexpert.tables(request):
        if chexpert.knows(set(header(found))):
            return "chexpert", f"{found.name} has CheXpert's columns"
    if entry := nih.find_table(request):
        return "nih", f"it holds {entry.name}"
    for name, prefix in (("shenzhen", "CHNCXR"), ("montgomery", "MCUCXR")):
        if shenzhen.films(request.source, prefix):
            return name, f"it holds films named {prefix}_NNNN_N.png"
    if any(request.source.glob("*.csv")):
        return "csv", f"it holds {csv_table.find_table(request).name}"
    return "folder", "it holds no table that is known"
