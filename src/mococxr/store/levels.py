"""Grey images in files: uint8 pixels one after another, found by arithmetic, read through a memory map; their halvings.

A view is one resampling. From a level at most twice the view's size it does not alias, and it reads a quarter or a
sixteenth of the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mococxr.errors import InputError

Image = npt.NDArray[np.uint8]
Sides = npt.NDArray[np.int32]

SMALLEST = 32
"""Shorter side of the smallest level that is written: smaller ones are shrunk as they are read."""


def shard_name(number: int) -> str:
    """`pixels-00000.bin` for the first shard."""
    return f"pixels-{number:05d}.bin"


def halving(stored: int, target: int) -> int:
    """The factor, a power of two, by which images of shorter side `stored` shrink and stay >= `target` pixels.

    Raises:
        ValueError: the target is not positive.
    """
    if target < 1:
        raise ValueError(f"the target is {target} pixels; it is at least 1")
    factor = 1
    while stored // (2 * factor) >= target:
        factor *= 2
    return factor


def written_factors(stored: int) -> list[int]:
    """The factors of the levels that `prepare` writes for images of shorter side `stored`."""
    return [1 << k for k in range(1, 16) if stored >> k >= SMALLEST]


def level_folder(store: Path, stored: int, factor: int) -> Path:
    """Where the images shrunk by `factor` lie in a store whose images have shorter side `stored`."""
    return store if factor == 1 else store / "levels" / str(stored // factor)


def shrink(image: Image, factor: int) -> Image:
    """Means of `factor` x `factor` blocks, uint8 (H // factor, W // factor); the rest is cut off evenly."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    top, left = (image.shape[0] - height * factor) // 2, (image.shape[1] - width * factor) // 2
    whole = image[top : top + height * factor, left : left + width * factor]
    # of whole blocks INTER_AREA gives exact means
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


class Level:
    """The images of a store at one resolution, in row order.

    No object is kept for an image: two sizes and one offset are, so a million images cost 16 MB.

    Args:
        folder: where the shard files lie.
        heights: of each image, in pixels, in row order.
        widths: of each image, in pixels, in row order.
        shards: `{"file", "first_row", "images"}` of each shard, in row order.
        shorter: the shorter side of every image, in pixels.

    Raises:
        InputError: a shard is missing or its size is not that of its images.
    """

    def __init__(
        self, folder: Path, heights: Sides, widths: Sides, shards: Sequence[Mapping[str, Any]], shorter: int
    ) -> None:
        self.folder, self.shorter = Path(folder), shorter
        self.heights, self.widths = heights, widths
        self._files = [self.folder / str(shard["file"]) for shard in shards]
        self._first_rows = np.array([shard["first_row"] for shard in shards], dtype=np.int64)
        self._starts = _starts(heights, widths, self._first_rows)
        self._maps: dict[int, Image] = {}
        self._check(shards)

    def __len__(self) -> int:
        return len(self.heights)

    def pixels(self, i: int) -> Image:
        """Image `i` as uint8 (H, W): a read-only view of the file, nothing is copied.

        Raises:
            IndexError: there is no row `i`.
        """
        i = range(len(self))[i]  # IndexError and negative numbers as in a list
        shard = int(np.searchsorted(self._first_rows, i, side="right")) - 1  # the last that begins at i or before
        height, width = int(self.heights[i]), int(self.widths[i])
        start = int(self._starts[i])
        return self._map(shard)[start : start + height * width].reshape(height, width)

    def _map(self, shard: int) -> Image:
        if shard not in self._maps:  # each map keeps a file descriptor: opened when it is read
            # A slice of np.memmap is one again, which costs more than a slice of an array.
            self._maps[shard] = np.memmap(self._files[shard], dtype=np.uint8, mode="r").view(np.ndarray)
        return self._maps[shard]

    def _check(self, shards: Sequence[Mapping[str, Any]]) -> None:
        ends = [*self._first_rows[1:].tolist(), len(self)]
        for file, shard, end in zip(self._files, shards, ends, strict=True):
            last = end - 1
            needed = int(self._starts[last]) + int(self.heights[last]) * int(self.widths[last])
            if not file.is_file():
                raise InputError(f"{file} is missing.", "Restore the file, or prepare the store again.")
            size = file.stat().st_size
            if end - shard["first_row"] != shard["images"] or size != needed:
                raise InputError(
                    f"{file} is damaged: it has {size:,} bytes and its images need {needed:,}.",
                    "Restore the file, or prepare the store again.",
                )

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without the pixels: it maps the files itself."""
        return {**self.__dict__, "_maps": {}}


class ShrunkLevel(Level):
    """A level that is not written: each image is shrunk by `factor` when it is read."""

    def __init__(self, stored: Level, factor: int) -> None:
        self.folder, self.shorter = stored.folder, stored.shorter // factor
        self.heights, self.widths = stored.heights // factor, stored.widths // factor
        self._stored, self._factor, self._maps = stored, factor, {}

    def pixels(self, i: int) -> Image:
        """Image `i` as uint8 (H, W)."""
        return shrink(self._stored.pixels(i), self._factor)


def _starts(heights: Sides, widths: Sides, first_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each image begins in its shard, in bytes."""
    ends = np.cumsum(heights.astype(np.int64) * widths)  # int32 ends at 2 GiB
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])[: len(heights)]
    counts = np.diff(np.append(first_rows, len(heights)))
    return starts - np.repeat(starts[first_rows], counts)  # each shard begins at byte 0
