"""A DICOM archive: nested folders of files, any suffix or none; identities and facts come from the headers.

What is no image (a report, a localizer, another modality, a damaged header, a second copy) is listed with its
reason. The rows hold real identities; `prepare` replaces them by pseudonyms before anything is written. Of dates
only the days since the patient's first study are kept, of all other text nothing.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import polars as pl

from mococxr.datasets import columns
from mococxr.datasets.dataset import Cohort, Request, finish
from mococxr.datasets.dicom_labels import NONE, labels_of
from mococxr.datasets.dicom_scan import Walk, facts_of
from mococxr.datasets.tables import read_table
from mococxr.errors import InputError

OWN = ("laterality", "device", "acquisition", "day")
"""What the headers give beside the fixed columns: a letter, maker and model, the image's number in its study, and
days since the patient's first study."""
COPY = "a second copy of an image: its instance identifier is in the archive already"
CLOSED = "a folder that cannot be read"
NAMELESS = "no patient identifier in the header"
UNFIT = "a file name that no table can hold"


def read(request: Request) -> Cohort:
    """Read an archive.

    Raises:
        InputError: no image is found, or the label table does not fit; the text quotes no value.
    """
    root = request.source
    if not root.is_dir():
        raise InputError(f"{root} is not a folder.", "Give the folder of the archive; a table by --labels.")
    walk = Walk()
    paths = sorted(walk.files(root))
    fit = [path for path in paths if _fits(path)]
    facts = facts_of(root, fit, request.jobs)
    unfit = [path.encode(errors="replace").decode() for path in paths if not _fits(path)]
    facts, unknown = _named(_once(facts), request.patients_unknown)
    images = facts.filter(pl.col("reason").is_null()).sort("path")
    left_out = facts.filter(pl.col("reason").is_not_null()).select("path", "reason")
    others = {"path": [*unfit, *walk.closed], "reason": [UNFIT] * len(unfit) + [CLOSED] * len(walk.closed)}
    left_out = pl.concat([left_out, pl.DataFrame(others, schema=left_out.schema)]).sort("path")
    if not images.height:
        raise InputError(
            f"The archive holds no image: {_reasons(left_out) or 'there are no files that may be one'}.",
            "Check the folder; for PNG and JPEG images leave out --format dicom.",
        )
    cohort = _cohort(request, images, unknown)
    cohort = dataclasses.replace(cohort, left_out=left_out)
    return cohort.with_notes(_said(walk, images, left_out))


def _fits(path: str) -> bool:
    """Whether a path is text, and one path on every system."""
    strange = any(letter < " " or "\ud800" <= letter <= "\udfff" for letter in path)
    return not strange and "\\" not in path and path[1:2] != ":"


def _once(facts: pl.DataFrame) -> pl.DataFrame:
    """Each image once: of files with one instance identifier the longest stays (a shorter one may be cut off), and
    the first of equals.
    """
    image = pl.col("reason").is_null() & pl.col("sop").is_not_null()
    place = pl.struct(-pl.col("size"), pl.col("path")).rank("ordinal").over("sop", image)
    again = image & (place > 1)
    return facts.with_columns(reason=pl.when(again).then(pl.lit(COPY)).otherwise("reason"))


def _named(facts: pl.DataFrame, patients_unknown: bool) -> tuple[pl.DataFrame, int]:
    """Images without a patient go to the list, or count as patients of their own; returns their number too."""
    nameless = pl.col("patient").is_null() & pl.col("reason").is_null()
    count = facts.filter(nameless).height
    if patients_unknown:
        return facts.with_columns(patient=pl.coalesce("patient", "study", "sop", "path")), count
    return facts.with_columns(reason=pl.when(nameless).then(pl.lit(NAMELESS)).otherwise("reason")), 0


def _cohort(request: Request, images: pl.DataFrame, unknown: int) -> Cohort:
    """Rows of images with their labels."""
    fixed = images.select(
        "path", "patient", "study", "view", "sex", "age", "laterality", "device",
        acquisition=pl.col("order").rank("ordinal").over("patient", "study").cast(pl.Int64),
        day=columns.days(images["date"], images["patient"]),
    )  # fmt: skip
    name = request.source.resolve().name
    table = None if request.labels is None else read_table(request.labels)
    found = NONE if table is None else labels_of(table, images, request, set(OWN))
    cohort = Cohort(
        name="dicom",
        source=name,
        root=request.source,
        rows=pl.concat([fixed, found.rows], how="horizontal"),
        labels=found.labels,
        metadata=(*OWN, *found.metadata),
        official_splits="split" in found.rows.columns,
        identities=pl.select(pl.coalesce(images["sop"], f"{name}/" + images["path"])).to_series(),
        inputs={} if table is None else {table.path.name: table.sha256},
        notes=found.notes,
    )
    cohort = finish(cohort, lambda row: f"image {row + 1}")
    if unknown:
        note = f"{unknown:,} images name no patient: each of their studies counts as a patient of its own."
        cohort = dataclasses.replace(cohort, patients_known=False, notes=(*cohort.notes, note))
    return cohort


def _reasons(left_out: pl.DataFrame) -> str:
    """The most frequent reasons with their numbers."""
    return ", ".join(f"{reason} ({n:,})" for reason, n in Counter(left_out["reason"]).most_common(3))


def _said(walk: Walk, images: pl.DataFrame, left_out: pl.DataFrame) -> tuple[str, ...]:
    """What was met and what became of it, in numbers."""
    met = len(images) + len(left_out)
    others = f"; {len(left_out):,} are not: {_reasons(left_out)}" if len(left_out) else ""
    notes = [f"{len(images):,} of {met:,} files are images{others}."]
    if passed_by := +walk.passed_by:
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in passed_by.most_common(8))
        notes.append(f"Not opened: {kinds}.")
    if burned_in := images["burned_in"].sum():
        notes.append(
            f"{burned_in:,} images declare burned-in text in their headers: names may be in their pixels."
        )
    return tuple(notes)
