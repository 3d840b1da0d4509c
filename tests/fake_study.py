"""A made-up STUDY folder for the tests of the report: the numbers are drawn, no image was seen."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from fake_numbers import add_numbers

FRACTIONS = (0.01, 0.1, 1.0)
IMAGES = {0.01: 34, 0.1: 340, 1.0: 3400}
DRAWS = {0.01: 5, 0.1: 5, 1.0: 1}
START = {"moco": 0.88, "imagenet": 0.78, "random": 0.64}
HARD = {"Pneumonia": 0.05, "Effusion": 0.0}
PRECISION = ("average_precision", "ap_low", "ap_high")
Key = tuple[str, str, str, float]


def facts(arms: tuple[str, ...], targets: tuple[str, ...]) -> dict[str, Any]:
    about = {
        "moco": {
            "encoder": "runs/moco",
            "kind": "run",
            "init": "imagenet",
            "runs": [{"run": "moco", "health": None}],
            "verdict": None,
            "seconds": 840.0,
            "pretrained_on": {"source": "pediatric", "images": 3400, "patients": 1690, "splits": "train"},
            "trained_on": "no chest images",
            "seconds_per_image": 0.0123,
            "parameters": 11_176_512,
            "device": "cpu",
        },
        "imagenet": {
            "encoder": "imagenet",
            "kind": "imagenet",
            "init": "imagenet",
            "pretrained_on": None,
            "runs": [],
        },
        "random": {
            "encoder": "random",
            "kind": "random",
            "init": "random",
            "pretrained_on": None,
            "runs": [],
        },
    }
    count = {
        "train_images": 3400,
        "train_patients": 1690,
        "test_images": 512,
        "test_patients": 309,
        "train_positives": 1900,
        "train_negatives": 1500,
        "test_positives": 300,
        "test_negatives": 214,
        "test_positive_patients": 180,
        "test_negative_patients": 150,
        "unknown": 0,
        "uncertain": 12,
    }
    return {
        "version": "0.1.0",
        "created": "2026-05-04T10:00:00Z",
        "store": {
            "path_name": "store",
            "source": "pediatric",
            "images": 4114,
            "patients": 2100,
            "patients_known": True,
            "phantom": False,
            "unreadable": 3,
            "not_used": 2,
            "split_rule": "shares 0.8 0.05 0.15 by patient, seed 0",
            "splits": {
                "train": {"images": 3400, "patients": 1690},
                "val": {"images": 200, "patients": 100},
                "test": {"images": 514, "patients": 310},
            },
        },
        "targets": {target: dict(count) for target in targets},
        "arms": {arm: about.get(arm, {}) | {"timm": "resnet18", "size": 96} for arm in arms},
        "images_in_both": {"moco/moco": {"test_images": 514, "same": 0, "alike": 2}}
        if "moco" in arms
        else {},
        "reference": "imagenet",
        "primary": {"target": targets[0], "mode": "linear", "fraction": 0.01, "arm": arms[0]},
        "replicates": 500,
        "level": 0.95,
        "unit": "image",
        "vote": "max",
        "uncertain": "ignore",
        "blank": "unknown",
        "validation_labels": {"linear": 0, "finetune": 200},
        "undefined": [],
        "undefined_resamples": 0,
        "warnings": [],
        "settings": {"draws": 5},
    }


def fake_study(
    root: Path,
    arms: tuple[str, ...] = ("moco", "imagenet", "random"),
    targets: tuple[str, ...] = ("Pneumonia", "Effusion"),
    modes: tuple[str, ...] = ("linear", "finetune"),
    fractions: tuple[float, ...] = FRACTIONS,
    undefined: dict[Key, str] | None = None,
    recorded: dict[str, Any] | None = None,
    precision: bool = True,
    numbers: bool = False,
) -> Path:
    """Write the folder and return it.

    Args:
        root: where; arms, targets, modes, fractions: what was studied.
        undefined: key of a cell -> reason.
        recorded: facts to put in the place of the made-up ones.
        precision: average precision was measured too.
        numbers: the tables of `fake_numbers` too; without them it is the folder of an older version.
    """
    undefined = undefined or {}
    rng = np.random.default_rng(5)
    cells, trials = [], []
    for target in targets:
        for mode in modes:
            for arm in arms:
                for fraction in fractions:
                    gone = undefined.get((arm, mode, target, fraction))
                    base = START.get(arm, 0.8) + HARD.get(target, 0.0) + (0.02 if mode == "finetune" else 0)
                    mean = min(
                        0.985, base + 0.05 * np.log10(fraction / 0.01) * (1.2 if arm != "moco" else 0.5)
                    )
                    n = DRAWS.get(fraction, 3)
                    draws = np.clip(mean + rng.normal(0, 0.02, n) * (fraction < 1), 0, 1)
                    cells.append(_cell((arm, mode, target, fraction), draws, gone))
                    trials += _trials((arm, mode, target, fraction), draws, gone, rng)
    if not precision:
        cells = [{name: row[name] for name in row if name not in PRECISION} for row in cells]
    settings = "target:\n" + "".join(f"- {target}\n" for target in targets) + "draws: 5\n"
    study = write_study(
        root,
        cells,
        _differences(cells),
        trials,
        facts(arms, targets) | (recorded or {}) | {"undefined": _undefined(undefined)},
        settings,
    )
    return add_numbers(study) if numbers else study


def _cell(key: Key, draws: np.ndarray, gone: str | None) -> dict[str, Any]:
    row = dict(zip(("arm", "mode", "target", "fraction"), key, strict=True))
    mean = float(draws.mean())
    ap = mean - 0.08
    values = {
        "auroc": mean,
        "low": mean - 0.031,
        "high": min(1.0, mean + 0.027),
        "draw_sd": float(draws.std()),
        "n_test": 514,
        "positives": 300,
        "average_precision": ap,
        "ap_low": ap - 0.05,
        "ap_high": ap + 0.04,
    }
    return row | ({name: "" for name in values} if gone else values)


def _trials(key: Key, draws: np.ndarray, gone: str | None, rng: np.random.Generator) -> list[dict[str, Any]]:
    arm, mode, target, fraction = key
    images = IMAGES.get(fraction, round(3400 * fraction))
    return [
        {
            "trial": f"{target}-{mode}-{arm}-{fraction}-{i}",
            "arm": arm,
            "run": "",
            "mode": mode,
            "target": target,
            "fraction": fraction,
            "draw": i,
            "train_images": images,
            "train_patients": images // 2 + 3,
            "train_positives": images // 2 + int(rng.integers(0, 3)),
            "auroc": "" if gone else value,
            "average_precision": "" if gone else value - 0.08,
            "status": gone or "done",
            "seconds": 1.5,
        }
        for i, value in enumerate(draws)
    ]


def _differences(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_key = {(c["arm"], c["mode"], c["target"], c["fraction"]): c["auroc"] for c in cells}
    rows = []
    for (arm, mode, target, fraction), ours in by_key.items():
        theirs = by_key.get(("imagenet", mode, target, fraction))
        if arm == "imagenet" or theirs is None:
            continue
        defined = ours != "" and theirs != ""
        gap = ours - theirs if defined else 0.0
        numbers = {
            "difference": gap,
            "low": gap - 0.026,
            "high": gap + 0.024,
            "p": min(1.0, 0.03 / (abs(gap) + 0.03)),
        }
        row = {"arm": arm, "against": "imagenet", "mode": mode, "target": target, "fraction": fraction}
        rows.append(
            row
            | (numbers if defined else dict.fromkeys(numbers, ""))
            | {"method": "paired bootstrap", "verdict": verdict_of(numbers) if defined else "undefined"}
        )
    return rows


def verdict_of(row: dict[str, Any]) -> str:
    """The word that `study` writes beside an interval."""
    if "" in (row["low"], row["high"]):
        return "undefined"
    return "better" if float(row["low"]) > 0 else "worse" if float(row["high"]) < 0 else "no difference shown"


def _undefined(undefined: dict[Key, str]) -> list[dict[str, Any]]:
    return [
        {"arm": a, "mode": m, "target": t, "fraction": f, "draw": None, "reason": why}
        for (a, m, t, f), why in undefined.items()
    ]


def write_study(
    root: Path,
    cells: list[Any],
    differences: list[Any],
    trials: list[Any],
    recorded: dict[str, Any],
    settings: str,
) -> Path:
    """Write the five files."""
    root.mkdir(parents=True, exist_ok=True)
    columns = {
        "cells": list(cells[0]),
        "trials": list(trials[0]),
        "differences": [
            "arm",
            "against",
            "mode",
            "target",
            "fraction",
            "difference",
            "low",
            "high",
            "p",
            "method",
            "verdict",
        ],
    }
    for name, rows in {"cells": cells, "differences": differences, "trials": trials}.items():
        with open(root / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns[name])
            writer.writeheader()
            writer.writerows(rows)
    (root / "study.json").write_text(json.dumps(recorded), encoding="utf-8")
    (root / "settings.yaml").write_text(settings, encoding="utf-8")
    return root
