"""The directories of a TIFF file (and of an Exif block, which is one): tag name -> values."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mococxr.errors import ImageError

_NAMES = {
    254: "NewSubfileType",
    256: "ImageWidth",
    257: "ImageLength",
    258: "BitsPerSample",
    262: "PhotometricInterpretation",
    273: "StripOffsets",
    274: "Orientation",
    277: "SamplesPerPixel",
    279: "StripByteCounts",
    281: "MaxSampleValue",
    284: "PlanarConfiguration",
    324: "TileOffsets",
    325: "TileByteCounts",
    338: "ExtraSamples",
    339: "SampleFormat",
}
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MAX_PAGES = 64
_MAX_ENTRIES, _MAX_VALUES = 4096, 1 << 17
"""Entries of a directory and values of an entry beyond which a file is hostile."""


@dataclass(frozen=True)
class TiffTags:
    """One directory (one page)."""

    values: dict[str, tuple[int, ...]]

    def first(self, name: str, otherwise: int) -> int:
        """The first value of a tag, or `otherwise` where the tag is absent."""
        return self.values.get(name, (otherwise,))[0]


def read_tags(data: bytes) -> list[TiffTags]:
    """Read the directories in order, at most 64 of them; only the tags that decide something.

    Raises:
        ImageError: a directory lies outside the data or none is there.
        struct.error: the data end inside a directory.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ImageError("not a TIFF directory")
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    pages: list[TiffTags] = []
    seen: set[int] = set()
    while at and at not in seen and len(pages) < _MAX_PAGES:
        seen.add(at)
        page, at = _directory(data, at, order, big)
        pages.append(page)
    if not pages:
        raise ImageError("a TIFF file without an image")
    return pages


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
    for place in range(start, start + count * entry, entry):
        tag, kind = struct.unpack_from(order + "HH", data, place)
        if tag in _NAMES and kind in _TYPES and _NAMES[tag] not in values:
            many = struct.unpack_from(word, data, place + 4)[0]
            if many > _MAX_VALUES:
                raise ImageError("damaged TIFF: an entry of more values than an image needs")
            size = struct.calcsize(_TYPES[kind]) * many
            inside = place + head
            where = inside if size <= entry - head else struct.unpack_from(word, data, inside)[0]
            if many and where + size <= len(data):
                values[_NAMES[tag]] = struct.unpack_from(f"{order}{many}{_TYPES[kind]}", data, where)
    following = start + count * entry
    return TiffTags(values), struct.unpack_from(word, data, following)[0]
