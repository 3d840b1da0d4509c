"""A made-up folder of `reproduce` for the tests of its page: the numbers are drawn, no image was seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mococxr.reproduction.compare import published
from mococxr.reproduction.recipe import Cell, cells_of, select
from mococxr.results import TABLES, write_tables

DATA = {
    "chexpert": {
        "rows": 2000, "patients": 820, "studies": 1500, "missing_images": 0, "table_is_papers": False,
        "test": {"kind": "official", "studies": 160, "positives": {"Pleural Effusion": 61, "Consolidation": 9}},
    },
    "shenzhen": {
        "rows": 160, "patients": 160, "test": {"kind": "shares 0.65 0.15 0.2, seed 0", "studies": 32, "positives": {}},
    },
}  # fmt: skip


def printed(cell: Cell) -> float:
    """The AUROC that the paper prints."""
    place = (cell.task, cell.backbone, cell.mode, cell.fraction, cell.arm, "auroc")
    return published()[place]["value"]


def fake_reproduction(
    out: Path,
    dataset: str = "chexpert",
    patterns: tuple[str, ...] = ("pleural-effusion/resnet18/*",),
    undefined: dict[str, str] | None = None,
    variants: tuple[str, ...] = (),
    synthetic: bool = True,
    shift: float = 0.0,
    changed: dict[str, Any] | None = None,
    **recorded: Any,
) -> Path:
    """Write the folder and return it.

    Args:
        out: where; dataset: which half of the paper; patterns: cells that were run.
        undefined: cell id -> reason; variants: sounder ways run besides; synthetic: what the record says.
        shift: what every measured AUROC differs by from the printed one.
        changed: columns of every difference, in place of the drawn ones.
        recorded: in the place of what `reproduce.json` would say.
    """
    undefined = undefined or {}
    ran, _ = select(cells_of(dataset), [], patterns)
    for name in {cell.study for cell in ran}:
        own = [cell for cell in ran if cell.study == name]
        _study(out / "studies" / name, own, undefined, shift, changed or {})
        for variant in variants:
            kept = [cell for cell in own if variant != "lbfgs" or cell.mode == "linear"]
            if kept:
                _study(out / "studies" / f"{name}-{variant}", kept, undefined, shift + 0.05, {})
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
        "version": "0.1.0", "dataset": dataset, "settings": {"size": 32, "init": "imagenet"}, "data": DATA[dataset],
        "cells": listed, "synthetic": synthetic, "departures": [
            {"setting": "size", "paper": "320 px", "here": "32 px"},
            {"setting": "epochs", "paper": 20, "here": 2},
        ],
        "pretraining": [], "machine": {"device": "cpu", "threads": 2, "platform": "Linux x86_64"}, "notes": [],
    } | recorded  # fmt: skip
    (out / "reproduce.json").write_text(json.dumps(record))
    return out


def _study(folder: Path, cells: list[Cell], undefined: dict[str, str], shift: float, changed: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(folder.name))
    rows, values, lost = [], {}, []
    for cell in cells:
        place = {"arm": cell.arm, "mode": cell.mode, "target": cell.task, "fraction": cell.fraction}
        row: dict[str, Any] = place | {"n_units": 160, "positives": 61, "reason": undefined.get(cell.id)}
        if cell.id in undefined:
            lost.append(place | {"reason": undefined[cell.id]})
        else:
            value = values[cell.mode, cell.arm] = round(printed(cell) + shift + float(rng.normal(0, 0.01)), 4)
            row |= {"auroc": value, "low": value - 0.05, "high": min(1.0, value + 0.05), "draw_sd": 0.012}
            row |= {"low_bootstrap": value - 0.04, "high_bootstrap": min(1.0, value + 0.04), "draws": 5}
            row |= {"average_precision": value - 0.2, "ap_low": value - 0.3, "ap_high": value - 0.1}
        rows.append(row)
    place = {"target": cells[0].task, "fraction": cells[0].fraction}
    trial = {"trial": "t", "arm": "moco", "mode": "linear", "status": "done", "seconds": 36.0} | place
    tables = dict.fromkeys(TABLES, ()) | {"cells": rows, "trials": [trial]}
    same_mode = [(mode, mode) for mode in ("linear", "finetune")]
    tables |= {"differences": _differences(same_mode, values, place, changed)}
    tables |= {"across_modes": _differences([("linear", "finetune")], values, place, changed)}
    write_tables(folder, tables)
    (folder / "study.json").write_text(json.dumps({"undefined": lost}))
    (folder / "settings.yaml").write_text("draws: 5\n")


def _differences(
    pairs: list[tuple[str, str]], values: dict[tuple[str, str], float], place: dict, changed: dict[str, Any]
) -> list[dict[str, Any]]:
    rows = []
    for mode, other in pairs:
        if (mode, "moco") not in values or (other, "imagenet") not in values:
            continue
        gap = values[mode, "moco"] - values[other, "imagenet"]
        numbers = {"difference": gap, "low": gap - 0.04, "high": gap + 0.04, "p": 0.01, "method": "made up"}
        numbers |= {"low_bootstrap": gap - 0.03, "high_bootstrap": gap + 0.03, "p_bootstrap": 0.01}
        numbers |= {"low_total": gap - 0.06, "high_total": gap + 0.06, "ap_difference": gap}
        numbers |= {"ap_low": gap - 0.1, "ap_high": gap + 0.1, "against_mode": other}
        rows.append(place | {"arm": "moco", "against": "imagenet", "mode": mode} | numbers | changed)
    return rows
