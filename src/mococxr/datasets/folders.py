"""Your own images in class folders: `TB/1.png`, `normal/2.png`, also below `train`, `val` and `test`."""

from __future__ import annotations

import re
from collections.abc import Container
from functools import cache
from pathlib import Path

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Reader, Request, Rows, unreserved
from mococxr.datasets.walk import Walk
from mococxr.errors import InputError, Shown, message
from mococxr.splits import SPLIT_WORDS

MOST_CLASSES = 50
"""Folders side by side up to which they may be classes; more are patients, as a rule."""
UNLABELLED = {"unlabelled", "unlabeled"}
"""Words in the names of class folders that hold images without labels."""
_SET_WORDS = {
    "set",
    "data",
    "dataset",
    "images",
    "image",
    "imgs",
    "img",
    "files",
    "split",
    "png",
    "jpg",
    "jpeg",
    "cxr",
    "xray",
    "stage",
}
"""Words that may stand beside one of a split or of `UNLABELLED` in a folder's name: `train_images`."""


def _read(request: Request) -> Rows:
    """Read class folders: `root/<class>/image.png`, also below train, val and test.

    At least two folders of images side by side are classes, and each becomes a label column with 1 for its own
    images and 0 for the others. One folder alone, or images in the source itself, are images without labels.
    """
    if not request.source.is_dir():
        raise InputError(
            "{source} is not a folder.", "Give a folder, or --format csv for a table.", source=Shown(request.source)
        )
    walk = Walk(request.source)
    paths = pl.Series("path", sorted(walk.files()), dtype=pl.String)
    walk.refuse_closed()  # a class that cannot be read would be missing without a word
    parts = paths.str.split("/")
    splits, depth = _split_folders(parts, request.source)
    classes = parts.list.get(depth, null_on_oob=True).set(parts.list.len() <= depth + 1, None)
    names = [name for name in classes.drop_nulls().unique().sort() if _kind_of(name, UNLABELLED) is None]
    # Patients as labels would enter the store.
    if len(names) > MOST_CLASSES and not request.label and not request.pseudonyms:
        raise InputError(
            "{source} has {count:,} folders of images side by side: are they patients, and not findings?",
            "Name those that are findings by --label NAME, or give a table with path and patient (--labels FILE).",
            source=Shown(request.source),
            count=len(names),
        )
    # One folder has no negatives.
    labels = tables.choose_labels(request.label, names, str(request.source)) if len(names) > 1 else ()
    if request.label and not labels:
        raise InputError(
            "{source} has no class folders.",
            "Leave out --label, or give a table by --labels.",
            source=Shown(request.source),
        )
    note = Shown("No class folders: images without labels.")
    if labels and request.pseudonyms and not request.label:
        labels = ()
        note = Shown("Folder names may name patients: those that are findings become labels by --label NAME.")
    elif labels:
        note = message("Classes by folder: {names}.", names=", ".join(labels))
    renamed = unreserved(labels)
    columns = {
        renamed.get(name, name): pl.when(classes.is_in(names)).then((classes == name).cast(pl.Int8)) for name in labels
    }
    return Rows(
        pl.DataFrame([paths, splits.alias("split")]).with_columns(**columns),
        tuple(columns),
        source=request.source.resolve().name,
        has_official_split=depth == 1,
        notes=(*((note,) if len(paths) else ()), *walk.notes()),
        rejected=walk.rejected(),
    )


def _split_folders(parts: pl.Series, source: Path) -> tuple[pl.Series, int]:
    """The split of each image, and the folder levels that takes: 1 where every first folder names a split.

    Raises:
        InputError: folders named as splits lie beside others, or below them.
    """
    first, second = (
        parts.list.get(level, null_on_oob=True).set(parts.list.len() <= level + 1, None) for level in (0, 1)
    )
    splits, deeper = (folder.map_elements(_split_of, return_dtype=pl.String) for folder in (first, second))
    if len(parts) and not splits.null_count():
        return splits, 1
    if splits.null_count() + deeper.null_count() < 2 * len(parts):  # a wrong guess could put test images into training
        above = first.filter(deeper.is_not_null())
        named = [*first.filter(splits.is_not_null()), *second.filter(deeper.is_not_null())]
        others = first.filter(splits.is_null()).fill_null("images")
        raise InputError(
            "{source} has folders named as splits ({splits}) with others beside or above them ({others}): are they splits?",
            "Give as SOURCE a folder that holds nothing but splits, such as {source}/{above}, or a table that has a column "
            "split (--labels FILE).",
            source=Shown(source),
            splits=", ".join(sorted(set(named), key=str.lower)),
            others=", ".join(sorted(set(others))[:5]),
            above=above[0] if len(above) else "...",
        )
    return pl.repeat(None, len(parts), dtype=pl.String, eager=True), 0


@cache
def _split_of(folder: str) -> str | None:
    """The split that a folder is called after (`train`, `Test_Images`, `stage_2_train`), or None."""
    return SPLIT_WORDS.get(_kind_of(folder, SPLIT_WORDS) or "")


def _kind_of(folder: str, kinds: Container[str]) -> str | None:
    """The word of some kinds that a folder is called after, where nothing else is said by its name; or None."""
    parts = re.findall(r"[^\W\d_]+|\d+", folder.lower())
    named = [part for part in parts if part in kinds]
    others = [part for part in parts if part not in kinds and part not in _SET_WORDS and not re.match(r"\d\d?$", part)]
    return named[0] if len(named) == 1 and not others else None  # "train_old" says something else


READER = Reader("folder", lambda request: request.source, _read)
