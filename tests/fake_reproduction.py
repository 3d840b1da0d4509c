"""A made-up folder of `reproduce` for the tests of its page: the numbers are drawn, no image was seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mococxr.reproduction.cells import Cell, cells_of, choose, published

DIFFERENCES = ("arm", "against", "mode", "target", "fraction", "difference", "low", "high", "p", "method")
DATA = {
    "chexpert": {
        "rows": 2000, "patients": 820, "studies": 1500, "missing_images": 0, "table_is_papers": False,
        "test": {"kind": "official", "studies": 160, "positives": {"Pleural Effusion": 61, "Consolidation": 9}},
    },
    "shenzhen": {"rows": 160, "patients": 160, "test": {"kind": "shares 0.65 0.15 0.2, seed 0", "studies": 32}},
}  # fmt: skip


def fake_reproduction(
    out: Path,
    dataset: str = "chexpert",
    patterns: tuple[str, ...] = ("pleural-effusion/resnet18/*",),
    undefined: dict[str, str] | None = None,
    variants: tuple[str, ...] = (),
    phantom: bool = True,
    shift: float = 0.0,
    **recorded: Any,
) -> Path:
    """Write the folder and return it.

    Args:
        out: where; dataset: which half of the paper; patterns: cells that were run.
        undefined: cell id -> reason; variants: sounder ways run besides; phantom: what the record says.
        shift: what every measured AUROC differs by from the printed one.
        recorded: in the place of what `reproduce.json` would say.
    """
    undefined = undefined or {}
    ran = choose(cells_of(dataset), patterns)
    for name in {cell.study for cell in ran}:
        mine = [cell for cell in ran if cell.study == name]
        _study(out / "studies" / name, mine, undefined, shift)
        for variant in variants:
            kept = [cell for cell in mine if variant != "solved" or cell.mode == "linear"]
            if kept:
                _study(out / "studies" / f"{name}-{variant}", kept, undefined, shift + 0.05)
    ids = {cell.id for cell in ran}
    listed = [
        {
            "id": cell.id, "study": cell.study, "mode": cell.mode, "arm": cell.arm,
            "status": "undefined" if cell.id in undefined else "done" if cell.id in ids else "not run",
            "reason": undefined.get(cell.id, "" if cell.id in ids else "not among --cells"),
        }
        for cell in cells_of(dataset)
    ]  # fmt: skip
    record = {
        "version": "0.1.0", "dataset": dataset, "settings": {"size": 32}, "data": DATA[dataset], "cells": listed,
        "phantom": phantom, "departures": [
            {"setting": "size", "paper": "320 px", "here": "32 px"},
            {"setting": "epochs", "paper": 20, "here": 2},
        ],
        "machine": {"device": "cpu", "threads": 2, "platform": "Linux x86_64"}, "notes": [],
    } | recorded  # fmt: skip
    (out / "reproduce.json").write_text(json.dumps(record))
    return out


def _study(folder: Path, cells: list[Cell], undefined: dict[str, str], shift: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(folder.name))
    rows, values = [], {}
    for cell in cells:
        row: dict[str, Any] = {
            "arm": cell.arm,
            "mode": cell.mode,
            "target": cell.task,
            "fraction": cell.fraction,
        }
        row |= {"n_test": 160, "positives": 61, "reason": undefined.get(cell.id)}
        if cell.id not in undefined:
            value = published(cell.task, cell.backbone, cell.mode, cell.fraction, cell.arm).value + shift
            value = values[cell.mode, cell.arm] = round(value + float(rng.normal(0, 0.01)), 4)
            row |= {"auroc": value, "low": value - 0.05, "high": min(1.0, value + 0.05), "draw_sd": 0.012}
            row |= {"low_bootstrap": value - 0.04, "high_bootstrap": min(1.0, value + 0.04)}
            row |= {
                "average_precision": value - 0.2,
                "ap_low": value - 0.3,
                "ap_high": value - 0.1,
                "draws": 5,
            }
        rows.append(row)
    pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / "cells.csv")
    task, fraction = cells[0].task, cells[0].fraction
    pairs = [(mode, mode) for mode in ("linear", "finetune")]
    _differences(folder / "differences.csv", pairs, values, task, fraction)
    _differences(folder / "across.csv", [("linear", "finetune")], values, task, fraction)
    trial = {"arm": "moco", "mode": "linear", "target": task, "fraction": fraction, "status": "done"}
    trial |= {"train_images": 200, "train_patients": 90, "train_positives": 70, "auroc": 0.8, "seconds": 36.0}
    pl.DataFrame([trial]).write_csv(folder / "trials.csv")
    (folder / "study.json").write_text("{}")
    (folder / "settings.yaml").write_text("draws: 5\n")


def _differences(
    path: Path, pairs: list[tuple[str, str]], values: dict[tuple[str, str], float], task: str, fraction: float
) -> None:
    rows = []
    for mode, other in pairs:
        ours, theirs = values.get((mode, "moco")), values.get((other, "imagenet"))
        if ours is None or theirs is None:
            continue
        gap = ours - theirs
        numbers = {"difference": gap, "low": gap - 0.04, "high": gap + 0.04, "p": 0.01, "method": "made up"}
        numbers |= {"low_bootstrap": gap - 0.03, "high_bootstrap": gap + 0.03, "p_bootstrap": 0.01}
        numbers |= {"low_draws": gap - 0.06, "high_draws": gap + 0.06, "ap_difference": gap}
        numbers |= {"ap_low": gap - 0.1, "ap_high": gap + 0.1, "against_mode": other}
        place = {"arm": "moco", "against": "imagenet", "mode": mode, "target": task, "fraction": fraction}
        rows.append(place | numbers)
    names = (
        *DIFFERENCES,
        "low_bootstrap",
        "high_bootstrap",
        "p_bootstrap",
        "low_draws",
        "high_draws",
        "ap_difference",
        "ap_low",
        "ap_high",
        "against_mode",
    )
    pl.DataFrame(rows or None, schema=None if rows else dict.fromkeys(names, pl.String)).write_csv(path)
