"""A made-up STUDY folder for the tests of the report: the numbers are drawn, no image was seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fake_numbers import KEYS, PLANNED, fake_run, further_tables, judged
from mococxr.results import UNDEFINED, write_tables

FRACTIONS = (0.01, 0.1, 1.0)
IMAGES = {0.01: 34, 0.1: 340, 1.0: 3400}
DRAWS = {0.01: 5, 0.1: 5, 1.0: 1}
START = {"moco": 0.88, "imagenet": 0.78, "random": 0.64, "imagenet@288": 0.86}
HARD = {"Pneumonia": 0.05, "Effusion": 0.0}
Key = tuple[str, str, str, float]


BASELINE = "imagenet@288"


PART = {
    "timm": "resnet18", "size": 96, "channels": 1, "mean": 0.5, "std": 0.25, "features": "stages", "feature": "avg",
}  # fmt: skip


def facts(arms: tuple[str, ...], targets: tuple[str, ...]) -> dict[str, Any]:
    """What study.json would say."""
    about = {
        "moco": {
            "encoder": "runs/moco",
            "kind": "run",
            "runs": [fake_run(i) for i in range(2)],
            "verdict": "learning",
            "seconds": 840.0,
            "pretrained_on": {"source": "pediatric", "images": 3400, "patients": 1690, "splits": "train"},
            "trained_on": "no chest images",
        },
        "imagenet": {"encoder": "imagenet", "kind": "imagenet", "trained_on": "no chest images"},
        "random": {"encoder": "random", "kind": "random", "init": "random"},
        BASELINE: {
            "encoder": "imagenet",
            "kind": "imagenet",
            "trained_on": "no chest images",
            "parts": [PART | {"size": 288}],
        },
    }
    common = {
        "encoder": "imagenet", "kind": "imagenet", "init": "imagenet", "parts": [PART], "dimensions": 1472,
        "pretrained_on": None, "trained_on": None, "runs": [],
        "verdict": None, "seconds": None, "files_sha256": [{"encoder.safetensors": "0" * 64}],
        "parameters": 11_176_512, "seconds_per_image": 0.0123, "device": "cpu",
    }  # fmt: skip
    count = {
        "train_images": 3400,
        "train_patients": 1690,
        "val_images": 190,
        "val_patients": 97,
        "val_positives": 110,
        "val_negatives": 80,
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
        "test_store": None,
        "created": "2026-05-04T10:00:00Z",
        "store": {
            "path_name": "store",
            "source": "pediatric",
            "images": 4114,
            "patients": 2100,
            "patients_known": True,
            "synthetic": False,
            "unreadable": 3,
            "not_used": 2,
            "split_rule": "shares 0.8 0.05 0.15 by patient, seed 0",
            "sha256": "1" * 64,
            "splits": {
                "train": {"images": 3400, "patients": 1690},
                "val": {"images": 200, "patients": 100},
                "test": {"images": 514, "patients": 310},
            },
        },
        "targets": {target: dict(count) for target in targets},
        "arms": {arm: common | about.get(arm, {}) for arm in arms},
        "images_in_both": {"moco/moco": {"test_images": 514, "same": 0, "near_duplicates": 2}}
        if "moco" in arms
        else {},
        "reference": "imagenet",
        "baseline": {"arm": BASELINE, "added": True, "reason": None}
        if BASELINE in arms
        else {"arm": None, "added": False, "reason": "--no-baseline"},
        "primary": {
            "target": targets[0],
            "mode": "linear",
            "fraction": 0.01,
            "arm": arms[0],
            "against": BASELINE if BASELINE in arms else "imagenet",
        },
        "replicates": 500,
        "level": 0.95,
        "unit": "image",
        "aggregate": "max",
        "standardized_on": {"images": 3400, "training_images": 3400},
        "uncertain": "ignore",
        "blank": "unknown",
        "validation_labels": {"linear": 0, "finetune": 200},
        "calibration_labels": dict.fromkeys(targets, 200),
        "planning": {targets[0]: {"difference": 0.03, "power": 0.8, "patients": 1204, "words": PLANNED}},
        "learning_curves": [],
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
) -> Path:
    """Write the folder and return it.

    Args:
        root: where; arms, targets, modes, fractions: what was studied; the arm `BASELINE` is one that the study added.
        undefined: key of a cell -> reason.
        recorded: facts to put in the place of the made-up ones.
    """
    undefined = undefined or {}
    rng = np.random.default_rng(5)
    cells, trials = [], []
    for target in targets:
        for mode in dict.fromkeys((*modes, "linear") if BASELINE in arms else modes):
            for arm in [arm for arm in arms if (mode == "linear" if arm == BASELINE else mode in modes)]:
                for fraction in fractions:
                    gone = undefined.get((arm, mode, target, fraction))
                    base = START.get(arm, 0.8) + HARD.get(target, 0.0) + (0.02 if mode == "finetune" else 0)
                    mean = min(0.985, base + 0.05 * np.log10(fraction / 0.01) * (1.2 if arm != "moco" else 0.5))
                    n = DRAWS.get(fraction, 3)
                    draws = np.clip(mean + rng.normal(0, 0.02, n) * (fraction < 1), 0, 1)
                    cells.append(_cell((arm, mode, target, fraction), draws, gone))
                    trials += _trials((arm, mode, target, fraction), draws, gone, rng)
    differences = _differences(cells)
    tests = {
        "differences": len(differences), "across_modes": 0, "too_few": 0,
        "words": f"{len(differences)} comparisons, adjusted together.",
    }  # fmt: skip
    entries = [{**dict(zip(KEYS, key, strict=True)), "draw": None, "reason": why} for key, why in undefined.items()]
    tables = {"cells": cells, "trials": trials, "differences": differences, "across_modes": []}
    write_tables(root, tables | further_tables(cells, differences))
    content = facts(arms, targets) | {"tests": tests} | (recorded or {}) | {"undefined": entries}
    (root / "study.json").write_text(json.dumps(content), encoding="utf-8")
    settings = "target:\n" + "".join(f"- {target}\n" for target in targets) + "draws: 5\n"
    (root / "settings.yaml").write_text(settings, encoding="utf-8")
    return root


def _cell(key: Key, draws: np.ndarray, gone: str | None) -> dict[str, Any]:
    row = dict(zip(KEYS, key, strict=True))
    if gone:
        return row | {"reason": gone}
    mean = float(draws.mean())
    ap = mean - 0.08
    return row | {
        "auroc": mean, "low": mean - 0.031, "high": min(1.0, mean + 0.027), "draw_sd": float(draws.std()),
        "n_units": 514, "positives": 300, "average_precision": ap, "ap_low": ap - 0.05, "ap_high": ap + 0.04,
        "draws": len(draws), "method": "DeLong over test patients", "low_bootstrap": mean - 0.03,
        "high_bootstrap": min(1.0, mean + 0.028), "patients": 310, "positive_patients": 180, "negative_patients": 150,
    }  # fmt: skip


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
            "auroc": None if gone else value,
            "average_precision": None if gone else value - 0.08,
            "status": f"{UNDEFINED}{gone}" if gone else "done",
            "seconds": 1.5,
        }
        for i, value in enumerate(draws)
    ]


def _differences(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_key = {tuple(cell[name] for name in KEYS): cell.get("auroc") for cell in cells}
    gaps = []
    for (arm, mode, target, fraction), ours in by_key.items():
        for against, against_mode in ((BASELINE, "linear"), ("imagenet", mode)):
            key = (against, against_mode, target, fraction)
            if arm not in (against, BASELINE) and key in by_key:
                theirs = by_key[key]
                pair = {"arm": arm, "against": against, "mode": mode, "target": target, "fraction": fraction}
                pair["against_mode"] = against_mode
                gaps.append((pair, None if None in (ours, theirs) else ours - theirs))
    return [pair | judged(gap, len(gaps)) for pair, gap in gaps]
