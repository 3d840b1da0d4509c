"""What every reader returns, and the rules that hold for all of them."""

from __future__ import annotations

import dataclasses
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mococxr.errors import InputError
from mococxr.images import SUFFIXES

FIXED = ("path", "patient", "study", "view", "sex", "age", "split")
"""The columns every cohort has, in order, before its labels and its metadata."""
RESERVED = {*FIXED, "row", "height", "width", "sha256"}
"""Names of the store's own columns: a label or metadata column of such a name is renamed."""
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS |= {"validate": "val", "test": "test", "testing": "test"}
"""Words that name a split, in lower case, and the split they mean."""


@dataclass(frozen=True)
class Request:
    """What the user asked for; see `read_cohort`. `jobs`: processes for a reader that opens many files."""

    source: Path
    labels: Path | None
    label: tuple[str, ...]
    patients_unknown: bool
    jobs: int = 1

    @property
    def root(self) -> Path:
        """The folder of the source."""
        return self.source if self.source.is_dir() else self.source.parent


@dataclass(frozen=True)
class Cohort:
    """The rows of a cohort, one an image, in the order of its table.

    Args:
        name: the reader used: csv, folder, chexpert, nih, shenzhen or montgomery.
        source: where the patients come from; stores that name the same source share patients.
        root: the folder that the paths are relative to and never leave (links are checked later).
        rows: path (posix), patient, study, view, sex (strings), age (Float64, years), split (train, val,
            test), each null where unknown (path and patient never are); then the labels (Int8: 1, 0, -1
            uncertain, null unknown), then the metadata (strings or numbers).
        labels: the names of the label columns.
        metadata: the names of the metadata columns.
        official_splits: the `split` column states splits that win over shares.
        blank: what a blank label means in a study by default: `negative` or `unknown`.
        patients_known: False where each image stands as its own patient.
        notes: facts to say once on the console.
        inputs: each table read -> the SHA-256 of its bytes.
        places: where each row's image lies below the root, where `path` does not say it (pseudonyms).
        left_out: `path, reason` of files that a reader found to be no images.
        identities: what stands for each image's identity, where that is not its path (DICOM: its UID).
    """

    name: str
    source: str
    root: Path
    rows: pl.DataFrame
    labels: tuple[str, ...]
    metadata: tuple[str, ...] = ()
    official_splits: bool = False
    blank: str = "unknown"
    patients_known: bool = True
    notes: tuple[str, ...] = ()
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    places: pl.Series | None = None
    left_out: pl.DataFrame | None = None
    identities: pl.Series | None = None

    @property
    def files(self) -> pl.Series:
        """Where the image of each row lies, relative to the root."""
        return self.rows["path"] if self.places is None else self.places

    def with_notes(self, before: tuple[str, ...]) -> Cohort:
        """The same cohort with some notes said first."""
        return dataclasses.replace(self, notes=(*before, *self.notes))


def images_under(root: Path, folder: str = "") -> list[str]:
    """The images in a folder of the root and below it, by suffix: sorted posix paths relative to the root.

    Raises:
        InputError: a folder on the way cannot be read.
    """
    images = []
    for where, _, names in os.walk(root / folder, onerror=_refuse_closed):
        prefix = Path(where).relative_to(root).as_posix()
        here = [name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES and name[0] != "."]
        images += here if prefix == "." else [f"{prefix}/{name}" for name in here]
    return sorted(images)


def _refuse_closed(error: OSError) -> None:
    """A folder that is not there holds no images; one that is there and cannot be read may."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return
    raise InputError(
        f"Cannot read the folder {error.filename}: {error.strerror}.", "Check its permissions."
    ) from error


def finish(cohort: Cohort, place: Callable[[int], str], patients_unknown: bool = False) -> Cohort:
    """Complete and check a cohort: fixed columns that a reader left out, paths, patients, studies, splits.

    Args:
        cohort: with at least the columns path and its labels and metadata; without a patient column each image
            becomes its own patient, where `patients_unknown` allows that.
        place: row number from 0 -> where the user finds it, e.g. `labels.csv, row 3 (line 4)`.
        patients_unknown: what the user said.

    Raises:
        InputError: no image, a duplicate or escaping path, no or blank patient, a patient in two splits.
    """
    rows, notes = cohort.rows, list(cohort.notes)
    if not rows.height:
        raise InputError(f"{cohort.root} holds no images that {cohort.name} can find.", "Check the source.")
    rows = rows.with_columns(path=_clean_paths(rows["path"], place))
    _refuse_duplicates(rows["path"], place)
    known = "patient" in rows.columns
    if known:
        _refuse_blank_patients(rows["patient"], place)
    elif not patients_unknown:
        raise InputError(
            f"{cohort.root}: the patients of the images are not known, so a split could put one in two parts.",
            "Give a table with a patient column (--labels FILE), or accept --patients-unknown.",
        )
    else:
        rows = rows.with_columns(patient="path")
        notes.append("Patients are not known: each image stands as a patient of its own.")
    rows = rows.with_columns(
        pl.lit(None, pl.Float64 if name == "age" else pl.String).alias(name)
        for name in FIXED
        if name not in rows.columns
    )
    rows, said = _unique_studies(rows)
    _refuse_split_patients(rows)
    rows = rows.select(*FIXED, *cohort.labels, *cohort.metadata)
    return dataclasses.replace(cohort, rows=rows, notes=(*notes, *said), patients_known=known)


def _clean_paths(paths: pl.Series, place: Callable[[int], str]) -> pl.Series:
    """Posix paths without `.`, `..` and doubled slashes.

    Raises:
        InputError: a blank path, or one that leaves the root.
    """
    if paths.null_count():
        raise InputError(
            f"{place(paths.is_null().arg_max() or 0)}: the path is blank.", "Fill it in or drop the row."
        )
    clean = paths.str.replace_all("\\", "/", literal=True).str.replace_all(r"/(\./|/)*", "/")
    clean = clean.str.replace(r"^(\./)+", "")
    if clean.str.contains("..", literal=True).any():
        dotted = clean.str.contains(r"(^|/)\.\.(/|$)")
        tidy = clean.filter(dotted).map_elements(posixpath.normpath, return_dtype=pl.String)
        clean = clean.scatter(dotted.arg_true(), tidy) if len(tidy) else clean
    outside = clean.str.contains(r"^(/|[A-Za-z]:|\.\.(/|$))") | (clean == "") | (clean == ".")
    if outside.any():
        at = outside.arg_max() or 0
        raise InputError(
            f"{place(at)}: the path {paths[at]!r} lies outside the folder of the images.",
            "Give paths inside the source, relative to the table's folder or to the source.",
        )
    return clean


def _refuse_duplicates(paths: pl.Series, place: Callable[[int], str]) -> None:
    """One image, one row."""
    again = ~paths.is_first_distinct()
    if again.any():
        at = again.arg_max() or 0
        first = (paths == paths[at]).arg_max() or 0
        raise InputError(
            f"{place(at)}: the path {paths[at]!r} stands already in {place(first)}.",
            f"Keep one row an image ({again.sum():,} rows repeat a path).",
        )


def _refuse_blank_patients(patients: pl.Series, place: Callable[[int], str]) -> None:
    """Every image has a patient."""
    if patients.null_count():
        at = patients.is_null().arg_max() or 0
        raise InputError(
            f"{place(at)}: the patient is blank ({patients.null_count():,} such rows).",
            "Fill it in or drop the row; if none is known, drop the column and give --patients-unknown.",
        )


def _unique_studies(rows: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Study ids that are numbered within a patient become `patient/study`."""
    owners = rows.filter(pl.col("study").is_not_null()).group_by("study").agg(pl.col("patient").n_unique())
    if not (owners["patient"] > 1).any():
        return rows, ()
    rows = rows.with_columns(study=pl.format("{}/{}", "patient", "study"))
    return rows, ("Study ids repeat between patients: studies are named patient/study.",)


def _refuse_split_patients(rows: pl.DataFrame) -> None:
    """No patient in two splits."""
    parts = rows.filter(pl.col("split").is_not_null()).group_by("patient", maintain_order=True)
    both = parts.agg(pl.col("split").unique().sort()).filter(pl.col("split").list.len() > 1)
    if both.height:
        patient, splits = both.row(0)
        raise InputError(
            f"The patient {patient!r} is in two splits: {' and '.join(splits)} ({both.height:,} such).",
            "Put all images of a patient into one split, or drop the split column.",
        )
