"""What `prepare --add` may add to a store: new images behind the old ones, whose rows, patients and splits stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl

from mococxr import console, files
from mococxr.datasets import Dataset
from mococxr.errors import InputError, Shown
from mococxr.settings import flag
from mococxr.store import Store
from mococxr.workers import cores

SAME = (
    "size", "depth", "voi", "frames", "any_body_part", "max_pixels", "split", "split_seed", "stratify", "patients_unknown",
    "pseudonymise",
)  # fmt: skip
"""Settings that must be those of the store."""


def check_settings(store: Store, stated: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuse other settings than the store was made with, or another key.

    Raises:
        InputError: so; each setting is named.
    """
    before = store.manifest["settings"]
    differ = [name for name in SAME if name in before and before[name] != stated[name]]
    if differ:
        shown = ", ".join(f"{flag(name)} {_words(stated[name])} ({_words(before[name])} before)" for name in differ)
        raise InputError(
            "{store} was made with other settings: {shown}.", "Give those of the store, or name another --out.",
            store=Shown(store.path), shown=Shown(shown),
        )  # fmt: skip
    hidden = dataset.file_paths is not None
    if hidden != bool(store.manifest["pseudonyms"]) or (hidden and dataset.source != store.source):
        raise InputError(
            "{store} has pseudonyms under another key, or none.",
            "Give the --key of the store.",
            store=Shown(store.path),
        )


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def new_images(store: Store, dataset: Dataset) -> Dataset:
    """The images that the store does not have, with the columns that it has.

    Raises:
        InputError: an image that the store has under that path is another one or of another patient, or labels do not fit.
    """
    _refuse_other_images(store, dataset)
    is_new = ~dataset.rows["path"].is_in(store.columns("path")["path"].implode())
    rows = _named_apart(dataset.rows.filter(is_new), store)
    labels = list(store.manifest["labels"])
    for name in labels:
        # a blank would be a no there, and words that nobody named are no labels
        if name not in dataset.labels and (store.blank == "negative" or name in dataset.metadata):
            raise InputError(
                "The new images have no labels of {name}, which the store has.",
                "Name its column by --label, and write it as 1, 0, -1 or blank.", name=Shown(name),
            )  # fmt: skip
    if strange := [name for name in dataset.labels if name not in labels]:
        raise InputError(
            "The store has no finding {name!r}.",
            "Name the labels to read by --label ({labels}); mococxr label adds findings afterwards.",
            name=Shown(strange[0]), labels=Shown(", ".join(labels) or "it has none"),
        )  # fmt: skip
    kept = set(store.manifest["metadata"])
    if lost := [name for name in dataset.metadata if name not in kept]:
        console.say(f"Left out: {len(lost):,} columns that the store does not have.")
    return dataclasses.replace(
        dataset,
        rows=rows.drop(lost),
        metadata=tuple(name for name in dataset.metadata if name in kept),
        file_paths=None if dataset.file_paths is None else dataset.file_paths.filter(is_new),
    )


def _refuse_other_images(store: Store, dataset: Dataset) -> None:
    """Refuse a path of the store whose file, or whose patient, is now another."""
    old = store.columns("path", "sha256", "patient").rename({"patient": "of"})
    named = dataset.rows.select("path", "patient").with_columns(file=dataset.files)
    both = named.join(old, on="path", maintain_order="left")
    moved = both.filter(pl.col("patient") != pl.col("of"))
    if len(moved):
        raise InputError(
            "The image {path!r} is of patient {patient!r} in the store, and of another now ({count:,} such).",
            "Correct the table: no patient of a store changes.",
            path=moved["path"][0], patient=moved["of"][0], count=len(moved),
        )  # fmt: skip
    there_still = both.filter([(dataset.root / file).is_file() for file in both["file"]])
    with ThreadPoolExecutor(min(8, cores())) as pool:  # hashlib lets go of the interpreter
        hashes = list(pool.map(files.sha256_file, [dataset.root / file for file in there_still["file"]]))
    other = there_still.filter(there_still["sha256"] != pl.Series(hashes, dtype=pl.String))
    if len(other):
        raise InputError(
            "The store has another image of the name {path!r} ({count:,} such).",
            "Give new images names of their own, in a folder of their own for instance.",
            path=other["path"][0], count=len(other),
        )  # fmt: skip


def _named_apart(rows: pl.DataFrame, store: Store) -> pl.DataFrame:
    """A study number that another patient of the store has becomes `patient/study`."""
    old = store.columns("study", "patient").unique().rename({"patient": "of"})
    clash = rows.join(old, on="study").filter(pl.col("patient") != pl.col("of"))["study"].unique()
    apart = pl.when(pl.col("study").is_in(clash.implode())).then(pl.format("{}/{}", "patient", "study"))
    return rows.with_columns(study=apart.otherwise("study")) if len(clash) else rows


def joined_index(before: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """The index with the new rows behind the old ones, in the columns and types of the old.

    Raises:
        InputError: a new column cannot be of the type that the store has for it.
    """
    columns = []
    for name, kind in before.schema.items():
        values = new[name] if name in new.columns else pl.repeat(None, len(new), dtype=kind, eager=True)
        cast = values.cast(kind, strict=False)
        if cast.null_count() > values.null_count():
            raise InputError(
                "The column {name!r} holds values that are not as in the store ({kind} there).",
                "Write it as in the table that the store was made of.", name=Shown(name), kind=Shown(kind),
            )  # fmt: skip
        columns.append(cast.alias(name))
    rows = pl.int_range(len(before), len(before) + len(new), eager=True).cast(before.schema["row"]).alias("row")
    return pl.concat([before, pl.DataFrame(columns).with_columns(rows)])


def joined_splits(before: pl.DataFrame, new: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Every patient's split: those of the store keep theirs, whatever is said now; and how many others there are."""
    others = new.join(before, on="patient", how="anti")
    both = new.join(before.rename({"split": "before"}), on="patient")
    if kept := int((both["split"] != both["before"]).sum()):
        console.say(f"{kept:,} patients stay in the split that the store has them in.")
    return pl.concat([before, others.select(before.columns)]).sort("patient", maintain_order=True), len(others)
