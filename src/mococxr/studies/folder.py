"""The STUDY folder: what it was made from, which trials are done, and whether this study may go on in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mococxr.errors import InputError
from mococxr.files import atomic_write, claim, read_json, write_csv, write_json
from mococxr.settings import flag
from mococxr.store import Store
from mococxr.studies.design import TargetData, Trial, slug
from mococxr.studies.label_subsets import Draw, draw_table
from mococxr.studies.trial import predictions_path, record_path, validation_path
from mococxr.version import VERSION

INPUTS = "inputs.json"
WHERE = ("jobs", "executor", "gpus", "feature_cache", "feature_cache_size", "tracker")
"""Settings of where trials run and features are kept: they change nothing that a study holds."""
FREE = ("store", "out", "arm", "baseline", "test_on", "draws_from", "labels_as_of", *WHERE)
"""Settings that change no number: stores, labels, arms and given draws are compared by their hashes."""
MEASURING = (
    "replicates", "unit", "aggregate", "against", "primary", "margin", "sensitivity", "subgroup", "group_minimum"
)  # fmt: skip
"""Settings of how predictions are judged: with others a study is measured again and nothing is trained."""
GROWING = ("mode",)
"""Settings that may get more values: trials are added, and those that are done stay."""


def inputs_of(
    settings: dict[str, Any], train: TargetData, tested: TargetData, encoders: dict[str, str], draws: str | None
) -> dict[str, Any]:
    """What the predictions of a study follow from.

    Args:
        settings: as plain values.
        train: images that train and validate.
        tested: images that test.
        encoders: `arm/run index` -> hash of the encoder's weights, in the order of the arms.
        draws: hash of the draws, where they were given.
    """
    # A setting in neither list may change numbers, a new one too.
    kept = {name: value for name, value in settings.items() if name not in FREE + MEASURING}
    stores = {"store": train.store.sha256, "test_store": tested.store.sha256}
    labels = _labels_of(train, tested)
    return {"version": VERSION, **stores, "labels": labels, "draws": draws, "encoders": encoders, "settings": kept}


def _labels_of(train: TargetData, tested: TargetData) -> dict[str, str]:
    """A hash of all labels that the study reads, and the `--labels-as-of` that gives them again."""
    digest = hashlib.sha256()
    for images in (train, tested):
        for name, target in images.targets.items():
            digest.update(name.encode() + b"\0" + target.labels.tobytes())
    states = [images.store.label_state for images in (train, tested)]
    one_store = tested.store is train.store  # event numbers are of one store, dates are not
    moment = str(states[0]["events"]) if one_store else max(state["last"] or "0" for state in states)
    return {"sha256": digest.hexdigest(), "as_of": moment}


def open_output(out: Path, inputs: dict[str, Any], settings_text: str) -> None:
    """Make the folder, or go on in it when it was made from the same inputs, perhaps with more modes and arms.

    Raises:
        InputError: it holds another study (what differs is named), or something that is no study.
    """
    claim(out, INPUTS, "a study folder")
    if (out / INPUTS).is_file():
        _compare(out, read_json(out / INPUTS), inputs)
    atomic_write(out / "settings.yaml", settings_text)
    write_json(out / INPUTS, inputs)


def _compare(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    if before["version"] != now["version"]:  # another version may train otherwise
        raise InputError(
            f"{out} was written by mococxr {before['version']}; this is {now['version']}.", "Name another --out."
        )
    differs = _other_images(before, now) + _other_arms(before["encoders"], now["encoders"])
    was, is_now = before["settings"], now["settings"]
    differs += [
        f"{flag(name)} ({was.get(name, 'not stated')} before, {is_now.get(name, 'not stated')} now)"
        for name in sorted((was.keys() | is_now.keys()) - {*FREE, *MEASURING})  # one that the other lacks differs, too
        if was.get(name) != is_now.get(name) and not (name in GROWING and set(was[name]) <= set(is_now[name]))
    ]
    if differs:
        raise InputError(
            f"{out} holds a study that differs in {'; '.join(differs)}.",
            f"Name another --out, or repeat that study: mococxr study --config {out / 'settings.yaml'}.",
        )


def _other_images(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Which of the stores and given draws are not those of before."""
    differs = ["the store"] if before["store"] != now["store"] else []
    if before["test_store"] != now["test_store"] and not (differs and now["test_store"] == now["store"]):
        differs.append("the store of the test images")
    if before["labels"]["sha256"] != now["labels"]["sha256"]:
        differs.append(f"the labels (it goes on with --labels-as-of {before['labels']['as_of']})")
    return differs + (["the draws given"] if before["draws"] != now["draws"] else [])


def _other_arms(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Which arms are not those of before; arms may be added anywhere."""
    gone = [f"the encoder of arm {name.rpartition('/')[0]}" for name in sorted(before) if before[name] != now.get(name)]
    # The order names the reference and the primary arm.
    if gone or [name for name in now if name in before] == list(before):
        return gone
    return ["the order of the arms"]


def save_draws(out: Path, store: Store, draws: Sequence[Draw]) -> None:
    """Write the tables of draws that are not there yet."""
    for draw in draws:
        path = out / "draws" / f"{slug(draw.target)}-{draw.fraction:g}-{draw.draw}.csv"
        if not draw.undefined and not path.is_file():  # a study that goes on leaves its files as they are
            write_csv(path, draw_table(store, draw))


def finished(out: Path, trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """Records of the trials that are done, with their scores in place."""
    records = {}
    for trial in trials:
        path = record_path(out, trial.id)
        if path.is_file():
            record = read_json(path)
            scores = [predictions_path(out, trial.id)] if record["status"] == "done" else []
            scores += [validation_path(out, trial.id)] if record["validation_scored"] else []
            if all(table.is_file() for table in scores):  # a record whose table was removed is trained again
                records[trial.id] = record
    return records


def is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds the numbers and the report of a study with these settings, wherever it ran.

    The facts are written after the tables and the report after the facts, so a study stopped in between is not.
    """
    facts, page = Path(out) / "study.json", Path(out) / "report.html"
    # An older page is of an earlier measurement.
    if not (facts.is_file() and page.is_file()) or page.stat().st_mtime_ns < facts.stat().st_mtime_ns:
        return False
    before = read_json(facts)["settings"]
    return all(before.get(name) == settings.get(name) for name in {*before, *settings}.difference(WHERE))
