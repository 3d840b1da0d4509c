"""How a reproduction is recognised, and what is told of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mococxr.kinds import About, Content, Kind


def _read(_: Path, record: Content) -> About:
    return About(
        numbers={
            "data set": record["dataset"],
            "cells": dict(Counter(cell["status"] for cell in record["cells"])),
            "pretraining": dict(Counter(run["status"] for run in record["pretraining"])),
            "departures": len(record["departures"]),
        },
        made_from={"root": record["settings"].get("root")},
        settings=record["settings"],
        version=record["version"],
        next="mococxr reproduce " + record["dataset"] + " --root DIR --out {path}",
    )


KIND = Kind("reproduction", "reproduce", "reproduce.json", frozenset({"dataset", "cells", "pretraining"}), _read)
