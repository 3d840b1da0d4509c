"""How an encoder came to be, as its run recorded it: what a classifier keeps of it, and a model card says of it.

Places on this machine stay out: names of stores, runs and files are the last part of a path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mococxr.files import read_json, sha256_file
from mococxr.settings import from_yaml

Facts = dict[str, Any]
RUN = (
    "kind",
    "version",
    "backbone",
    "init",
    "weights",
    "started_from",
    "pretrained_on",
    "phantom",
    "verdict",
    "steps",
)
CHECKPOINT = ("kind", "sha256", "architecture", "epoch", "head")
RECIPE = (
    "preset", "size", "epochs", "batch", "queue", "momentum", "temperature", "lr", "optimizer", "schedule", "head",
    "positives", "crop", "rotation", "flip", "seed",
)  # fmt: skip


def origin_of(folder: Path | None, init: str | None = None) -> Facts:
    """What is known of the encoder in a folder.

    Args:
        folder: a run, or any folder with encoder.json; None where the encoder was named otherwise.
        init: that name, for example `imagenet`.

    Returns:
        `sha256` of its weights (None without a folder), `run` (facts of run.json) and `recipe` (settings of the
        pretraining); what nobody recorded is absent.
    """
    if folder is None:
        return {"sha256": None, "run": {"init": init}, "recipe": {}}
    record = _read(folder / "run.json", read_json)
    run = {name: record[name] for name in RUN if name in record}
    if isinstance(record.get("checkpoint"), dict):
        run["checkpoint"] = {name: record["checkpoint"].get(name) for name in CHECKPOINT}
    if isinstance(run.get("init"), str):
        run["init"] = Path(run["init"]).name
    settings = _read(folder / "settings.yaml", from_yaml) if run.get("kind") != "imported" else {}
    recipe = {name: settings[name] for name in RECIPE if settings.get(name) is not None}
    return {"sha256": sha256_file(folder / "encoder.safetensors"), "run": run, "recipe": recipe}


def _read(path: Path, reader: Any) -> Facts:
    found = reader(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
