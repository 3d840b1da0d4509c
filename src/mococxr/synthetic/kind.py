"""How a demo is recognised, and what is told of it."""

from __future__ import annotations

from pathlib import Path

from mococxr.kinds import About, Content, Kind


def _read(_: Path, plan: Content) -> About:
    return About(numbers={"synthetic images": plan["images"]}, settings=plan, next="mococxr demo --out {path}")


KIND = Kind("demo", "demo", "demo.json", frozenset({"images", "epochs", "init"}), _read)
