"""DICOM pixel data -> the cells of the first frame, before anything decides their grey.

Everything is checked before it is allocated or handed to a decoder: the size against the limits, the length
against the file, the stream's own header against the DICOM header.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.uid import UID_dictionary

from mococxr.errors import ImageError
from mococxr.images.dicom.codecs import decode_rle, decode_stream, is_rle
from mococxr.images.dicom.elements import UNDEFINED, DicomFile, Elements, Metered
from mococxr.images.header import check_size
from mococxr.images.streams import CUT, read_stream

KEYWORDS = [
    "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PhotometricInterpretation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "LargestImagePixelValue",
]  # fmt: skip
_PHOTOMETRIC = (
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "ARGB", "CMYK",
    "HSV", "XYB", "YBR_PARTIAL_422",
)  # fmt: skip
_HALVED = ("YBR_FULL_422", "YBR_PARTIAL_422")


@dataclass(frozen=True)
class StoredPixels:
    """Stored pixels and how their bits are to be read.

    Args:
        values: uint8 or uint16, (H, W) of grey, indices or luma, or (H, W, 3) of red, green, blue.
        bits_stored: bits of an entry that are the value.
        low_bit: bits below them.
        signed: the value is two's complement.
        photometric: PhotometricInterpretation; where it is missing, by the number of samples.
        video_range: luma from 16 to 235, as in video.
        fewer_bits: a compressed stream has fewer than the header says, and they count.
    """

    values: NDArray[np.unsignedinteger]
    bits_stored: int
    low_bit: int
    signed: bool
    photometric: str
    video_range: bool = False
    fewer_bits: bool = False


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
        return whole * 2 // 3 if self.photometric in _HALVED else whole  # two pixels share their chroma

    @property
    def low_bit(self) -> int:
        """Bits below the stored ones."""
        return self.high + 1 - self.stored


def read_pixels(file: DicomFile, refuse_frames: bool, max_pixels: int) -> StoredPixels:
    """The first frame.

    Raises:
        ImageError: no pixel data, too large or small, contradictory, truncated, damaged, several frames where
            those are refused, or a compression that no installed decoder reads.
    """
    if file.pixels is None:
        raise ImageError("no pixel data")
    if file.pixels.tag != 0x7FE00010:
        raise ImageError("floating-point pixel data: this version reads whole numbers of up to 16 bits")
    layout = _layout(file, max_pixels)
    if layout.frames > 1 and refuse_frames:
        raise ImageError(f"{layout.frames} frames; a single-frame file is required")
    if file.pixels.length == UNDEFINED:
        return _compressed(file, layout)
    return _plain(file, layout)


def _layout(file: DicomFile, max_pixels: int) -> _Layout:
    """Read and check the header's words on the pixels; what is missing is concluded only where it is certain."""
    elements = file.elements
    rows, columns = elements.integer("Rows"), elements.integer("Columns")
    if not rows or not columns or rows < 0 or columns < 0:
        raise ImageError("no image size in the header")
    check_size(columns, rows, max_pixels)
    photometric = elements.code("PhotometricInterpretation")
    colour = photometric.startswith(("RGB", "YBR"))
    samples = elements.integer("SamplesPerPixel") or (3 if colour else 1)
    photometric = photometric or ("MONOCHROME2" if samples == 1 else "RGB")
    if samples not in (1, 3) or (samples == 3) != photometric.startswith(("RGB", "YBR")):
        raise ImageError(f"{samples} samples a pixel of the kind {_known(photometric)}: not read")
    allocated = elements.integer("BitsAllocated") or _allocated(file, rows * columns * samples)
    stored = elements.integer("BitsStored") or allocated
    high = elements.integer("HighBit")
    high = stored - 1 if high is None else high
    if allocated not in (8, 16):
        raise ImageError(f"{allocated} bits a sample: this version reads 8 and 16")
    if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise ImageError(f"the header contradicts itself: {stored} bits stored, high bit {high}, {allocated} allocated")
    if photometric in _HALVED and columns % 2:
        raise ImageError("4:2:2 chroma subsampling needs an even number of columns")
    frames = (elements.text("NumberOfFrames") or "1").strip()
    return _Layout(
        rows, columns, samples, int(frames[:9]) if frames.isdecimal() else 1, allocated, stored, high,
        elements.integer("PixelRepresentation") == 1, elements.integer("PlanarConfiguration") == 1, photometric,
    )  # fmt: skip


def _known(photometric: str) -> str:
    """A photometric interpretation as it may stand in a list."""
    return photometric if photometric in _PHOTOMETRIC else "unknown"


def _allocated(file: DicomFile, samples: int) -> int:
    """Bits a sample where the header does not say: by the length of uncompressed data."""
    assert file.pixels is not None
    for width in (1, 2):
        if file.pixels.length in (samples * width, samples * width + 1):  # an odd length is padded by a byte
            return 8 * width
    raise ImageError("the header does not say how many bits a sample has")


def _plain(file: DicomFile, layout: _Layout) -> StoredPixels:
    """Uncompressed pixel data."""
    assert file.pixels is not None
    start, declared = file.pixels.start, file.pixels.length
    present = min(declared, len(file.body) - start)
    needed = layout.frame_bytes * max(layout.frames, 1)  # a file that is too short for all its frames is refused
    if present < needed:
        raise ImageError(f"truncated: {max(present, 0):,} of {needed:,} bytes of pixel data")
    width = layout.allocated // 8
    raw = memoryview(file.body)[start : start + layout.frame_bytes]  # a view, not a copy of the frame
    cells = np.frombuffer(raw, ("<" if file.little else ">") + f"u{width}")
    if width == 1 and not file.little and file.pixels.kind == "OW":  # big-endian words hold pixels two by two
        cells = np.frombuffer(bytes(raw) + b"\0" * (len(raw) % 2), np.uint16).byteswap().view(np.uint8)
        cells = cells[: len(raw)]
    if layout.photometric in _HALVED:
        # Y Y Cb Cr (PS3.3 C.7.6.3.1.2).
        luma = cells.reshape(layout.rows, -1, 4)[..., :2].reshape(layout.rows, layout.columns)
        return _stored_pixels(np.ascontiguousarray(luma), layout, layout.low_bit)
    shape = (layout.rows, layout.columns)
    if layout.samples == 3 and layout.planar:
        cells = cells.reshape(3, *shape).transpose(1, 2, 0)  # PlanarConfiguration 1: plane by plane (PS3.3 C.7.6.3.1.3)
    return _stored_pixels(cells.reshape(shape if layout.samples == 1 else (*shape, 3)), layout, layout.low_bit)


def _compressed(file: DicomFile, layout: _Layout) -> StoredPixels:
    """Encapsulated pixel data: the stream's own first bytes say who decodes it."""
    frame = _first_frame(file, layout.frames)
    stream = read_stream(frame)
    if stream is None:  # RLE has no marker of its own: it is known by its header
        if not is_rle(frame):
            named = UID_dictionary.get(file.syntax or "", ("an unknown kind",))[0]
            raise ImageError(f"compressed pixel data that no decoder here reads ({named})")
        samples = decode_rle(frame, layout.rows, layout.columns, layout.samples, layout.allocated // 8)
        return _stored_pixels(samples, layout, layout.low_bit)
    if (stream.rows, stream.columns, stream.samples) != (layout.rows, layout.columns, layout.samples):
        raise ImageError(
            f"the compressed image has {stream.columns} x {stream.rows} x {stream.samples} samples, the header "
            f"says {layout.columns} x {layout.rows} x {layout.samples}"
        )
    samples = decode_stream(frame, stream, layout.photometric)
    # a stream of fewer bits than the header's high bit holds the values alone
    low_bit = layout.low_bit if stream.precision > layout.high else 0
    # no value can need more bits than the stream has, whatever the header says
    fitting = replace(layout, stored=min(layout.stored, stream.precision))
    pixels = _stored_pixels(samples, fitting, low_bit, rgb=stream.turned)
    return replace(pixels, fewer_bits=stream.precision < layout.stored)


def _stored_pixels(
    samples: NDArray[np.unsignedinteger], layout: _Layout, low_bit: int, rgb: bool = False
) -> StoredPixels:
    """Cells in the machine's byte order; of a colour that carries its luma only that."""
    kind = layout.photometric
    luma = kind.startswith("YBR_FULL") or kind.startswith("YBR_PARTIAL")
    if samples.ndim == 3 and luma and not rgb:
        samples = samples[..., 0]  # Y is the luma that colours would be turned into
    values = np.ascontiguousarray(samples, dtype=samples.dtype.newbyteorder("="))
    return StoredPixels(values, layout.stored, low_bit, layout.signed, kind, kind.startswith("YBR_PARTIAL") and not rgb)


def _first_frame(file: DicomFile, frames: int) -> bytes:
    """The bytes of the first frame, from its fragments and the offset table.

    Raises:
        ImageError: an item is damaged, runs over the end of the file, or the frames cannot be told apart.
    """
    assert file.pixels is not None
    try:
        stream = Metered(file.body)  # a hostile file may have a hundred million empty fragments
        stream.seek(file.pixels.start)
        frame = get_frame(stream, 0, number_of_frames=max(frames, 1))
    except ImageError:
        raise
    except Exception as error:  # pydicom raises ValueError, struct.error and others on damaged items
        raise ImageError(CUT) from error
    if not frame:
        raise ImageError(CUT)
    return frame


def padding(elements: Elements, stored: int, signed: bool) -> tuple[int, int] | None:
    """The range of values that are no image (PixelPaddingValue and its limit), lowest first; None where none is."""
    first = _possible(elements, "PixelPaddingValue", stored, signed)
    if first is None:
        return None
    limit = _possible(elements, "PixelPaddingRangeLimit", stored, signed)
    return (first, first) if limit is None else (min(first, limit), max(first, limit))


def _possible(elements: Elements, keyword: str, stored: int, signed: bool) -> int | None:
    """A value that a pixel can have; None where there is none, or one that the stored bits cannot hold."""
    numbers = elements.numbers(keyword)
    if not numbers:
        return None
    value = int(numbers[0]) & 0xFFFF
    if not signed:
        return value if value < 1 << stored else None
    if value >> (stored - 1) == 1:  # two's complement within the stored bits, as some write it, or 16 bits that are all
        return value - (1 << stored)
    value -= value >> 15 << 16
    return value if -(1 << stored - 1) <= value < 1 << stored - 1 else None


def declared_top(elements: Elements, stored: StoredPixels, image: NDArray[np.bool_]) -> int | None:
    """The largest value by LargestImagePixelValue, where the header says that every bit of the words is used.

    Only all ones (4095) are believed: another number is the largest value that occurs, which says nothing of the depth.

    Args:
        image: of every entry that the pixels' type can hold, whether it is no padding.
    """
    top = elements.integer("LargestImagePixelValue") or 0
    # top & (top + 1) is 0 only of all ones
    if stored.signed or stored.bits_stored < 16 or not 255 < top < 1 << 15 or top & (top + 1):
        return None
    occurs = np.zeros(len(image), bool)
    occurs[stored.values] = True
    return None if (occurs & image)[top + 1 :].any() else top
