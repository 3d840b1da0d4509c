"""PNG, JPEG, TIFF and BMP -> one uint8 grey image, the right way up.

Decoding is OpenCV's. What it leaves open is settled here, in this order: size limits from the header, the
decode itself with its native messages caught, colour to luma, transparency, white-is-zero, 16 to 8 bits,
orientation.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from mococxr.errors import FilmError
from mococxr.films.header import CUT_SHORT, Header, read_header
from mococxr.films.tones import parse_window, to_eight_bits

MAX_PIXELS = 120_000_000
"""Pixels above which a film is refused before it is decoded (the largest detectors give about 20 million)."""
MIN_SIDE = 16
"""Pixels of the shorter side under which a file is no film."""
MAX_BYTES = 1 << 30
"""Bytes above which a file is not read at all."""

_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG")
_native_stderr = threading.Lock()


def read_film(path: Path, *, sixteen_bit: str = "full", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read one film.

    Args:
        path: a PNG, JPEG, TIFF or BMP file; its first bytes decide which, not its suffix.
        sixteen_bit: `full` maps the declared range of a film of more than 8 bits to 0..255; `LOW:HIGH` maps
            these two percentiles of the film to 0 and 255. Films of 8 bits stay as they are.
        max_pixels: films with more pixels are refused before anything is allocated.

    Returns:
        uint8 (H, W), upright, larger = whiter as displayed.

    Raises:
        FilmError: the film cannot be read; the text is the reason.
        InputError: `sixteen_bit` is neither form.
    """
    parse_window(sixteen_bit)
    return decode_film(read_bytes(path), sixteen_bit=sixteen_bit, max_pixels=max_pixels)


def read_bytes(path: Path, root: Path | None = None) -> bytes:
    """Read a film's bytes; only from a regular file, and only inside `root` where one is given.

    Raises:
        FilmError: absent, a folder or a device, not readable, over 1 GiB, or a link that leaves `root`.
    """
    path = Path(path)
    try:
        if root is not None and not path.resolve().is_relative_to(Path(root).resolve()):
            raise FilmError("a link that leads out of the source folder")
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise FilmError("a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise FilmError("not a regular file (a device, pipe or socket)")
        if status.st_size > MAX_BYTES:
            raise FilmError(f"{status.st_size:,} bytes: over the limit of {MAX_BYTES:,}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FilmError("no such file") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise FilmError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def decode_film(data: bytes, *, sixteen_bit: str = "full", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a film from the bytes of its file; arguments, result and errors as in `read_film`.

    Transparency: a film whose alpha differs from pixel to pixel is laid over black; one that is opaque
    everywhere, or transparent everywhere (an alpha nobody filled in), is read as if it had no alpha. The
    decoder lays 8-bit TIFFs over black itself, whatever their alpha.
    A TIFF of several pages is refused; reduced copies and masks of the first do not count as pages.
    """
    window = parse_window(sixteen_bit)
    header = read_header(data)
    _check_size(header, max_pixels)
    grey = _to_grey(_decode(data), header.associated_alpha)
    eight = to_eight_bits(grey, header.shift, header.top, header.white_is_zero, window)
    return np.ascontiguousarray(_upright(eight, header.orientation))


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
    wanted = (max(size, round(width * size / short)), max(size, round(height * size / short)))
    return cv2.resize(image, wanted, interpolation=cv2.INTER_AREA if size < short else cv2.INTER_LINEAR)


def _check_size(header: Header, max_pixels: int) -> None:
    """Refuse by the header alone: too large to be safe, too small to be a film."""
    width, height = header.width, header.height
    if width * height > max_pixels:
        raise FilmError(f"{width:,} x {height:,} pixels: over the limit of {max_pixels:,} pixels")
    if min(width, height) < MIN_SIDE:
        raise FilmError(f"{width} x {height} pixels: too small for a film (at least {MIN_SIDE} a side)")


def _decode(data: bytes) -> np.ndarray:
    """Decode as stored: uint8 or uint16, (H, W) or (H, W, 3 or 4) in the order blue, green, red, alpha."""
    with _caught_stderr() as messages:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            raise FilmError(f"cannot be decoded: {str(error.err or error).strip()}") from error
    said = "".join(messages)
    if any(words in said for words in _DAMAGE):
        raise FilmError(f"damaged or truncated JPEG: {_last_line(said)}")
    if pixels is None or pixels.size == 0:
        detail = _last_line(said)
        raise FilmError(
            f"cannot be decoded{': ' + detail if detail else '; it may be damaged or ' + CUT_SHORT}"
        )
    if pixels.dtype not in (np.uint8, np.uint16):
        raise FilmError(f"samples of type {pixels.dtype}: this version reads 8 and 16 bits")
    return pixels


def _last_line(said: str) -> str:
    """The last thing a decoder said, without where in its source it said so."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].split("error: ")[-1][:160] if lines else ""


@contextmanager
def _caught_stderr() -> Iterator[list[str]]:
    """Catch what native code writes to standard error; the list holds it once the block has ended.

    The image libraries report damage in a JPEG only there, and would else write over the progress line. One
    decode at a time in a process: decode in several processes, not threads.
    """
    said: list[str] = []
    with _native_stderr, tempfile.TemporaryFile() as caught:
        try:
            kept = os.dup(2)
        except OSError:  # standard error is closed: there is nothing to catch
            yield said
            return
        os.dup2(caught.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            said.append(caught.read().decode(errors="replace"))


def _to_grey(pixels: np.ndarray, associated_alpha: bool) -> np.ndarray:
    """Luma (ITU-R BT.601) of what is seen over black; three equal channels give exactly that channel."""
    if pixels.ndim == 2:
        return pixels
    grey = cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_BGR2GRAY)
    if pixels.shape[2] < 4 or associated_alpha:
        return grey
    alpha, full = pixels[..., 3], np.iinfo(pixels.dtype).max
    if alpha.min() == full or alpha.max() == 0:
        return grey
    return ((grey.astype(np.uint64) * alpha + full // 2) // full).astype(pixels.dtype)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an Exif orientation: 5..8 lie on their side, 2, 4, 5 and 7 are mirrored as well."""
    if orientation >= 5:
        image = image.T
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
