"""Label tables and folder layouts -> one row an image.

A reader is one small file; the dict below is all the registry there is. Every reader ends in
`cohort.finish`, where the rules that hold for all of them are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from mococxr.datasets import (
    brax,
    chexpert,
    dicom,
    folder,
    mimic,
    montgomery,
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
from mococxr.datasets.dataset import Cohort, Request
from mococxr.datasets.detect import detect
from mococxr.errors import InputError
from mococxr.privacy import discreet_errors

__all__ = ["READERS", "Cohort", "read_cohort"]

READERS: dict[str, Callable[[Request], Cohort]] = {
    "csv": own.read,
    "dicom": dicom.read,
    "folder": folder.read,
    "chexpert": chexpert.read,
    "nih": nih.read,
    "shenzhen": shenzhen.read,
    "montgomery": montgomery.read,
    "mimic": mimic.read,
    "vindr": vindr.read,
    "padchest": padchest.read,
    "rsna": rsna.read,
    "tbx11k": tbx11k.read,
    "openi": openi.read,
    "brax": brax.read,
    "xrv": xrv.read,
}


def read_cohort(
    source: Path,
    *,
    format: str = "auto",
    labels: Path | None = None,
    label: Sequence[str] = (),
    patients_unknown: bool = False,
    jobs: int = 1,
    discreet: bool = False,
) -> Cohort:
    """Read the rows of a cohort; no image is decoded, and an image that is absent on disk is no error here.

    Args:
        source: a folder of images, or a CSV table that lists them.
        format: a key of `READERS`, or `auto` to look at the layout (the choice is the cohort's first note).
        labels: the label table, where it is not inside `source`.
        label: the label columns; none means every column of 1, 0, -1 and blank.
        patients_unknown: accept images without patient ids; each is then a patient of its own.
        jobs: processes for a reader that opens the images' headers (DICOM).
        discreet: no error quotes a value of a table or a path below the source; always so with DICOM.

    Raises:
        InputError: the source, a table, a row or a value is wrong; the text names it and the way out.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(f"{source} does not exist.", "Check the path of the source.")
    if labels is not None and not Path(labels).is_file():
        raise InputError(f"{labels} is not a file.", "Check the path of the label table.")
    request = Request(source, None if labels is None else Path(labels), tuple(label), patients_unknown, jobs)
    chosen, notes = (format, ()) if format != "auto" else detect(request)
    if chosen not in READERS:
        known = ", ".join(["auto", *READERS])
        raise InputError(f"The format {format!r} is not known.", f"Known formats: {known}.")
    with discreet_errors() if discreet or chosen == "dicom" else nullcontext():
        return READERS[chosen](request).with_notes(notes)
