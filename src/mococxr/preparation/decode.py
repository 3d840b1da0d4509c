"""The work of one process of `prepare`: the images of a chunk, from files to pixels of the stored size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mococxr import files
from mococxr.errors import ImageError
from mococxr.images import decode_image, read_bytes, resize_shorter
from mococxr.store.pixels import Image

CHUNK = 32
"""Images that are decoded together: what a killed run loses, for each process, is less than this."""
SLENDER = 20
"""An image that is longer than this many times its width is none, and would need that much more room."""
RECORD = ("height", "width", "sha256", "enlarged", "reason")


@dataclass(frozen=True)
class Chunk:
    """Some neighbouring images of the table.

    Args:
        number: of the chunk, from 0.
        root: the folder that the paths are relative to and may not leave.
        paths: one an image.
        size: shorter side of a stored image, in pixels.
        reading: how files become images: the named arguments of `images.decode_image`.
        first: what the first image is called in messages.
        refused: place in the chunk -> reason, for images that are not to be opened.
    """

    number: int
    root: Path
    paths: tuple[str, ...]
    size: int
    reading: Mapping[str, Any]
    first: str = ""
    refused: Mapping[int, str] = field(default_factory=dict)


def chunk_files(folder: Path, number: int) -> tuple[Path, Path]:
    """Where a chunk's record and its pixels lie; the record comes last, so that its presence says done."""
    return folder / f"{number:06d}.json", folder / f"{number:06d}.bin"


def decode_chunk(chunk: Chunk, folder: Path) -> int:
    """Decode a chunk into `folder`: pixels of the readable images one after another, and a record of all.

    Returns:
        The number of the chunk.

    Raises:
        OSError: the folder cannot be written to (a full disk, say).
    """
    record, pixels = chunk_files(folder, chunk.number)
    rows: list[dict[str, Any]] = []
    with files.atomic(pixels) as temporary, open(temporary, "wb") as file:
        for place in range(len(chunk.paths)):
            row = dict.fromkeys(RECORD)
            try:
                image, row["sha256"], row["enlarged"] = _image(chunk, place)
                row["height"], row["width"] = image.shape
                file.write(image.data)
            except ImageError as error:
                row["reason"] = str(error)
            rows.append(row)
    files.write_json(record, {name: [row[name] for row in rows] for name in RECORD})
    return chunk.number


def probe(chunk: Chunk, place: int) -> None:
    """Decode one image for nothing: does the process survive it?"""
    try:
        _image(chunk, place)
    except ImageError:
        return


def _image(chunk: Chunk, place: int) -> tuple[Image, str, bool]:
    """The stored image, the hash of its file, and whether it had to be enlarged."""
    if place in chunk.refused:
        raise ImageError(chunk.refused[place])
    data = read_bytes(chunk.root / chunk.paths[place], chunk.root)
    try:
        full = decode_image(data, **chunk.reading)
        if max(full.shape) > SLENDER * min(full.shape):
            raise ImageError(f"{full.shape[1]:,} x {full.shape[0]:,} pixels: too slender for an image")
        image = resize_shorter(full, chunk.size)
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    return image, hashlib.sha256(data).hexdigest(), min(full.shape) < chunk.size
