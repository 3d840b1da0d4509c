"""The bytes of a DICOM file -> the elements that decide something, and where its pixels lie.

Element structure is pydicom's; what keeps a hostile file harmless is here: a count of reads (which bounds time,
memory and nesting), inflating by a limit, values read by their bytes. Source: DICOM PS3.5 and PS3.10.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from mococxr.errors import ImageError

UNDEFINED = 0xFFFFFFFF
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_READS = 100_000
"""Reads that a header may take; a real one with a thousand elements takes some three thousand."""
_HEADER_INFLATED = 4 << 20
_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "OW": "H", "UV": "Q", "SV": "q"}


@dataclass(frozen=True)
class Pixels:
    """The element of the pixel data: its tag, where its value lies in the body (the length may be undefined), its
    representation where the file says.
    """

    tag: int
    start: int
    length: int
    kind: str | None


class Elements:
    """Some elements of a file or of an item of a sequence, read by keyword; one that is absent or damaged is empty."""

    def __init__(self, data: Dataset) -> None:
        self._data = data

    def text(self, keyword: str) -> str | None:
        """An element as one text without its padding, in its character set; None where absent, empty or over 1 KiB."""
        value = self.value_bytes(keyword)[0].strip(b" \0\r\n\t")
        if not value or len(value) > 1024:
            return None
        if value.isascii() and b"\x1b" not in value:  # an escape switches the character set (ISO 2022)
            return value.decode("ascii")
        with _quiet():
            try:
                return str(self._data[_tag(keyword)].value).strip(" \0\r\n\t") or None
            except Exception:  # a character set unknown to pydicom: the bytes still tell identities apart
                return value.decode("latin-1")

    def code(self, keyword: str) -> str:
        """A text in upper case; empty where absent."""
        return (self.text(keyword) or "").upper()

    def texts(self, keyword: str) -> tuple[str, ...]:
        """An element of several texts, each without padding, empty ones kept; () where absent."""
        value = self.text(keyword)
        return tuple(part.strip(" \0") for part in value.split("\\")) if value else ()

    def numbers(self, keyword: str, kind: str = "US") -> tuple[float, ...]:
        """An element of numbers, whatever representation it has; () where absent or not numbers.

        Args:
            kind: the representation of an element that does not say (`US`, `DS`...).
        """
        value, representation, little = self._raw(keyword)
        if not value or len(value) > 1 << 20:
            return ()
        known = representation in _NUMBERS or representation in ("DS", "IS", "LO", "SH", "CS")
        form = representation if known else kind
        try:
            if form in _NUMBERS:
                letter = _NUMBERS[form]
                many = len(value) // struct.calcsize("<" + letter)
                return struct.unpack_from(f"{'<' if little else '>'}{many}{letter}", value)
            parts = value.decode("latin-1").strip(" \0").split("\\")
            return tuple(float(part) for part in parts if part.strip(" \0"))
        except (ValueError, struct.error):
            return ()

    def integer(self, keyword: str, kind: str = "US") -> int | None:
        """The first number of an element as a whole number, or None; `kind` as in `numbers`."""
        values = self.numbers(keyword, kind)
        return int(values[0]) if values and abs(values[0]) < 1 << 31 else None

    def value_bytes(self, keyword: str) -> tuple[bytes, bool]:
        """(the bytes of a value as stored, little endian)."""
        value, _, little = self._raw(keyword)
        return value, little

    def items(self, keyword: str) -> list[Elements]:
        """The items of a sequence; [] where it is absent, damaged or over 4 MiB."""
        tag = _tag(keyword)
        if tag not in self._data:
            return []
        element = self._data.get_item(tag, keep_deferred=True)  # raw: pydicom converts on access, and may raise
        with _quiet():
            try:
                if not isinstance(element, RawDataElement):  # a sequence of undefined length is parsed with the file
                    return [Elements(item) for item in element.value] if element.VR == "SQ" else []
                value = element.value or b""
                if len(value) > 4 << 20:
                    return []
                stream, implicit, little = Metered(value), element.is_implicit_VR, element.is_little_endian
                items = read_sequence(stream, implicit, little, len(value), "latin-1")
                return [Elements(item) for item in items]
            except Exception:  # a damaged sequence; RecursionError too: it then says nothing
                return []

    def _raw(self, keyword: str) -> tuple[bytes, str | None, bool]:
        """(the value's bytes, its VR where known, little endian); no bytes where the element is absent."""
        tag = _tag(keyword)
        if tag not in self._data:
            return b"", None, True
        element = self._data.get_item(tag, keep_deferred=True)
        if not isinstance(element, RawDataElement) or element.value is None:
            return b"", None, True
        return element.value, element.VR, element.is_little_endian


@cache
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


@dataclass(frozen=True)
class DicomFile:
    """A file, parsed once.

    Args:
        elements: those asked for.
        syntax: the transfer syntax, or None where the file does not say.
        little: little endian.
        body: the bytes that `pixels` points into (inflated where the file is deflated).
        pixels: the pixel data, or None where there are none.
    """

    elements: Elements
    syntax: str | None
    little: bool
    body: bytes
    pixels: Pixels | None


class Metered(io.BytesIO):
    """Bytes that can be read a limited number of times."""

    left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any stream, while reads are left."""
        self.left -= 1
        if self.left < 0:
            raise ImageError("a DICOM file whose structure does not end")
        return super().read(size)


def is_dicom(data: bytes) -> bool:
    """Whether the bytes are a DICOM file, with its preamble or without: the magic, or a plausible first element."""
    if data[128:132] == b"DICM" or data[:4] == b"DICM":
        return True
    if len(data) < 16:
        return False
    return any(_is_first_element(data, order) for order in "<>")


def _is_first_element(data: bytes, order: str) -> bool:
    """Whether the bytes begin with an element of the groups 0, 2 or 8 that is explicit, or implicit and short."""
    group, element = struct.unpack_from(order + "HH", data)
    if group not in (0, 2, 8) or element > 0x3000:  # command, meta header, or the first group of a data set
        return False
    kind = data[4:6].decode("latin-1")
    if kind in EXPLICIT_VR_LENGTH_16:
        return bool(struct.unpack_from(order + "H", data, 6)[0] < 1024)
    if kind in EXPLICIT_VR_LENGTH_32:
        return data[6:8] == b"\0\0"  # reserved behind a VR of 32-bit length (PS3.5 7.1.2)
    # Implicit is little endian only (PS3.5 A.1).
    return order == "<" and (group, element) != (0, 0) and struct.unpack_from("<I", data, 4)[0] <= 256


def read_file(data: bytes, keywords: Iterable[str], pixels: int = 0) -> DicomFile:
    """Read some elements, without the pixels.

    Args:
        data: the whole file.
        keywords: names of the elements wanted; all others are skipped.
        pixels: bytes of pixel data that are inflated behind the header (of a deflated file only).

    Raises:
        ImageError: not DICOM, or damaged so that no element can be read.
    """
    if not is_dicom(data):
        raise ImageError("not a DICOM file")
    with _quiet():
        try:
            return _read(data, [_tag(keyword) for keyword in keywords], _HEADER_INFLATED + pixels)
        except ImageError:
            raise
        except RecursionError as error:
            raise ImageError("a DICOM file with sequences nested without end") from error
        except Exception as error:  # third-party parsers raise arbitrary exceptions on damaged files
            raise ImageError("a DICOM file with a damaged header") from error


def _read(data: bytes, tags: list[BaseTag | int], inflated: int) -> DicomFile:
    """Meta header, then the body by its transfer syntax, or by its look where the file does not say."""
    stream = Metered(data)
    # PS3.10 7.1: a preamble of 128 bytes, then DICM.
    stream.seek(132 if data[128:132] == b"DICM" else 4 if data[:4] == b"DICM" else 0)
    # Always explicit, little endian (PS3.10 7.1).
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    syntax = Elements(meta).text("TransferSyntaxUID")
    read_dataset(stream, True, True, stop_when=lambda tag, *_: tag >> 16 != 0)  # a command set: skipped
    body, start = data, stream.tell()
    if syntax == DEFLATED:
        body, start = _inflate(data[start:], inflated), 0
    implicit, little = _coding(body[start : start + 8], syntax)
    stream = Metered(body)
    stream.seek(start)
    pixels: list[Pixels] = []

    def stop(tag: BaseTag, kind: str | None, length: int) -> bool:
        if tag in _PIXELS:
            pixels[:] = [Pixels(int(tag), stream.tell(), length, kind)]
        # FFFE: items and their ends, not elements in order.
        return tag in _PIXELS or (tag >> 16 > 0x7FE0 and tag >> 16 != 0xFFFE)

    elements = read_dataset(stream, implicit, little, stop_when=stop, specific_tags=tags)
    return DicomFile(Elements(elements), syntax, little, body, pixels[0] if pixels else None)


def _coding(first: bytes, syntax: str | None) -> tuple[bool, bool]:
    """(implicit, little endian), by the first element: it cannot be mistaken, and the syntax is sometimes wrong."""
    if len(first) < 8:
        return True, True
    implicit = not first[4:6].decode("latin-1").isalpha() or not first[4:6].isupper()
    group_little, group_big = struct.unpack("<H", first[:2])[0], struct.unpack(">H", first[:2])[0]
    little = syntax != EXPLICIT_BIG if group_little == group_big else group_little < group_big
    return implicit, little


def _inflate(packed: bytes, limit: int) -> bytes:
    """The first `limit` bytes of a deflated body."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)  # minus: no zlib header (PS3.5 A.5)
    except zlib.error as error:
        raise ImageError("a DICOM file whose deflated body is damaged") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and log lines of pydicom: what matters becomes a reason or is mended here."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
