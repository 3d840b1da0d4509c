"""The images that the page shows: of their files where these are still there, else as the store has them."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.errors import ImageError
from mococxr.images import Reading, decode_image, read_bytes, resize_shorter
from mococxr.images.grey_levels import as_levels
from mococxr.store import Store

LARGEST = 2048
"""Shorter side above which an image is reduced, px: no screen shows more."""
KEPT = 8
"""Images kept decoded, of at most about 20 MB each."""
WHITE = 65535


@dataclass(frozen=True)
class Picture:
    """An image, decoded.

    Args:
        shown: uint8 (H, W), as `prepare` reads it.
        deep: uint16 (H, W), all levels that the file declares.
        window: shares of these levels that are black and white in `shown`.
    """

    shown: NDArray[np.uint8]
    deep: NDArray[np.uint16]
    window: tuple[float, float]

    @property
    def bits(self) -> int:
        """8, or 16 where the file has more levels than 256."""
        return 16 if np.any(self.deep % 257) else 8

    def png(self, window: tuple[float, float] | None, side: int | None) -> bytes:
        """The image as a file.

        Args:
            window: shares of the declared levels that become black and white; None for the image as it was meant.
            side: its shorter side, px, where that is less than there is.
        """
        image: NDArray[Any] = self.shown if window is None else self.deep
        if side is not None and side < min(image.shape):
            image = resize_shorter(image, side)
        if window is not None:
            low, high = window
            image = as_levels(np.clip((np.arange(WHITE + 1) / WHITE - low) / (high - low), 0, 1), 255)[image]
        return bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


class Pictures:
    """The images of a store by row.

    Args:
        source: folder of the files; None for the one that `prepare` read.
        lookup: table of a store under pseudonyms that says which file an image is.
    """

    def __init__(self, store: Store, source: Path | None, lookup: Path) -> None:
        self.store = store
        self._files = _files(store, source, lookup)
        self._hashes = store.columns("sha256")["sha256"]
        how = store.manifest["settings"]
        self._reading = Reading(how["depth"], how["voi"], how["frames"], how["max_pixels"], how["any_body_part"])
        self.picture = lru_cache(KEPT)(self._picture)

    def has_file(self, row: int) -> bool:
        """Whether a file is where the image's should be."""
        file = self._files.get(row)
        return file is not None and (file[0] / file[1]).is_file()

    def _picture(self, row: int) -> Picture:
        """The image of a row; of its file only where that is still the one that `prepare` read."""
        try:
            shown, deep = self._decoded(row)
        except ImageError:
            shown = np.asarray(self.store.pixels(row))
            deep = shown.astype(np.uint16) * 257
        return Picture(shown, deep, _window(shown, deep))

    def _decoded(self, row: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        if row not in self._files:
            raise ImageError("nobody knows its file")
        root, path = self._files[row]
        data = read_bytes(root / path, root)
        if hashlib.sha256(data).hexdigest() != self._hashes[row]:
            raise ImageError("another image")
        deep = dataclasses.replace(self._reading, depth="full", voi="none", white=WHITE)
        return _fitted(decode_image(data, self._reading)), _fitted(decode_image(data, deep))


def _files(store: Store, source: Path | None, lookup: Path) -> dict[int, tuple[Path, str]]:
    """Row -> folder and file below it, as far as the store or its table of pseudonyms tells."""
    index = store.columns("row", "path")
    if not store.manifest.get("pseudonyms"):
        stated = source or Path(store.manifest["settings"].get("source", ""))
        root = stated if stated.is_dir() else stated.parent  # a table beside its images
        return {row: (root, path) for row, path in index.iter_rows()}
    if not lookup.is_file():
        return {}
    real = pl.read_csv(lookup, infer_schema=False).select("real_path", "root", path="image")
    both = index.join(real.unique("path", keep="last"), on="path").select("row", "real_path", "root")
    return {row: (source or Path(root), path) for row, path, root in both.iter_rows()}


def _fitted(image: NDArray[Any]) -> NDArray[Any]:
    return resize_shorter(image, LARGEST) if min(image.shape) > LARGEST else image


def _window(shown: NDArray[np.uint8], deep: NDArray[Any]) -> tuple[float, float]:
    """The shares of the declared levels at which the image as it was meant becomes black and white."""
    black, white = deep[shown == 0], deep[shown == 255]
    low = float(black.max() if black.size else deep.min()) / WHITE
    high = float(white.min() if white.size else deep.max()) / WHITE
    return (low, high) if low < high else (0.0, 1.0)
