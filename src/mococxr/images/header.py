"""What an image's header says, read without decoding a pixel: PNG, JPEG, TIFF, BMP, WebP and JPEG 2000.

The header decides what is refused (size, sample type, pages, a file that ends too early), which way up the
image is, and which grey values it declares. Sources: PNG specification (third edition), ITU-T T.81, TIFF 6.0
and its BigTIFF extension, Exif 2.3, RFC 9649 (WebP), ITU-T T.800 (JPEG 2000, annex I: its files).
"""

from __future__ import annotations

import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass

from mococxr.errors import ImageError
from mococxr.images.streams import END, J2K, JP2, MAX_PARTS, SOF, check_scans, has_every_tile, read_codestream, segments
from mococxr.images.tiff import TiffTags, read_tags

MIN_SIDE = 16
"""Pixels of the shorter side under which a file is no image."""
CUT_SHORT = "truncated: the file ends before the image does"
_MAX_TEXT = 1 << 17
"""Bytes of a text chunk that are unpacked."""


@dataclass(frozen=True)
class RasterHeader:
    """What is known before decoding.

    Args:
        format: `PNG`, `JPEG`, `TIFF`, `BMP`, `WebP` or `JPEG 2000`.
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
    raise ImageError(f"not a PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM image{_guess(data)}")


def _guess(data: bytes) -> str:
    """Say what the file seems to be instead, where its first bytes tell."""
    archives = {
        b"PK\x03\x04": "a zip", b"\x1f\x8b": "a gzip", b"BZh": "a bzip2", b"\xfd7zXZ\0": "an xz", b"7z\xbc\xaf": "a 7z",
        b"Rar!": "a rar", b"\x28\xb5\x2f\xfd": "a zstd",
    }  # fmt: skip
    known = {magic: f"{name} archive: unpack it" for magic, name in archives.items()}
    known |= {b"GIF8": "GIF", b"RIFF": "another RIFF file", b"%PDF": "PDF", b"<": "markup text"}
    known |= {b"\0\0\0\x0cJXL ": "JPEG XL", b"\xff\x0a": "JPEG XL", b"\x93NUMPY": "a numpy array"}
    known |= dict.fromkeys((b"P5", b"P6", b"Pf"), "a portable pixmap (PGM, PPM)")
    if data[4:8] == b"ftyp":
        return " (it looks like AVIF, HEIC or a video)"
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
    """Walk the chunks: IHDR, sBIT and what says an orientation are read, IEND must be there."""
    # IHDR comes first: signature 8, length 4, kind 4 bytes.
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    shift, at = 0, 8
    orientations: dict[bytes, int] = {}
    for _ in range(MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length] if kind in _PNG_READ else b""
        # sBIT of a palette (colour type 3) speaks of its entries, not of the samples
        if kind == b"sBIT" and depth == 16 and colour != 3 and body and 8 <= body[0] <= 16:
            shift = 16 - body[0]
        elif kind == b"eXIf":
            orientations[b"eXIf"] = _exif_orientation(body)
        elif body:
            orientations |= _text_orientation(kind, body)
        at += 12 + length  # length, kind and CRC take 12 bytes
        if at > len(data):
            raise ImageError(CUT_SHORT)
        if kind == b"IEND":
            orientation = next((orientations[name] for name in _PNG_ORIENTATION if name in orientations), 1)
            return RasterHeader("PNG", width, height, orientation, shift)
    raise ImageError("damaged PNG: more chunks than an image has")


_PNG_ORIENTATION = (b"eXIf", b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
"""What may say an orientation, first things first; the last three are keywords of text chunks."""
_PNG_READ = (b"sBIT", b"eXIf", b"tEXt", b"zTXt", b"iTXt")


def _text_orientation(kind: bytes, body: bytes) -> dict[bytes, int]:
    """The orientation in a text chunk: an Exif block in hexadecimal digits, as ImageMagick writes it, or XMP."""
    keyword, _, text = body.partition(b"\0")
    if keyword not in _PNG_ORIENTATION:
        return {}
    if kind == b"iTXt":
        packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
    else:
        packed, text = kind == b"zTXt", text[kind == b"zTXt" :]
    if packed:
        with suppress(zlib.error):
            text = zlib.decompressobj().decompress(text, _MAX_TEXT)
    if keyword == _PNG_ORIENTATION[-1]:
        stated = re.search(rb"tiff:Orientation(?:>|\s*=\s*[\"'])\s*([1-8])\b", text[:_MAX_TEXT])
        return {keyword: int(stated[1])} if stated else {}
    digits = b"".join(text[:_MAX_TEXT].split()[2:])  # behind a name and a length
    with suppress(ValueError):
        return {keyword: _exif_orientation(bytes.fromhex(digits.decode("ascii", "replace")))}
    return {}


def _jpeg(data: bytes) -> RasterHeader:
    """The segments up to the first scan; an end-of-image marker must follow it."""
    width, height, orientation = 0, 0, 1
    for kind, content, at in segments(data):
        if kind == 0xE1 and content.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(content)
        elif kind in SOF:
            depth, height, width = struct.unpack_from(">BHH", content)
            if depth != 8:
                raise ImageError(f"a JPEG of {depth} bits a sample: this version reads 8-bit JPEG")
        elif kind == 0xDA:
            check_scans(data, at)
            break
    if data.rfind(END, at) < 0:  # bytes may follow it: some writers pad their files
        raise ImageError(CUT_SHORT)
    return RasterHeader("JPEG", width, height, orientation)


def _bmp(data: bytes) -> RasterHeader:
    """Read a bitmap's header: the size, and that the bytes it announces are there."""
    announced, head = struct.unpack_from("<I8xI", data, 2)
    width, height = struct.unpack_from("<HH" if head == 12 else "<ii", data, 18)  # 12: the first form, of OS/2
    if announced > len(data):
        raise ImageError(CUT_SHORT)
    if head not in (12, 40, 52, 56, 64, 108, 124):
        raise ImageError(f"a bitmap with a header of {head} bytes, which is not read: save it as PNG")
    return RasterHeader("BMP", abs(width), abs(height))  # a negative height says that the first row is the top


def _tiff(data: bytes) -> RasterHeader:
    """Read the first directory; a second page is refused unless it is a reduced copy or a mask."""
    pages = read_tags(data)
    # Bit 0: reduced copy, bit 2: mask (TIFF 6.0).
    images = [page for page in pages if not page.first("NewSubfileType", 0) & 0b101]
    if len(images) > 1:
        raise ImageError(f"a TIFF of {len(images)} pages: save each image as a file of its own")
    page = pages[0]
    bits = max(page.values.get("BitsPerSample") or (1,))  # 1 is the standard's default
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
        orientation=_valid(page.first("Orientation", 1)),
        top=_declared_top(page, bits),
        white_is_zero=deep and page.first("PhotometricInterpretation", 1) == 0,  # else the decoder inverts
        associated_alpha=not deep or page.first("ExtraSamples", 0) == 1,  # libtiff multiplies 8-bit colours
    )


def _check_deep(page: TiffTags) -> None:
    """Refuse the layouts of more than 8 bits that the decoder would read wrongly without a word."""
    samples = page.first("SamplesPerPixel", 1)
    if samples > 1 and page.first("PlanarConfiguration", 1) == 2:  # 2: one plane a colour
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
    # 9 at least: the file declares more than 8
    return (1 << max(int(highest).bit_length(), 9)) - 1 if 0 < highest < 1 << bits else None


def _check_strips(page: TiffTags, size: int) -> None:
    """Every strip or tile must lie inside the file."""
    for where in ("Strip", "Tile"):
        offsets = page.values.get(f"{where}Offsets") or ()
        counts = page.values.get(f"{where}ByteCounts") or ()
        if any(offset + count > size for offset, count in zip(offsets, counts, strict=False)):
            raise ImageError(CUT_SHORT)


def _exif_orientation(data: bytes) -> int:
    """The orientation 1..8 of an Exif block, which is a TIFF directory; 1 where it has none or is damaged."""
    try:
        return _valid(read_tags(data.removeprefix(b"Exif\0\0"))[0].first("Orientation", 1))
    except (ImageError, struct.error):
        return 1


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def _webp(data: bytes) -> RasterHeader:
    """The first chunk says the size; of a file with more than the picture, whether it moves and which way up it is."""
    announced, form, kind = struct.unpack_from("<I4s4s", data, 4)
    if form != b"WEBP":
        raise ImageError(f"not a PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM image{_guess(data)}")
    if announced + 8 > len(data):
        raise ImageError(CUT_SHORT)
    orientation = 1
    if kind == b"VP8X":
        flags, right, bottom = struct.unpack_from("<I3s3s", data, 20)
        if flags & 2:  # RFC 9649, 2.7: bit 1 animation, bit 3 Exif
            raise ImageError("an animated WebP: save each image as a file of its own")
        width, height = (int.from_bytes(side, "little") + 1 for side in (right, bottom))  # stored less 1, in 24 bits
        orientation = _exif_orientation(_riff_chunk(data, b"EXIF")) if flags & 8 else 1
    elif kind == b"VP8L":
        sides = struct.unpack_from("<I", data, 21)[0]
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1  # stored less 1, in 14 bits each
    elif kind == b"VP8 ":
        # the upper 2 bits scale the image for display
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ImageError("damaged WebP: it does not begin with a picture")
    return RasterHeader("WebP", width, height, orientation)


def _riff_chunk(data: bytes, name: bytes) -> bytes:
    """The content of a chunk, empty where there is none."""
    at = 12
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == name:
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2  # chunks are filled up to even lengths
    return b""


def _jpeg2000(data: bytes) -> RasterHeader:
    """The codestream, alone or as a box of a file; what the decoder would read otherwise than it is meant is refused."""
    start, end = (0, len(data)) if data.startswith(J2K) else _codestream(data)
    stream = read_codestream(data, start)
    if not has_every_tile(data, start, end):
        raise ImageError(CUT_SHORT)
    if stream.signed or not 8 <= stream.precision <= 16:
        sign = "signed " if stream.signed else ""
        raise ImageError(
            f"a JPEG 2000 of {sign}samples of {stream.precision} bits: this version reads unsigned 8 to 16"
        )
    if stream.samples not in (1, 3, 4):
        raise ImageError(f"a JPEG 2000 of {stream.samples} components: this version reads grey and colour")
    top = (1 << stream.precision) - 1 if stream.precision > 8 else None
    return RasterHeader("JPEG 2000", stream.columns, stream.rows, top=top)


def _codestream(data: bytes) -> tuple[int, int]:
    """Where the codestream of a JP2 or JPX file begins and ends."""
    at, streams = 0, []
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 16 if length == 1 else 8  # T.800 I.4: 1 is followed by 64 bits of length, 0 runs to the end
        size = struct.unpack_from(">Q", data, at + 8)[0] if length == 1 else length or len(data) - at
        if size < head or at + size > len(data):
            raise ImageError(CUT_SHORT)
        if kind == b"jp2h" and b"pclr" in data[at : at + min(size, _MAX_TEXT)]:  # indices would be taken for grey
            raise ImageError("a JPEG 2000 with a palette: save it without")
        if kind == b"jp2c":
            streams.append((at + head, at + size))
        at += size
    if len(streams) != 1:
        raise ImageError(f"a JPEG 2000 file of {len(streams)} images: save each as a file of its own")
    return streams[0]


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse by the header alone: too large to be safe, too small to be an image."""
    if width * height > max_pixels:  # before anything is allocated
        raise ImageError(f"{width:,} x {height:,} pixels: over the limit of {max_pixels:,} pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width} x {height} pixels: too small for an image (at least {MIN_SIDE} a side)")


_READERS = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),  # with a plus BigTIFF
    b"BM": _bmp,
    b"RIFF": _webp,
    **dict.fromkeys((J2K, JP2), _jpeg2000),
}
