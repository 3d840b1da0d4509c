"""`predict`: a MODEL and images, from files, folders or a store -> a table of scores and decisions."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.classifier.inputs import Image, decoded, holds_patients, images_of, quarantined
from mococxr.classifier.saved import SCORES, Model, calibrator_of, load_model, threshold_of
from mococxr.errors import ImageError, InputError, Shown
from mococxr.files import check_place, write_csv
from mococxr.images import SUFFIXES, remarked
from mococxr.privacy import LOOKUP, Key, redacted_errors
from mococxr.settings import PredictSettings
from mococxr.store import Store

if TYPE_CHECKING:
    from mococxr.heads.targets import Target

BLOCK = 256
"""Images that are encoded together."""
SCHEMA = {"path": pl.String, "patient": pl.String, "study": pl.String, **SCORES}
LABELS = {"label": pl.Int8, "split": pl.String}
"""Further columns with `--split`."""


def run_predict(settings: PredictSettings) -> Path:
    """The command `predict`: the columns of `SCHEMA` for every image that can be read.

    `score` is the classifier's own probability, `calibrated` the calibrated one, at `--prevalence` if that is given;
    `decision` is 1 where the score reaches the model's threshold, else 0. What the model has no calibration or
    threshold for is blank. With `--split` the columns of `LABELS` follow. Images that cannot be read are listed in
    `<out>.quarantine.csv`; their number is the last thing said.

    Raises:
        InputError: no model, no image, none that can be read, nothing there by a name given, or a prevalence that cannot
            be used; nothing was written.
    """
    check_place(settings.out)
    model = load_model(Path(settings.model), settings.jobs)
    if settings.prevalence is not None and calibrator_of(model.record) is None:
        raise InputError(
            f"--prevalence {settings.prevalence:g}: this model has no calibrated probability to move.",
            "Fit it again on a store with labelled validation images, or leave --prevalence out.",
        )
    key = None if settings.key is None else Key.open(settings.key)
    # names of files may be patients' names: messages withhold them
    private = key is not None or any(holds_patients(Path(path)) for path in settings.images)
    with redacted_errors() if private else nullcontext():
        images = _images(settings, model, key, private)
        good, scores, bad = _scored(model, images, settings, key)
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
    table = _table(model, good, scores, settings.prevalence)
    write_csv(out, table if settings.split else table.drop(LABELS))
    quarantine = out.with_name(f"{out.name}.quarantine.csv")
    quarantine.unlink(missing_ok=True)  # where all could be read, a list left by an earlier run goes
    if lost:
        write_csv(quarantine, pl.DataFrame(lost))
    console.say(f"{len(good):,} images scored for {model.record['target']}: {out}")
    for note in _blanks(model):
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


def target_of(model: Model, store: Store) -> Target:
    """The labels of a store as the model's target reads them; errors as `read_target`."""
    from mococxr.heads.targets import read_target  # that room imports PyTorch

    how = model.record["settings"]
    return read_target(
        store, model.record["target"], where=how["where"], uncertain=how["uncertain"], blank=how["blank"]
    )


def _in_split(images: list[Image], split: str, path: Path, model: Model) -> list[Image]:
    """The images of a split of a store, with their labels as the model's target reads them.

    Raises:
        InputError: they are of no store, the store has no such label, or none of them is in that split.
    """
    store = images[0].store if images else None
    if store is None:
        raise InputError(
            "--split {split}: {path} is no store.", "Name a store, or leave --split out.",
            split=Shown(split), path=Shown(path),
        )  # fmt: skip
    labels = [label if label in (0, 1) else None for label in target_of(model, store).labels.tolist()]
    splits = store.columns("patient").join(store.splits, on="patient", how="left", maintain_order="left")["split"]
    kept = [image for image in images if split in ("all", splits[image.row])]
    if not kept:
        raise InputError(
            "{path} has no image in its split {split}.", "Take another --split.", path=Shown(path), split=Shown(split)
        )
    return [replace(image, label=labels[image.row], split=splits[image.row]) for image in kept]


def _table(model: Model, images: list[Image], scores: list[float], prevalence: float | None) -> pl.DataFrame:
    """The table that is written."""
    columns = {
        "path": [image.path for image in images],
        "patient": [image.patient for image in images],
        "study": [image.study for image in images],
        **model.columns(np.array(scores), prevalence),
        "label": [image.label for image in images],
        "split": [image.split for image in images],
    }
    return pl.DataFrame(columns, schema=SCHEMA | LABELS)


def _blanks(model: Model) -> list[str]:
    """Why a column is blank, one sentence each."""
    made = {"calibrated": calibrator_of(model.record), "decision": threshold_of(model.record)}
    notes = []
    for column, block in (("calibrated", "calibration"), ("decision", "threshold")):
        if made[column] is None:
            kept = model.record[block]
            notes.append(f"Column {column} is blank. {kept['reason']}")
    return notes


def _scored(
    model: Model, images: list[Image], settings: PredictSettings, key: Key | None
) -> tuple[list[Image], list[float], list[tuple[Image, ImageError]]]:
    """The images that can be read as they are to be named, their scores, and the others with their reasons."""
    read: list[Image] = []
    scored: list[float] = []
    lost: list[tuple[Image, ImageError]] = []
    frames: list[tuple[NDArray[np.uint8], ...]] = []
    size = model.record["preprocessing"]["store_size"]
    with console.progress("predict", len(images)) as bar:
        for image, answer in decoded(images, reading=model.reading, size=size, key=key, jobs=settings.jobs):
            if isinstance(answer, ImageError):
                lost.append((quarantined(image, key), answer))
            else:
                frames.append(model.frames_of(answer))
                read.append(image)
            if len(frames) == BLOCK:
                scored += model.scores(frames, settings.device).tolist()
                frames.clear()  # no more than a block of frames is held, however many images there are
            bar.advance()
        scored += model.scores(frames, settings.device).tolist()
    return read, scored, lost


def _keep(key: Key, images: list[Image]) -> None:
    """Write the key, if it is new, and what the pseudonyms stand for."""
    if not key.kept:
        console.warn(f"There was no key {key.path}: it was made; its pseudonyms are in no other table or store.")
    key.keep()
    rows = [row for image in images if (row := image.resolved()) is not None]
    key.record(pl.DataFrame(rows, schema=dict.fromkeys(LOOKUP, pl.String), orient="row"))
    console.say(f"{key.lookup} resolves the pseudonyms.")
