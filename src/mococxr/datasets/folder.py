"""A folder without a table: class folders (`root/<class>/image.png`), also below train, val and test."""

from __future__ import annotations

import polars as pl

from mococxr.datasets import columns, own
from mococxr.datasets.dataset import SPLITS, Cohort, Request, finish, images_under
from mococxr.errors import InputError

UNLABELLED = {"unlabelled", "unlabeled"}
"""Class folders of these names hold images without labels."""


def read(request: Request) -> Cohort:
    """Read class folders; with `--labels` the table is read instead.

    At least two folders of images side by side are classes, and each becomes a label column with 1 for its own
    images and 0 for the others. One folder alone, or images in the source itself, are images without labels.

    Raises:
        InputError: see `read_cohort`.
    """
    if request.labels is not None:
        return own.read(request).with_notes(("Labels come from the table; class folders are not read.",))
    if not request.source.is_dir():
        raise InputError(f"{request.source} is not a folder.", "Give a folder, or --format csv for a table.")
    rows = pl.DataFrame({"path": images_under(request.source)}, schema={"path": pl.String})
    parts = rows["path"].str.split("/")
    splits, depth = _splits(parts)
    classes = parts.list.get(depth).set(parts.list.len() <= depth + 1, None)
    names = [name for name in classes.drop_nulls().unique().sort() if name.lower() not in UNLABELLED]
    labels = columns.wanted(request.label, names, str(request.source)) if len(names) > 1 else ()
    known = classes.is_in(names)
    new = columns.unreserved(labels)
    rows = rows.with_columns(
        splits.alias("split"),
        *(
            pl.select(pl.when(known).then((classes == name).cast(pl.Int8)))
            .to_series()
            .alias(new.get(name, name))
            for name in labels
        ),
    )
    if request.label and not labels:
        raise InputError(
            f"{request.source} has no class folders.", "Leave out --label, or give a table by --labels."
        )
    cohort = Cohort(
        name="folder",
        source=request.source.resolve().name,
        root=request.source,
        rows=rows,
        labels=tuple(new.get(name, name) for name in labels),
        official_splits=depth == 1,
        notes=(
            f"Classes by folder: {', '.join(labels)}."
            if labels
            else "No class folders: images without labels.",
        ),
    )
    return finish(cohort, lambda row: f"image {row + 1}", request.patients_unknown)


def _splits(parts: pl.Series) -> tuple[pl.Series, int]:
    """The split of each image, and the folder levels that takes: 1 where every first folder names a split."""
    first = parts.list.first().str.to_lowercase()
    named = first.replace_strict(SPLITS, default=None, return_dtype=pl.String)
    if len(parts) and not named.null_count() and (parts.list.len() > 1).all():
        return named, 1
    return pl.repeat(None, len(parts), dtype=pl.String, eager=True), 0
