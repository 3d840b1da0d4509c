"""The work of one process of `prepare`: the films of a chunk, from files to pixels of the stored size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mococxr import files
from mococxr.errors import FilmError
from mococxr.images import decode_film, read_bytes, resize_shorter
from mococxr.store.pixels import Film

CHUNK = 32
"""Films that are decoded together: what a killed run loses, for each process, is less than this."""
SLENDER = 20
"""A film that is longer than this many times its width is none, and would need that much more room."""
RECORD = ("height", "width", "sha256", "enlarged", "reason")


@dataclass(frozen=True)
class Chunk:
    """Some neighbouring films of the table.

    Args:
        number: of the chunk, from 0.
        root: the folder that the paths are relative to and may not leave.
        paths: one a film.
        size: shorter side of a stored film, in pixels.
        reading: how files become images: the named arguments of `films.decode_film`.
        first: what the first film is called in messages.
        refused: place in the chunk -> reason, for films that are not to be opened.
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
    """Decode a chunk into `folder`: pixels of the readable films one after another, and a record of all.

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
                film, row["sha256"], row["enlarged"] = _film(chunk, place)
                row["height"], row["width"] = film.shape
                file.write(film.data)
            except FilmError as error:
                row["reason"] = str(error)
            rows.append(row)
    files.write_json(record, {name: [row[name] for row in rows] for name in RECORD})
    return chunk.number


def probe(chunk: Chunk, place: int) -> None:
    """Decode one film for nothing: does the process survive it?"""
    try:
        _film(chunk, place)
    except FilmError:
        return


def _film(chunk: Chunk, place: int) -> tuple[Film, str, bool]:
    """The stored film, the hash of its file, and whether it had to be enlarged."""
    if place in chunk.refused:
        raise FilmError(chunk.refused[place])
    data = read_bytes(chunk.root / chunk.paths[place], chunk.root)
    try:
        full = decode_film(data, **chunk.reading)
        if max(full.shape) > SLENDER * min(full.shape):
            raise FilmError(f"{full.shape[1]:,} x {full.shape[0]:,} pixels: too slender for a film")
        film = resize_shorter(full, chunk.size)
    except MemoryError as error:
        raise FilmError("not enough memory to decode it") from error
    return film, hashlib.sha256(data).hexdigest(), min(full.shape) < chunk.size
