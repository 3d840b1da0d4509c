"""An image's file -> its image: what kind of file it is, by its first bytes, and who reads it."""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path

import numpy as np

from mococxr.errors import ImageError, InputError
from mococxr.images import dicom
from mococxr.images.dicom.elements import is_dicom
from mococxr.images.dicom.render import decode_dicom
from mococxr.images.grey_levels import parse_voi, parse_window
from mococxr.images.header import read_header
from mococxr.images.raster import decode_raster

MAX_PIXELS = 120_000_000
"""Pixels above which an image is refused before it is decoded (the largest detectors give about 20 million)."""
MAX_BYTES = 1 << 30
"""Bytes above which a file is not read at all."""
FRAMES = ("first", "refuse")
"""What becomes of a DICOM file of several frames: its first is the image, or it is refused."""


def read_image(
    path: Path,
    *,
    sixteen_bit: str = "full",
    voi: str = "first",
    frames: str = "first",
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Read one image.

    Args:
        path: a PNG, JPEG, TIFF, BMP or DICOM file; its first bytes decide which, not its suffix.
        sixteen_bit: `full` maps the declared range of an image of more than 8 bits to 0..255; `LOW:HIGH` maps
            these two percentiles of the image to 0 and 255. Images of 8 bits stay as they are.
        voi: which window or table of a DICOM file is applied (see `tones.parse_voi`).
        frames: `first` takes the first frame of a DICOM file of several, `refuse` refuses such a file.
        max_pixels: images with more pixels are refused before anything is allocated.

    Returns:
        uint8 (H, W), upright, pixels square, larger = whiter as displayed.

    Raises:
        ImageError: the image cannot be read; the text is the reason.
        InputError: `sixteen_bit`, `voi` or `frames` is none of its forms.
    """
    _check(sixteen_bit, voi, frames)
    return decode_image(
        read_bytes(path), sixteen_bit=sixteen_bit, voi=voi, frames=frames, max_pixels=max_pixels
    )


def decode_image(
    data: bytes,
    *,
    sixteen_bit: str = "full",
    voi: str = "first",
    frames: str = "first",
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decode an image from the bytes of its file; arguments, result and errors as in `read_image`.

    A DICOM object that is no image (see `images.dicom.not_an_image`) is refused with that reason.
    """
    _check(sixteen_bit, voi, frames)
    window = parse_window(sixteen_bit)
    if is_dicom(data):
        return decode_dicom(data, window, parse_voi(voi), frames == "refuse", max_pixels)
    return decode_raster(data, window, max_pixels)


def shape_of(data: bytes) -> tuple[int, int]:
    """(height, width) that an image's header declares, without decoding it (before it is turned upright or square).

    Raises:
        ImageError: the header cannot be read, or holds no size.
    """
    if is_dicom(data):
        about = dicom.header(data)
        if not about.rows or not about.columns:
            raise ImageError("no image size in the header")
        return about.rows, about.columns
    found = read_header(data)
    return found.height, found.width


def _check(sixteen_bit: str, voi: str, frames: str) -> None:
    """InputError for a setting of no known form."""
    parse_window(sixteen_bit)
    parse_voi(voi)
    if frames not in FRAMES:
        raise InputError(f"frames is {frames!r}.", f"Give one of {', '.join(FRAMES)}.")


def read_bytes(path: Path, root: Path | None = None) -> bytes:
    """Read an image's bytes; only from a regular file, and only inside `root` where one is given.

    Raises:
        ImageError: absent, a folder or a device, not readable, over 1 GiB, or a link that leaves `root`.
    """
    try:
        if root is not None and not _inside(os.path.realpath(path), _real(os.fspath(root))):
            raise ImageError("a link that leads out of the source folder")
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file (a device, pipe or socket)")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"{status.st_size:,} bytes: over the limit of {MAX_BYTES:,}")
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError as error:
        raise ImageError("no such file") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ImageError("cannot be read: its name is no path") from error


@lru_cache(maxsize=16)
def _real(root: str) -> str:
    """The source folder without links on the way, found once and not for every image."""
    return os.path.realpath(root)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
