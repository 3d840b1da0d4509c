"""What a compressed stream of the JPEG families says of itself, read without decoding: as a file, and inside DICOM.

Sources: ITU-T T.81 (JPEG), T.87 (JPEG-LS), T.800 (JPEG 2000).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mococxr.errors import ImageError

DAMAGED = "damaged compressed pixel data"
CUT = "truncated: the compressed pixel data end before the image does"
MAX_SCANS = 100
"""Passes over a JPEG above which it is refused: each costs the decoder as much time as the whole image, and takes 100 bytes.
Progressive files have 10 or so, those with most some 40."""
END = b"\xff\xd9"  # EOI of T.81 and T.87, EOC of T.800: one code
"""The end marker of a stream."""
_PADDING = b"\0\xff \r\n"
"""Bytes with which writers fill up behind it."""
J2K, JP2 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"  # SOC and SIZ; the signature box of a file
MAX_PARTS = 50_000
"""Segments, boxes or chunks of a file; a hostile one may have millions."""
_MOST_PARTS = 1 << 18
_PART = b"\xff\x90"  # SOT
SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # T.81 table B.1, less DHT, JPG and DAC
"""Second bytes of the markers of a JPEG's frame header."""
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")


@dataclass(frozen=True)
class Stream:
    """What a stream says of itself.

    Args:
        kind: `JPEG`, `JPEG 12`, `JPEG Lossless`, `JPEG-LS` or `JPEG 2000`.
        rows, columns, samples: the size of the image and the number of components.
        precision: bits a sample.
        signed: samples are signed (JPEG 2000 alone can say so).
        turned: three components come out as red, green, blue whatever the file says (JPEG 2000 with its transform).
        names_colours: a JPEG that says which colours it holds (JFIF or Adobe marker).
    """

    kind: str
    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    turned: bool = False
    names_colours: bool = False


def read_stream(frame: bytes) -> Stream | None:
    """The header of a stream; None where it is no JPEG of any family.

    Raises:
        ImageError: the stream is damaged, truncated, or of a kind that no decoder here reads.
    """
    reader = _jpeg if frame[:2] == b"\xff\xd8" else _j2k if frame[:4] == J2K or frame[:8] == JP2[:8] else None
    if reader is None:
        return None
    try:
        stream = reader(frame)
    except (struct.error, IndexError) as error:
        raise ImageError(CUT) from error
    end = frame.rfind(END)
    if end < 0 or (len(frame) - end > 64 and frame[end + 2 :].strip(_PADDING)):
        raise ImageError(CUT)
    return stream


def _jpeg(frame: bytes) -> Stream:
    """The frame header, and what stands before it."""
    marked = False
    for kind, content, at in segments(frame):
        marked |= (kind == 0xE0 and content.startswith(b"JFIF")) or (kind == 0xEE and content.startswith(b"Adobe"))
        if kind in SOF or kind == 0xF7:  # F7: that of T.87
            precision, rows, columns, samples = struct.unpack_from(">BHHB", content)
            name = {0xC3: "JPEG Lossless", 0xF7: "JPEG-LS"}.get(kind, "JPEG")
            # Above C2: hierarchical or arithmetic coding.
            if name == "JPEG" and (kind > 0xC2 or precision not in (8, 12)):
                raise ImageError("a JPEG of a kind that no decoder here reads")
            check_scans(frame, at)
            return Stream(
                "JPEG 12" if name == "JPEG" and precision == 12 else name,
                rows, columns, samples, precision, names_colours=marked,
            )  # fmt: skip
        if kind in (0xD9, 0xDA):  # end or scan before any frame header
            break
    raise ImageError(DAMAGED)


def segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(second byte of its marker, content, where it begins) of each segment of a JPEG's header.

    Raises:
        ImageError: no marker where one must be, or more segments than an image has.
        struct.error: the data end inside a segment.
    """
    at = 2
    for _ in range(MAX_PARTS):
        lead, kind, length = struct.unpack_from(">BBH", data, at)
        if lead != 0xFF:
            raise ImageError("damaged JPEG: no marker where one must be")
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + length  # the length counts itself, not the marker
        yield kind, data[at + 4 : end], at
        at = end
    raise ImageError("damaged JPEG: more segments than an image has")


def check_scans(data: bytes, at: int) -> None:
    """Refuse a JPEG of more scans than an image has.

    Args:
        at: where a segment of its header begins.

    Raises:
        ImageError: more than `MAX_SCANS`.
        struct.error: the data end inside a segment.
    """
    scans = 0
    for _ in range(MAX_PARTS):
        marker = _MARKER.search(data, at)  # in the data of a scan no other marker can occur
        if marker is None or marker[0] == END:
            return
        scans += marker[0] == b"\xff\xda"
        if scans > MAX_SCANS:
            break
        at = marker.end() + struct.unpack_from(">H", data, marker.end())[0]
    raise ImageError(f"a JPEG of more than {MAX_SCANS} scans: no image has so many")


def _j2k(frame: bytes) -> Stream:
    """The codestream, alone or in a JP2 file."""
    start = frame.find(J2K)
    if start < 0:
        raise ImageError(DAMAGED)
    return read_codestream(frame, start)


def read_codestream(frame: bytes, start: int) -> Stream:
    """The header of a JPEG 2000 codestream that begins at `start`.

    Raises:
        ImageError: of no size, or of components that differ.
        struct.error: it ends before its header does.
        IndexError: the same.
    """
    right, bottom, left, top, tile_w, tile_h = struct.unpack_from(">6I", frame, start + 8)  # SIZ, T.800 A.5.1
    samples = struct.unpack_from(">H", frame, start + 40)[0]
    depths = {frame[start + 42 + 3 * i] for i in range(samples)}
    # Above 1: a component is subsampled.
    steps = {frame[start + 42 + 3 * i + j] for i in range(samples) for j in (1, 2)}
    if len(depths) != 1 or steps != {1} or right <= left or bottom <= top or not tile_w or not tile_h:
        raise ImageError("a JPEG 2000 stream whose components differ, or of no size")
    if -(-right // tile_w) * -(-bottom // tile_h) > 65_535:  # T.800 numbers tiles in 16 bits
        raise ImageError("a JPEG 2000 stream of more tiles than there can be")
    at = start + 4 + struct.unpack_from(">H", frame, start + 4)[0]
    turned = False  # whether the components are turned into colours, by the coding style marker
    for _ in range(MAX_PARTS):
        # SOT, SOD, EOC: the main header is over.
        if frame[at : at + 1] != b"\xff" or frame[at + 1] in (0x90, 0x93, 0xD9):
            break
        if frame[at + 1] == 0x52:
            turned = frame[at + 8] == 1  # COD, T.800 A.6.1: multiple component transformation
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    depth = depths.pop()
    # Ssiz (T.800 A.5.1): the bits less 1; the highest bit says that they are signed.
    return Stream(
        "JPEG 2000", bottom - top, right - left, samples, (depth & 127) + 1, depth > 127, turned and samples == 3
    )


def has_every_tile(data: bytes, start: int, end: int) -> bool:
    """Whether the parts of a JPEG 2000 codestream follow each other up to its end marker, with each tile among them.

    A decoder may leave the tiles that are not there grey, without a word.

    Args:
        start: where the codestream begins.
        end: where the data end in which it lies.

    Raises:
        struct.error: the data end inside a header.
    """
    size = struct.unpack_from(">H", data, start + 4)[0]
    right, bottom, _, _, width, height, left, top = struct.unpack_from(">8I", data, start + 8)
    at, seen = start + 4 + size, set[int]()
    for _ in range(MAX_PARTS):
        if data[at : at + 2] == _PART:
            break
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    for _ in range(_MOST_PARTS):
        if data[at : at + 2] != _PART:
            break
        tile, length = struct.unpack_from(">HI", data, at + 4)
        seen.add(tile)
        at = at + length if length else data.rfind(END, at, end)  # 0: the last part, up to EOC (T.800 A.4.2)
        if length and (length < 14 or at >= end):  # a part has SOT (12 bytes) and SOD (2) at least
            return False
    return data[at : at + 2] == END and len(seen) >= -(-(right - left) // width) * -(-(bottom - top) // height)
