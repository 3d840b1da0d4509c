"""What a dataset module gives, what becomes of it, and the rules that hold for all of them.

One more dataset is one module with a `READER = Reader(...)` and one line of the registry in `__init__`. It finds its
tables and reads them to `Rows`; hashes, checks and the columns that every store has are the business of `finish`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from mococxr.errors import InputError, Shown, message
from mococxr.tables import DescribeRow, Table, header, identifiers, refuse_rows

FIXED = ("path", "patient", "study", "view", "sex", "age", "split")
"""The columns every dataset has, in order, before its labels and its metadata."""
_TABLE = re.compile(r"^[^.].*\.(csv|tsv|xlsx|xlsm|parquet)(\.gz)?$", re.IGNORECASE)
"""Names of files that may be tables."""
RESERVED = {*FIXED, "row", "height", "width", "sha256"}
"""Names of the store's own columns: a label or metadata column of such a name is renamed."""


@dataclass(frozen=True)
class Request:
    """What the user asked for; see `read_dataset`.

    Args:
        jobs: processes for a reader that opens many files.
        pseudonyms: the dataset gets pseudonyms, so no name of a folder may become that of a label unasked.
        any_body_part: images whose DICOM header names another part than the chest count.
        label_key: the column by which the label table of a DICOM archive finds images.
    """

    source: Path
    labels: Path | None
    label: tuple[str, ...]
    patients_unknown: bool
    jobs: int = 1
    pseudonyms: bool = False
    any_body_part: bool = False
    label_key: str | None = None

    @property
    def root(self) -> Path:
        """The folder of the source."""
        return self.source if self.source.is_dir() else self.source.parent

    @property
    def table(self) -> Path | None:
        """The table that was named: by `--labels`, or as the source itself."""
        return self.labels or (self.source if self.source.is_file() else None)

    @cached_property
    def headers(self) -> dict[Path, list[str]]:
        """The tables in the folder of the source, or else in its folder `annotations`, with the names of their columns."""
        for folder in (self.root, self.root / "annotations"):
            # By name: the same choice on every disk.
            paths = sorted(path for path in folder.glob("*.*") if _TABLE.search(path.name) and path.is_file())
            if paths:
                return {path: header(path) for path in paths}
        return {}


@dataclass(frozen=True)
class Rows:
    """What a dataset's reader found, one row an image, in the order of its table.

    Args:
        frame: `path` (relative to the root), the labels (Int8: 1, 0, -1 uncertain, null unknown), the metadata (text
            or numbers), and those of patient, study, view, sex, age (Float64, years) and split that are known.
        labels: the names of the label columns.
        metadata: the names of the metadata columns.
        describe_row: names a row in an error.
        tables: the tables read: their notes and hashes are taken over.
        inputs: other files read -> the SHA-256 of their bytes.
        notes: facts to say once on the console.
        root: the folder that the paths are relative to, where it is not that of the source.
        source: where the patients come from, where that is not the dataset: stores of one source share patients.
        has_official_split: the column `split` wins over shares.
        blank_means: what a blank label means in a study by default: `negative` or `unknown`.
        patients_known: False where some patients had to be made up.
        rejected: `path, reason` of files that are no images of the dataset.
        image_ids: what identifies each image, where that is not its path (DICOM: its UID).
    """

    frame: pl.DataFrame
    labels: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    describe_row: DescribeRow = lambda row: f"image {row + 1}"
    tables: tuple[Table, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Shown, ...] = ()
    root: Path | None = None
    source: str = ""
    has_official_split: bool = False
    blank_means: str = "unknown"
    patients_known: bool = True
    rejected: pl.DataFrame | None = None
    image_ids: pl.Series | None = None


@dataclass(frozen=True)
class Reader:
    """One kind of dataset as the registry knows it.

    Args:
        name: as `--format` has it.
        find: the file by which a source of this dataset is known, or None; asked in the order of the registry.
        read: reads what was found.
        columns: the columns, in any case, by which a table that the user names is known; empty: never.
        safe: metadata that identify nobody, and are kept under pseudonyms unasked.
    """

    name: str
    find: Callable[[Request], Path | None]
    read: Callable[[Request], Rows]
    columns: frozenset[str] = frozenset()
    safe: frozenset[str] = frozenset()

    def has_columns(self, names: Iterable[str]) -> bool:
        """Whether a table with these columns may be one of this dataset."""
        known = {name.lower() for name in self.columns}
        return bool(known) and known <= {name.lower() for name in names}  # spreadsheets and users change the case


@dataclass(frozen=True)
class Dataset:
    """The images of a dataset with their patients, complete and checked.

    Args:
        name: of the dataset.
        source: where the patients come from; stores that name the same source share patients.
        root: the folder that the paths are relative to and never leave (links are checked later).
        rows: the columns `FIXED`, null where unknown (path and patient never are), the labels, the metadata.
        safe: metadata that identify nobody.
        inputs: each file read -> the SHA-256 of its bytes.
        file_paths: where each row's image lies below the root, where `path` does not say it (pseudonyms).

    The other attributes are those of `Rows`.
    """

    name: str
    source: str
    root: Path
    rows: pl.DataFrame
    labels: tuple[str, ...]
    metadata: tuple[str, ...] = ()
    safe: frozenset[str] = frozenset()
    has_official_split: bool = False
    blank_means: str = "unknown"
    patients_known: bool = True
    notes: tuple[Shown, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    rejected: pl.DataFrame | None = None
    image_ids: pl.Series | None = None
    file_paths: pl.Series | None = None

    @property
    def files(self) -> pl.Series:
        """Where the image of each row lies, relative to the root."""
        return self.rows["path"] if self.file_paths is None else self.file_paths


def finish(reader: Reader, read: Rows, request: Request, notes: tuple[Shown, ...] = ()) -> Dataset:
    """Complete and check what a reader found: fixed columns that it left out, paths, patients, studies, splits.

    Without a patient column each image becomes its own patient, where the user allows that.

    Args:
        notes: to be said first.

    Raises:
        InputError: no image, a duplicate or escaping path, no or blank patient, a patient in two splits.
    """
    root, frame, describe = read.root or request.root, read.frame, read.describe_row
    if not frame.height:
        raise InputError(
            "{source} holds no images that {dataset} can find.",
            "Check the source. {passed_by}",
            source=Shown(root),
            dataset=Shown(reader.name),
            passed_by=Shown(" ".join(read.notes), " ".join(note.redacted for note in read.notes)),
        )
    frame = frame.with_columns(
        clean_paths(frame["path"], describe).alias("path"),  # before duplicates are looked for: a//b is a/b
        *(identifiers(frame[name]) for name in ("patient", "study") if name in frame.columns),
    )
    _refuse_duplicates(frame["path"], describe)  # one image under two patients may train and test
    frame, extra, known = _with_patients(frame, read, request)
    frame = frame.with_columns(
        pl.lit(None, pl.Float64 if name == "age" else pl.String).alias(name)
        for name in FIXED
        if name not in frame.columns
    )
    frame, renamed = _unique_studies(frame)
    _refuse_split_patients(frame)
    tables = read.tables
    return Dataset(
        name=reader.name,
        source=read.source or reader.name,  # stores of one source share patients
        root=root,
        rows=frame.select(*FIXED, *read.labels, *read.metadata),
        labels=read.labels,
        metadata=read.metadata,
        safe=reader.safe,
        has_official_split=read.has_official_split,
        blank_means=read.blank_means,
        patients_known=known and read.patients_known,
        notes=(*notes, *(note for table in tables for note in table.notes), *read.notes, *extra, *renamed),
        inputs={table.path.name: table.sha256 for table in tables} | dict(read.inputs),
        rejected=read.rejected,
        image_ids=read.image_ids,
    )


def _with_patients(frame: pl.DataFrame, read: Rows, request: Request) -> tuple[pl.DataFrame, tuple[Shown, ...], bool]:
    """The rows with a patient each, what to say of those who are made up, and whether all are known."""
    if "patient" not in frame.columns:
        if not request.patients_unknown:
            raise InputError(
                "{source}: the images have no patient identifiers, so a split could put one patient in two parts.",
                "Give a table with a patient column (--labels FILE), or accept --patients-unknown.",
                source=Shown(read.root or request.root),
            )
        note = Shown("Patients are not known: each image counts as a patient of its own.")
        return frame.with_columns(patient="path"), (note,), False
    blank = frame["patient"].is_null()  # one unknown patient is as bad as none: a split could divide a person
    if not request.patients_unknown:
        refuse_rows(
            blank, read.describe_row, "{row}: the patient is blank ({count:,} such rows).",
            "Fill it in or drop the row, or let each such image count as a patient by --patients-unknown.",
        )  # fmt: skip
    elif blank.any():
        note = message("{count:,} images name no patient: each counts as a patient of its own.", count=blank.sum())
        # A path is no other's patient.
        return frame.with_columns(patient=pl.coalesce("patient", "path")), (note,), False
    unit = stands_for_all(frame)  # only a question: a set may well be of one person
    if unit is None:
        return frame, (), True
    text = "One patient identifier stands for all {count:,} images; an anonymiser may have written it: "
    text += "each {unit} counts as a patient." if request.patients_unknown else (
        "if so, --patients-unknown lets each {unit} count as a patient."
    )  # fmt: skip
    note = message(text, count=frame.height, unit=Shown("study" if unit == "study" else "image"))
    if request.patients_unknown:
        frame = frame.with_columns(patient=pl.coalesce(unit, "path"))
    return frame, (note,), not request.patients_unknown


def stands_for_all(frame: pl.DataFrame) -> str | None:
    """The column of studies, or else of images, where one patient identifier stands for all of several."""
    if frame["patient"].n_unique() != 1:
        return None
    return next((name for name in ("study", "path") if name in frame.columns and frame[name].n_unique() > 1), None)


def clean_paths(paths: pl.Series, describe_row: DescribeRow) -> pl.Series:
    """Posix paths without `.`, `..` and doubled slashes.

    Raises:
        InputError: a blank path, or one that leaves the root.
    """
    refuse_rows(paths.is_null(), describe_row, "{row}: the path is blank.", "Fill it in or drop the row.")
    # Tables written on Windows have backslashes.
    clean = paths.str.replace_all("\\", "/", literal=True).str.replace_all(r"/(\./|/)*", "/")
    clean = clean.str.replace(r"^(\./)+", "")
    if clean.str.contains("..", literal=True).any():  # rare, and normpath row by row is slow
        dotted = clean.str.contains(r"(^|/)\.\.(/|$)")
        tidy = clean.filter(dotted).map_elements(posixpath.normpath, return_dtype=pl.String)
        clean = clean.scatter(dotted.arg_true(), tidy) if len(tidy) else clean
    # Paths of Windows are refused on every system.
    outside = clean.str.contains(r"^(/|[A-Za-z]:|\.\.(/|$))") | (clean == "") | (clean == ".")
    refuse_rows(
        outside, describe_row, "{row}: the path {path!r} lies outside the folder of the images.",
        "Give paths inside the source, relative to the table's folder or to the source.", path=paths,
    )  # fmt: skip
    return clean


def unreserved(names: Sequence[str]) -> dict[str, str]:
    """Old name -> new name for the columns whose name is one of the store's own."""
    taken = set(names)
    renamed: dict[str, str] = {}
    for name in names:
        if name in RESERVED:
            fresh = f"{name}_in_table"
            while fresh in taken:
                fresh += "_"
            taken.add(fresh)
            renamed[name] = fresh
    return renamed


def _refuse_duplicates(paths: pl.Series, describe_row: DescribeRow) -> None:
    """One image, one row."""
    again = ~paths.is_first_distinct()
    first = (paths == paths[again.arg_max() or 0]).arg_max() or 0
    refuse_rows(
        again, describe_row, "{row}: the path {path!r} already appears in {first}.",
        "Keep one row an image ({count:,} rows repeat a path).", path=paths, first=describe_row(first),
    )  # fmt: skip


def _unique_studies(rows: pl.DataFrame) -> tuple[pl.DataFrame, tuple[Shown, ...]]:
    """Study ids that are numbered within a patient become `patient/study`."""
    owners = rows.filter(pl.col("study").is_not_null()).group_by("study").agg(pl.col("patient").n_unique())
    if not (owners["patient"] > 1).any():  # numbers that are unique stay as their owner has them
        return rows, ()
    rows = rows.with_columns(study=pl.format("{}/{}", "patient", "study"))
    return rows, (Shown("Study ids repeat between patients: studies are named patient/study."),)


def _refuse_split_patients(rows: pl.DataFrame) -> None:
    """No patient in two splits."""
    parts = rows.filter(pl.col("split").is_not_null()).group_by("patient", maintain_order=True)
    both = parts.agg(pl.col("split").unique().sort()).filter(pl.col("split").list.len() > 1)
    if both.height:
        patient, splits = both.row(0)
        raise InputError(
            "The patient {patient!r} is in two splits: {splits} ({count:,} such).",
            "Put all images of a patient into one split, or drop the split column.",
            patient=patient,
            splits=Shown(" and ".join(splits)),
            count=both.height,
        )
