"""A hospital's archive in small: DICOM images with the header mix of real ones, broken files, and what is no image.

The mix (share of MONOCHROME1, bits, rescale, window, table) is that of 7,469 published chest images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

ROOT = "1.2.826.0.1.3680043.8.498."
BITS = ((12, 0.791), (15, 0.198), (10, 0.008), (14, 0.003))
BROKEN = ("truncated", "empty", "garbage", "no pixels", "header cut", "no bits")


@dataclass
class Archive:
    """What was written: path -> the grey image of a good image; path -> what is wrong with a broken one."""

    good: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Dataset] = field(default_factory=dict)


def grey_image(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A smooth picture in multiples of 4 that reaches 0 and 252."""
    coarse = rng.random((6, 5))
    rows, columns = np.linspace(0, 5, height), np.linspace(0, 4, width)
    y, x = np.minimum(rows.astype(int), 4), np.minimum(columns.astype(int), 3)
    fy, fx = (rows - y)[:, None], (columns - x)[None]
    a, b = coarse[y][:, x], coarse[y][:, x + 1]
    c, d = coarse[y + 1][:, x], coarse[y + 1][:, x + 1]
    smooth = (1 - fy) * ((1 - fx) * a + fx * b) + fy * ((1 - fx) * c + fx * d)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (np.round(smooth * 63) * 4).astype(np.uint8)


def image(
    grey: NDArray[np.uint8],
    *,
    bits: int = 12,
    inverted: bool = False,
    rescale: bool = False,
    window: bool = False,
    table: bool = False,
    patient: str = "P1",
    study: str = f"{ROOT}1.1",
    sop: str = f"{ROOT}1.1.1",
    **elements: Any,
) -> FileDataset:
    """A CR image whose grey image is `grey` whichever way it is written: windows and tables are the identity."""
    top = (1 << bits) - 1
    values = np.round(grey.astype(np.float64) / 255 * top).astype(np.uint16)
    stored = top - values if inverted else values
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = sop
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = ComputedRadiographyImageStorage, sop
    data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID = patient, study, study + ".9"
    data.Modality, data.ImageType = "CR", ["ORIGINAL", "PRIMARY"]
    data.Rows, data.Columns = grey.shape
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, bits, bits - 1
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    if rescale:
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = "1", "0", "US"
    if window:
        data.WindowCenter, data.WindowWidth = str((top + 1) / 2), str(top + 1)
    if table:
        item = Dataset()
        item.LUTDescriptor = [top + 1 if top < 65535 else 0, 0, bits]
        item.add_new(0x00283006, "OW", np.arange(top + 1, dtype="<u2").tobytes())
        data.VOILUTSequence = [item]
    for name, value in elements.items():
        setattr(data, name, value)
    data.PixelData = stored.astype("<u2").tobytes()
    return data


def mixed_image(grey: NDArray[np.uint8], rng: np.random.Generator, **elements: Any) -> FileDataset:
    """An image with a header drawn from the published mix; a window or a table, not both."""
    bits = int(rng.choice([b for b, _ in BITS], p=[share for _, share in BITS]))
    table = bool(rng.random() < 0.41)
    made = image(
        grey, bits=bits, inverted=bool(rng.random() < 0.48), rescale=bool(rng.random() < 0.606),
        window=bool(rng.random() < 0.55) and not table, table=table, **elements,
    )  # fmt: skip
    syntax = rng.choice(5, p=(0.45, 0.1, 0.15, 0.15, 0.15))
    if syntax >= 2:
        made.compress([RLELossless, JPEGLSLossless, JPEG2000Lossless][syntax - 2], generate_instance_uid=False)
    elif syntax == 1:
        made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return made


def write_archive(
    root: Path, images: int, *, seed: int = 0, sides: tuple[int, int] = (48, 40), broken: float = 0.02,
    name: Callable[[int, int, int], str] | None = None,
) -> Archive:  # fmt: skip
    """`images` images of patients with two studies each, nested, with and without suffix; a share is broken."""
    rng, written = np.random.default_rng(seed), Archive()
    bad = dict(zip(rng.permutation(images)[: round(broken * images)].tolist(), BROKEN * images, strict=False))
    for i in range(images):
        patient, study = i // 4, i // 2
        path = name(patient, study, i) if name else f"p{patient:05d}/{study:05d}/IM{i:06d}" + (".dcm" * (i % 2))
        grey = grey_image(rng, sides[0], sides[1])
        data = mixed_image(
            grey, rng, patient=f"ID{patient:05d}", study=f"{ROOT}2.{study}", sop=f"{ROOT}3.{i}",
            StudyDate=f"2019{1 + study % 12:02d}{1 + i % 2:02d}", PatientSex="FM"[patient % 2],
            PatientAge=f"{20 + patient % 60:03d}Y", ViewPosition=("PA", "AP")[i % 2],
            Manufacturer="Maker", ManufacturerModelName="Model 1", AccessionNumber=f"A{study:05d}",
        )  # fmt: skip
        if bad.get(i) == "no pixels":
            del data.PixelData
        elif bad.get(i) == "no bits":
            del data.Rows
        full = root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(full, enforce_file_format=True)
        if i in bad:
            written.broken[path] = bad[i]
            _break(full, bad[i])
        else:
            written.good[path] = grey
        data.PixelData = b"" if "PixelData" in data else None
        written.facts[path] = data
    return written


def _break(file: Path, how: str) -> None:
    whole = file.read_bytes()
    if how == "truncated":
        file.write_bytes(whole[: len(whole) - 700])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "garbage":
        file.write_bytes(bytes(range(256)) * 40)
    elif how == "header cut":
        file.write_bytes(whole[:300])
