"""How a run was pretrained, as its folder says it: what a study keeps for the methods paragraph."""

from __future__ import annotations

from typing import Any

import yaml

from mococxr.encoders import EncoderSource
from mococxr.files import read_json

SETTINGS = (
    "batch", "lr", "optimizer", "weight_decay", "schedule", "milestones", "warmup", "ema", "queue", "momentum",
    "temperature", "head", "dim", "key_groups", "positives", "negatives_from", "crop", "rotation", "flip", "brightness",
    "contrast", "select", "seed",
)  # fmt: skip
"""Settings of `pretrain` that a recipe has, less those that the method does not read."""


def recipe_of(source: EncoderSource) -> dict[str, Any] | None:
    """Steps, phases and settings of the run behind an encoder; None where its folder does not tell them."""
    if source.path is None or not all((source.path / name).is_file() for name in ("run.json", "settings.yaml")):
        return None
    record = read_json(source.path / "run.json")
    settings = yaml.safe_load((source.path / "settings.yaml").read_text(encoding="utf-8"))
    if "method" not in record or not isinstance(settings, dict) or "epochs" not in settings:
        return None  # an import: its folder holds the settings of `import`
    unused = record["method"].get("unused", [])
    phases = record.get("phases") or [{"size": settings.get("size"), "epochs": settings["epochs"], "lr": None}]
    return {
        "method": record["method"]["name"],
        "steps": record.get("steps"),
        "phases": phases,
        "auxiliary": [each["column"] for each in record.get("auxiliary", [])],
        **{name: settings[name] for name in SETTINGS if name in settings and name not in unused},
    }
