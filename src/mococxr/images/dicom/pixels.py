"""DICOM pixel data -> the cells of the first frame, before anything decides their grey.

Everything is checked before it is allocated or handed to a decoder: the size against the limits, the length
against the file, the stream's own header against the DICOM header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID_dictionary

from mococxr.errors import ImageError
from mococxr.images.dicom.codecs import CUT, DAMAGED, decode_stream, read_stream
from mococxr.images.dicom.elements import UNDEFINED, Elements, integer, numbers, text
from mococxr.images.dicom.rle import decode_rle, is_rle
from mococxr.images.raster import check_size

_ROWS, _COLUMNS, _SAMPLES, _FRAMES, _PLANAR = 0x00280010, 0x00280011, 0x00280002, 0x00280008, 0x00280006
_ALLOCATED, _STORED, _HIGH, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_PHOTOMETRIC = 0x00280004
TAGS = [_ROWS, _COLUMNS, _SAMPLES, _FRAMES, _PLANAR, _ALLOCATED, _STORED, _HIGH, _SIGNED, _PHOTOMETRIC]
_HALVED = ("YBR_FULL_422", "YBR_PARTIAL_422")
_MAX_FRAGMENTS = 100_000
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD


@dataclass(frozen=True)
class Cells:
    """Stored pixels and how their bits are to be read.

    Args:
        cells: uint8 or uint16, (H, W) of grey, indices or luma, or (H, W, 3) of red, green, blue.
        stored: bits of a cell that are the value.
        shift: bits below them.
        signed: the value is two's complement.
        photometric: PhotometricInterpretation; where it is missing, by the number of samples.
        narrow: luma from 16 to 235, as in video.
    """

    cells: NDArray[np.unsignedinteger]
    stored: int
    shift: int
    signed: bool
    photometric: str
    narrow: bool = False


@dataclass(frozen=True)
class _Layout:
    """What the header declares of the pixels."""

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool
    photometric: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of an uncompressed frame."""
        whole = self.rows * self.columns * self.samples * (self.allocated // 8)
        return whole * 2 // 3 if self.photometric in _HALVED else whole


def read_cells(elements: Elements, refuse_frames: bool, max_pixels: int) -> Cells:
    """The first frame.

    Raises:
        ImageError: no pixel data, too large or small, contradictory, truncated, damaged, several frames where
            those are refused, or a compression that no installed decoder reads.
    """
    if elements.pixels is None:
        raise ImageError("no pixel data")
    if elements.pixels.tag != 0x7FE00010:
        raise ImageError("floating-point pixel data: this version reads whole numbers of up to 16 bits")
    layout = _layout(elements, max_pixels)
    if layout.frames > 1 and refuse_frames:
        raise ImageError(f"{layout.frames} frames: one image a file is wanted")
    if elements.pixels.length == UNDEFINED:
        return _compressed(elements, layout)
    return _plain(elements, layout)


def _layout(elements: Elements, max_pixels: int) -> _Layout:
    """Read and check the header's words on the pixels; what is missing is concluded only where it is certain."""
    data = elements.data
    rows, columns = integer(data, _ROWS), integer(data, _COLUMNS)
    if not rows or not columns or rows < 0 or columns < 0:
        raise ImageError("no image size in the header")
    check_size(columns, rows, max_pixels)
    photometric = (text(data, _PHOTOMETRIC) or "").upper()
    colour = photometric.startswith(("RGB", "YBR"))
    samples = integer(data, _SAMPLES) or (3 if colour else 1)
    photometric = photometric or ("MONOCHROME2" if samples == 1 else "RGB")
    if samples not in (1, 3) or (samples == 3) != photometric.startswith(("RGB", "YBR")):
        raise ImageError(f"{samples} samples a pixel of the kind {_known(photometric)}: not read")
    allocated = integer(data, _ALLOCATED) or _allocated(elements, rows * columns * samples)
    stored = integer(data, _STORED) or allocated
    high = integer(data, _HIGH)
    high = stored - 1 if high is None else high
    if allocated not in (8, 16):
        raise ImageError(f"{allocated} bits a sample: this version reads 8 and 16")
    if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise ImageError(
            f"the header contradicts itself: {stored} bits stored, high bit {high}, {allocated} allocated"
        )
    if photometric in _HALVED and columns % 2:
        raise ImageError("halved colours over an odd number of columns")
    frames = (text(data, _FRAMES) or "1").strip()
    return _Layout(
        rows, columns, samples, int(frames[:9]) if frames.isdecimal() else 1, allocated, stored, high,
        integer(data, _SIGNED) == 1, integer(data, _PLANAR) == 1, photometric,
    )  # fmt: skip


def _known(photometric: str) -> str:
    """A photometric interpretation as it may stand in a list."""
    known = (
        "MONOCHROME1",
        "MONOCHROME2",
        "PALETTE COLOR",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_RCT",
        "YBR_ICT",
    )
    return (
        photometric if photometric in (*known, "ARGB", "CMYK", "HSV", "XYB", "YBR_PARTIAL_422") else "unknown"
    )


def _allocated(elements: Elements, samples: int) -> int:
    """Bits a sample where the header does not say: by the length of uncompressed data."""
    assert elements.pixels is not None
    for width in (1, 2):
        if elements.pixels.length in (samples * width, samples * width + 1):
            return 8 * width
    raise ImageError("the header does not say how many bits a sample has")


def _plain(elements: Elements, layout: _Layout) -> Cells:
    """Uncompressed pixel data."""
    assert elements.pixels is not None
    start, declared = elements.pixels.start, elements.pixels.length
    there = min(declared, len(elements.body) - start)
    needed = layout.frame_bytes * max(layout.frames, 1)
    if there < needed:
        raise ImageError(f"truncated: {max(there, 0):,} of {needed:,} bytes of pixel data")
    width = layout.allocated // 8
    raw = memoryview(elements.body)[start : start + layout.frame_bytes]
    cells = np.frombuffer(raw, ("<" if elements.little else ">") + f"u{width}")
    if width == 1 and not elements.little and elements.pixels.kind == "OW":
        cells = np.frombuffer(bytes(raw) + b"\0" * (len(raw) % 2), np.uint16).byteswap().view(np.uint8)
        cells = cells[: len(raw)]
    if layout.photometric in _HALVED:
        luma = cells.reshape(layout.rows, -1, 4)[..., :2].reshape(layout.rows, layout.columns)
        return _cells(np.ascontiguousarray(luma), layout, layout.stored, _shift(layout))
    shape = (layout.rows, layout.columns)
    if layout.samples == 3 and layout.planar:
        cells = cells.reshape(3, *shape).transpose(1, 2, 0)
    return _cells(
        cells.reshape(shape if layout.samples == 1 else (*shape, 3)), layout, layout.stored, _shift(layout)
    )


def _compressed(elements: Elements, layout: _Layout) -> Cells:
    """Encapsulated pixel data: the stream's own first bytes say who decodes it."""
    frame = _first_frame(elements, layout.frames)
    stream = read_stream(frame)
    if stream is None:
        if not is_rle(frame):
            named = UID_dictionary.get(elements.syntax or "", ("an unknown kind",))[0]
            raise ImageError(f"compressed pixel data that no decoder here reads ({named})")
        found = decode_rle(frame, layout.rows, layout.columns, layout.samples, layout.allocated // 8)
        return _cells(found, layout, layout.stored, _shift(layout))
    if (stream.rows, stream.columns, stream.samples) != (layout.rows, layout.columns, layout.samples):
        raise ImageError(
            f"the compressed image has {stream.columns} x {stream.rows} x {stream.samples} samples, the header "
            f"says {layout.columns} x {layout.rows} x {layout.samples}"
        )
    found = decode_stream(frame, stream, layout.photometric)
    if layout.stored > stream.precision:
        found = _widened(found, stream.precision, layout.signed)
    shift = _shift(layout) if stream.precision > layout.high else 0
    return _cells(found, layout, layout.stored, shift, rgb=stream.turned)


def _widened(found: NDArray[np.unsignedinteger], precision: int, signed: bool) -> NDArray[np.unsignedinteger]:
    """Samples of a stream that has fewer bits than the header declares, in 16 bits, their sign carried on."""
    wide = found.astype(np.uint16)
    if not signed:
        return wide
    spare = 16 - precision
    return ((wide << spare).view(np.int16) >> spare).view(np.uint16)


def _shift(layout: _Layout) -> int:
    """Bits below the stored ones."""
    return layout.high + 1 - layout.stored


def _cells(
    found: NDArray[np.unsignedinteger], layout: _Layout, stored: int, shift: int, rgb: bool = False
) -> Cells:
    """Cells in the machine's byte order; of a colour that carries its luma only that."""
    kind = layout.photometric
    luma = kind.startswith("YBR_FULL") or kind.startswith("YBR_PARTIAL")
    if found.ndim == 3 and luma and not rgb:
        found = found[..., 0]
    cells = np.ascontiguousarray(found, dtype=found.dtype.newbyteorder("="))
    return Cells(cells, stored, shift, layout.signed, kind, kind.startswith("YBR_PARTIAL") and not rgb)


def _first_frame(elements: Elements, frames: int) -> bytes:
    """The bytes of the first frame, from its fragments and the offset table.

    Raises:
        ImageError: an item is damaged, runs over the end of the file, or the frames cannot be told apart.
    """
    assert elements.pixels is not None
    spans = _fragments(elements.body, elements.pixels.start)
    if len(spans) < 2:
        raise ImageError(CUT)
    body, (table, table_length), parts = elements.body, spans[0], spans[1:]
    if frames <= 1:
        chosen = parts
    elif len(parts) == frames:
        chosen = parts[:1]
    elif table_length >= 8:
        second = struct.unpack_from("<I", body, table + 4)[0] + parts[0][0] - 8
        chosen = [part for part in parts if part[0] - 8 < second]
    else:
        raise ImageError(f"{frames} frames in {len(parts)} fragments without a table of where each begins")
    return b"".join(body[start : start + length] for start, length in chosen)


def _fragments(body: bytes, at: int) -> list[tuple[int, int]]:
    """(start, length) of each item up to the delimiter, or to the end of the file where that is missing."""
    spans: list[tuple[int, int]] = []
    while at + 8 <= len(body):
        group, element, length = struct.unpack_from("<HHI", body, at)
        tag = group << 16 | element
        if tag == _END:
            return spans
        if tag != _ITEM or len(spans) >= _MAX_FRAGMENTS:
            raise ImageError(DAMAGED)
        if at + 8 + length > len(body):
            raise ImageError(CUT)
        spans.append((at + 8, length))
        at += 8 + length
    return spans


def padding(data: Dataset, stored: int, signed: bool) -> tuple[int, int] | None:
    """The range of values that are no image (PixelPaddingValue and its limit), lowest first; None where none is."""
    found = numbers(data, 0x00280120)[:1]
    if not found:
        return None
    limit = (numbers(data, 0x00280121) or found)[:1]
    ends = []
    for value in (int(found[0]), int(limit[0])):
        value &= (1 << stored) - 1
        ends.append(value - (1 << stored) if signed and value >> (stored - 1) else value)
    return min(ends), max(ends)
