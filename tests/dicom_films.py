"""DICOM films written in memory, in every way that an archive may have written them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import UID

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
BASELINE, EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, LOSSLESS_FIRST = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
LS, LS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
J2K_LOSSLESS, J2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
DX, CR, SC = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.7"


def described(cells: np.ndarray, **elements: Any) -> Dataset:
    """A data set whose pixel module describes `cells`; `elements` add, replace or (None) remove elements."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = DX, "1.2.3.4", "DX"
    ds.Rows, ds.Columns = cells.shape[:2]
    ds.SamplesPerPixel = 1 if cells.ndim == 2 else 3
    ds.BitsAllocated = ds.BitsStored = 8 * cells.itemsize
    ds.PixelRepresentation = 0
    ds.PhotometricInterpretation = "MONOCHROME2" if cells.ndim == 2 else "RGB"
    if cells.ndim == 3:
        ds.PlanarConfiguration = 0
    for name, value in elements.items():
        if value is None:
            del ds[name]
        else:
            setattr(ds, name, value)
    if "HighBit" not in elements:
        ds.HighBit = ds.get("BitsStored", 16) - 1
    return ds


def table(entries: np.ndarray, first: int, bits: int, explanation: str = "", signed: bool = False) -> Dataset:
    """One item of a lookup table sequence."""
    item = Dataset()
    item.add_new(0x00283002, "SS" if signed else "US", [len(entries) % 65536, first, bits])
    if explanation:
        item.LUTExplanation = explanation
    item.add_new(0x00283006, "OW", entries.astype("<u2").tobytes())
    return item


def tables(*items: Dataset) -> Sequence:
    return Sequence(items)


def film(cells: np.ndarray, syntax: str = EXPLICIT, frame: bytes | None = None, **elements: Any) -> bytes:
    """A DICOM file.

    Args:
        cells: stored samples, (H, W) or (H, W, 3), uint8 or uint16, or int8 / int16 (then signed).
        syntax: transfer syntax; `encoded` compresses where it names a compression.
        frame: the compressed frame, where it is made already.
        elements: DICOM keywords; None leaves an element out.
    """
    if cells.dtype.kind == "i":
        elements.setdefault("PixelRepresentation", 1)
    ds = described(cells, **elements)
    if UID(syntax).is_encapsulated:
        frame = encoded(cells, syntax, ds) if frame is None else frame
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
    else:
        raw = cells.astype(cells.dtype.newbyteorder(">" if syntax == BIG else "<")).tobytes()
        ds.PixelData = raw + b"\0" * (len(raw) % 2)
        ds["PixelData"].VR = "OW" if cells.itemsize == 2 else "OB"
    return saved(ds, syntax)


def saved(ds: Dataset, syntax: str = EXPLICIT) -> bytes:
    """The bytes of a file with preamble and meta header."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", SC)
    meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3.4")
    meta.TransferSyntaxUID = UID(syntax)
    whole = FileDataset("", ds, file_meta=meta, preamble=bytes(128))
    stream = io.BytesIO()
    whole.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def without_meta(data: bytes) -> bytes:
    """The data set alone: no preamble, no meta header."""
    length = struct.unpack_from("<I", data, 140)[0]
    return data[144 + length :]


def encoded(cells: np.ndarray, syntax: str, ds: Dataset) -> bytes:
    """One compressed frame, by a writer that is not ours; skips the test where there is none."""
    cells = np.ascontiguousarray(cells)
    if syntax == RLE:
        return rle(cells)
    if syntax in (LS, LS_NEAR):
        jpeg_ls = pytest.importorskip("jpeg_ls", reason="no writer of JPEG-LS")
        near = 2 if syntax == LS_NEAR else 0
        return bytes(
            jpeg_ls.encode_array(cells.view(f"u{cells.itemsize}"), near, 0 if cells.ndim == 2 else 2)
        )
    if syntax in (J2K_LOSSLESS, J2K):
        openjpeg = pytest.importorskip("openjpeg.utils", reason="no writer of JPEG 2000")
        kind = 1 if cells.ndim == 3 else 2
        options: dict[str, Any] = {"compression_ratios": [4]} if syntax == J2K else {}
        return bytes(
            openjpeg.encode_array(
                cells, ds.BitsStored, kind, use_mct=cells.ndim == 3, codec_format=0, **options
            )
        )
    return jpeg(cells, syntax, ds)


def rle(cells: np.ndarray) -> bytes:
    """DICOM RLE, by pydicom."""
    about = {
        "rows": cells.shape[0],
        "columns": cells.shape[1],
        "number_of_frames": 1,
        "pixel_representation": 0,
    }
    about |= {"samples_per_pixel": 1 if cells.ndim == 2 else 3, "planar_configuration": 0}
    about |= {"bits_allocated": 8 * cells.itemsize, "bits_stored": 8 * cells.itemsize}
    about["photometric_interpretation"] = "MONOCHROME2" if cells.ndim == 2 else "RGB"
    plain = cells.view(f"u{cells.itemsize}")
    return bytes(get_encoder(UID(RLE)).encode(plain, encoding_plugin="pydicom", **about))


def jpeg(cells: np.ndarray, syntax: str, ds: Dataset) -> bytes:
    """JPEG lossless, baseline or extended, by GDCM."""
    gdcm = pytest.importorskip("gdcm", reason="no writer of lossless JPEG")
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((cells.shape[1], cells.shape[0], 1))
    samples = 1 if cells.ndim == 2 else 3
    image.SetPixelFormat(gdcm.PixelFormat(samples, 8 * cells.itemsize, ds.BitsStored, ds.BitsStored - 1, 0))
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2" if samples == 1 else "RGB")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetByteStringValue(cells.astype(cells.dtype.newbyteorder("<")).tobytes())
    image.SetDataElement(element)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(image)
    if not change.Change():
        pytest.skip(f"GDCM does not write {syntax} of {ds.BitsStored} bits")
    value = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    fragments = [value.GetFragment(i).GetByteValue().GetBuffer() for i in range(value.GetNumberOfFragments())]
    return b"".join(part.encode("utf-8", "surrogateescape") for part in fragments)
