"""`predict`: a MODEL and images, from files, folders or a store -> a table of scores and decisions."""

from __future__ import annotations

import importlib.util
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.classifier.inputs import Image, decoded, holds_patients, images_of, quarantined
from mococxr.classifier.saved import LOOKS, Model, Verdict, calibrator_of, columns_of, load_model, threshold_of
from mococxr.classifier.warned import warning_words
from mococxr.errors import ImageError, InputError, Shown
from mococxr.files import check_place, write_csv
from mococxr.guard.guard import Glance
from mococxr.images import SUFFIXES, remarked
from mococxr.privacy import LOOKUP, Key, redacted_errors
from mococxr.settings import PredictSettings
from mococxr.store import Store

if TYPE_CHECKING:
    from mococxr.heads.targets import Target
    from mococxr.maps.overlay import MapFolder

BLOCK = 256
"""Images that are encoded together."""
NAMES = {"path": pl.String, "patient": pl.String, "study": pl.String}
"""Columns before those of the targets."""


def run_predict(settings: PredictSettings) -> Path:
    """The command `predict`: the columns of `NAMES` and those of each target for every image that can be read.

    `score` is the classifier's own probability, `calibrated` the calibrated one, at `--prevalence` if that is given;
    `decision` is 1 where the score reaches the model's threshold, else 0; of several targets the columns end in their names
    (`score_Edema`). What the model has no calibration or threshold for is blank. `view` and `warning` are what the model's
    guard says of the image; with `--refuse` the numbers of images that it should not judge are blank. With `--split` the
    columns `label` (of each target) and `split` follow. Images that cannot be read are listed in `<out>.quarantine.csv`;
    their number is the last thing said.

    Raises:
        InputError: no model, no image, none that can be read, nothing there by a name given, or a prevalence that cannot
            be used; nothing was written.
    """
    check_place(settings.out)
    model = load_model(Path(settings.model), settings.jobs)
    model.check_prevalence(settings.prevalence)
    folder = None if settings.maps is None else _map_folder(settings.maps, model)
    key = None if settings.key is None else Key.open(settings.key)
    # names of files may be patients' names: messages withhold them
    private = key is not None or any(holds_patients(Path(path)) for path in settings.images)
    with redacted_errors() if private else nullcontext():
        images = _images(settings, model, key, private)
        good, scores, verdicts, bad = _scored(model, images, settings, key, folder)
        if not good:
            raise InputError(
                "None of the {count:,} images can be read; the first, {path}: {reason}.",
                "Check the paths and the files.",
                count=len(bad),
                path=bad[0][0].path,
                reason=Shown(bad[0][1]),
            )
    if key is not None:
        _keep(key, [*good, *(image for image, _ in bad)])
    out = Path(settings.out)
    lost = [{"path": image.path, "reason": str(error)} for image, error in bad]
    write_csv(out, _table(model, good, scores, verdicts, settings))
    quarantine = out.with_name(f"{out.name}.quarantine.csv")
    quarantine.unlink(missing_ok=True)  # where all could be read, a list left by an earlier run goes
    if lost:
        write_csv(quarantine, pl.DataFrame(lost))
    console.say(f"{len(good):,} images scored for {', '.join(model.targets)}: {out}")
    if folder is not None:
        folder.finish()
        console.say(f"{folder.folder} has their maps: they show the images; keep them in the house.")
    for note in [*_blanks(model), *warning_words(verdicts, out, settings.refuse)]:
        console.say(note)
    for sentence in remarked(Counter(remark for image in good for remark in image.remarks)):
        console.warn(sentence)
    if lost:
        images_lost = "1 image" if len(lost) == 1 else f"{len(lost):,} images"
        console.say(f"{images_lost} could not be read: {out}.quarantine.csv says why.")
    return out


def _images(settings: PredictSettings, model: Model, key: Key | None, private: bool) -> list[Image]:
    """The images by all the names; what was passed by is said, where names are private without them.

    Raises:
        InputError: there is none; see also `images_of`.
    """
    images: list[Image] = []
    notes: list[Shown] = []
    for path in settings.images:
        more, passed_by = images_of(Path(path), key)
        if settings.split:
            more = _in_split(more, settings.split, Path(path), model)
        images, notes = images + more, [*notes, *passed_by]
    if not images:
        raise InputError(
            "There is no image to score.",
            "A folder is searched for {suffixes}. {passed_by}",
            suffixes=Shown(", ".join(SUFFIXES)),
            passed_by=Shown(" ".join(notes), " ".join(note.redacted for note in notes)),
        )
    for note in notes:
        console.say(note.redacted if private else note)
    return images


def targets_of(model: Model, store: Store) -> list[Target]:
    """The labels of a store as the model's targets read them; errors as `read_target`."""
    from mococxr.heads.targets import read_target  # that room imports PyTorch

    how = {name: model.record["settings"][name] for name in ("where", "uncertain", "blank")}
    return [read_target(store, name, **how) for name in model.targets]


def _in_split(images: list[Image], split: str, path: Path, model: Model) -> list[Image]:
    """The images of a split of a store, with their labels as the model's targets read them.

    Raises:
        InputError: they are of no store, the store has no such label, or none of them is in that split.
    """
    store = images[0].store if images else None
    if store is None:
        raise InputError(
            "--split {split}: {path} is no store.", "Name a store, or leave --split out.",
            split=Shown(split), path=Shown(path),
        )  # fmt: skip
    known = (
        [label if label in (0, 1) else None for label in target.labels.tolist()] for target in targets_of(model, store)
    )
    labels = list(zip(*known, strict=True))
    splits = store.columns("patient").join(store.splits, on="patient", how="left", maintain_order="left")["split"]
    kept = [image for image in images if split in ("all", splits[image.row])]
    if not kept:
        raise InputError(
            "{path} has no image in its split {split}.", "Take another --split.", path=Shown(path), split=Shown(split)
        )
    return [replace(image, labels=labels[image.row], split=splits[image.row]) for image in kept]


def _table(
    model: Model, images: list[Image], scores: NDArray[np.float64], verdicts: list[Verdict], settings: PredictSettings
) -> pl.DataFrame:
    """The table that is written, of scores (N, T)."""
    columns: dict[str, Any] = {name: [getattr(image, name) for image in images] for name in NAMES}
    columns |= model.table(scores, verdicts, settings.prevalence, settings.refuse).to_dict()
    schema = NAMES | model.schema | LOOKS
    if settings.split:
        for position, (name,) in enumerate(columns_of(model.targets, "label")):
            columns[name] = [image.labels[position] for image in images]
            schema[name] = pl.Int8
        columns["split"] = [image.split for image in images]
        schema["split"] = pl.String
    return pl.DataFrame(columns, schema=schema)


def _blanks(model: Model) -> list[str]:
    """Why a column is blank, one sentence each."""
    notes = []
    columns = columns_of(model.targets, "calibrated", "decision")
    for block, (calibrated, decision) in zip(model.record["targets"], columns, strict=True):
        if calibrator_of(block) is None:
            notes.append(f"Column {calibrated} is blank. {block['calibration']['reason']}")
        if threshold_of(block) is None:
            notes.append(f"Column {decision} is blank. {block['threshold']['reason']}")
    if model.guard is None:
        why = (model.record.get("guard") or {}).get("reason") or "The model is of an earlier version: fit it again."
        notes.append(f"Columns view and warning are blank: the model has no guard. {why}")
    return notes


def _scored(
    model: Model, images: list[Image], settings: PredictSettings, key: Key | None, folder: MapFolder | None
) -> tuple[list[Image], NDArray[np.float64], list[Verdict], list[tuple[Image, ImageError]]]:
    """The images that can be read as they are to be named, their scores (N, T) and warnings; the others with reasons."""
    read: list[Image] = []
    scored: list[NDArray[np.float64]] = []
    verdicts: list[Verdict] = []
    lost: list[tuple[Image, ImageError]] = []
    frames: list[tuple[NDArray[np.uint8], ...]] = []
    shown: list[NDArray[np.uint8]] = []
    glances: list[Glance | None] = []
    size = model.record["preprocessing"]["store_size"]

    def score_block() -> None:
        scores, features = model.answers(frames, settings.device)
        scored.append(scores)
        verdicts.extend(model.judge(glances, features))
        if folder is not None:
            names = [image.path for image in read[len(read) - len(frames) :]]
            folder.draw(model.ensemble, names, shown, frames, settings.device)
        frames.clear()  # no more than a block of frames is held, however many images there are
        glances.clear()
        shown.clear()

    with console.progress("predict", len(images)) as bar:
        for image, answer in decoded(images, reading=model.reading, size=size, key=key, jobs=settings.jobs):
            if isinstance(answer, ImageError):
                lost.append((quarantined(image, key), answer))
            else:
                frames.append(model.frames_of(answer))
                glances.append(model.glance(answer, image.shorter))
                shown += [answer] if folder is not None else []
                read.append(image)
            if len(frames) == BLOCK:
                score_block()
            bar.advance()
        score_block()
    return read, np.concatenate(scored), verdicts, lost


def _map_folder(path: Path, model: Model) -> MapFolder:
    """The folder of `--maps`.

    Raises:
        InputError: PyTorch is not installed, or the folder holds something else; nothing was written.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("--maps needs PyTorch: maps are drawn by it.", "Install torch, or leave --maps out.")
    from mococxr.maps.overlay import MapFolder

    return MapFolder(path, model.record["preprocessing"]["crop_mode"], tuple(model.targets))


def _keep(key: Key, images: list[Image]) -> None:
    """Write the key, if it is new, and what the pseudonyms stand for."""
    if not key.kept:
        console.warn(f"There was no key {key.path}: it was made; its pseudonyms are in no other table or store.")
    key.keep()
    rows = [row for image in images if (row := image.resolved()) is not None]
    key.record(pl.DataFrame(rows, schema=dict.fromkeys(LOOKUP, pl.String), orient="row"))
    console.say(f"{key.lookup} resolves the pseudonyms.")
