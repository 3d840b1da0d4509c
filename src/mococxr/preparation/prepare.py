"""The command `prepare`: a dataset's images decoded once, split by patient, and kept as a store."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import polars as pl

from mococxr import console, files, workers
from mococxr.cluster import connected
from mococxr.datasets import Dataset, read_dataset
from mococxr.errors import InputError, RunError, Shown
from mococxr.images import Reading
from mococxr.preparation.addition import check_settings, joined_index, joined_splits, new_images
from mococxr.preparation.decode import RECORD, Chunk, chunk_size, decode_all, decode_on_ray
from mococxr.preparation.manifest import count, grown_manifest, manifest, none_readable, say_counts, say_quarantine
from mococxr.preparation.pseudonymised import Pseudonymisation, pseudonymise
from mococxr.preparation.split_plan import SplitPlan, decide, decide_added
from mococxr.preparation.staging import Staging, bytes_needed, check_space, space_sentence, staging_folder
from mococxr.privacy import Key, redacted_errors
from mococxr.settings import PrepareSettings, to_mapping
from mococxr.store.contact_sheet import contact_sheet
from mococxr.store.reader import FORMAT, Store
from mococxr.version import VERSION

_ELSEWHERE = ("out", "add", "jobs", "executor")
"""Settings that do not change what the store holds."""
_FILES = ("source", "labels", "split_file", "key")
"""Settings that name files, which may be called after a patient."""
_FIRST = ("row", "path", "patient", "study", "view", "sex", "age", "height", "width", "sha256")


def run(settings: PrepareSettings) -> Store:
    """Decode every image of the source once and write a store; go on where a killed run stopped.

    Returns:
        The store. If there is one at `out` made of the same images, table and settings, that one, untouched.

    Raises:
        InputError: bad input or settings, another thing at `out`, no readable image, too little space.
        RunError: the disk ran full on the way; the same command goes on from there.
    """
    out = Path(os.path.abspath(settings.out))  # not resolved: a link stays a link
    _reading(settings)  # a depth or window of no known form is refused before anything is read
    with connected() if settings.executor == "ray" else nullcontext():  # no cluster: said before the source is read
        dataset, pseudonyms = _dataset(settings, out)
        with redacted_errors() if pseudonyms else nullcontext():
            return (_extend if settings.add else _make)(settings, out, dataset, pseudonyms)


def _make(settings: PrepareSettings, out: Path, dataset: Dataset, pseudonyms: Pseudonymisation | None) -> Store:
    """The store of a dataset whose images have the names that they will have."""
    _check_place(out, dataset)
    for note in dataset.notes:
        console.say(note)
    plan = decide(
        dataset, settings.split_file, settings.split, settings.split_seed,
        stratify=settings.stratify, pseudonyms=pseudonyms,
    )  # fmt: skip
    images = _fingerprint(dataset, settings, pseudonyms)
    made_from = _made_from(images, plan, dataset)
    if (existing := _existing(out, made_from, dataset)) is not None:
        if pseudonyms is not None:
            pseudonyms.key.record(pseudonyms.table)  # the look-up table may have been lost, or lack rows
        return existing
    return _staged(
        out,
        images,
        dataset,
        settings,
        pseudonyms,
        lambda staging: _finish(staging, out, dataset, plan, settings, made_from),
    )


def _extend(settings: PrepareSettings, out: Path, dataset: Dataset, pseudonyms: Pseudonymisation | None) -> Store:
    """The store at `out` with the images of a dataset that it does not have."""
    store = Store.open(out)
    check_settings(store, _stated(settings, dataset), dataset)
    _check_place(out, dataset)
    for note in dataset.notes:
        console.say(note)
    new = new_images(store, dataset)
    if new.rows.is_empty():
        shutil.rmtree(staging_folder(out), ignore_errors=True)  # of a run killed after the images were in place
        console.say(f"{out} has all of these {len(dataset.rows):,} images: nothing to do.")
        return store
    console.say(f"New: {len(new.rows):,} of {len(dataset.rows):,} images.")
    plan = decide_added(new, settings.split_file, settings.split, settings.split_seed, pseudonyms)
    images = _fingerprint(new, settings, pseudonyms)
    made_from = _hash(str(store.manifest["hashes"]["made_from"]), _made_from(images, plan, new))
    first = 1 + max(int(shard["file"][len("pixels-") : -len(".bin")]) for shard in store.manifest["shards"])
    return _staged(
        out, _hash(store.sha256, images), new, settings, pseudonyms,
        lambda staging: _grow(staging, store, new, plan, made_from), first,
    )  # fmt: skip


def _staged(
    out: Path, key: str, dataset: Dataset, settings: PrepareSettings, pseudonyms: Pseudonymisation | None,
    finish: Callable[[Staging], Store], first: int = 0,
) -> Store:  # fmt: skip
    """Decode a dataset beside its store, chunks numbered from `first`, and `finish` it."""
    # another version may decode otherwise: nothing of it is taken up
    staging = Staging.open(out, key + VERSION + ",".join(RECORD), settings.size)
    try:
        if pseudonyms is not None:
            pseudonyms.save()  # before anything is written under the key
        _decode(staging, dataset, settings, first)
        return finish(staging)
    except InputError:
        if pseudonyms is not None:
            pseudonyms.discard_new_key()
        raise
    except OSError as error:
        need = bytes_needed(dataset.root, dataset.files, settings.size, staging.done)
        raise RunError(
            f"Cannot go on writing to {staging.folder}: {error.strerror}.\n"
            f"  {space_sentence(need)} Free some and run the same command again: "
            f"the {staging.done:,} images that are decoded are kept."
        ) from error
    finally:
        staging.close()


def _dataset(settings: PrepareSettings, out: Path) -> tuple[Dataset, Pseudonymisation | None]:
    """The dataset, and what its names stand for where they are pseudonyms: with DICOM always."""
    named = settings.key or out.with_name(f"{out.name}.key")
    asked = settings.pseudonymise or settings.format == "dicom" or settings.key is not None
    key = _open_key(named, out) if asked else None  # before the source is read, which may take long
    dataset = read_dataset(
        settings.source, format=settings.format, labels=settings.labels, label=settings.label, label_key=settings.label_key,
        patients_unknown=settings.patients_unknown, jobs=settings.jobs or workers.cores(),
        pseudonyms=settings.pseudonymise, any_body_part=settings.any_body_part,
    )  # fmt: skip
    if settings.pseudonymise or dataset.name == "dicom":
        key = key or _open_key(named, out)  # `auto` found an archive: now it needs one
        with redacted_errors():
            return pseudonymise(dataset, key, settings.keep)
    if settings.key is not None or settings.keep:
        raise InputError("--key and --keep go with --pseudonymise.", "Add it, or leave them out.")
    return dataset, None


def _open_key(path: Path, out: Path) -> Key:
    """The key of a store.

    Raises:
        InputError: it is none, cannot be made, or lies in the store.
    """
    if path.resolve().is_relative_to(out.resolve()):
        raise InputError("The key {path} lies inside the store.", "Keep it elsewhere: --key FILE.", path=Shown(path))
    return Key.open(path)


def _finish(
    staging: Staging, out: Path, dataset: Dataset, plan: SplitPlan, settings: PrepareSettings, made_from: str
) -> Store:
    """Write the tables, the manifest and the contact sheet, put the store in place, and say what it holds."""
    index, quarantine = _tables(staging, dataset)
    splits = plan.assign(index, dataset.labels)
    enlarged = sum(filter(None, staging.column("enlarged")))
    remarks = Counter(remark for remarks in staging.column("remarks") for remark in remarks or ())
    counts = count(index, splits, dataset.labels, enlarged, remarks, len(quarantine))
    files.write_parquet(staging.store / "index.parquet", index)
    files.write_csv(staging.store / "splits.csv", splits)
    files.write_csv(staging.store / "quarantine.csv", quarantine)
    content = manifest(
        staging.store, dataset,
        settings=_stated(settings, dataset),
        size=settings.size, rule=plan.rule, made_from=made_from, counts=counts, shards=staging.shards,
    )  # fmt: skip
    files.write_json(staging.store / "manifest.json", content)  # last of the tables: it holds their hashes
    _write_contact(Store.open(staging.store), out.name)
    staging.finish(out)
    say_counts(counts, settings.size, dataset.patients_known, plan.rule)
    for text in plan.warnings(index, splits, dataset.labels):
        console.warn(text)
    console.say(f"Store: {out} (look at {out / 'contact.png'})")
    say_quarantine(out, quarantine)
    return Store.open(out)


def _grow(staging: Staging, store: Store, dataset: Dataset, plan: SplitPlan, made_from: str) -> Store:
    """Write the tables of the grown store, put all in place, the manifest last, and say what it then holds.

    Until the manifest is in its place the store is what it was: more rows and patients than it lists are not read.
    """
    out, old = store.path, store.manifest["counts"]
    new, quarantine = _tables(staging, dataset)
    index = joined_index(pl.read_parquet(out / "index.parquet").head(len(store)), new)
    splits, others = joined_splits(store.splits, plan.assign(new, dataset.labels))
    tried = store.quarantine.select("path", "reason").filter(~pl.col("path").is_in(dataset.rows["path"].implode()))
    quarantine = pl.concat([tried, quarantine]).unique("path", keep="last", maintain_order=True)
    enlarged = old["enlarged"] + sum(filter(None, staging.column("enlarged")))
    remarks = Counter(old["remarks"]) + Counter(r for several in staging.column("remarks") for r in several or ())
    counts = count(index, splits, store.manifest["labels"], enlarged, remarks, len(quarantine))
    rule = str(store.manifest["split_rule"])
    if others and rule.removeprefix("by hash of patient ") != plan.rule.removeprefix("by hash "):
        rule += f"; {others:,} patients that were added {plan.rule}"
    tables = {"quarantine.csv": quarantine, "splits.csv": splits, "index.parquet": index}
    for name, table in tables.items():
        (files.write_parquet if name.endswith("parquet") else files.write_csv)(staging.store / name, table)
    shards = [{**shard, "first_row": shard["first_row"] + len(store)} for shard in staging.shards]
    content = grown_manifest(
        staging.store, store, dataset, rule=rule, made_from=made_from, counts=counts, shards=shards
    )
    files.write_json(staging.store / "manifest.json", content)
    staging.move_shards(out)
    for name in (*tables, "manifest.json"):
        os.replace(staging.store / name, out / name)
    staging.remove()
    grown = Store.open(out)
    _write_contact(grown, out.name)
    say_counts(counts, int(store.manifest["size"]), grown.patients_known, rule)
    console.say(f"Store: {out}, rows {len(store):,} to {len(grown) - 1:,} are new (look at {out / 'contact.png'})")
    say_quarantine(out, quarantine)
    return grown


def _stated(settings: PrepareSettings, dataset: Dataset) -> dict[str, Any]:
    """The settings that the content depends on; names of files only where they name no patient."""
    left_out = {*_ELSEWHERE, *(_FILES if dataset.file_paths is not None else ())}
    return {name: value for name, value in to_mapping(settings).items() if name not in left_out}


def _tables(staging: Staging, dataset: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The index of the images that could be read, and the list of those that could not.

    Raises:
        InputError: none could.
    """
    kinds = {"height": pl.Int32, "width": pl.Int32, "sha256": pl.String, "reason": pl.String}
    rows = dataset.rows.with_columns(pl.Series(name, staging.column(name), dtype=kind) for name, kind in kinds.items())
    quarantine = rows.filter(pl.col("height").is_null()).select("path", "reason")
    if len(quarantine) == len(rows):
        staging.remove()  # or the next run would take the failures for done
        raise none_readable(quarantine, dataset)
    if dataset.rejected is not None:
        quarantine = pl.concat([quarantine, dataset.rejected])
    readable = rows.filter(pl.col("height").is_not_null()).with_row_index("row").cast({"row": pl.Int64})
    return readable.select(*_FIRST, *dataset.labels, *dataset.metadata), quarantine


def _check_place(out: Path, dataset: Dataset) -> None:
    """Refuse a place that holds something else, or that the next run would take for images."""
    files.claim(out, "manifest.json", "a store")
    if dataset.name in ("folder", "dicom") and out.is_relative_to(Path(os.path.abspath(dataset.root))):
        raise InputError("{out} lies inside the folder of images.", "Name a place outside it by --out.", out=Shown(out))


def _fingerprint(dataset: Dataset, settings: PrepareSettings, pseudonyms: Pseudonymisation | None) -> str:
    """A hash of what decoding depends on: the images, each with its size and date, and how they are read."""
    seen = []
    for path in dataset.files:
        try:
            status = os.stat(dataset.root / path)
            seen.append(f"{path}\t{status.st_size}\t{status.st_mtime_ns}")
        except (OSError, ValueError):  # a null byte in a name is no OSError; decoding says what is wrong
            seen.append(path)
    how = json.dumps([FORMAT, settings.size, dataclasses.astuple(_reading(settings))], default=str)
    images = _hash(how, *seen)
    # Keyed: guesses of names could be tried against a bare hash.
    return images if pseudonyms is None else pseudonyms.key.name("job", images)


def _reading(settings: PrepareSettings) -> Reading:
    """How files become images."""
    return Reading(settings.depth, settings.voi, settings.frames, settings.max_pixels, settings.any_body_part)


def _made_from(images: str, plan: SplitPlan, dataset: Dataset) -> str:
    """A hash of all that a store depends on."""
    explicit = "" if plan.explicit is None else plan.explicit.write_csv()
    kind = json.dumps([dataset.source, dataset.blank_means, dataset.labels, dataset.patients_known])
    return _hash(images, plan.rule, explicit, kind, dataset.rows.write_csv())


def _hash(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")  # a mark between parts: "ab", "c" is not "a", "bc"
    return digest.hexdigest()


def _existing(out: Path, made_from: str, dataset: Dataset) -> Store | None:
    """The store that is at `out` already, if it is the one asked for."""
    if not (out / "manifest.json").is_file():
        return None
    store = Store.open(out)
    if store.manifest["hashes"].get("made_from") != made_from:
        keys = store.manifest.get("pseudonyms") and dataset.file_paths is not None and store.source != dataset.source
        other = "under another key" if keys else "from other images, labels or settings"
        raise InputError(
            "{out} holds a store made {other}.",
            "Name another --out, add new images by --add, or delete that folder and its labels to prepare it anew.",
            out=Shown(out),
            other=Shown(other),
        )
    shutil.rmtree(staging_folder(out), ignore_errors=True)  # of a run killed after the store was in place
    console.say(f"{out} was made from the same images and settings: nothing to do.")
    say_quarantine(out, pl.read_csv(out / "quarantine.csv", infer_schema=False))
    return store


def _decode(staging: Staging, dataset: Dataset, settings: PrepareSettings, first: int) -> None:
    """Decode the chunks that are not decoded yet, after a look at the room there is."""
    paths, before, size = dataset.files.to_list(), staging.done, chunk_size(len(dataset.rows))
    if before:
        console.say(f"resuming: {before:,} images already done")
    check_space(staging.folder, bytes_needed(dataset.root, dataset.files, settings.size, before))
    reading = _reading(settings)
    parts = [tuple(paths[start : start + size]) for start in range(0, len(paths), size)]
    chunks = [Chunk(i, dataset.root, part, settings.size, reading) for i, part in enumerate(parts, first)]
    left = [chunk for chunk in chunks if chunk.number not in staging.records]
    with console.progress("prepare", len(paths), done=before) as bar:

        def done(number: int) -> None:
            staging.add(number)
            bar.advance(len(chunks[number - first].paths))

        if left and settings.executor == "ray":
            decode_on_ray(left, staging.folder, settings.jobs, done)
        elif left:
            jobs = min(settings.jobs or workers.cores(), len(left))
            decode_all(left, staging.folder, jobs, done)
    if left:
        where = "on the cluster" if settings.executor == "ray" else f"processes: {jobs}"
        console.say(f"{bar.rate:,.0f} images/s, {where}")
    if staging.done != len(paths):
        raise RunError(f"Chunks are missing in {staging.folder}.\n  Run the same command again.")


def _write_contact(store: Store, name: str) -> None:
    split = dict(store.splits.iter_rows())
    rows = store.index.select("patient", "view").iter_rows()
    captions = [" ".join(filter(None, (split[patient], view))) for patient, view in rows]
    synthetic = "SYNTHETIC - " if store.manifest["synthetic"] else ""
    title = f"{synthetic}{name}: {len(store):,} images, shorter side {store.manifest['size']} px"
    sheet = contact_sheet(store.level(store.manifest["size"]), store.index["path"].to_list(), captions, title)
    files.atomic_write(store.path / "contact.png", cv2.imencode(".png", sheet)[1].tobytes())
