"""`recalibrate`: a MODEL and labels of another site -> MODEL2, the same network and head with another operating point."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
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
    images stay for `predict` and `evaluate`. Of several targets those that can be are learned anew; the others
    keep what they have, and are warned of.

    Raises:
        InputError: no model, no such target, OUT is MODEL, or too few labels for all; nothing was written.
    """
    if settings.out.resolve() == settings.model.resolve():
        raise InputError(f"--out {settings.out} is the model itself.", "Name another folder: the old model is kept.")
    rule = read_rule(settings.threshold_by, settings.sensitivity)
    if rule is None and settings.calibrate == "none":
        raise InputError("--calibrate none and --threshold-by none leave nothing to do.", "Leave one of the two out.")
    claim(settings.out, "model.safetensors", "a model")
    model, store = load_model(settings.model, settings.jobs), Store.open(settings.store, settings.labels_as_of)
    names = _names(settings, model)
    targets = [read_target(store, name, where=settings.where, blank=settings.blank) for name in names]
    judged = [_judged(model, store, target) for target in targets]
    held = np.unique(np.concatenate([each.held for each in judged]))
    scores = _scores(model, store, held, settings.device)
    learned = []
    for position, (target, each) in enumerate(zip(targets, judged, strict=True)):
        rows = each.scored(store, target, scores[np.searchsorted(held, each.held), position])
        learned.append(fit_blocks(rows, settings.calibrate, rule))
    reasons = [_why_neither(blocks) for blocks in learned]
    if all(reasons):
        raise InputError(
            f"--target {names[0]} on {settings.store}: {reasons[0]}",
            "Enter more labels of that site with `mococxr label`.",
        )
    _copy(model, settings.out)
    facts = _facts(settings, store)
    each_kept = zip(model.record["targets"], learned, judged, reasons, strict=True)
    blocks = [kept if reason else _learned(kept, anew, each, facts) for kept, anew, each, reason in each_kept]
    write_json(
        settings.out / "model.json", {**model.record, "targets": blocks}
    )  # last: it names the hash of the weights
    for name, block, reason in zip(names, blocks, reasons, strict=True):
        _tell(name, len(names) > 1, block, reason)
    console.say(f"{', '.join(names)} on {store.source}: {settings.out}")
    return settings.out


def _copy(model: Model, out: Path) -> None:
    """The files that stay as they are."""
    for name in ("model.safetensors", (model.record.get("guard") or {}).get("file")):
        if name:
            with atomic(out / name) as temporary:
                shutil.copyfile(model.folder / name, temporary)


def _names(settings: RecalibrateSettings, model: Model) -> tuple[str, ...]:
    """The labels of the store that are the model's targets, in its order."""
    names = settings.target or tuple(model.targets)
    if len(names) != len(model.targets):
        raise InputError(
            f"--target {' '.join(names)}: this model has {len(model.targets)} targets.",
            f"Name a label of the store for each, in this order: {', '.join(model.targets)}.",
        )
    return names


def _why_neither(blocks: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why neither calibration nor threshold could be learned; None where one could."""
    if not all(block["reason"] for block in blocks.values()):
        return None
    return next(str(block["reason"]) for block in blocks.values() if not block["reason"].startswith("--"))


def _learned(
    kept: Mapping[str, Any], blocks: Mapping[str, Mapping[str, Any]], judged: Judged, facts: dict[str, Any]
) -> dict[str, Any]:
    """What `model.json` says of a target now."""
    learned = [use for use, block in blocks.items() if block["reason"] is None and not judged.how]
    uses = [use for use in kept["validation_used_for"] if use == "checkpoints"] + learned
    return {**kept, **blocks, "validation_used_for": uses, "recalibrated": facts}


def _tell(name: str, several: bool, block: dict[str, Any], reason: str | None) -> None:
    start = f"{name}: " if several else ""
    if reason:
        console.warn(f"{start}calibration and threshold stay those of the model. {reason}")
        return
    lines, warnings = describe(block)
    for warning in warnings:
        console.warn(start + warning)
    for line in lines:
        console.say(start + line)


def _judged(model: Model, store: Store, target: Target) -> Judged:
    """The images of the store that did not train the head."""
    if store.source == model.record["store"]["source"]:
        return choose_judged(store, target, target.val, where="validation")
    return replace(choose_judged(store, target, np.sort(np.concatenate([target.train, target.val]))), how=SITE)


def _scores(model: Model, store: Store, rows: NDArray[np.int64], device: str) -> NDArray[np.float64]:
    """Of each row and target, (N, T)."""
    scores = np.empty((len(rows), len(model.targets)))
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
