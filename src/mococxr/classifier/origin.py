"""How the encoder of a classifier came to be, as its run recorded it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mococxr.encoders.recipe import used_settings
from mococxr.files import read_json, sha256_file

Facts = dict[str, Any]

RUN = (
    "kind", "method", "version", "backbone", "init", "weights", "started_from", "pretrained_on", "synthetic", "verdict",
    "steps",
)  # fmt: skip
CHECKPOINT = ("kind", "sha256", "architecture", "epoch", "head")


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
    path = folder / "run.json"
    record = dict(read_json(path)) if path.is_file() else {}
    run = {name: record[name] for name in RUN if name in record}
    if isinstance(record.get("checkpoint"), dict):
        run["checkpoint"] = {name: record["checkpoint"].get(name) for name in CHECKPOINT}
    if isinstance(run.get("init"), str):
        run["init"] = Path(run["init"]).name  # no path of this machine
    recipe = {name: value for name, value in used_settings(folder, record).items() if value not in (None, [])}
    return {"sha256": sha256_file(folder / "encoder.safetensors"), "run": run, "recipe": recipe}
