"""pydicom's own files: each is read as pydicom reads it, or refused with a reason."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom

from mococxr.errors import ImageError
from mococxr.images import Reading, decode_image, shape_of
from mococxr.images.dicom import header
from mococxr.images.dicom.elements import read_file
from mococxr.images.dicom.render import KEYWORDS, render


def pydicom_files() -> list[Path]:
    """The files inside pydicom's wheel (none is fetched)."""
    folder = Path(pydicom.__file__).parent / "data"
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc"))


def test_each_of_pydicoms_own_files_is_read_as_pydicom_reads_it_or_refused_with_a_reason() -> None:
    equal = reasons = 0
    for path in pydicom_files():
        data = path.read_bytes()
        for read in (header, decode_image):
            with suppress(ImageError):
                read(data)
        try:
            ours = render(data, read_file(data, KEYWORDS), Reading(voi="none", max_pixels=1 << 24)).pixels
        except ImageError:
            reasons += 1
            continue
        assert max(shape_of(data)) >= max(ours.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pydicom.dcmread(path, force=True) as ds:
                equal += theirs(ds, ours)
    assert equal >= 50
    assert reasons >= 80


def theirs(ds: pydicom.Dataset, ours: np.ndarray) -> bool:
    """Compare with pydicom's decoding of a grey image with square pixels; False where there is nothing to compare."""
    if ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2") or ours.shape != (ds.Rows, ds.Columns):
        return False
    try:
        cells = pydicom.pixels.pixel_array(ds, index=0)
    except RuntimeError:  # JPEG of 12 bits, which pydicom does not decode with GDCM
        return False
    lowest = -(1 << ds.BitsStored - 1) if ds.PixelRepresentation else 0
    share = (cells.astype(float) - lowest) / ((1 << ds.BitsStored) - 1)
    grey = np.floor((1 - share if ds.PhotometricInterpretation == "MONOCHROME1" else share) * 255 + 0.5)
    image = cells != ds.get("PixelPaddingValue", 1 << 20)
    assert np.array_equal(ours[image], grey[image]), ds.filename
    return True
