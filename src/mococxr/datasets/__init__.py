"""Label tables and folder layouts -> one row an image: the datasets that are known, and which one a source is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from mococxr.datasets import (
    brax,
    chexpert,
    dicom,
    folders,
    mimic,
    nih,
    openi,
    own,
    padchest,
    rsna,
    shenzhen,
    tbx11k,
    vindr,
    xrv,
)
from mococxr.datasets.dataset import Dataset, Reader, Request, finish
from mococxr.datasets.dicom_scan import holds_dicom
from mococxr.datasets.walk import fits, printable
from mococxr.errors import InputError, Shown, message
from mococxr.privacy import redacted_errors
from mococxr.tables import header

__all__ = ["READERS", "Dataset", "read_dataset"]

_KNOWN = (
    mimic.READER,
    brax.READER,  # before CheXpert, whose columns its table has too
    chexpert.READER,
    nih.READER,
    padchest.READER,
    vindr.READER,
    rsna.READER,
    tbx11k.READER,
    openi.READER,
    xrv.READER,
    shenzhen.SHENZHEN,
    shenzhen.MONTGOMERY,
    dicom.READER,
    own.TABLE,  # any table with a path column: behind all that are known by more
    folders.READER,
)
READERS: dict[str, Reader] = {reader.name: reader for reader in _KNOWN}
"""`--format` -> reader, in the order in which a source is tried; the last takes anything."""


def read_dataset(
    source: Path,
    *,
    format: str = "auto",
    labels: Path | None = None,
    label: Sequence[str] = (),
    label_key: str | None = None,
    patients_unknown: bool = False,
    jobs: int = 1,
    pseudonyms: bool = False,
    any_body_part: bool = False,
) -> Dataset:
    """Read the rows of a dataset; no image is decoded, and an image that is absent on disk is no error here.

    Args:
        source: a folder of images, or a CSV table that lists them.
        format: a key of `READERS`, or `auto` to look at the layout (the choice is the dataset's first note).
        labels: the label table, where it is not inside `source`.
        label: the label columns; none means every column of 1, 0, -1 and blank.
        label_key: the column of the label table by which an image of a DICOM archive is found.
        patients_unknown: accept images without patient ids; each is then a patient of its own.
        jobs: processes for a reader that opens the images' headers (DICOM).
        pseudonyms: the dataset will get pseudonyms: no error quotes a value of a table or a path below the source (always
            so with DICOM), and names of folders become labels only where `label` names them.

        any_body_part: DICOM images of other parts of the body than the chest are rows too.

    Raises:
        InputError: the source, a table, a row or a value is wrong; the text names it and the way out.
    """
    source, labels = Path(source), None if labels is None else Path(labels)
    if not source.exists():
        raise InputError("{source} does not exist.", "Check the path of the source.", source=Shown(source))
    if labels is not None and not labels.is_file():
        raise InputError("{labels} is not a file.", "Check the path of the label table.", labels=Shown(labels))
    if not fits(source.resolve().name):  # it may become the store's `source`
        raise InputError("No table can hold the name of {source}.", "Rename it.", source=Shown(printable(str(source))))
    request = Request(source, labels, tuple(label), patients_unknown, jobs, pseudonyms, any_body_part, label_key)
    # Errors of detection could quote names of an archive.
    archive = format == "auto" and source.is_dir() and holds_dicom(source)
    with redacted_errors() if pseudonyms or archive else nullcontext():
        name, notes = (format, ()) if format != "auto" else _detect(request)
    if name == "folder" and labels is not None:  # a table says more than names of folders
        name, notes = "csv", (*notes, Shown("Labels come from the table; class folders are not read."))
    if name not in READERS:
        known = ", ".join(["auto", *READERS])
        raise InputError(
            "The format {format!r} is not known.", "Known formats: {known}.", format=Shown(format), known=Shown(known)
        )
    if label_key is not None and (name != "dicom" or labels is None):
        raise InputError(
            "--label-key goes with --labels and a DICOM archive: other tables name their images by path.",
            "Leave it out.",
        )
    reader = READERS[name]
    # Always with DICOM: its store gets pseudonyms.
    with redacted_errors() if pseudonyms or name == "dicom" else nullcontext():
        return finish(reader, reader.read(request), request, notes)


def _detect(request: Request) -> tuple[str, tuple[Shown, ...]]:
    """The name of the dataset, and a note that says why."""
    text = "The source is read as {reader}: {why}."
    if request.table is not None:
        names = header(request.table)
        for reader in READERS.values():
            if reader.has_columns(names) and reader.find(request):
                why = Shown(f"{request.table.name} has the columns of that dataset")
                return reader.name, (message(text, reader=Shown(reader.name), why=why),)
    rest = READERS if request.table is None else {"dicom": dicom.READER, "csv": own.TABLE}
    for reader in rest.values():
        if entry := reader.find(request):
            typed = entry in (request.source, request.table)
            why = message("it holds {entry}", entry=Shown(entry.name) if typed else entry.name)
            why = Shown("it holds no table that is known") if reader is folders.READER else why
            return reader.name, (message(text, reader=Shown(reader.name), why=why),)
    raise AssertionError("a source that is neither a folder nor a table")
