"""How a run was pretrained, as its folder says it: for methods paragraphs, `model.json` and model cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SETTINGS = (
    "preset", "size", "epochs", "sizes", "batch", "lr", "optimizer", "weight_decay", "schedule", "milestones", "warmup",
    "ema", "queue", "momentum", "temperature", "head", "dim", "key_groups", "positives", "negatives_from", "crop",
    "rotation", "flip", "brightness", "contrast", "auxiliary", "select", "seed",
)  # fmt: skip
"""Settings of `pretrain` that a recipe has, less those that the method does not read."""


def used_settings(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that its method reads; empty where the folder does not tell them.

    Args:
        record: its `run.json`.
    """
    path = folder / "settings.yaml"
    stated = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    if not isinstance(stated, dict) or "epochs" not in stated:
        return {}  # an encoder alone, or an import, whose folder holds the settings of `import`
    unused = (record.get("method") or {}).get("unused", [])  # a preset sets them all the same
    return {name: stated[name] for name in SETTINGS if name in stated and name not in unused}
