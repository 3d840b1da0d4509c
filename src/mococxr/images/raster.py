"""PNG, JPEG, TIFF, BMP, WebP and JPEG 2000 -> one uint8 grey image, the right way up.

Decoding is OpenCV's. What it leaves open is settled here, in this order: size limits from the header, the
decode itself with its native messages caught, colour to luma, transparency, white-is-zero, 16 to 8 bits,
orientation.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import cv2
import numpy as np

from mococxr.errors import ImageError
from mococxr.images.grey_levels import Decoded, Reading, to_greys
from mococxr.images.header import CUT_SHORT, check_size, read_header
from mococxr.images.tiff import unturned

_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG")
_WHERE = re.compile(r"^\[[^\]]*\]\s+global\s+\S+\s+\S+\s+")
"""Level, clock and line of the source before what OpenCV warns of: equal files have equal reasons."""
_native_stderr = threading.Lock()


def decode_raster(data: bytes, reading: Reading) -> Decoded:
    """Decode a picture from the bytes of its file; result and errors as in `images.decode`.

    Transparency: an image whose alpha differs from pixel to pixel is laid over black; one that is opaque
    everywhere, or transparent everywhere (an alpha nobody filled in), is read as if it had no alpha. The
    decoder lays 8-bit TIFFs over black itself, whatever their alpha.
    A TIFF of several pages is refused; reduced copies and masks of the first do not count as pages.
    """
    header = read_header(data)
    check_size(header.width, header.height, reading.max_pixels)
    if header.format == "TIFF" and header.orientation != 1:
        data = unturned(data)
    grey = _to_grey(decode_opencv(data), header.associated_alpha)
    image = to_greys(grey, header.shift, header.top, header.white_is_zero, reading)
    return replace(image, pixels=np.ascontiguousarray(_upright(image.pixels, header.orientation)))


def resize_shorter(image: np.ndarray, size: int) -> np.ndarray:
    """Resize so that the shorter side is exactly `size` pixels, aspect kept to the nearest pixel.

    Args:
        image: uint8 (H, W).
        size: pixels, at least 1.

    Returns:
        uint8 (H', W') with min(H', W') == size: area averages when shrinking (nothing aliases), bilinear when
        enlarging; the image itself where it has that size already.
    """
    height, width = image.shape
    short = min(height, width)
    if short == size:
        return image
    shape = (max(size, round(width * size / short)), max(size, round(height * size / short)))  # (width, height)
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA if size < short else cv2.INTER_LINEAR)


def _to_grey(pixels: np.ndarray, associated_alpha: bool) -> np.ndarray:
    """Luma (ITU-R BT.601) of what is seen over black; three equal channels give exactly that channel."""
    if pixels.ndim == 2:
        return pixels
    grey = cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_BGR2GRAY)  # OpenCV's order is blue, green, red
    if pixels.shape[2] < 4 or associated_alpha:  # colours times their alpha are already over black
        return grey
    alpha, full = pixels[..., 3], np.iinfo(pixels.dtype).max
    if alpha.min() == full or alpha.max() == 0:
        return grey
    return ((grey.astype(np.uint64) * alpha + full // 2) // full).astype(pixels.dtype)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an Exif orientation: 5..8 lie on their side, 2, 4, 5 and 7 are mirrored as well."""
    if orientation >= 5:  # Exif 5..8: rows and columns change places
        image = image.T
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


# --- native decoders, and what they write to standard error, caught


def decode_opencv(data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """Decode by OpenCV, as stored: uint8 or uint16, (H, W) or (H, W, 3 or 4) in the order blue, green, red, alpha.

    Raises:
        ImageError: the decoder refused the data, or said that they are damaged.
    """
    with caught_stderr() as messages:  # libjpeg goes on after damage, and says so there alone
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise ImageError(f"cannot be decoded: {str(error.err or error).strip()}") from error
    message = "".join(messages)
    if any(words in message for words in _DAMAGE):
        raise ImageError(f"damaged or truncated JPEG: {last_line(message)}")
    if pixels is None or pixels.size == 0:
        detail = last_line(message)
        raise ImageError(f"cannot be decoded{': ' + detail if detail else '; it may be damaged or ' + CUT_SHORT}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"samples of type {pixels.dtype}: this version reads 8 and 16 bits")
    return pixels


def last_line(message: str) -> str:
    """The last thing a decoder said, without where in its source it said so."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return _WHERE.sub("", lines[-1].split("error: ")[-1])[:160] if lines else ""


@contextmanager
def caught_stderr() -> Iterator[list[str]]:
    """Catch what native code writes to standard error; the list holds it once the block has ended.

    The image libraries report damage in a JPEG only there, and would else write over the progress line. One
    decode at a time in a process: decode in several processes, not threads.
    """
    messages: list[str] = []
    with _native_stderr:
        caught = _catcher(os.getpid())
        try:
            kept = os.dup(2)  # the descriptor itself: native code knows no sys.stderr
        except OSError:  # standard error is closed: there is nothing to catch
            yield messages
            return
        os.dup2(caught, 2)
        try:
            yield messages
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            if length := os.fstat(caught).st_size:
                messages.append(os.pread(caught, length, 0).decode(errors="replace"))  # pread leaves the offset alone
                os.ftruncate(caught, 0)


@cache
def _catcher(process: int) -> int:  # noqa: ARG001 - a forked process needs one of its own
    """A file without a name, made once a process: what is written to it is appended, so it can be emptied."""
    handle, name = tempfile.mkstemp()
    os.close(handle)
    caught = os.open(name, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    os.unlink(name)
    return caught
