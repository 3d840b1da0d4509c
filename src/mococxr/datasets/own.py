"""Your own images: a table with one row an image, columns by name (rules in `docs/contract.md`), or class folders."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from mococxr.datasets import tables
from mococxr.datasets.dataset import Reader, Request, Rows, clean_paths, images_under
from mococxr.datasets.tables import Table, read_table
from mococxr.errors import InputError, Shown
from mococxr.splits import SPLIT_WORDS

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
UNLABELLED = {"unlabelled", "unlabeled"}
"""Class folders of these names hold images without labels."""
NEARLY = 0.9
"""Share of label values from which a column that is none is worth a remark."""


def read_own(request: Request) -> Rows:
    """Read a table of images."""
    table = read_table(_table_of(request))
    fixed = first_names(table.frame.columns, NAMES)
    if "path" not in fixed:
        raise InputError(
            "{table} has no path column; its columns: {names}.",
            "Name that column one of: {known}.",
            table=table.path,
            names=", ".join(table.frame.columns[:20]),
            known=Shown(", ".join(NAMES["path"])),
        )
    rows = pl.DataFrame({name: table.frame[column] for name, column in fixed.items()})
    notes: list[str] = []
    if "age" in rows.columns:
        rows, notes = _with_ages(rows)
    if "split" in rows.columns:
        rows = rows.with_columns(tables.split_names(rows["split"], table.describe_row))
    labels, metadata, remarks = other_columns(table, fixed, request.label)
    root, paths = _locate(rows["path"], table.path.parent, request)
    paths = clean_paths(paths, table.describe_row)
    return Rows(
        rows.with_columns(path=paths).hstack(labels).hstack(metadata),
        tuple(labels.columns),
        metadata=tuple(metadata.columns),
        describe_row=table.describe_row,
        tables=(table,),
        root=root,
        source=root.resolve().name,
        has_official_split="split" in rows.columns and rows["split"].null_count() < rows.height,
        notes=(*_unlisted(paths, root, request.source.is_dir()), *notes, *remarks),
    )


def _find_table(request: Request) -> Path | None:
    return request.table or (_table_of(request) if any(request.source.glob("*.csv")) else None)


def _table_of(request: Request) -> Path:
    """The table: `--labels`, the source itself, or the only CSV (or `labels.csv`) in the source folder."""
    if request.table is not None:
        return request.table
    paths = sorted(path for path in request.source.glob("*.csv") if path.is_file())
    paths = [path for path in paths if path.name == "labels.csv"] or paths
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths[:5]) or "none"
        raise InputError(
            "{source} must hold one label table; CSV files found: {names}.",
            "Name it by --labels FILE.",
            source=Shown(request.source),
            names=names,
        )
    return paths[0]


def first_names(columns: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Kind of column -> the column of a table that goes by the first of its names; case, blanks, `_` and `-` ignored."""

    def plain(name: str) -> str:
        return name.lower().translate(str.maketrans("", "", " _-\t"))

    by_name = {plain(name): name for name in reversed(columns)}
    columns_of = {
        kind: [by_name[plain(name)] for name in some if plain(name) in by_name] for kind, some in names.items()
    }
    return {kind: some[0] for kind, some in columns_of.items() if some}


def _with_ages(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Ages as numbers; the words among them are counted."""
    years = tables.ages(rows["age"])
    lost = years.null_count() - rows["age"].null_count()
    example = rows["age"].filter(years.is_null() & rows["age"].is_not_null())
    notes = [f"{lost:,} ages are not numbers from 0: treated as unknown, e.g. {example[0]!r}."] if lost else []
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
                "{table}: {name!r} is read as a fixed column, not as a label.",
                "Use --target {name}=VALUE in a study.",
                table=table.path,
                name=name,
            )
    chosen = stated or [name for name in others if tables.is_label(table.frame[name])]
    rest = [name for name in others if name not in chosen]
    new = tables.unreserved(others)
    labels = pl.DataFrame([tables.label_values(table.frame[name], table.describe_row) for name in chosen])
    metadata = pl.DataFrame([tables.typed(table.frame[name]) for name in rest])
    notes = [f"The column {old!r} is kept as {name!r}: the store has one of that name." for old, name in new.items()]
    if rest:
        notes.append(f"Metadata, not labels: {', '.join(rest)}.")
    if not stated:
        notes += [remark for name in rest if (remark := _nearly(table, name))]
    return labels.rename(new, strict=False), metadata.rename(new, strict=False), notes


def _nearly(table: Table, name: str) -> str | None:
    """A remark on a metadata column that is a label column but for a few values."""
    text = table.frame[name]
    wrong = ~tables.known_labels(text) & text.is_not_null()
    filled = len(text) - text.null_count()
    if not filled or wrong.sum() > (1 - NEARLY) * filled:
        return None
    at = wrong.arg_max() or 0
    example = f"{text[at]!r} in {table.describe_row(at)}"
    return f"The column {name!r} looks like a label column except for {wrong.sum():,} values, e.g. {example}."


def _locate(paths: pl.Series, beside: Path, request: Request) -> tuple[Path, pl.Series]:
    """The root, and the paths relative to it: an image lies beside the table, else in the source.

    Only where table and source are different folders is the disk asked which it is.
    """
    source, beside = Path(os.path.abspath(request.root)), Path(os.path.abspath(beside))
    paths = paths.str.replace_all("\\", "/", literal=True)
    if source == beside:
        return request.root, relative_to(paths, request.root, source)
    is_beside = pl.Series([path is not None and os.path.exists(beside / path) for path in paths], dtype=pl.Boolean)
    used = [folder for folder, any_image in ((beside, is_beside.any()), (source, not is_beside.all())) if any_image]
    root = source if beside.is_relative_to(source) else Path(os.path.commonpath(used))
    if root == Path(root.anchor):
        raise InputError(
            "Some images lie beside the table in {beside}, others in {source}.",
            "Put the images into one folder.",
            beside=beside,
            source=Shown(source),
        )
    prefixes = {folder: posixpath.relpath(folder.as_posix(), root.as_posix()) for folder in (beside, source)}
    prefix = pl.select(
        pl.when(is_beside).then(pl.lit(prefixes[beside])).otherwise(pl.lit(prefixes[source]))
    ).to_series()
    absolute = paths.str.starts_with("/")
    joined = pl.select(pl.when(absolute).then(paths).otherwise(prefix + "/" + paths)).to_series()
    return root, relative_to(joined, root, root)


def relative_to(paths: pl.Series, *roots: Path) -> pl.Series:
    """Absolute paths under the root, made relative to it; the others are left for `finish` to refuse."""
    for root in roots:
        paths = paths.str.strip_prefix(root.absolute().as_posix().rstrip("/") + "/")
        paths = paths.str.strip_prefix(root.resolve().as_posix().rstrip("/") + "/")
    return paths.alias("path")


def _unlisted(paths: pl.Series, root: Path, whole: bool) -> tuple[str, ...]:
    """A note on images on disk that are in no row: in the whole source folder, or where listed images lie."""
    tops = [""] if whole else paths.str.extract(r"^([^/]+)/", 1).drop_nulls().unique().sort().to_list()
    on_disk = pl.Series([path for top in tops for path in images_under(root, top)], dtype=pl.String).sort()
    extra = on_disk.filter(~on_disk.is_in(paths.implode()))
    if not len(extra):
        return ()
    return (
        f"{len(extra):,} images on disk are not in the table and were skipped, e.g. {extra[0]!r}; "
        "to use them without labels, add rows with blank labels.",
    )


# --- class folders


def _read_folder(request: Request) -> Rows:
    """Read class folders: `root/<class>/image.png`, also below train, val and test.

    At least two folders of images side by side are classes, and each becomes a label column with 1 for its own
    images and 0 for the others. One folder alone, or images in the source itself, are images without labels.
    """
    if not request.source.is_dir():
        raise InputError(
            "{source} is not a folder.", "Give a folder, or --format csv for a table.", source=Shown(request.source)
        )
    paths = pl.Series("path", images_under(request.source), dtype=pl.String)
    parts = paths.str.split("/")
    splits, depth = _split_folders(parts)
    classes = parts.list.get(depth).set(parts.list.len() <= depth + 1, None)
    names = [name for name in classes.drop_nulls().unique().sort() if name.lower() not in UNLABELLED]
    labels = tables.choose_labels(request.label, names, str(request.source)) if len(names) > 1 else ()
    if request.label and not labels:
        raise InputError(
            "{source} has no class folders.",
            "Leave out --label, or give a table by --labels.",
            source=Shown(request.source),
        )
    renamed = tables.unreserved(labels)
    columns = {
        renamed.get(name, name): pl.when(classes.is_in(names)).then((classes == name).cast(pl.Int8)) for name in labels
    }
    classes_note = f"Classes by folder: {', '.join(labels)}."
    return Rows(
        pl.DataFrame([paths, splits.alias("split")]).with_columns(**columns),
        tuple(columns),
        source=request.source.resolve().name,
        has_official_split=depth == 1,
        notes=(classes_note if labels else "No class folders: images without labels.",),
    )


def _split_folders(parts: pl.Series) -> tuple[pl.Series, int]:
    """The split of each image, and the folder levels that takes: 1 where every first folder names a split."""
    first = parts.list.first().str.to_lowercase()
    named = first.replace_strict(SPLIT_WORDS, default=None, return_dtype=pl.String)
    if len(parts) and not named.null_count() and (parts.list.len() > 1).all():
        return named, 1
    return pl.repeat(None, len(parts), dtype=pl.String, eager=True), 0


TABLE = Reader("csv", _find_table, read_own)
FOLDER = Reader("folder", lambda request: request.source, _read_folder)
