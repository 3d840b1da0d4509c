"""What a store is, where it comes from and what it holds: for `manifest.json`, and said on the console."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import console, files
from mococxr.datasets import Dataset
from mococxr.errors import InputError, Shown
from mococxr.images import LEADS_OUT, remarked
from mococxr.images.dicom import OTHER_PART
from mococxr.images.grey_levels import NARROW
from mococxr.splits import SPLITS
from mococxr.store.levels import level_folder, written_factors
from mococxr.store.reader import FORMAT, Store
from mococxr.version import VERSION
from mococxr.workers import cores

_TABLES = ("index.parquet", "splits.csv", "quarantine.csv")
SHOWN = 15
"""Labels counted on the console; the manifest has all."""


def manifest(
    folder: Path,
    dataset: Dataset,
    *,
    settings: Mapping[str, Any],
    size: int,
    rule: str,
    made_from: str,
    counts: Mapping[str, Any],
    shards: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The manifest; no clock and no machine in it, so equal input gives equal bytes.

    Args:
        folder: the store, whole but for its manifest.
        dataset: what it was made of.
        settings: those that the content depends on.
        size: shorter side of a stored image, in pixels.
        rule: how patients were split, in words.
        made_from: hash of images, labels and settings.
        counts: see `count`.
        shards: `{"file", "first_row", "images"}` each.
    """
    levels = written_factors(size)
    hashes = _hashes(folder, size, levels, shards)
    return {
        "format": FORMAT,
        "mococxr": VERSION,
        "source": dataset.source,
        "reader": dataset.name,
        "pseudonyms": dataset.file_paths is not None,
        "synthetic": all_synthetic(dataset),  # pages and cards say so from here on
        "size": size,
        "patients_known": dataset.patients_known,
        "split_rule": rule,
        "blank": dataset.blank_means,
        "labels": list(dataset.labels),
        "metadata": list(dataset.metadata),
        "counts": counts,
        "settings": settings,
        "hashes": {
            "made_from": made_from,
            "inputs": dataset.inputs,
            "images": _images_hash(folder, hashes),
            "files": hashes,
        },
        "levels": levels,
        "shards": shards,
    }


def grown_manifest(
    folder: Path,
    store: Store,
    dataset: Dataset,
    *,
    rule: str,
    made_from: str,
    counts: Mapping[str, Any],
    shards: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The manifest of a store to which images are added; hashes of its old pixels are not computed again.

    Args:
        folder: the new tables and the new shards.
        store: as it was.
        dataset: the images that are added.
        rule, made_from, counts: see `manifest`.
        shards: the new ones, with the rows that they will have.
    """
    before = store.manifest
    hashes = {**before["hashes"]["files"], **_hashes(folder, before["size"], before["levels"], shards)}
    grown = {"first_row": len(store), "inputs": dataset.inputs, "images_before": store.images_sha256}
    return {
        **before,
        "mococxr": VERSION,
        "synthetic": bool(before["synthetic"]) and all_synthetic(dataset),
        "patients_known": store.patients_known and dataset.patients_known,
        "split_rule": rule,
        "counts": counts,
        "added": [*before.get("added", []), grown],
        "hashes": {**before["hashes"], "made_from": made_from, "images": _images_hash(folder, hashes), "files": hashes},
        "shards": [*before["shards"], *shards],
    }


def _hashes(folder: Path, size: int, levels: Sequence[int], shards: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """SHA-256 of the tables, and of these shards at every level, by name."""
    names = list(_TABLES)
    for factor in (1, *levels):
        where = level_folder(folder, size, factor).relative_to(folder)
        names += [(where / shard["file"]).as_posix() for shard in shards]
    with ThreadPoolExecutor(min(8, cores())) as pool:  # hashlib lets go of the interpreter
        return dict(zip(names, pool.map(files.sha256_file, [folder / name for name in names]), strict=True))


def _images_hash(folder: Path, hashes: Mapping[str, str]) -> str:
    """What pretraining sees, in one hash: pixels, whose they are, which split; neither labels nor paths."""
    # labels may change and a run still be resumed
    shown = pl.read_parquet(folder / "index.parquet", columns=["patient", "study", "height", "width", "sha256"])
    pixels = [value for name, value in sorted(hashes.items()) if name not in _TABLES]
    text = "\n".join([*pixels, hashes["splits.csv"], shown.write_csv()])
    return hashlib.sha256(text.encode()).hexdigest()


def all_synthetic(dataset: Dataset) -> bool:
    """Whether every image says by its name that it is synthetic, or a `SYNTHETIC.txt` in their folder says so."""
    named = dataset.files.str.contains(r"(^|/)synthetic-[^/]*$").all()
    return bool(named) or (Path(dataset.root) / "SYNTHETIC.txt").is_file()


def count(
    index: pl.DataFrame,
    splits: pl.DataFrame,
    labels: Sequence[str],
    enlarged: int,
    remarks: Mapping[str, int],
    quarantined: int,
) -> dict[str, Any]:
    """Counts of a store: images, patients, studies, per split, and per label.

    Args:
        index: one row an image.
        splits: `patient, split`.
        labels: the label columns.
        enlarged: images that were smaller than the stored size.
        remarks: what was remarked of images -> how many.
        quarantined: images that could not be read.
    """
    parts = index.select("patient").join(splits, on="patient", how="left")
    by_split = {
        name: {"images": len(images := parts.filter(pl.col("split") == name)), "patients": images["patient"].n_unique()}
        for name in SPLITS
    }
    return {
        "images": len(index),
        "patients": index["patient"].n_unique(),
        "studies": index["study"].drop_nulls().n_unique(),
        "quarantined": quarantined,
        "enlarged": enlarged,
        "remarks": dict(sorted(remarks.items())),
        "splits": by_split,
        "labels": {name: _values(index[name]) for name in labels},
    }


def _values(label: pl.Series) -> dict[str, int]:
    kinds = {"positive": label == 1, "negative": label == 0, "uncertain": label == -1, "blank": label.is_null()}
    return {kind: int(chosen.sum()) for kind, chosen in kinds.items()}


def say_counts(counts: dict[str, Any], size: int, patients_known: bool, split_rule: str) -> None:
    """Say the counts."""
    known = "" if patients_known else " (unknown: one an image, or a study)"
    studies = f", {counts['studies']:,} studies" if counts["studies"] else ""
    console.say(f"{counts['images']:,} images, {counts['patients']:,} patients{known}{studies}")
    if counts["enlarged"]:
        console.warn(f"{counts['enlarged']:,} images were smaller than {size} px and have been enlarged.")
    for sentence in remarked(counts["remarks"]):
        console.warn(sentence)
    if NARROW in counts["remarks"]:
        console.say("--depth 0.5:99.5 stretches each image of more than 8 bits.")
    console.say(f"Splits {split_rule}:")
    console.say(_table(["split", "images", "patients"], [[n, *c.values()] for n, c in counts["splits"].items()]))
    labels = sorted(counts["labels"].items(), key=lambda item: -item[1]["positive"])
    if labels:
        heads = ["label", "positive", "negative", "uncertain", "blank"]
        console.say(_table(heads, [[name, *values.values()] for name, values in labels[:SHOWN]]))
    if len(labels) > SHOWN:
        console.say(f"  and {len(labels) - SHOWN} more labels")


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = [list(heads), *([r[0], *(f"{n:,}" for n in r[1:])] for r in rows)]
    widths = [max(len(row[i]) for row in text) for i in range(len(heads))]
    return "\n".join(
        "  " + "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in text
    )


def say_quarantine(out: Path, quarantine: pl.DataFrame) -> None:
    """The last word of `prepare`: how many images were left out, and where the list is."""
    if not len(quarantine):
        console.say("No image is in quarantine.")
        return
    images = "1 image" if len(quarantine) == 1 else f"{len(quarantine):,} images"
    console.say(f"{images} in quarantine, listed in {out / 'quarantine.csv'}: {reasons(quarantine)}")
    if parts := quarantine["reason"].str.starts_with(OTHER_PART).sum():
        console.say(f"--any-body-part reads those of other parts of the body ({parts:,}).")


def reasons(quarantine: pl.DataFrame) -> str:
    """The most frequent reasons with their numbers."""
    return "; ".join(f"{reason} ({n:,})" for reason, n in Counter(quarantine["reason"]).most_common(3))


def none_readable(quarantine: pl.DataFrame, dataset: Dataset) -> InputError:
    """The first image and its reason; under pseudonyms, which die with the run, the reasons alone."""
    way_out = "Check that the paths in the table lead to the images."
    if (quarantine["reason"] == LEADS_OUT).all():
        way_out = "Give the folder that the links lead to as SOURCE, and a table by --labels."
    count = len(quarantine)
    if dataset.file_paths is None:
        path, reason = quarantine.row(0)
        text = "None of the {count:,} images in {root} can be read; the first, {path}: {reason}."
        return InputError(text, way_out, count=count, root=Shown(dataset.root), path=path, reason=Shown(reason))
    if dataset.name == "dicom":
        way_out = "Their headers can be read: compare the size of some files with the originals."
    text = "None of the {count:,} images can be read: {reasons}."
    return InputError(text, way_out, count=count, reasons=Shown(reasons(quarantine)))
