"""A DICOM archive: nested folders of files, any suffix or none; identities and facts come from the headers.

What is no image (a report, a localizer, another modality, a damaged header, a second copy) is listed with its
reason. The rows hold real identities; `prepare` replaces them by pseudonyms before anything is written. Of dates
only the days since the patient's first study are kept, of all other text nothing.
"""

from __future__ import annotations

from collections import Counter

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Reader, Request, Rows, stands_for_all
from mococxr.datasets.dicom_labels import labels_of
from mococxr.datasets.dicom_scan import facts_of, holds_dicom
from mococxr.datasets.walk import Walk, any_name
from mococxr.errors import InputError, Shown, message
from mococxr.images.dicom import OTHER_PART
from mococxr.tables import read_table

OWN = ("laterality", "device", "acquisition", "day")
"""What the headers give beside the fixed columns: a letter, maker and model, the image's number in its study, and
days since the patient's first study."""
COPY = "a second copy of an image: its instance identifier is in the archive already"
NAMELESS = "no patient identifier in the header"


def _read(request: Request) -> Rows:
    """Read an archive; no error quotes a value."""
    root = request.source
    if not root.is_dir():
        raise InputError(
            "{source} is not a folder.", "Give the folder of the archive; a table by --labels.", source=Shown(root)
        )
    walk = Walk(root, any_name)
    # Sorted: "first" is the same on every disk.
    facts = facts_of(root, sorted(walk.files()), request.jobs, request.any_body_part)
    facts = facts.with_columns(tables.identifiers(facts["patient"]))  # " 12" and "12" are one person
    facts, unknown = _named(_once(facts), request.patients_unknown)  # copies first: they need no patient
    images = facts.filter(pl.col("reason").is_null()).sort("path")
    rejected = facts.filter(pl.col("reason").is_not_null()).select("path", "reason")
    rejected = pl.concat([rejected, walk.rejected()]).sort("path")
    if not images.height:
        raise _no_image(rejected)
    frame = images.select(
        "path", "patient", "study", "view", "sex", "age", "laterality", "device",
        # A rank: times are not kept.
        acquisition=pl.col("order").rank("ordinal").over("patient", "study").cast(pl.Int64),
        day=tables.days_since_first_study(images["date"], images["patient"]),
    )  # fmt: skip
    name = root.resolve().name
    notes = _summary(walk, images, rejected)
    if unknown:
        text = (
            "{count:,} images name no patient, or all the same: each of their studies counts as a patient of its own."
        )
        notes += (message(text, count=unknown),)
    if nameless := (rejected["reason"] == NAMELESS).sum():
        text = "{count:,} images name no patient: --patients-unknown lets each of their studies count as a patient."
        notes += (message(text, count=nameless),)
    labels: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    table = None if request.labels is None else read_table(request.labels)
    if table is not None:
        values, labels, metadata, remarks = labels_of(table, images, request, OWN)
        frame, notes = pl.concat([frame, values], how="horizontal"), (*notes, *remarks)
    return Rows(
        frame,
        labels,
        metadata=(*OWN, *metadata),
        tables=() if table is None else (table,),
        notes=notes,
        source=name,
        has_official_split="split" in frame.columns,
        patients_known=not unknown,
        rejected=rejected,
        # Files may be moved; the UID stays.
        image_ids=pl.select(pl.coalesce(images["sop"], f"{name}/" + images["path"])).to_series(),
    )


def _no_image(rejected: pl.DataFrame) -> InputError:
    way_out = "Check the folder; for PNG and JPEG images leave out --format dicom."
    if rejected["reason"].str.starts_with(OTHER_PART).any():
        way_out = "--any-body-part reads images of other parts of the body than the chest."
    if (rejected["reason"] == NAMELESS).any():
        way_out = "An anonymiser may have blanked it: --patients-unknown lets each study count as a patient."
    reasons = Shown(_reasons(rejected) or "there are no files that may be one")
    return InputError("The archive holds no image: {reasons}.", way_out, reasons=reasons)


def _once(facts: pl.DataFrame) -> pl.DataFrame:
    """Each image once: of files with one instance identifier the longest stays (a shorter one may be cut off), and
    the first of equals.
    """
    image = pl.col("reason").is_null() & pl.col("sop").is_not_null()  # what is refused is no copy of anything
    rank = pl.struct(-pl.col("size"), pl.col("path")).rank("ordinal").over("sop", image)
    again = image & (rank > 1)
    return facts.with_columns(reason=pl.when(again).then(pl.lit(COPY)).otherwise("reason"))


def _named(facts: pl.DataFrame, patients_unknown: bool) -> tuple[pl.DataFrame, int]:
    """Images without a patient, or all with the same, go to the list or count as patients of their own; returns their
    number too.
    """
    nameless = pl.col("patient").is_null() & pl.col("reason").is_null()
    if patients_unknown and stands_for_all(facts.filter(pl.col("reason").is_null() & ~nameless)):
        facts = facts.with_columns(patient=pl.lit(None, pl.String))
    count = facts.filter(nameless).height
    if patients_unknown:
        # The coarsest that is known: images of a study stay together.
        return facts.with_columns(patient=pl.coalesce("patient", "study", "sop", "path")), count
    return facts.with_columns(reason=pl.when(nameless).then(pl.lit(NAMELESS)).otherwise("reason")), 0


def _reasons(rejected: pl.DataFrame) -> str:
    """The most frequent reasons with their numbers."""
    return ", ".join(f"{reason} ({n:,})" for reason, n in Counter(rejected["reason"]).most_common(3))


def _summary(walk: Walk, images: pl.DataFrame, rejected: pl.DataFrame) -> tuple[Shown, ...]:
    """What was met and what became of it, in numbers."""
    others = f"; {len(rejected):,} are not: {_reasons(rejected)}" if len(rejected) else ""
    notes = (Shown(f"{len(images):,} of {len(images) + len(rejected):,} files are images{others}."), *walk.notes())
    if burned_in := images["burned_in"].sum():
        text = "{count:,} images declare burned-in text in their headers: names may be in their pixels."
        notes += (message(text, count=burned_in),)
    return notes


READER = Reader(
    "dicom",
    find=lambda request: request.source if request.source.is_dir() and holds_dicom(request.source) else None,
    read=_read,
    safe=frozenset(OWN),
)
