"""The STUDY folder: what it was made from, which trials are done, and whether this study may go on in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mococxr.errors import InputError
from mococxr.files import atomic_write, read_json, write_csv, write_json
from mococxr.store import Store
from mococxr.study.plan import Draw, Trial, draw_table, slug
from mococxr.study.trial import predictions_path, record_path
from mococxr.version import VERSION

INPUTS = "inputs.json"
FREE = ("store", "out", "arm", "jobs", "executor")
"""Settings that change no number: store and arms are compared by their hashes."""


def inputs_of(settings: dict[str, Any], store: Store, encoders: dict[str, str]) -> dict[str, Any]:
    """What the numbers of a study follow from.

    Args:
        settings: as plain values.
        encoders: `arm/run index` -> hash of the encoder's weights, in the order of the arms.
    """
    kept = {name: value for name, value in settings.items() if name not in FREE}
    return {"version": VERSION, "store": store.sha256, "encoders": encoders, "settings": kept}


def claim(out: Path, inputs: dict[str, Any], settings_text: str) -> None:
    """Make the folder, or go on in it when it was made from the same inputs.

    Raises:
        InputError: it holds another study (what differs is named), or something that is no study.
    """
    out = Path(out)
    if (out / INPUTS).is_file():
        _compare(out, read_json(out / INPUTS), inputs)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there and holds no study.", "Name another --out.")
    atomic_write(out / "settings.yaml", settings_text)
    write_json(out / INPUTS, inputs)


def _compare(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    differs = []
    if before["store"] != now["store"]:
        differs.append("the store")
    encoders = {*before["encoders"], *now["encoders"]}
    differs += [
        f"the encoder of arm {name.rpartition('/')[0]}"
        for name in sorted(encoders)
        if before["encoders"].get(name) != now["encoders"].get(name)
    ]
    if not differs and list(before["encoders"]) != list(now["encoders"]):
        differs.append("the order of the arms")
    names = sorted({*before["settings"], *now["settings"]})
    differs += [
        f"--{name.replace('_', '-')} ({before['settings'].get(name)} before, {now['settings'].get(name)} now)"
        for name in names
        if before["settings"].get(name) != now["settings"].get(name)
    ]
    if before["version"] != now["version"]:
        differs.append(f"the version of mococxr ({before['version']} before, {now['version']} now)")
    if differs:
        raise InputError(
            f"{out} holds a study that differs in {'; '.join(differs)}.",
            f"Name another --out, or repeat that study: mococxr study --config {out / 'settings.yaml'}.",
        )


def save_draws(out: Path, store: Store, draws: Sequence[Draw]) -> None:
    """Write the tables of draws that are not there yet."""
    for draw in draws:
        path = out / "draws" / f"{slug(draw.target)}-{draw.fraction:g}-{draw.draw}.csv"
        if not draw.undefined and not path.is_file():
            write_csv(path, draw_table(store, draw))


def finished(out: Path, trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """Records of the trials that are done, with their predictions in place."""
    records = {}
    for trial in trials:
        path = record_path(out, trial.id)
        if path.is_file():
            record = read_json(path)
            if record["status"] != "done" or predictions_path(out, trial.id).is_file():
                records[trial.id] = record
    return records
