"""Where CheXpert's images lie on disk: one release folder, the batches of the full-size release, a test set.

A table says `CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg`. On disk that is `train/patient00001/...`
in the source or in a release folder in it, or `CheXpert-v1.0 batch 2 (train 1)/patient00001/...`.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from mococxr.datasets.dataset import Request, images_under
from mococxr.datasets.tables import Table
from mococxr.errors import InputError

SPLITS = {"train": "train", "valid": "val", "val": "val", "test": "test"}
"""The split's folder in a path -> the split."""
_STUDY = r"^(.*?)/?((train|valid|val|test)/(patient[^/]+)/(study[^/]+))"
_PARTS = ("release", "inside", "split", "patient", "study", "image")


def parts_of(table: Table, request: Request) -> pl.DataFrame:
    """The table's paths in their parts, one row an image.

    A table of studies (a column `Study` and no `Path`, as the test set's `groundtruth.csv`) gets a row for each
    image that its studies have on disk; a study without any gets the image that every study has, view1_frontal.jpg,
    so that it is missed in the open.

    Returns:
        `release, inside, split, patient, study, image` as text, `at`: the row of the table, and `home`: the
        folder of the image's patient, relative to the root, with a slash at its end, or empty for the root.

    Raises:
        InputError: a path that is not .../SPLIT/patientN/studyN.
    """
    per_image = "Path" in table.frame.columns or "Study" not in table.frame.columns
    column = table.column("Path" if per_image else "Study")
    paths = table.frame[column]
    parts = paths.str.extract_groups(_STUDY + (r"/([^/]+)$" if per_image else "/?()$")).struct.unnest()
    parts.columns = _PARTS
    strange = parts["inside"].is_null()
    if strange.any():
        at = strange.arg_max() or 0
        raise InputError(
            f"{table.place(at)}, column {column!r}: {paths[at]!r} is not .../train/patientN/studyN"
            f"{'/image' if per_image else ''}.",
            "CheXpert's own paths are needed; read other tables with --format csv.",
        )
    parts = parts.with_row_index("at")
    homes = {split: _homes(parts, split, table, request) for split in parts["split"].unique().sort()}
    parts = pl.concat(
        [_at_home(part, homes[part["split"][0]], request) for part in parts.partition_by("split")]
    )
    return (parts if per_image else _images(parts, request)).sort("at", maintain_order=True)


def _homes(parts: pl.DataFrame, split: str, table: Table, request: Request) -> list[Path]:
    """The folders inside the root that hold patients of this split, the likeliest first."""
    release = parts["release"][0] or ""
    root = request.root
    named = [
        root,
        root / release,
        root / Path(release).name,
        table.path.parent,
        *sorted(root.glob("CheXpert*/")),
    ]
    bases = [base for base in named if os.path.isdir(base)]
    names = ("valid", "val") if SPLITS[split] == "val" else (split,)
    found = [base / name for base in bases for name in names if os.path.isdir(base / name)]
    found += [base for base in bases if base.resolve().name in names or f"({split}" in base.name]
    inside = [folder for folder in found if folder.resolve().is_relative_to(root.resolve())]
    return list({folder.resolve(): folder for folder in inside}.values())


def _at_home(parts: pl.DataFrame, homes: list[Path], request: Request) -> pl.DataFrame:
    """The column `home`; where there are several homes, the first that holds the patient."""
    prefixes = {}
    for home in homes:
        name = home.resolve().relative_to(request.root.resolve()).as_posix()
        prefixes[home] = "" if name == "." else f"{name}/"
    usual = prefixes[homes[0]] if homes else f"{parts['split'][0]}/"
    if len(homes) < 2:
        return parts.with_columns(home=pl.lit(usual))
    place: dict[str, str] = {}
    for home, prefix in prefixes.items():
        for name in os.listdir(home):
            place.setdefault(name, prefix)
    held = pl.DataFrame({"patient": list(place), "home": list(place.values())})
    joined = parts.join(held, on="patient", how="left", maintain_order="left")
    return joined.with_columns(pl.col("home").fill_null(usual))


def _images(parts: pl.DataFrame, request: Request) -> pl.DataFrame:
    """A row for each image that the studies have on disk."""
    found = []
    for home, patient, study in parts.select("home", "patient", "study").iter_rows():
        images = images_under(request.root, f"{home}{patient}/{study}")
        found.append([os.path.basename(image) for image in images] or ["view1_frontal.jpg"])
    return parts.with_columns(image=pl.Series(found)).explode("image")
