"""Grey images in files: uint8 pixels one after another, found by arithmetic and read through a memory map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mococxr.errors import InputError

Image = npt.NDArray[np.uint8]

SHARD_BYTES = 1 << 30
"""A shard holds at most this many bytes of pixels, unless one image alone is larger."""


def shard_name(number: int) -> str:
    """`pixels-00000.bin` for the first shard."""
    return f"pixels-{number:05d}.bin"


class Level:
    """The images of a store at one resolution, in row order.

    No object is kept for an image: two sizes and one offset are, so a million images cost 16 MB.

    Args:
        folder: where the shard files lie.
        heights: of each image, in pixels, in row order.
        widths: of each image, in pixels, in row order.
        shards: `{"file", "first_row", "images", "bytes"}` of each shard, in row order.
        shorter: the shorter side of every image, in pixels.

    Raises:
        InputError: a shard is missing or its size is not that of its images.
    """

    def __init__(
        self,
        folder: Path,
        heights: npt.NDArray[np.int32],
        widths: npt.NDArray[np.int32],
        shards: Sequence[Mapping[str, Any]],
        shorter: int,
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
        i = range(len(self))[i]
        shard = int(np.searchsorted(self._first_rows, i, side="right")) - 1
        height, width = int(self.heights[i]), int(self.widths[i])
        start = int(self._starts[i])
        return self._map(shard)[start : start + height * width].reshape(height, width)

    def shard_rows(self) -> list[range]:
        """The rows of each shard."""
        ends = [*self._first_rows[1:].tolist(), len(self)]
        return [range(first, end) for first, end in zip(self._first_rows.tolist(), ends, strict=True)]

    def _map(self, shard: int) -> Image:
        if shard not in self._maps:
            self._maps[shard] = np.memmap(self._files[shard], dtype=np.uint8, mode="r").view(np.ndarray)
        return self._maps[shard]

    def _check(self, shards: Sequence[Mapping[str, Any]]) -> None:
        for file, shard, rows in zip(self._files, shards, self.shard_rows(), strict=True):
            last = rows[-1]
            wanted = int(self._starts[last]) + int(self.heights[last]) * int(self.widths[last])
            if not file.is_file():
                raise InputError(f"{file} is missing.", "Restore the file, or prepare the store again.")
            if len(rows) != shard["images"] or wanted != shard["bytes"] or file.stat().st_size != wanted:
                raise InputError(
                    f"{file} is damaged: it has {file.stat().st_size:,} bytes and its images need {wanted:,}.",
                    "Restore the file, or prepare the store again.",
                )

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without the pixels: it maps the files itself."""
        return {**self.__dict__, "_maps": {}}


def _starts(
    heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32], first_rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Where each image begins in its shard, in bytes."""
    ends = np.cumsum(heights.astype(np.int64) * widths)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])[: len(heights)]
    counts = np.diff(np.append(first_rows, len(heights)))
    return starts - np.repeat(starts[first_rows], counts)
