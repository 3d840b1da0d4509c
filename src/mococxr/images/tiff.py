"""The directories of a TIFF file, and of an Exif block, which is one: tag name -> values.

Only the tags that decide something are read. Sources: TIFF 6.0 and its BigTIFF extension, Exif 2.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mococxr.errors import ImageError

_TIFF_TAGS = {
    254: "NewSubfileType", 256: "ImageWidth", 257: "ImageLength", 258: "BitsPerSample", 262: "PhotometricInterpretation",
    273: "StripOffsets", 274: "Orientation", 277: "SamplesPerPixel", 279: "StripByteCounts", 281: "MaxSampleValue",
    284: "PlanarConfiguration", 324: "TileOffsets", 325: "TileByteCounts", 338: "ExtraSamples", 339: "SampleFormat",
}  # fmt: skip
_ORIENTATION = 274
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8
_MAX_PAGES = 64
_MAX_ENTRIES, _MAX_VALUES = 4096, 1 << 17
"""Entries of a directory and values of an entry beyond which a file is hostile."""


@dataclass(frozen=True)
class TiffTags:
    """One directory (one page); `turned` are the places of its entries that say an orientation."""

    values: dict[str, tuple[int, ...]]
    turned: tuple[int, ...] = ()

    def first(self, name: str, otherwise: int) -> int:
        """The first value of a tag, or `otherwise` where the tag is absent."""
        return self.values.get(name, (otherwise,))[0]


def read_tags(data: bytes) -> list[TiffTags]:
    """Read the directories in order, at most 64 of them; only the tags that decide something.

    Raises:
        ImageError: a directory lies outside the data or none is there.
        struct.error: the data end inside a directory.
    """
    order, big = _kind(data)
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    pages: list[TiffTags] = []
    seen: set[int] = set()  # a hostile file may chain its directories in a circle
    while at and at not in seen and len(pages) < _MAX_PAGES:
        seen.add(at)
        page, at = _directory(data, at, order, big)
        pages.append(page)
    if not pages:
        raise ImageError("a TIFF file without an image")
    return pages


def _kind(data: bytes) -> tuple[str, bool]:
    """(byte order as of `struct`, whether it is a BigTIFF)."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ImageError("not a TIFF directory")
    return order, struct.unpack_from(order + "H", data, 2)[0] == 43  # 42 in a TIFF, 43 in a BigTIFF


def unturned(data: bytes) -> bytes:
    """The file with its first image said to be upright: a decoder that turns it would turn each tile by itself."""
    order, big = _kind(data)
    upright = struct.pack(order + ("HHQHHI" if big else "HHIHH"), _ORIENTATION, 3, 1, 1, 0, *([0] if big else []))
    changed = bytearray(data)
    for entry in read_tags(data)[0].turned:
        changed[entry : entry + len(upright)] = upright
    return bytes(changed)


def _directory(data: bytes, at: int, order: str, big: bool) -> tuple[TiffTags, int]:
    """Read one directory and where the next begins (0: there is none)."""
    count_format, entry = (order + "Q", 20) if big else (order + "H", 12)
    word, head = (order + "Q", 12) if big else (order + "I", 8)
    if at > len(data):  # a 64-bit offset may be more than struct can take
        raise struct.error("the directory lies beyond the end")
    count = struct.unpack_from(count_format, data, at)[0]
    start = at + struct.calcsize(count_format)
    if start + count * entry > len(data):
        raise struct.error("the directory runs over the end")
    if count > _MAX_ENTRIES:
        raise ImageError("damaged TIFF: a directory of more entries than there are tags")
    values: dict[str, tuple[int, ...]] = {}
    turned = []
    for offset in range(start, start + count * entry, entry):
        tag, kind = struct.unpack_from(order + "HH", data, offset)
        if tag == _ORIENTATION:
            turned.append(offset)
        # Of a tag that is there twice the first counts.
        if tag in _TIFF_TAGS and kind in _TIFF_TYPES and _TIFF_TAGS[tag] not in values:
            many = struct.unpack_from(word, data, offset + 4)[0]
            if many > _MAX_VALUES:
                raise ImageError("damaged TIFF: an entry of more values than an image needs")
            size = struct.calcsize(_TIFF_TYPES[kind]) * many
            inside = offset + head
            # What fits stands in the entry itself.
            where = inside if size <= entry - head else struct.unpack_from(word, data, inside)[0]
            if many and where + size <= len(data):  # values outside are as if the tag were absent
                values[_TIFF_TAGS[tag]] = struct.unpack_from(f"{order}{many}{_TIFF_TYPES[kind]}", data, where)
    following = start + count * entry
    return TiffTags(values, tuple(turned)), struct.unpack_from(word, data, following)[0]
