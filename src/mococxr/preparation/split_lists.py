"""A split published as lists of images: `{"train": [[path, label], ...], "validation": [...], "test": [...]}`.

That is the form of the `mednet` package, whose split of Shenzhen (and Montgomery) is the field's reference. A file of
the user's is read, or by `mednet:default`, `mednet:fold-3` the one in an installed mednet; its code is not run.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path, PurePosixPath

import polars as pl

from mococxr import files
from mococxr.datasets import Cohort
from mococxr.errors import InputError, Shown

_INSTALLED = "mednet:"


def is_lists(split_file: Path) -> bool:
    """Whether `--split-file` names lists of images rather than a table of patients."""
    return str(split_file).startswith(_INSTALLED) or split_file.suffix.lower() == ".json"


def read_lists(split_file: Path, cohort: Cohort) -> pl.DataFrame:
    """The lists as `patient, split`, for `given_splits`.

    A listed image is one of the cohort's by its path, else by its file name without suffix, where only one image of
    the cohort has that name. An image that the cohort lacks stands for a patient of its own, who is then counted as
    left out.

    Raises:
        InputError: no such file, not of that form, or none of its images is in the cohort.
    """
    path = _find(split_file, cohort)
    listed = _listed(path)
    rows = pl.DataFrame({"path": cohort.files, "patient": cohort.rows["patient"]})
    rows = rows.with_columns(stem=_stem("path"))
    named = rows.filter(pl.col("stem").is_unique()).select("stem", by_name="patient")
    listed = listed.with_columns(stem=_stem("path")).join(
        rows.select("path", "patient"), on="path", how="left"
    )
    listed = listed.join(named, on="stem", how="left")
    if not listed.select(pl.any_horizontal(pl.col("patient", "by_name").is_not_null()).any()).item():
        raise InputError(
            "None of the {count:,} images in {path} is in {source}, e.g. {value!r}.",
            "Give the split of this data set ({name}).",
            count=len(listed),
            path=path,
            source=Shown(cohort.root),
            value=listed["path"][0],
            name=Shown(cohort.name),
        )
    return listed.select(patient=pl.coalesce("patient", "by_name", "path"), split="split")


def _stem(column: str) -> pl.Expr:
    """The file name of a path, without its suffix."""
    return pl.col(column).str.extract(r"([^/]+?)(?:\.[^./]*)?$", 1)


def _find(split_file: Path, cohort: Cohort) -> Path:
    """The file itself, or mednet's of that name for the cohort's data set."""
    text = str(split_file)
    if not text.startswith(_INSTALLED):
        return split_file
    found = importlib.util.find_spec("mednet")
    folders = (found.submodule_search_locations or ()) if found else ()
    for folder in folders:
        lists = Path(folder) / "config" / "classify" / "data" / cohort.name
        names = sorted(path.stem for path in lists.glob("*.json"))
        if text.removeprefix(_INSTALLED) in names:
            return lists / f"{text.removeprefix(_INSTALLED)}.json"
        raise InputError(
            "The installed mednet has no split {text!r} of {name}.",
            "It has {names}.",
            text=text,
            name=Shown(cohort.name),
            names=Shown(", ".join(names) or "none"),
        )
    raise InputError(
        "--split-file {text} needs the package mednet, which is not installed.",
        "Install it beside this one (pip install --no-deps mednet), or give one of its JSON files.",
        text=text,
    )


def _listed(path: Path) -> pl.DataFrame:
    """`path, split` of every image in the file, in its order."""
    content = files.read_json(path)
    images: list[tuple[str, str]] = []
    for split, entries in content.items() if isinstance(content, dict) else ():
        for number, entry in enumerate(entries if isinstance(entries, list) else (None,), start=1):
            image = entry[0] if isinstance(entry, list) and entry else entry
            if not isinstance(image, str) or not image:
                raise InputError(
                    "{path}, {split!r}, entry {number}: {value!r} is no image.",
                    'The form is {{"train": [["image.png", 0], ...], "validation": [...], "test": [...]}}.',
                    path=path,
                    split=split,
                    number=number,
                    value=str(entry)[:80],
                )
            images.append((PurePosixPath(image.replace("\\", "/")).as_posix(), split))
    if not images:
        raise InputError(
            "{path} lists no images.",
            'The form is {{"train": [["image.png", 0], ...], "validation": [...], "test": [...]}}.',
            path=path,
        )
    return pl.DataFrame(images, schema={"path": pl.String, "split": pl.String}, orient="row")
