"""Your own images: a table with one row an image, columns by name (rules in `docs/contract.md`)."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from pathlib import Path

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Reader, Request, Rows, clean_paths, unreserved
from mococxr.datasets.walk import Walk
from mococxr.errors import InputError, Shown, message
from mococxr.tables import Table, findings, first_names, read_table, words

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
    notes: list[Shown] = []
    if "view" in rows.columns:
        rows = rows.with_columns(tables.views(rows["view"]))
    for name, meaning, kind in (("sex", tables.sexes, "neither M nor F"), ("age", tables.ages, "not numbers from 0")):
        if name in rows.columns:
            rows, remarks = _understood(rows, name, meaning, kind)
            notes += remarks
    if "split" in rows.columns:
        rows = rows.with_columns(tables.split_names(rows["split"], table.describe_row))
    labels, metadata, remarks = other_columns(table, fixed, request.label)
    notes += remarks
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
        # A blank column is no split.
        has_official_split="split" in rows.columns and rows["split"].null_count() < rows.height,
        notes=(*_unlisted(paths, root, request.source.is_dir(), table.path), *notes),
    )


def _find_table(request: Request) -> Path | None:
    if request.table is not None:
        return request.table
    known = any(".csv" in path.name.lower() or _has_path(names) for path, names in request.headers.items())
    return _table_of(request) if known else None


def _table_of(request: Request) -> Path:
    """The table: `--labels`, the source itself, or the only one (or `labels.csv`) in the source folder that has paths."""
    if request.table is not None:
        return request.table
    paths = list(request.headers)
    # A table without a path column lists something else.
    paths = [path for path in paths if _has_path(request.headers[path])] or paths
    paths = [path for path in paths if path.name == "labels.csv"] or paths
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths[:5]) or "none"
        raise InputError(
            "{source} must hold one label table; it holds: {names}.",
            "Name it by --labels FILE.",
            source=Shown(request.source),
            names=names,
        )
    return paths[0]


def _has_path(columns: list[str]) -> bool:
    """Whether a table with these columns names images."""
    return "path" in first_names(columns, NAMES)


def _understood(
    rows: pl.DataFrame, name: str, meaning: Callable[[pl.Series], pl.Series], kind: str
) -> tuple[pl.DataFrame, list[Shown]]:
    """A column by what its words mean; those that mean nothing are counted."""
    values = meaning(rows[name])
    lost = values.is_null() & rows[name].is_not_null() & ~rows[name].str.to_lowercase().is_in(["u"]).fill_null(False)
    text = "{count:,} values of {name} are {kind}: treated as unknown, e.g. {value!r}."
    example = rows[name].filter(lost)
    note = (
        message(text, count=len(example), name=Shown(name), kind=Shown(kind), value=example[0])
        if len(example)
        else None
    )
    return rows.with_columns(values.alias(name)), [note] if note else []


def other_columns(
    table: Table, fixed: dict[str, str], asked: tuple[str, ...]
) -> tuple[pl.DataFrame, pl.DataFrame, list[Shown]]:
    """The label columns and the metadata columns, and what is to be said of them."""
    others = [name for name in table.frame.columns if name not in fixed.values()]
    stated = [table.column(name) for name in dict.fromkeys(asked)]
    for name in stated:
        if name not in others:
            raise InputError(
                "{table}: {name!r} is read as a fixed column, not as a label.",
                "Use --target {name}=VALUE in a study.",
                table=table.path,
                name=Shown(name),
            )
    # Labels in words only where they are named.
    chosen = stated or [name for name in others if words.is_label(table.frame[name])]
    rest = [name for name in others if name not in chosen]
    new = unreserved(others)
    labels = pl.DataFrame([tables.label_values(table.frame[name], table.describe_row) for name in chosen])
    metadata = pl.DataFrame([tables.typed(table.frame[name]) for name in rest])
    kept = "The column {old!r} is kept as {name!r}: the store has one of that name."
    notes = [message(kept, old=Shown(old), name=Shown(name)) for old, name in new.items()]
    if rest:
        notes.append(message("Metadata, not labels: {names}.", names=", ".join(rest)))
    notes += [remark for name in chosen if (remark := _spelled(table.frame[name]))]
    notes += [remark for name in rest if (remark := _nearly(table, name, not stated))]
    return labels.rename(new, strict=False), metadata.rename(new, strict=False), notes


def _spelled(text: pl.Series) -> Shown | None:
    """A remark on a label column that is written in words."""
    if not words.is_spelled(text):
        return None
    known = pl.DataFrame({"word": text, "label": words.labels(text)}).unique().drop_nulls().sort("label", "word")
    meaning = ", ".join(f"{word} as {label}" for word, label in known.iter_rows())
    return message("The label {name!r} is read by its words: {meaning}.", name=Shown(text.name), meaning=Shown(meaning))


def _nearly(table: Table, name: str, unasked: bool) -> Shown | None:
    """A remark on a metadata column that is a label column but for a few values, or by its words, or holds lists.

    Args:
        unasked: no label columns were named.
    """
    text = table.frame[name]
    if separator := findings.separator_of(text):
        value = text.drop_nulls().filter(text.drop_nulls().str.contains(separator, literal=True))[0]
        return message(
            "The column {name!r} holds lists, e.g. {value!r}: --target {name}~FINDING is every image whose list has it, "
            "{name}=VALUE only those with that list.", name=name, value=value,
        )  # fmt: skip
    if unasked and words.is_spelled(text):
        return message(
            "The column {name!r} looks like a label column in words, e.g. {value!r}: --label {name} reads it.",
            name=name, value=text.drop_nulls()[0],
        )  # fmt: skip
    if not unasked:
        return None
    wrong = ~words.known_labels(text) & text.is_not_null()
    filled = len(text) - text.null_count()
    if not filled or wrong.sum() > (1 - NEARLY) * filled:
        return None
    at = wrong.arg_max() or 0
    return message(
        "The column {name!r} looks like a label column except for {count:,} values, e.g. {value!r} in {row}.",
        name=name, count=wrong.sum(), value=text[at], row=table.describe_row(at),
    )  # fmt: skip


def _locate(paths: pl.Series, beside: Path, request: Request) -> tuple[Path, pl.Series]:
    """The root, and the paths relative to it: an image lies beside the table, else in the source.

    Only where table and source are different folders is the disk asked which it is.
    """
    source, beside = Path(os.path.abspath(request.root)), Path(os.path.abspath(beside))
    paths = paths.str.replace_all("\\", "/", literal=True)
    if source == beside:
        return request.root, relative_to(paths, request.root, source)
    by_link = _Links(beside, source)
    behind = [None if path is None else by_link(path) for path in paths]
    paths = pl.Series(
        "path", [path if real is None else real for path, real in zip(paths, behind, strict=True)], dtype=pl.String
    )
    is_beside = pl.Series(
        [
            path is not None and real is None and os.path.exists(beside / path)
            for path, real in zip(paths, behind, strict=True)
        ],
        dtype=pl.Boolean,
    )
    used = [folder for folder, any_image in ((beside, is_beside.any()), (source, not is_beside.all())) if any_image]
    # Paths in a store are relative to one folder.
    root = source if beside.is_relative_to(source) else Path(os.path.commonpath(used))
    if root == Path(root.anchor):  # the whole disk as root would guard against nothing
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


class _Links:
    """Listed path -> where in the source the image lies that a link beside the table leads to, or None."""

    def __init__(self, beside: Path, source: Path) -> None:
        self._beside, self._source = beside, source
        self._insides = [os.path.join(os.path.realpath(folder), "") for folder in (beside, source)]
        self._folders: dict[str, str] = {}  # of a million images few folders need be resolved

    def __call__(self, path: str) -> str | None:
        listed = self._beside / path
        if not os.path.exists(listed):
            return None
        folder, name = os.path.split(listed)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._folders[folder], name)
        real = os.path.realpath(real) if os.path.islink(real) else real  # an image may be a link itself
        beside, source = self._insides
        return real.removeprefix(source) if real.startswith(source) and not real.startswith(beside) else None


def relative_to(paths: pl.Series, *roots: Path) -> pl.Series:
    """Absolute paths under the root, made relative to it; the others are left for `finish` to refuse."""
    for root in roots:
        paths = paths.str.strip_prefix(root.absolute().as_posix().rstrip("/") + "/")
        # A table may hold either spelling of a linked folder.
        paths = paths.str.strip_prefix(root.resolve().as_posix().rstrip("/") + "/")
    return paths.alias("path")


def _unlisted(paths: pl.Series, root: Path, whole: bool, table: Path) -> tuple[Shown, ...]:
    """Notes on what is on disk and in no row: in the whole source folder, or where listed images lie."""
    tops = [""] if whole else paths.str.extract(r"^([^/]+)/", 1).drop_nulls().unique().sort().to_list()
    walk = Walk(root)
    schema = {"path": pl.String, "kind": pl.String}
    on_disk = pl.DataFrame([entry for top in tops for entry in walk.entries(top)], schema=schema, orient="row")
    read = [*paths, os.path.relpath(table, root).replace(os.sep, "/")]
    extra = on_disk.filter(~pl.col("path").is_in(read))
    walk.skipped.update(extra["kind"].drop_nulls().to_list())
    images = extra.filter(pl.col("kind").is_null())["path"]
    images = pl.concat([images, pl.Series(walk.unfit, dtype=pl.String)]).sort()
    notes = walk.notes()
    if walk.closed:
        notes += (message("Folders that cannot be read: {names}.", names=", ".join(walk.closed)),)
    if len(images):
        text = "{count:,} images on disk are not in the table and were skipped, e.g. {path!r}; "
        text += "to use them without labels, add rows with blank labels."
        notes = (message(text, count=len(images), path=images[0]), *notes)
    return notes


TABLE = Reader("csv", _find_table, read_own)
