"""`recalibrate`: a MODEL and labels of another site -> MODEL2, the same network and head with another operating point."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mococxr import console
from mococxr.classifier.operating_point import SITE, Judged, choose_judged, describe, read_rule
from mococxr.classifier.saved import Model, load_model
from mococxr.errors import InputError
from mococxr.files import atomic, claim, write_json
from mococxr.heads.targets import Target, read_target
from mococxr.measure.operating import fit_blocks
from mococxr.settings import RecalibrateSettings, to_mapping
from mococxr.store import Store
from mococxr.version import VERSION

BLOCK = 256
"""Images whose frames are held together."""


def run_recalibrate(settings: RecalibrateSettings) -> Path:
    """The command `recalibrate`: learn calibration and threshold anew; the weights are copied byte for byte.

    Of a store that the model was not trained on, labelled images of training and validation patients are taken; of one
    with the source of the training store those of validation patients, since others may have trained the head. Test
    images stay for `predict` and `evaluate`.

    Raises:
        InputError: no model, no such target, OUT is MODEL, or too few labels for both; nothing was written.
    """
    if settings.out.resolve() == settings.model.resolve():
        raise InputError(f"--out {settings.out} is the model itself.", "Name another folder: the old model is kept.")
    rule = read_rule(settings.threshold_by, settings.sensitivity)
    if rule is None and settings.calibrate == "none":
        raise InputError("--calibrate none and --threshold-by none leave nothing to do.", "Leave one of the two out.")
    claim(settings.out, "model.safetensors", "a model")
    model, store = load_model(settings.model, settings.jobs), Store.open(settings.store, settings.labels_as_of)
    name = settings.target or model.record["target"]
    target = read_target(store, name, where=settings.where, blank=settings.blank)
    judged = _judged(model, store, target)
    rows = judged.scored(store, target, _scores(model, store, judged.held, settings.device))
    blocks = fit_blocks(rows, settings.calibrate, rule)
    if all(block["reason"] for block in blocks.values()):
        reason = next(block["reason"] for block in blocks.values() if not block["reason"].startswith("--"))
        raise InputError(
            f"--target {name} on {settings.store}: {reason}", "Enter more labels of that site with `mococxr label`."
        )
    learned = [use for use, block in blocks.items() if block["reason"] is None and not judged.how]
    uses = [use for use in model.record["validation_used_for"] if use == "checkpoints"] + learned
    with atomic(settings.out / "model.safetensors") as temporary:
        shutil.copyfile(settings.model / "model.safetensors", temporary)
    record = {**model.record, **blocks, "validation_used_for": uses, "recalibrated": _facts(settings, store)}
    write_json(settings.out / "model.json", record)  # last: it names the hash of the weights
    lines, warnings = describe(blocks)
    for warning in warnings:
        console.warn(warning)
    for line in [*lines, f"{name} on {store.source}: {settings.out}"]:
        console.say(line)
    return settings.out


def _judged(model: Model, store: Store, target: Target) -> Judged:
    """The images of the store that did not train the head."""
    if store.source == model.record["store"]["source"]:
        return choose_judged(store, target, target.val, where="validation")
    return replace(choose_judged(store, target, np.sort(np.concatenate([target.train, target.val]))), how=SITE)


def _scores(model: Model, store: Store, rows: NDArray[np.int64], device: str) -> NDArray[np.float64]:
    scores = np.empty(len(rows))
    with console.progress("recalibrate", len(rows)) as bar:
        for start in range(0, len(rows), BLOCK):
            frames = [model.frames_of(store.pixels(int(row))) for row in rows[start : start + BLOCK]]
            scores[start : start + len(frames)] = model.scores(frames, device)
            bar.advance(len(frames))
    return scores


def _facts(settings: RecalibrateSettings, store: Store) -> dict[str, Any]:
    """When, on what and how; what the record says of the training of the model stays."""
    return {
        "version": VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "store": {"sha256": store.sha256, "source": store.source, "labels": store.label_state},
        "settings": to_mapping(settings),
    }
