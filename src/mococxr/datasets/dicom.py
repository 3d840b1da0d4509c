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
from mococxr.datasets.dicom_scan import facts_of, holds_dicom
from mococxr.datasets.own import other_columns, relative_to
from mococxr.datasets.walk import Walk, any_name
from mococxr.errors import InputError, Shown, message
from mococxr.images.dicom import OTHER_PART
from mococxr.tables import Table, first_names, read_table

OWN = ("laterality", "device", "acquisition", "day")
"""What the headers give beside the fixed columns: a letter, maker and model, the image's number in its study, and
days since the patient's first study."""
COPY = "a second copy of an image: its instance identifier is in the archive already"
NAMELESS = "no patient identifier in the header"
KEYS = {
    "path": ("path", "image", "file", "filename"),
    "sop": ("sopinstanceuid", "sop", "instance"),
    "accession": ("accessionnumber", "accession"),
    "study": ("studyinstanceuid", "study", "studyid"),
    "patient": ("patientid", "patient", "subjectid", "mrn"),
}
"""What finds an image in a label table, finest first, and the names it goes by (case, blanks, `_` and `-` ignored)."""


def _read(request: Request) -> Rows:
    """Read an archive; no error quotes a value."""
    root = request.source
    if not root.is_dir():
        raise InputError(
            "{source} is not a folder.", "Give the folder of the archive; a table by --labels.", source=Shown(root)
        )
    walk = Walk(root, any_name)
    facts = facts_of(root, sorted(walk.files()), request.jobs, request.any_body_part)
    facts, unknown = _named(_once(facts), request.patients_unknown)
    images = facts.filter(pl.col("reason").is_null()).sort("path")
    rejected = facts.filter(pl.col("reason").is_not_null()).select("path", "reason")
    rejected = pl.concat([rejected, walk.rejected()]).sort("path")
    if not images.height:
        way_out = "Check the folder; for PNG and JPEG images leave out --format dicom."
        if rejected["reason"].str.starts_with(OTHER_PART).any():
            way_out = "--any-body-part reads images of other parts of the body than the chest."
        if (rejected["reason"] == NAMELESS).any():
            way_out = "An anonymiser may have blanked it: --patients-unknown lets each study count as a patient."
        raise InputError(
            "The archive holds no image: {reasons}.",
            way_out,
            reasons=Shown(_reasons(rejected) or "there are no files that may be one"),
        )
    frame = images.select(
        "path", "patient", "study", "view", "sex", "age", "laterality", "device",
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
        values, labels, metadata, remarks = _labels_of(table, images, request)
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
        image_ids=pl.select(pl.coalesce(images["sop"], f"{name}/" + images["path"])).to_series(),
    )


def _once(facts: pl.DataFrame) -> pl.DataFrame:
    """Each image once: of files with one instance identifier the longest stays (a shorter one may be cut off), and
    the first of equals.
    """
    image = pl.col("reason").is_null() & pl.col("sop").is_not_null()
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


# --- labels of an archive's images: a table keyed as report systems key theirs, by image, request, study or patient


def _labels_of(
    table: Table, images: pl.DataFrame, request: Request
) -> tuple[pl.DataFrame, tuple[str, ...], tuple[str, ...], tuple[Shown, ...]]:
    """The table's values for each image, blank where it has no row.

    Args:
        table: with at least one column that finds images.
        images: a row an image, with the columns of `KEYS`.

    Returns:
        A row an image (`split` where the table has one, labels, metadata), the names of the labels and of the
        metadata, and notes. Names that the headers give already have `_in_table` behind them.

    Raises:
        InputError: no such column, no row for any image, two rows that differ for one, no label.
    """
    keys = first_names(table.frame.columns, KEYS)
    if not keys:
        raise InputError(
            "{table} has no column by which an image is found.",
            "It has one or more of: path, SOPInstanceUID, AccessionNumber, StudyInstanceUID, PatientID.",
            table=table.path,
        )
    kind, column = _best_key(table, keys, images, request)
    image_keys, table_keys = images[kind].str.strip_chars(), _keys(table, column, kind, request)
    split = next((name for name in table.frame.columns if name.lower() == "split"), None)
    keys |= {} if split is None else {"split": split}
    labels, metadata, remarks = other_columns(table, keys, request.label)
    renamed = {name: f"{name}_in_table" for name in (*labels.columns, *metadata.columns) if name in OWN}
    labels, metadata = labels.rename(renamed, strict=False), metadata.rename(renamed, strict=False)
    values = pl.concat([labels, metadata], how="horizontal")
    if split is not None:
        values = values.with_columns(split=tables.split_names(table.frame[split], table.describe_row))
    values = values.with_columns(_key=table_keys).filter(pl.col("_key").is_not_null())
    values = values.unique(maintain_order=True)
    used = values.filter(pl.col("_key").is_in(image_keys.drop_nulls().implode()))
    if again := used.filter(~pl.col("_key").is_first_distinct()).height:
        raise InputError(
            "The label table has {again:,} rows that contradict another row about the same image.",
            "Keep one row for each key, or key the table by a finer column.",
            again=again,
        )
    joined = pl.DataFrame({"_key": image_keys}).join(values, on="_key", how="left", maintain_order="left")
    matched = int((image_keys.is_in(values["_key"].implode()) & image_keys.is_not_null()).sum())
    note = message(
        "Labels by {column}: of {count:,} images {matched:,} have a row, {none:,} none; {unused:,} rows have no image.",
        column=Shown(column), count=len(images), matched=matched, none=len(images) - matched,
        unused=len(values) - len(used) + table_keys.null_count(),
    )  # fmt: skip
    return joined.drop("_key"), tuple(labels.columns), tuple(metadata.columns), (note, *remarks)


def _best_key(table: Table, keys: dict[str, str], images: pl.DataFrame, request: Request) -> tuple[str, str]:
    """The finest key by which any image is found."""
    for kind, column in keys.items():
        values = _keys(table, column, kind, request).drop_nulls()
        if images[kind].str.strip_chars().is_in(values.implode()).any():
            return kind, column
    raise InputError(
        "No row of {table} is about an image of the archive, by {names}.",
        "Check that the table belongs to this archive, and that leading zeros were not lost.",
        table=table.path,
        names=" or ".join(keys.values()),
    )


def _keys(table: Table, column: str, kind: str, request: Request) -> pl.Series:
    """A table's keys as text; paths relative to the source."""
    values = table.frame[column]
    if kind != "path":
        return values
    values = values.str.replace_all("\\", "/", literal=True).str.replace(r"^(\./)+", "")
    return relative_to(values, request.root)


READER = Reader(
    "dicom",
    find=lambda request: request.source if request.source.is_dir() and holds_dicom(request.source) else None,
    read=_read,
    safe=frozenset(OWN),
)
