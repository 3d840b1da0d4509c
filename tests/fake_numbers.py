"""The further tables of a made-up STUDY folder: variance, labels saved, calibration, subgroups, health of runs."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

GROUPS = (
    ("sex", "F", 240, 0.0),
    ("sex", "M", 274, None),
    ("age", "0 to 4", 300, None),
    ("age", "5 to 9", 200, -0.06),
)
FEW = "Only 4 positive test patients: no AUROC of this group is computed."
KEYS = ("arm", "mode", "target", "fraction")
PAIR = ("arm", "against", "mode", "target", "fraction")
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Rows of a CSV file as text."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row]) -> None:
    """Rows to a CSV file; their first row names the columns."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def add_numbers(study: Path, runs: int = 2) -> Path:
    """Put the further tables and facts beside those of `fake_study`."""
    cells, differences = read(study / "cells.csv"), read(study / "differences.csv")
    write(study / "cells.csv", [row | {"method": "DeLong over test patients"} for row in cells])
    write(study / "differences.csv", [_judged(row, len(differences)) for row in differences])
    write(study / "variance.csv", [_variance(row, runs) for row in differences])
    write(study / "labels_saved.csv", [_saved(row) for row in differences])
    write(study / "calibration.csv", [_calibration(row) for row in cells])
    write(study / "reliability.csv", [one for row in cells for one in _curve(row)])
    write(study / "prevalence.csv", [one for row in cells for one in _prevalence(row)])
    write(study / "subgroups.csv", [one for row in cells for one in _groups(row)])
    facts = json.loads((study / "study.json").read_text())
    facts["tests"] = {
        "count": len(differences),
        "words": f"{len(differences)} comparisons, adjusted together.",
    }
    target = facts["primary"]["target"]
    words = "To see a difference of 0.03 in AUROC with 80 % power, 1,204 test patients are needed."
    facts["planning"] = {target: {"difference": 0.03, "power": 0.8, "patients": 1204, "words": words}}
    if isinstance(facts["arms"].get("moco"), dict):
        facts["arms"]["moco"]["runs"] = [_run(i) for i in range(runs)]
    (study / "study.json").write_text(json.dumps(facts))
    return study


def _take(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names}


def _judged(row: Row, number: int) -> Row:
    blank = dict.fromkeys(("low_draws", "high_draws", "reason", "p_bootstrap", "p_holm", "p_bh"), "")
    if not row["difference"]:
        return row | blank | {"verdict": "undefined", "words": "Undefined: no number."}
    low, high, p = float(row["low"]), float(row["high"]), float(row["p"])
    word = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    return (
        row
        | blank
        | {"low_draws": low - 0.02, "high_draws": high + 0.02, "p_bootstrap": p, "p_holm": min(1, p * number)}
        | {
            "p_bh": min(1, 1.5 * p),
            "verdict": word,
            "words": f"{word.capitalize()}, over other test patients.",
        }
        | {"method": "DeLong over test patients, of the mean over draws"}
    )


def _variance(row: Row, runs: int) -> Row:
    numbers = (
        "difference",
        "patients",
        "draws",
        "runs",
        "rest",
        "interactions",
        "standard_error",
        "df",
        "low",
        "high",
    )
    base = _take(row, PAIR)
    if not row["difference"]:
        return (
            base
            | dict.fromkeys((*numbers, "count_draws", "count_runs", "words"), "")
            | {"reason": "no number"}
        )
    several = float(row["fraction"]) < 1
    values = (
        row["difference"],
        3e-4,
        1e-4 if several else "",
        5e-5 if runs > 1 else "",
        2e-5 if several else "",
        1e-5,
    )
    low, high = float(row["low"]) - 0.02, float(row["high"]) + 0.02
    found = base | dict(zip(numbers, (*values, 0.02, 7.5, low, high), strict=True))
    words = "" if several else "One draw of labels: what another draw would give is not in the interval."
    return found | {"count_draws": 5 if several else 1, "count_runs": runs, "words": words, "reason": ""}


def _saved(row: Row) -> Row:
    images = 3400 * float(row["fraction"])
    words = f"What the arm reaches with {images:,.0f} labels takes the reference 412 "
    words += "(95 % interval over test patients: 180 to more than 3,400)."
    found = {"equals_images": "412", "low": "180", "high": "more than 3,400", "factor": 412 / images}
    return (
        _take(row, PAIR)
        | {"train_images": images}
        | found
        | {"factor_low": "", "factor_high": "", "words": words}
    )


def _ends(name: str, value: float, half: float = 0.03) -> Row:
    return {name: value, f"{name}_low": max(0.0, value - half), f"{name}_high": min(1.0, value + half)}


def _calibration(row: Row) -> Row:
    found = _take(row, KEYS) | {
        "draw": 0,
        "method": "platt",
        "validation_images": 200,
        "validation_positives": 110,
    }
    found |= (
        _ends("brier", 0.11)
        | _ends("ece", 0.04)
        | {"ece_if_perfect": 0.025, "slope": 0.93, "intercept": 0.08}
    )
    found |= (
        {"threshold": 0.41, "wanted_sensitivity": 0.9}
        | _ends("sensitivity", 0.91)
        | _ends("specificity", 0.78)
    )
    return found | _ends("ppv", 0.85) | _ends("npv", 0.86) | {"prevalence": 300 / 514, "reason": ""}


def _curve(row: Row) -> list[Row]:
    means = (0.06, 0.22, 0.45, 0.7, 0.93)
    tilt = 0.1 if row["arm"] == "imagenet" else 0.03
    return [
        _take(row, KEYS)
        | {"bin": i, "mean_probability": mean, "share": min(1.0, mean + tilt * math.sin(3 * mean)), "n": 103}
        | {"low": max(0.0, mean - 0.08), "high": min(1.0, mean + 0.12)}
        for i, mean in enumerate(means)
    ]


def _prevalence(row: Row) -> list[Row]:
    found = []
    for share in (0.01, 0.05, 0.1, 0.2, 0.5):
        ppv = 0.91 * share / (0.91 * share + 0.22 * (1 - share))
        found.append(
            _take(row, KEYS) | {"prevalence": share} | _ends("ppv", ppv) | _ends("npv", 1 - 0.1 * share)
        )
    return found


def _groups(row: Row) -> list[Row]:
    if not row["auroc"]:
        return []
    value, rows = float(row["auroc"]), []
    for name, group, images, gap in GROUPS:
        against = "M" if name == "sex" else "0 to 4"
        base = _take(row, KEYS) | {"attribute": name, "group": group, "n": images, "patients": images // 2}
        gaps = dict.fromkeys(("gap", "gap_low", "gap_high", "p_holm", "flagged"), "")
        if gap is not None:
            flagged = {"p_holm": 0.01 if gap else 0.8, "flagged": int(gap != 0)}
            gaps = {"gap": gap, "gap_low": gap - 0.03, "gap_high": gap + 0.03} | flagged
        area = {
            "auroc": value + (gap or 0),
            "low": value + (gap or 0) - 0.04,
            "high": min(1, value + (gap or 0) + 0.04),
        }
        rows.append(
            base | {"positives": images // 3} | area | {"against_group": against} | gaps | {"reason": ""}
        )
    empty = dict.fromkeys(
        ("auroc", "low", "high", "against_group", "gap", "gap_low", "gap_high", "p_holm", "flagged"), ""
    )
    base = _take(row, KEYS) | {
        "attribute": "age",
        "group": "10 and more",
        "n": 14,
        "patients": 9,
        "positives": 4,
    }
    return [*rows, base | empty | {"reason": FEW}]


def _run(number: int) -> Row:
    steps = np.linspace(10, 4000, 60).astype(int)
    rng = np.random.default_rng(number)
    log = [
        {
            "step": int(step),
            "loss": float(2.1 + 6.2 * math.exp(-step / 700) + rng.normal(0, 0.05)),
            "contrast_accuracy": float(0.9 * (1 - math.exp(-step / 900))),
            "effective_rank": float(20 + 60 * (1 - math.exp(-step / 1500))),
            "knn_auroc": float(0.6 + 0.2 * (1 - math.exp(-step / 1200))),
        }
        for step in steps
    ]
    words = {"verdict": "learning", "reason": "The loss fell to 2.10 (guessing: 8.32).", "remedy": ""}
    return {"run": f"moco-{number}", "health": words | {**log[-1], "queue": 4096, "dim": 128, "log": log}}
