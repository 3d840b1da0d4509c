"""What an image's header says, read without decoding a pixel: PNG, JPEG, TIFF and BMP.

The header decides what is refused (size, sample type, pages, a file that ends too early), which way up the
image is, and which grey values it declares. Sources: PNG specification (third edition), ITU-T T.81, TIFF 6.0
and its BigTIFF extension, Exif 2.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mococxr.errors import ImageError

MIN_SIDE = 16
"""Pixels of the shorter side under which a file is no image."""
CUT_SHORT = "truncated: the file ends before the image does"
_MAX_PARTS = 50_000
"""Chunks or segments before the image; a hostile file may have millions."""


@dataclass(frozen=True)
class RasterHeader:
    """What is known before decoding.

    Args:
        format: `PNG`, `JPEG`, `TIFF` or `BMP`.
        width: columns as stored, before the orientation is applied.
        height: rows as stored.
        orientation: Exif orientation 1..8 that is still to be applied to the decoded array.
        shift: bits by which a sample stands above its significant bits (PNG `sBIT`).
        top: the largest grey value declared, or None for the full range of the samples.
        white_is_zero: TIFF photometric 0.
        associated_alpha: colours are already multiplied by their alpha (TIFF extra sample 1).
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    shift: int = 0
    top: int | None = None
    white_is_zero: bool = False
    associated_alpha: bool = False


def read_header(data: bytes) -> RasterHeader:
    """Tell the format by its first bytes and read the header.

    Raises:
        ImageError: empty, not a picture this version reads, cut short, or of a kind that is refused.
    """
    if not data:
        raise ImageError("empty file")
    for magic, reader in _READERS.items():
        if data.startswith(magic):
            try:
                return reader(data)
            except (struct.error, IndexError) as error:
                raise ImageError(CUT_SHORT) from error
    raise ImageError(f"not a PNG, JPEG, TIFF or DICOM image{_guess(data)}")


def _guess(data: bytes) -> str:
    """Say what the file seems to be instead, where its first bytes tell."""
    archives = {
        b"PK\x03\x04": "a zip", b"\x1f\x8b": "a gzip", b"BZh": "a bzip2", b"\xfd7zXZ\0": "an xz", b"7z\xbc\xaf": "a 7z",
        b"Rar!": "a rar", b"\x28\xb5\x2f\xfd": "a zstd",
    }  # fmt: skip
    known = {magic: f"{name} archive: unpack it" for magic, name in archives.items()}
    known |= {b"GIF8": "GIF", b"RIFF": "WebP or another RIFF file", b"%PDF": "PDF", b"<": "markup text"}
    known |= dict.fromkeys((b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51"), "JPEG 2000")
    for magic, name in known.items():
        if data.startswith(magic):
            return f" (it looks like {name})"
    if data[257:262] == b"ustar":  # a tar archive's mark stands behind its first file's name
        return " (it looks like a tar archive: unpack it)"
    head = data[:512]
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return " (it looks like text)"
    return ""


def _png(data: bytes) -> RasterHeader:
    """Walk the chunks: IHDR, sBIT and eXIf are read, IEND must be there."""
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    shift, orientation, at = 0, 1, 8
    for _ in range(_MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length] if kind in (b"sBIT", b"eXIf") else b""
        # sBIT of a palette (colour type 3) speaks of its entries, not of the samples
        if kind == b"sBIT" and depth == 16 and colour != 3 and body and 8 <= body[0] <= 16:
            shift = 16 - body[0]
        elif kind == b"eXIf":
            orientation = _exif_orientation(body)
        at += 12 + length
        if at > len(data):
            raise ImageError(CUT_SHORT)
        if kind == b"IEND":
            return RasterHeader("PNG", width, height, orientation, shift)
    raise ImageError("damaged PNG: more chunks than an image has")


def _jpeg(data: bytes) -> RasterHeader:
    """Walk the segments up to the first scan; an end-of-image marker must follow it."""
    width = height = 0
    orientation, at = 1, 2
    for _ in range(_MAX_PARTS):
        if data[at] == 0xFF and data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        lead, kind, length = struct.unpack_from(">BBH", data, at)
        if lead != 0xFF:
            raise ImageError("damaged JPEG: no marker where one must be")
        if kind == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            depth, height, width = struct.unpack_from(">BHH", data, at + 4)
            if depth != 8:
                raise ImageError(f"a JPEG of {depth} bits a sample: this version reads 8-bit JPEG")
        elif kind == 0xDA:
            break
        at += 2 + length
    else:
        raise ImageError("damaged JPEG: more segments than an image has")
    if data.rfind(b"\xff\xd9", at) < 0:  # bytes may follow it: some writers pad their files
        raise ImageError(CUT_SHORT)
    return RasterHeader("JPEG", width, height, orientation)


def _bmp(data: bytes) -> RasterHeader:
    """Read a bitmap's header: the size, and that the bytes it announces are there."""
    announced = struct.unpack_from("<I", data, 2)[0]
    width, height = struct.unpack_from("<ii", data, 18)
    if announced > len(data):
        raise ImageError(CUT_SHORT)
    return RasterHeader("BMP", abs(width), abs(height))


def _tiff(data: bytes) -> RasterHeader:
    """Read the first directory; a second page is refused unless it is a reduced copy or a mask."""
    pages = read_tags(data)
    images = [page for page in pages if not page.first("NewSubfileType", 0) & 0b101]
    if len(images) > 1:
        raise ImageError(f"a TIFF of {len(images)} pages: save each image as a file of its own")
    page = pages[0]
    bits = max(page.values.get("BitsPerSample") or (1,))
    kind = page.first("SampleFormat", 1)
    if kind != 1:
        words = {2: "signed", 3: "floating-point"}.get(kind, "unknown")
        raise ImageError(f"a TIFF with {words} samples: this version reads unsigned grey values of 8 or 16 bits")
    if bits > 16:
        raise ImageError(f"a TIFF of {bits} bits a sample: this version reads 8 and 16 bits")
    if bits > 8:
        _check_deep(page)
    _check_strips(page, len(data))
    deep = bits > 8
    return RasterHeader(
        "TIFF",
        page.first("ImageWidth", 0),
        page.first("ImageLength", 0),
        shift=16 - bits if deep else 0,  # the decoder moves 10, 12 and 14 bits to the high end
        top=_declared_top(page, bits),
        white_is_zero=deep and page.first("PhotometricInterpretation", 1) == 0,  # else the decoder inverts
        associated_alpha=not deep or page.first("ExtraSamples", 0) == 1,  # libtiff multiplies 8-bit colours
    )


def _check_deep(page: TiffTags) -> None:
    """Refuse the layouts of more than 8 bits that the decoder would read wrongly without a word."""
    samples = page.first("SamplesPerPixel", 1)
    if samples > 1 and page.first("PlanarConfiguration", 1) == 2:
        raise ImageError("a TIFF of more than 8 bits stored plane by plane: save it with interleaved samples")
    if page.first("PhotometricInterpretation", 1) not in (0, 1, 2) or samples not in (1, 3, 4):
        raise ImageError("a TIFF of more than 8 bits that is neither grey nor RGB")


def _declared_top(page: TiffTags, bits: int) -> int | None:
    """The largest value of the declared depth: MaxSampleValue raised to a whole number of bits.

    Many writers put the largest value seen, not the largest possible; the depth it needs is right for both.
    """
    if bits <= 8:
        return None
    highest = max(page.values.get("MaxSampleValue") or (0,))
    return (1 << max(int(highest).bit_length(), 9)) - 1 if 0 < highest < 1 << bits else None


def _check_strips(page: TiffTags, size: int) -> None:
    """Every strip or tile must lie inside the file."""
    for where in ("Strip", "Tile"):
        offsets = page.values.get(f"{where}Offsets") or ()
        counts = page.values.get(f"{where}ByteCounts") or ()
        if any(offset + count > size for offset, count in zip(offsets, counts, strict=False)):
            raise ImageError(CUT_SHORT)


def _exif_orientation(data: bytes) -> int:
    """Read the orientation 1..8 of an Exif block; 1 where it has none or is damaged."""
    try:
        value = read_tags(data)[0].first("Orientation", 1)
    except (ImageError, struct.error):
        return 1
    return value if 1 <= value <= 8 else 1


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse by the header alone: too large to be safe, too small to be an image."""
    if width * height > max_pixels:
        raise ImageError(f"{width:,} x {height:,} pixels: over the limit of {max_pixels:,} pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width} x {height} pixels: too small for an image (at least {MIN_SIDE} a side)")


# --- the directories of a TIFF file, and of an Exif block, which is one: tag name -> values

_TIFF_TAGS = {
    254: "NewSubfileType", 256: "ImageWidth", 257: "ImageLength", 258: "BitsPerSample", 262: "PhotometricInterpretation",
    273: "StripOffsets", 274: "Orientation", 277: "SamplesPerPixel", 279: "StripByteCounts", 281: "MaxSampleValue",
    284: "PlanarConfiguration", 324: "TileOffsets", 325: "TileByteCounts", 338: "ExtraSamples", 339: "SampleFormat",
}  # fmt: skip
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
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
    seen: set[int] = set()  # a hostile file may chain its directories in a circle
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
    for offset in range(start, start + count * entry, entry):
        tag, kind = struct.unpack_from(order + "HH", data, offset)
        if tag in _TIFF_TAGS and kind in _TIFF_TYPES and _TIFF_TAGS[tag] not in values:
            many = struct.unpack_from(word, data, offset + 4)[0]
            if many > _MAX_VALUES:
                raise ImageError("damaged TIFF: an entry of more values than an image needs")
            size = struct.calcsize(_TIFF_TYPES[kind]) * many
            inside = offset + head
            where = inside if size <= entry - head else struct.unpack_from(word, data, inside)[0]
            if many and where + size <= len(data):
                values[_TIFF_TAGS[tag]] = struct.unpack_from(f"{order}{many}{_TIFF_TYPES[kind]}", data, where)
    following = start + count * entry
    return TiffTags(values), struct.unpack_from(word, data, following)[0]


_READERS = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),  # with a plus BigTIFF
    b"BM": _bmp,
}
