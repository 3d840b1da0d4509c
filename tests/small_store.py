"""A small store for tests: 60 patients, two images each, of which those with the finding have a bright square."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from mococxr import commands
from mococxr.commands import run
from mococxr.store import Store

BACKBONE = "test_efficientnet"
"""timm's smallest network with batch norm: 0.1 million weights, features of length 256."""
HOW: dict[str, Any] = {"backbone": BACKBONE, "size": 32, "device": "cpu", "jobs": 1}


def draw_image(rng: np.random.Generator, finding: bool, shape: tuple[int, int]) -> np.ndarray:
    image = rng.normal(110, 25, shape)
    if finding:
        top, left = rng.integers(4, shape[0] - 40), rng.integers(4, shape[1] - 40)
        image[top : top + 34, left : left + 34] += rng.uniform(25, 80)
    return image.clip(0, 255).astype(np.uint8)


def small_table(patients: int, rng: np.random.Generator) -> pl.DataFrame:
    rows = []
    for p in range(patients):
        finding = p % 3 == 0
        for f in range(2):
            rows.append(
                {"path": f"images/p{p}-{f}.png", "patient": f"p{p}", "study": f"s{f // 2}", "sex": "FM"[p % 2],
                 "site": "ABC"[p % 3 - 1] if p % 5 else None, "Finding": int(finding),
                 "Rare": {0: 1, 1: -1, 2: None}.get(p % 7, 0), "noise": float(rng.normal())}
            )  # fmt: skip
    return pl.DataFrame(rows)


def make_store(folder: Path, patients: int = 60, **settings: Any) -> Store:
    """Draw the images, write the table and prepare the store (stored at 72 px, the images 80 px and more)."""
    rng = np.random.default_rng(7)
    (folder / "images" / "images").mkdir(parents=True)
    table = small_table(patients, rng)
    for i, row in enumerate(table.iter_rows(named=True)):
        shape = [(80, 104), (110, 84), (96, 96)][i % 3]
        cv2.imwrite(str(folder / "images" / row["path"]), draw_image(rng, row["Finding"] == 1, shape))
    table.write_csv(folder / "images" / "labels.csv")
    out = folder / "store"
    run("prepare", {"source": folder / "images", "out": out, "size": 72, "jobs": 1, "stratify": True, **settings})
    return Store.open(out)


def of_target(model: Path, position: int = 0) -> dict[str, Any]:
    """What `model.json` says of a target."""
    block: dict[str, Any] = json.loads((model / "model.json").read_text())["targets"][position]
    return block


def run_study(given: dict[str, Any]) -> Path:
    """`study` without its page, which takes longer than a small study, and without a baseline; returns its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "THEN", {})
        run("study", {"baseline": False, **given})
    return Path(given["out"])
