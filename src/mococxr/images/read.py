"""An image's file -> its image: what kind of file it is, by its first bytes, and who reads it."""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mococxr.errors import ImageError
from mococxr.images import dicom
from mococxr.images.dicom.elements import is_dicom
from mococxr.images.dicom.render import decode_dicom
from mococxr.images.grey_levels import MAX_PIXELS, Decoded, Reading
from mococxr.images.header import read_header
from mococxr.images.raster import decode_raster

DEFAULT = Reading()
LEADS_OUT = "a link that leads out of the source folder"
MAX_BYTES = 1 << 30
"""Bytes above which a file is not read at all."""


def read_image(
    source: Path | str | bytes,
    *,
    depth: str = "full",
    voi: str | None = None,
    frames: str = "refuse",
    max_pixels: int = MAX_PIXELS,
    any_body_part: bool = False,
) -> npt.NDArray[np.uint8]:
    """Read one chest image, as `prepare` does before it is resized.

    Args:
        source: a PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM file, or its bytes; the first bytes decide which, not the
            suffix.
        depth, voi, frames, max_pixels, any_body_part: see `Reading`; `voi` None is `first`.

    Returns:
        uint8 (H, W), upright, pixels square, larger = whiter as displayed.

    Raises:
        ImageError: the image cannot be read; the text is the reason.
        InputError: `depth`, `voi` or `frames` is none of its forms.
    """
    reading = Reading(depth, voi or "first", frames, max_pixels, any_body_part)
    return decode_image(source if isinstance(source, bytes) else read_bytes(Path(source)), reading)


def decode_image(data: bytes, reading: Reading = DEFAULT) -> npt.NDArray[np.uint8]:
    """The pixels alone of `decode`; result and errors as of `read_image`."""
    return decode(data, reading).pixels


def decode(data: bytes, reading: Reading = DEFAULT) -> Decoded:
    """Decode an image from the bytes of its file: its pixels, and what is to be remarked of them.

    Raises:
        ImageError: the image cannot be read, or is a DICOM object that is no chest image; the text is the reason.
    """
    if is_dicom(data):
        return decode_dicom(data, reading)
    return decode_raster(data, reading)


def shape_of(data: bytes) -> tuple[int, int]:
    """(height, width) that an image's header declares, without decoding it (before it is turned upright or square).

    Raises:
        ImageError: the header cannot be read, or holds no size.
    """
    if is_dicom(data):
        facts = dicom.header(data)
        if not facts.rows or not facts.columns:
            raise ImageError("no image size in the header")
        return facts.rows, facts.columns
    header = read_header(data)
    return header.height, header.width


def read_bytes(path: Path, root: Path | None = None) -> bytes:
    """Read an image's bytes; only from a regular file, and only inside `root` where one is given.

    Raises:
        ImageError: absent, a folder or a device, not readable, over 1 GiB, or a link that leaves `root`.
    """
    try:
        # a link inside the folder may lead out of it
        if root is not None and not _inside(os.path.realpath(path), _real(os.fspath(root))):
            raise ImageError(LEADS_OUT)
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("a folder, not a file")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
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
        raise ImageError("cannot be read: its name is not a path") from error


@lru_cache(maxsize=16)
def _real(root: str) -> str:
    """The source folder without links on the way, found once and not for every image."""
    return os.path.realpath(root)


def _inside(path: str, folder: str) -> bool:
    # With the separator: /data2 is not in /data.
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
