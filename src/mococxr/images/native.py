"""Calling native decoders: OpenCV's for pictures, and what native code writes to standard error, caught."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import cv2
import numpy as np

from mococxr.errors import ImageError
from mococxr.images.header import CUT_SHORT

_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG")
_native_stderr = threading.Lock()


def decode_image(data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """Decode by OpenCV, as stored: uint8 or uint16, (H, W) or (H, W, 3 or 4) in the order blue, green, red, alpha.

    Raises:
        ImageError: the decoder refused the data, or said that they are damaged.
    """
    with caught_stderr() as messages:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise ImageError(f"cannot be decoded: {str(error.err or error).strip()}") from error
    said = "".join(messages)
    if any(words in said for words in _DAMAGE):
        raise ImageError(f"damaged or truncated JPEG: {last_line(said)}")
    if pixels is None or pixels.size == 0:
        detail = last_line(said)
        raise ImageError(
            f"cannot be decoded{': ' + detail if detail else '; it may be damaged or ' + CUT_SHORT}"
        )
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"samples of type {pixels.dtype}: this version reads 8 and 16 bits")
    return pixels


def last_line(said: str) -> str:
    """The last thing a decoder said, without where in its source it said so."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].split("error: ")[-1][:160] if lines else ""


@contextmanager
def caught_stderr() -> Iterator[list[str]]:
    """Catch what native code writes to standard error; the list holds it once the block has ended.

    The image libraries report damage in a JPEG only there, and would else write over the progress line. One
    decode at a time in a process: decode in several processes, not threads.
    """
    said: list[str] = []
    with _native_stderr:
        caught = _catcher(os.getpid())
        try:
            kept = os.dup(2)
        except OSError:  # standard error is closed: there is nothing to catch
            yield said
            return
        os.dup2(caught, 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            if length := os.fstat(caught).st_size:
                said.append(os.pread(caught, length, 0).decode(errors="replace"))
                os.ftruncate(caught, 0)


@cache
def _catcher(process: int) -> int:  # noqa: ARG001 - a forked process needs one of its own
    """A file without a name, made once a process: what is written to it is appended, so it can be emptied."""
    handle, name = tempfile.mkstemp()
    os.close(handle)
    caught = os.open(name, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    os.unlink(name)
    return caught
