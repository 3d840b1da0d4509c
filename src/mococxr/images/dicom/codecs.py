"""A compressed frame -> its samples.

The first bytes of a stream decide who decodes it, not the transfer syntax, which is sometimes wrong. Before a
decoder sees a stream, its size must be the one that the DICOM header declares and its last bytes must be there.
Source of RLE: DICOM PS3.5 annex G.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mococxr.errors import ImageError
from mococxr.images.dicom import gdcm_process
from mococxr.images.raster import caught_stderr, decode_opencv, last_line
from mococxr.images.streams import CUT, DAMAGED, END, J2K, Stream

_WAY_OUT = "needs a decoder that is not installed: pip install 'mococxr[dicom]'"


def decode_stream(frame: bytes, stream: Stream, colours: str) -> NDArray[np.unsignedinteger]:
    """Decode a frame.

    Args:
        colours: the photometric interpretation of the file.

    Returns:
        uint8 or uint16 (by the stream's precision), (H, W) or (H, W, samples); signed samples two's complement.
        A JPEG of 8 bits in colour comes as its luma (H, W).

    Raises:
        ImageError: no decoder for it is installed, or the decoder refused the stream.
    """
    if stream.precision > 16:
        raise ImageError(f"{stream.precision} bits a sample: this version reads up to 16")
    try:
        # Fragments are filled up to even lengths (PS3.5 A.4).
        samples = _DECODERS[stream.kind](frame[: frame.rfind(END) + 2], stream, colours)
    except ImportError as error:
        raise ImageError(f"{stream.kind} pixel data: {_WAY_OUT}") from error
    shape = (stream.rows, stream.columns, stream.samples)[: 2 if stream.samples == 1 else 3]
    if samples.shape not in (shape, shape[:2]):
        raise ImageError(DAMAGED)
    return samples


def _baseline(frame: bytes, stream: Stream, colours: str) -> NDArray[np.unsignedinteger]:
    """JPEG of 8 bits, by OpenCV's libjpeg-turbo; one that holds RGB and does not say so is told to."""
    if stream.samples == 3 and colours == "RGB" and not stream.names_colours:
        # APP14, transform 0: else libjpeg takes it for YCbCr.
        frame = frame[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + frame[2:]
    return decode_opencv(frame, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)  # Exif means nothing inside DICOM


def _gdcm(frame: bytes, stream: Stream, colours: str) -> NDArray[np.unsignedinteger]:
    """JPEG lossless and JPEG of 12 bits, by GDCM (the only permissive decoder of both)."""
    import gdcm  # noqa: F401 (whether it is there: it works in a process of its own)

    named = "MONOCHROME2" if stream.samples == 1 else "YBR_FULL" if colours.startswith("YBR") else "RGB"
    lossless = stream.kind == "JPEG Lossless"
    shape = (stream.rows, stream.columns, stream.samples, stream.precision)
    return _shaped(gdcm_process.decode(frame, *shape, lossless, named), stream)


def _charls(frame: bytes, stream: Stream, colours: str) -> NDArray[np.unsignedinteger]:  # noqa: ARG001
    """JPEG-LS, by CharLS; zeros before the end marker, by which some writers fill up, are not data to it."""
    import jpeg_ls  # optional: an ImportError becomes a reason in `decode_stream`

    data = frame[:-2].rstrip(b"\0")
    zeros = len(frame) - 2 - len(data)
    for kept in (zeros, *range(min(zeros, 2))):  # a stream may end in a zero of its own
        try:
            raw, parameters = _called(partial(jpeg_ls.decode_pixel_data, data + bytes(kept) + END))
            break
        except ImageError:
            if not zeros or kept == min(zeros, 2) - 1:
                raise
    if stream.samples > 1 and parameters["interleave_mode"] == 0:  # 0: one colour after another (T.87)
        planes = np.frombuffer(raw, _sample(stream))
        if planes.size != stream.samples * stream.rows * stream.columns:
            raise ImageError(CUT)
        return np.ascontiguousarray(planes.reshape(stream.samples, stream.rows, stream.columns).transpose(1, 2, 0))
    return _shaped(raw, stream)


def _openjpeg(frame: bytes, stream: Stream, colours: str) -> NDArray[np.unsignedinteger]:  # noqa: ARG001
    """JPEG 2000 and high-throughput JPEG 2000, by OpenJPEG."""
    import openjpeg

    # 0: a codestream without the boxes of a file.
    samples = _called(lambda: openjpeg.decode(frame[frame.find(J2K) :], j2k_format=0))
    if samples.dtype.itemsize > 2:
        raise ImageError(f"{stream.precision} bits a sample: this version reads up to 16")
    return np.ascontiguousarray(samples).view(_sample(stream))


def _called(decoder: Callable[[], Any]) -> Any:
    """Call a native decoder; ImageError where it raises, or says that the data are damaged or cut short."""
    with caught_stderr() as messages:
        try:
            decoded = decoder()
        except Exception as error:  # what a wrapped library raises is not specified
            raise ImageError(DAMAGED) from error
    message = "".join(messages)
    if any(word in message.lower() for word in ("corrupt", "premature", "truncat", "invalid")):
        raise ImageError(f"{DAMAGED}: {last_line(message)}")
    return decoded


def _sample(stream: Stream) -> str:
    """The unsigned type that holds a sample."""
    return "u1" if stream.precision <= 8 else "<u2"


def _shaped(raw: bytes | bytearray, stream: Stream) -> NDArray[np.unsignedinteger]:
    """Decoded bytes as an image; a decoder that gave fewer than declared met the end of the data."""
    shape = (stream.rows, stream.columns, stream.samples)[: 2 if stream.samples == 1 else 3]
    samples = np.frombuffer(raw, _sample(stream))
    if samples.size != np.prod(shape):
        raise ImageError(CUT)
    return samples.reshape(shape)


_DECODERS: dict[str, Callable[[bytes, Stream, str], NDArray[np.unsignedinteger]]] = {
    "JPEG": _baseline,
    "JPEG 12": _gdcm,
    "JPEG Lossless": _gdcm,
    "JPEG-LS": _charls,
    "JPEG 2000": _openjpeg,
}

_MODULES = {"JPEG 12": "gdcm", "JPEG Lossless": "gdcm", "JPEG-LS": "jpeg_ls", "JPEG 2000": "openjpeg"}
"""Kind of stream -> the optional module that decodes it."""


def decoders() -> dict[str, bool]:
    """Kind of compressed pixels -> whether its decoder is installed."""
    kinds = {kind: kind not in _MODULES or importlib.util.find_spec(_MODULES[kind]) is not None for kind in _DECODERS}
    return kinds | {"RLE": True}


# --- run-length coding, decoded never beyond the size declared


def is_rle(frame: bytes) -> bool:
    """Whether a frame begins with an RLE header: up to 15 segments, the first right behind the header."""
    return len(frame) >= 64 and 1 <= struct.unpack_from("<I", frame)[0] <= 15 and frame[4:8] == b"\x40\0\0\0"


def decode_rle(frame: bytes, rows: int, columns: int, samples: int, width: int) -> NDArray[np.unsignedinteger]:
    """Decode an RLE frame, never beyond the size declared.

    Args:
        width: bytes a sample, 1 or 2.

    Returns:
        uint8 or uint16, (H, W) or (H, W, samples).

    Raises:
        ImageError: the segments are not those of such an image, or end early.
    """
    many, *offsets = struct.unpack_from("<16I", frame)  # PS3.5 G.5: a header of 64 bytes
    if many != samples * width:  # one segment for each byte of a sample (PS3.5 G.2)
        raise ImageError(f"{DAMAGED}: {many} RLE segments where {samples * width} are needed")
    ends = [*offsets[1:many], len(frame)]
    planes = np.empty((samples, width, rows * columns), np.uint8)
    for i, (start, end) in enumerate(zip(offsets[:many], ends, strict=True)):
        if not 64 <= start <= end <= len(frame):
            raise ImageError(f"{DAMAGED}: RLE segments outside the frame")
        # the most significant byte of a sample has the first segment
        planes[i // width, width - 1 - i % width] = _unpack_bits(frame, start, end, rows * columns)
    cells = np.ascontiguousarray(planes.transpose(2, 0, 1)).view("u1" if width == 1 else "<u2")
    return cells.reshape((rows, columns) if samples == 1 else (rows, columns, samples))


def _unpack_bits(frame: bytes, at: int, end: int, size: int) -> NDArray[np.uint8]:
    """One segment: runs and literals until `size` bytes are there."""
    parts: list[bytes] = []
    length = 0
    while length < size:
        if at + 1 >= end:
            raise ImageError(CUT)
        head = frame[at]
        if head < 128:
            part = frame[at + 1 : min(at + 2 + head, end)]
            at += 2 + head
        elif head > 128:
            part = frame[at + 1 : at + 2] * (257 - head)  # PS3.5 G.3.2: -n + 1 copies, n as a signed byte
            at += 2
        else:  # 128 stands for nothing
            part = b""
            at += 1
        parts.append(part)
        length += len(part)
    return np.frombuffer(b"".join(parts), np.uint8, size)  # a last run may go beyond: the padding of the segment
