"""How a run was pretrained, as its folder says it: what a study keeps for the methods paragraph."""

from __future__ import annotations

from typing import Any

from mococxr.encoders import EncoderSource
from mococxr.encoders.recipe import used_settings
from mococxr.encoders.seen import run_record


def recipe_of(source: EncoderSource) -> dict[str, Any] | None:
    """Steps, phases and settings of the run behind an encoder; None where its folder does not tell them."""
    record = run_record(source)
    settings = used_settings(source.path, record) if source.path and "method" in record else {}
    if not settings:
        return None
    phases = record.get("phases") or [{"size": settings.get("size"), "epochs": settings["epochs"], "lr": None}]
    return settings | {
        "method": record["method"]["name"],
        "steps": record.get("steps"),
        "phases": phases,
        "auxiliary": [each["column"] for each in record.get("auxiliary", [])],
    }
