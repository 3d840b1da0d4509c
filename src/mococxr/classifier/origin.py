"""How the encoder of a classifier came to be, as its run recorded it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mococxr.files import read_json, sha256_file
from mococxr.settings import PretrainSettings, from_yaml, typed

Facts = dict[str, Any]

RUN = (
    "kind", "method", "version", "backbone", "init", "weights", "started_from", "pretrained_on", "synthetic", "verdict",
    "steps",
)  # fmt: skip
CHECKPOINT = ("kind", "sha256", "architecture", "epoch", "head")
RECIPE = (
    "preset", "size", "epochs", "sizes", "batch", "queue", "momentum", "temperature", "lr", "optimizer", "schedule", "head",
    "positives", "crop", "rotation", "flip", "auxiliary", "seed",
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
        run["init"] = Path(run["init"]).name  # no path of this machine
    stated = _read(folder / "settings.yaml", from_yaml) if run.get("kind") != "imported" else {}
    settings = typed(PretrainSettings, stated)
    unused = (run.get("method") or {}).get("unused", [])  # a preset sets them all the same
    recipe = {name: settings[name] for name in RECIPE if settings.get(name) not in (None, ()) and name not in unused}
    return {"sha256": sha256_file(folder / "encoder.safetensors"), "run": run, "recipe": recipe}


def _read(path: Path, reader: Any) -> Facts:
    content = reader(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
