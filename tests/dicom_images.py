"""DICOM images written in memory, in every way that an archive may have written them."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from pydicom import dcmwrite
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
            ds.pop(name, None)
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


def image(cells: np.ndarray, syntax: str = EXPLICIT, frame: bytes | None = None, **elements: Any) -> bytes:
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
    meta.FileMetaInformationGroupLength = 0  # counted when it is written
    whole = FileDataset("", ds, file_meta=meta, preamble=bytes(128))
    stream = io.BytesIO()
    if syntax == BIG:
        _turn_words(ds)
        dcmwrite(stream, whole, implicit_vr=False, little_endian=False, force_encoding=True)
    else:
        whole.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _turn_words(ds: Dataset) -> None:
    """The words of lookup tables in big endian, which pydicom takes as bytes."""
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        for item in ds.get(name, []):
            item["LUTData"].value = np.frombuffer(item["LUTData"].value, "<u2").astype(">u2").tobytes()


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
        return bytes(jpeg_ls.encode_array(cells.view(f"u{cells.itemsize}"), near, 0 if cells.ndim == 2 else 2))
    if syntax in (J2K_LOSSLESS, J2K):
        openjpeg = pytest.importorskip("openjpeg.utils", reason="no writer of JPEG 2000")
        kind = 1 if cells.ndim == 3 else 2
        options: dict[str, Any] = {"compression_ratios": [4]} if syntax == J2K else {}
        return bytes(
            openjpeg.encode_array(cells, ds.BitsStored, kind, use_mct=cells.ndim == 3, codec_format=0, **options)
        )
    return jpeg(cells, syntax, ds)


def rle(cells: np.ndarray) -> bytes:
    """DICOM RLE, by pydicom."""
    about = {"rows": cells.shape[0], "columns": cells.shape[1], "number_of_frames": 1, "pixel_representation": 0}
    about |= {"samples_per_pixel": 1 if cells.ndim == 2 else 3, "planar_configuration": 0}
    about |= {"bits_allocated": 8 * cells.itemsize, "bits_stored": 8 * cells.itemsize}
    about["photometric_interpretation"] = "MONOCHROME2" if cells.ndim == 2 else "RGB"
    plain = cells.view(f"u{cells.itemsize}")
    return bytes(get_encoder(UID(RLE)).encode(plain, encoding_plugin="pydicom", **about))


def jpeg(cells: np.ndarray, syntax: str, ds: Dataset) -> bytes:
    """JPEG lossless by GDCM, baseline by OpenCV, extended by DCMTK (GDCM's writer of it breaks the heap)."""
    if syntax == BASELINE:
        return bytes(cv2.imencode(".jpg", cells, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    if syntax == EXTENDED:
        return extended(cells, ds.BitsStored)
    gdcm = pytest.importorskip("gdcm", reason="no writer of lossless JPEG")
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder) / "plain.dcm", Path(folder) / "packed.dcm"
        plain.write_bytes(image(cells.view(f"u{cells.itemsize}"), BitsStored=ds.BitsStored))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change(), f"GDCM does not write {syntax} of {ds.BitsStored} bits"
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(packed))
        assert writer.Write()
        return frame_of(packed)


def frame_of(path: Path) -> bytes:
    """The compressed frame of a file."""
    with pydicom.dcmread(path) as found:
        return bytes(pydicom.encaps.get_frame(found.PixelData, 0, number_of_frames=1))


@cache
def _extended(raw: bytes, shape: tuple[int, int], bits: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder) / "plain.dcm", Path(folder) / "packed.dcm"
        plain.write_bytes(image(np.frombuffer(raw, np.uint16).reshape(shape), BitsStored=bits))
        subprocess.run(["dcmcjpeg", "+ee", "+q", "100", plain, packed], check=True, capture_output=True)
        return frame_of(packed)


def extended(cells: np.ndarray, bits: int) -> bytes:
    """JPEG extended of 12 bits."""
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("no writer of extended JPEG (DCMTK's dcmcjpeg)")
    return _extended(cells.tobytes(), cells.shape, bits)
