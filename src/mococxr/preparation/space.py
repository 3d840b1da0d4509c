"""How much room a store needs, before it is made."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl

from mococxr.errors import ImageError, InputError
from mococxr.images import read_bytes, shape_of

LOOKED_AT = 8
"""Images whose headers are read for the estimate."""


def needed(root: Path, paths: pl.Series, size: int, done: int) -> int:
    """Bytes that the images which are not decoded yet will take, from the shape of some of them.

    Args:
        root: the folder of the images.
        paths: every image, relative to it.
        size: shorter side of a stored image, in pixels.
        done: images that are decoded.
    """
    ratios = []
    for path in paths.gather_every(max(1, len(paths) // LOOKED_AT))[:LOOKED_AT]:
        try:
            shape = shape_of(read_bytes(root / path, root))
            ratios.append(max(shape) / max(1, min(shape)))
        except ImageError:
            continue
    ratio = min(sum(ratios) / len(ratios), 4.0) if ratios else 1.25
    return int((len(paths) - done) * size**2 * ratio * 1.05)


def sentence(need: int) -> str:
    """The need in words."""
    return f"The store needs about {need / 1e9:,.3g} GB more."


def check(folder: Path, need: int) -> None:
    """Refuse to begin what cannot end.

    Raises:
        InputError: the disk of `folder` has less than `need` bytes free.
    """
    free = shutil.disk_usage(folder).free
    if free < need:
        raise InputError(
            f"{sentence(need)} {folder} has {free / 1e9:,.3g} GB free.",
            "Free some, name another --out, or make the images smaller by --size.",
        )
