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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_sequence
from pydicom.tag import BaseTag

from mococxr.errors import ImageError

UNDEFINED = 0xFFFFFFFF
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_READS = 100_000
"""Reads that a header may take; a real one with a thousand elements takes some three thousand."""
_HEADER_INFLATED = 4 << 20
_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
_SHORT = {
    "AE",
    "AS",
    "AT",
    "CS",
    "DA",
    "DS",
    "DT",
    "FD",
    "FL",
    "IS",
    "LO",
    "LT",
    "PN",
    "SH",
    "SL",
    "SS",
    "ST",
}
_SHORT |= {"TM", "UI", "UL", "US"}
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


@dataclass(frozen=True)
class Elements:
    """The elements asked for, of one file.

    Args:
        data: the elements, undecoded.
        syntax: the transfer syntax, or None where the file does not say.
        little: little endian.
        body: the bytes that `pixels` points into (inflated where the file is deflated).
        pixels: the pixel data, or None where there are none.
    """

    data: Dataset
    syntax: str | None
    little: bool
    body: bytes
    pixels: Pixels | None


class _Metered(io.BytesIO):
    """Bytes that can be read a limited number of times."""

    left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ImageError("a DICOM file whose header does not end")
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
    if group not in (0, 2, 8) or element > 0x3000:
        return False
    kind = data[4:6].decode("latin-1")
    if kind in _SHORT:
        return bool(struct.unpack_from(order + "H", data, 6)[0] < 1024)
    if kind in _LONG:
        return data[6:8] == b"\0\0"
    return order == "<" and (group, element) != (0, 0) and struct.unpack_from("<I", data, 4)[0] <= 256


def read_elements(data: bytes, tags: list[int], inflated: int = _HEADER_INFLATED) -> Elements:
    """Read some elements, without the pixels.

    Args:
        data: the whole file.
        tags: the elements wanted; all others are skipped.
        inflated: bytes after which inflating stops (of a deflated file only).

    Raises:
        ImageError: not DICOM, or damaged so that no element can be read.
    """
    if not is_dicom(data):
        raise ImageError("not a DICOM file")
    with _quiet():
        try:
            return _read(data, tags, inflated)
        except ImageError:
            raise
        except RecursionError as error:
            raise ImageError("a DICOM file with sequences nested without end") from error
        except Exception as error:  # what a parser of a third party may raise on a damaged file is its secret
            raise ImageError("a DICOM file with a damaged header") from error


def _read(data: bytes, tags: list[int], inflated: int) -> Elements:
    """Meta header, then the body by its transfer syntax, or by its look where the file does not say."""
    stream = _Metered(data)
    stream.seek(132 if data[128:132] == b"DICM" else 4 if data[:4] == b"DICM" else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    syntax = text(meta, 0x00020010)
    read_dataset(stream, True, True, stop_when=lambda tag, *_: tag >> 16 != 0)  # a command set: skipped
    body, start = data, stream.tell()
    if syntax == DEFLATED:
        body, start = _inflate(data[start:], inflated), 0
    implicit, little = _coding(body[start : start + 8], syntax)
    stream = _Metered(body)
    stream.seek(start)
    found: list[Pixels] = []

    def stop(tag: BaseTag, kind: str | None, length: int) -> bool:
        if tag in _PIXELS:
            found[:] = [Pixels(int(tag), stream.tell(), length, kind)]
        return tag in _PIXELS or (tag >> 16 > 0x7FE0 and tag >> 16 != 0xFFFE)

    wanted: list[BaseTag | int] = list(tags)
    elements = read_dataset(stream, implicit, little, stop_when=stop, specific_tags=wanted)
    return Elements(elements, syntax, little, body, found[0] if found else None)


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
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)
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


def _raw(data: Dataset, tag: int) -> tuple[bytes, str | None, bool]:
    """(the value's bytes, its VR where known, little endian); no bytes where the element is absent."""
    if tag not in data:
        return b"", None, True
    element = data.get_item(tag, keep_deferred=True)
    if not isinstance(element, RawDataElement) or element.value is None:
        return b"", None, True
    return element.value, element.VR, element.is_little_endian


def text(data: Dataset, tag: int) -> str | None:
    """An element as one text without its padding, in its character set; None where absent, empty or over 1 KiB."""
    value, _, _ = _raw(data, tag)
    value = value.strip(b" \0\r\n\t")
    if not value or len(value) > 1024:
        return None
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    with _quiet():
        try:
            return str(data[tag].value).strip(" \0\r\n\t") or None
        except Exception:  # a character set unknown to pydicom: the bytes still tell identities apart
            return value.decode("latin-1")


def texts(data: Dataset, tag: int) -> tuple[str, ...]:
    """An element of several texts, each without padding, empty ones kept; () where absent."""
    value = text(data, tag)
    return tuple(part.strip(" \0") for part in value.split("\\")) if value else ()


def numbers(data: Dataset, tag: int, kind: str = "US") -> tuple[float, ...]:
    """An element of numbers, whatever representation it has; () where absent or not numbers.

    Args:
        kind: the representation of an element that does not say (`US`, `DS`...).
    """
    value, own, little = _raw(data, tag)
    if not value or len(value) > 1 << 20:
        return ()
    form = own if own in _NUMBERS or own in ("DS", "IS", "LO", "SH", "CS") else kind
    try:
        if form in _NUMBERS:
            letter = _NUMBERS[form]
            many = len(value) // struct.calcsize("<" + letter)
            return struct.unpack_from(f"{'<' if little else '>'}{many}{letter}", value)
        return tuple(
            float(part) for part in value.decode("latin-1").strip(" \0").split("\\") if part.strip(" \0")
        )
    except (ValueError, struct.error):
        return ()


def integer(data: Dataset, tag: int, kind: str = "US") -> int | None:
    """The first number of an element as a whole number, or None; `kind` as in `numbers`."""
    found = numbers(data, tag, kind)
    return int(found[0]) if found and abs(found[0]) < 1 << 31 else None


def value_bytes(data: Dataset, tag: int) -> tuple[bytes, bool]:
    """(the bytes of a value as stored, little endian)."""
    value, _, little = _raw(data, tag)
    return value, little


def items(data: Dataset, tag: int) -> list[Dataset]:
    """The items of a sequence; [] where it is absent, damaged or over 4 MiB."""
    if tag not in data:
        return []
    element = data.get_item(tag, keep_deferred=True)
    with _quiet():
        try:
            if not isinstance(element, RawDataElement):
                return list(element.value) if element.VR == "SQ" else []
            value = element.value or b""
            if len(value) > 4 << 20:
                return []
            return list(
                read_sequence(
                    _Metered(value), element.is_implicit_VR, element.is_little_endian, len(value), "latin-1"
                )
            )
        except Exception:  # a damaged sequence; RecursionError too: it then says nothing
            return []
