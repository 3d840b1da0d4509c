"""How a run is recognised, and what is told of it."""

from __future__ import annotations

from pathlib import Path

from mococxr.kinds import About, Content, Kind
from mococxr.settings import from_yaml


def _read(path: Path, run: Content) -> About:
    settings, trained, method = path / "settings.yaml", run.get("pretrained_on") or {}, run.get("method")
    return About(
        numbers={
            "network": run["backbone"],
            "method": method["name"] if isinstance(method, dict) else method,
            "verdict": run.get("verdict"),
            "steps": run.get("steps"),
            "images": trained.get("images"),
            "patients": trained.get("patients"),
            "effective rank": run.get("effective_rank"),
            "images per second": run.get("images_per_s"),
        },
        made_from={"weights": run.get("weights"), "source": trained.get("source"), "splits": trained.get("splits")},
        settings=from_yaml(settings) if settings.is_file() else {},
        version=run.get("version"),
        created=run.get("finished"),
        next="mococxr study STORE --target TARGET --arm moco={path} --out study",
    )


KIND = Kind("run", "pretrain", "run.json", frozenset({"backbone"}), _read, begun="log.jsonl")
