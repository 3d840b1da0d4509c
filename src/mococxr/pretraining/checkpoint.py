"""Checkpoints of a run: saved whole or not at all, the last two kept, read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mococxr.errors import InputError
from mococxr.files import atomic

FORMAT = 3
"""Raised when what a checkpoint holds changes: one of another format is refused."""
KEPT = 2
"""Checkpoints left on disk: the newest, and one before it in case the newest is damaged."""


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `step-00000123.pt` (tensors, numbers, text) and drop all but the last `KEPT`."""
    path = folder / f"step-{step:08d}.pt"
    with atomic(path) as temporary:
        torch.save({**state, "format": FORMAT}, temporary)
    for old in saved(folder)[:-KEPT]:
        old.unlink()
    return path


def saved(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step-*.pt"))


def latest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, on the CPU; None without any.

    Raises:
        InputError: there are checkpoints and none can be read.
    """
    reasons = []
    for path in reversed(saved(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged archive raises many kinds
            reasons.append(f"{path.name}: {type(error).__name__}")
            continue
        if state.get("format") != FORMAT:
            raise InputError(
                f"{path} was written by another version of mococxr (format {state.get('format')}, not {FORMAT}).",
                "Go on with that version, or start the run anew in another --out.",
            )
        return state
    if reasons:
        raise InputError(
            f"No checkpoint in {folder} can be read ({', '.join(reasons)}).", "Start the run anew."
        )
    return None
