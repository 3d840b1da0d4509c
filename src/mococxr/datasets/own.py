"""A table of images: one row an image, columns by name. The rules stand in `docs/contract.md`."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

import polars as pl

from mococxr.datasets import columns
from mococxr.datasets.dataset import Cohort, Request, finish, images_under
from mococxr.datasets.tables import Table, read_table
from mococxr.errors import InputError

NAMES = {
    "path": ("path", "image", "file", "filename"),
    "patient": ("patient", "patient_id", "patientid", "subject_id"),
    "study": ("study", "study_id"),
    "view": ("view",),
    "sex": ("sex",),
    "age": ("age",),
    "split": ("split",),
}
"""The fixed columns and the names they go by, case ignored; the first name that is there is taken."""


def read(request: Request) -> Cohort:
    """Read a table of images.

    Raises:
        InputError: see `read_cohort`.
    """
    table = read_table(find_table(request))
    fixed = _recognise(table)
    rows = pl.DataFrame({name: table.frame[column] for name, column in fixed.items()})
    notes = list(table.notes)
    if "age" in rows.columns:
        rows, said = _with_ages(rows)
        notes += said
    if "split" in rows.columns:
        rows = rows.with_columns(columns.splits(rows["split"], table.place))
    labels, metadata, said = other_columns(table, fixed, request.label)
    notes += said
    root, paths = _locate(rows["path"], table.path.parent, request)
    cohort = Cohort(
        name="csv",
        source=root.resolve().name,
        root=root,
        rows=rows.with_columns(path=paths).hstack(labels).hstack(metadata),
        labels=tuple(labels.columns),
        metadata=tuple(metadata.columns),
        official_splits="split" in rows.columns and rows["split"].null_count() < rows.height,
        notes=tuple(notes),
        inputs={table.path.name: table.sha256},
    )
    cohort = finish(cohort, table.place, request.patients_unknown)
    return cohort.with_notes(_unlisted(cohort, request.source.is_dir()))


def find_table(request: Request) -> Path:
    """The table: `--labels`, the source itself, or the only CSV (or `labels.csv`) in the source folder."""
    if request.labels is not None:
        return request.labels
    if request.source.is_file():
        return request.source
    tables = sorted(path for path in request.source.glob("*.csv") if path.is_file())
    tables = [path for path in tables if path.name == "labels.csv"] or tables
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables[:5]) or "none"
        raise InputError(
            f"{request.source} must hold one label table; CSV files found: {found}.",
            "Name it by --labels FILE.",
        )
    return tables[0]


def _recognise(table: Table) -> dict[str, str]:
    """Fixed column -> the table's column for it."""
    lower = {name.lower(): name for name in reversed(table.frame.columns)}
    found = {
        fixed: next(lower[name] for name in names if name in lower)
        for fixed, names in NAMES.items()
        if any(name in lower for name in names)
    }
    if "path" not in found:
        raise InputError(
            f"{table.path} has no path column; its columns: {', '.join(table.frame.columns[:20])}.",
            f"Name that column one of: {', '.join(NAMES['path'])}.",
        )
    return found


def _with_ages(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Ages as numbers; the words among them are counted."""
    years = columns.ages(rows["age"])
    lost = years.null_count() - rows["age"].null_count()
    example = rows["age"].filter(years.is_null() & rows["age"].is_not_null())
    notes = [f"{lost:,} ages are no numbers and count as unknown, e.g. {example[0]!r}."] if lost else []
    return rows.with_columns(age=years), notes


def other_columns(
    table: Table, fixed: dict[str, str], asked: tuple[str, ...]
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """The label columns and the metadata columns, and what is to be said of them."""
    others = [name for name in table.frame.columns if name not in fixed.values()]
    stated = [table.column(name) for name in dict.fromkeys(asked)]
    for name in stated:
        if name not in others:
            raise InputError(
                f"{table.path}: {name!r} is read as a fixed column, not as a label.",
                f"Use --target {name}=VALUE in a study.",
            )
    chosen = stated or [name for name in others if columns.is_label(table.frame[name])]
    rest = [name for name in others if name not in chosen]
    new = columns.unreserved(others)
    labels = pl.DataFrame([columns.labels(table.frame[name], table.place) for name in chosen])
    metadata = pl.DataFrame([columns.metadata(table.frame[name]) for name in rest])
    notes = [
        f"The column {old!r} is kept as {name!r}: the store has one of that name."
        for old, name in new.items()
    ]
    if rest:
        notes.append(f"Metadata, not labels: {', '.join(rest)}.")
    if not stated:
        notes += [said for name in rest if (said := _nearly(table, name))]
    return labels.rename(new, strict=False), metadata.rename(new, strict=False), notes


def _nearly(table: Table, name: str) -> str | None:
    """A remark on a metadata column that is a label column but for a few values."""
    text = table.frame[name]
    wrong = ~columns.known_labels(text) & text.is_not_null()
    filled = len(text) - text.null_count()
    if not filled or wrong.sum() > (1 - columns.NEARLY) * filled:
        return None
    at = wrong.arg_max() or 0
    example = f"{text[at]!r} in {table.place(at)}"
    return f"The column {name!r} would be a label but for {wrong.sum():,} values, e.g. {example}."


def _locate(paths: pl.Series, beside: Path, request: Request) -> tuple[Path, pl.Series]:
    """The root, and the paths relative to it: an image lies beside the table, else in the source.

    Only where table and source are different folders is the disk asked which it is.
    """
    source, beside = Path(os.path.abspath(request.root)), Path(os.path.abspath(beside))
    paths = paths.str.replace_all("\\", "/", literal=True)
    if source == beside:
        return request.root, _relative(paths, request.root, source)
    here = pl.Series([path is not None and os.path.exists(beside / path) for path in paths], dtype=pl.Boolean)
    used = [folder for folder, any_image in ((beside, here.any()), (source, not here.all())) if any_image]
    root = source if beside.is_relative_to(source) else Path(os.path.commonpath(used))
    if root == Path(root.anchor):
        raise InputError(
            f"Some images lie beside the table in {beside}, others in {source}.",
            "Put the images into one folder.",
        )
    prefixes = {folder: posixpath.relpath(folder.as_posix(), root.as_posix()) for folder in (beside, source)}
    prefix = pl.select(
        pl.when(here).then(pl.lit(prefixes[beside])).otherwise(pl.lit(prefixes[source]))
    ).to_series()
    absolute = paths.str.starts_with("/")
    joined = pl.select(pl.when(absolute).then(paths).otherwise(prefix + "/" + paths)).to_series()
    return root, _relative(joined, root, root)


def _relative(paths: pl.Series, *roots: Path) -> pl.Series:
    """Absolute paths under the root, made relative to it; the others are left for `finish` to refuse."""
    for root in roots:
        paths = paths.str.strip_prefix(root.absolute().as_posix().rstrip("/") + "/")
        paths = paths.str.strip_prefix(root.resolve().as_posix().rstrip("/") + "/")
    return paths.alias("path")


def _unlisted(cohort: Cohort, whole: bool) -> tuple[str, ...]:
    """A note on images on disk that are in no row: in the whole source folder, or where listed images lie."""
    paths = cohort.rows["path"]
    tops = [""] if whole else paths.str.extract(r"^([^/]+)/", 1).drop_nulls().unique().sort().to_list()
    extra = [path for top in tops for path in images_under(cohort.root, top)]
    missing = pl.Series(extra, dtype=pl.String).sort()
    missing = missing.filter(~missing.is_in(paths.implode()))
    if not len(missing):
        return ()
    return (
        f"{len(missing):,} images on disk are in no row of the table and are left out, e.g. {missing[0]}; "
        "to use them without labels, add rows with blank labels.",
    )
