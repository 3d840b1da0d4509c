"""The further tables of a made-up STUDY folder: variance, labels saved, calibration, subgroups, health of runs."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

GROUPS = (("sex", "F", 240, 0.0), ("sex", "M", 274, None), ("age", "0 to 4", 300, None), ("age", "5 to 9", 200, -0.06))
PLANNED = "To see a difference of 0.03 in AUROC with 80 % power, 1,204 test patients are needed."
FEW = "Only 4 positive test patients: no AUROC of this group is computed."
KEYS = ("arm", "mode", "target", "fraction")
PAIR = ("arm", "against", "mode", "target", "fraction", "against_mode")
RECIPE = {
    "method": "momentum contrast (MoCo v2)", "steps": 1275, "auxiliary": [], "batch": 32, "lr": 5e-4, "optimizer": "adamw",
    "phases": [{"size": 96, "epochs": 12, "lr": None}, {"size": 224, "epochs": 1, "lr": 1e-5}], "weight_decay": 1e-4,
    "schedule": "cosine", "milestones": [], "warmup": 0.02, "ema": 0.0, "queue": 1024, "momentum": 0.99, "temperature": 0.2,
    "head": "mlp", "dim": 128, "crop": [0.9, 1.0], "rotation": 10.0, "flip": 0.5, "brightness": 0.0, "contrast": 0.0,
    "select": "last",
}  # fmt: skip
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


def further_tables(cells: list[Row], differences: list[Row]) -> dict[str, list[Row]]:
    """The tables beside cells, trials and differences."""
    return {
        "flow": [
            {
                "target": target,
                "split": split,
                "label": label,
                "images": 90,
                "patients": {"train": 1695, "val": 100, "test": 310}[split] if label == "all" else 60,
                "studies": 70,
                "restricted": 0,
                "uncertain": 3,
                "unlabelled": 7,
                "age_median": 47.5,
                "age_q1": 30,
                "age_q3": 61,
                "sex": "F 50, M 40",
                "view": "PA 90",
            }
            for target in dict.fromkeys(row["target"] for row in cells)
            for split in ("train", "val", "test")
            for label in ("all", "positive", "negative")
        ],
        "variance": [_variance(row) for row in differences],
        "labels_saved": [_saved(row) for row in differences],
        "forecast": [one for row in cells if row["fraction"] == 1 for one in _forecast(row)],
        "calibration": [_calibration(row) for row in cells],
        "decisions": [_decisions_over(row) for row in cells],
        "errors": [
            _take(row, KEYS) | {"kind": kind, "rank": 1, "score": 0.2, "path": "secret.png", "patient": "nobody"}
            for row in cells
            for kind in ("false negative", "false positive")
        ],
        "threshold_differences": [one for row in differences for one in _at_thresholds(row)],
        "reliability": [one for row in cells for one in _curve(row)],
        "smooth_calibration": [one for row in cells for one in _smooth(row)],
        "decision_curve": [one for row in cells for one in _decisions(row)],
        "prevalence": [one for row in cells for one in _prevalence(row)],
        "subgroups": [one for row in cells for one in _groups(row)],
        "subgroup_rates": [one for row in cells for one in _rates(row)],
    }


def _forecast(row: Row) -> list[Row]:
    names = _take(row, ("arm", "mode", "target"))
    if row.get("auroc") is None:
        return [names | {"times": times, "reason": "It cannot be said yet: no number."} for times in (1, 2, 4)]
    ends = {times: (row["auroc"] - 0.02 * times, row["auroc"] + 0.03 * times) for times in (1, 2, 4)}
    return [
        names | {"times": times, "labels": 3400 * times, "auroc": row["auroc"], "low": low, "high": high}
        | ({"reason": "the interval is 0.20 wide"} if times == 4 else {})
        for times, (low, high) in ends.items()
    ]  # fmt: skip


def _take(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names}


def verdict_of(row: Row) -> str:
    """The word that `study` writes beside an interval."""
    if "" in (row["low"], row["high"]):
        return "undefined"
    return "better" if float(row["low"]) > 0 else "worse" if float(row["high"]) < 0 else "no difference shown"


def judged(gap: float | None, number: int) -> Row:
    """The numbers of a difference among `number` of them."""
    if gap is None:
        return {"verdict": "undefined", "words": "Undefined: no number.", "reason": "no number"}
    low, high, p = gap - 0.026, gap + 0.024, min(1.0, 0.03 / (abs(gap) + 0.03))
    word = verdict_of({"low": low, "high": high})
    return {
        "difference": gap, "low": low, "high": high, "p": p, "p_total": min(1.0, 2 * p),
        "low_total": low - 0.02, "high_total": high + 0.02,
        "p_bootstrap": p, "p_holm": min(1, p * number), "p_bh": min(1.0, 1.5 * p), "verdict": word,
        "words": f"{word.capitalize()}, over other test patients.", "low_bootstrap": low, "high_bootstrap": high,
        "method": "DeLong over test patients, of the mean over draws", "ap_difference": gap, "ap_low": low,
        "ap_high": high,
    }  # fmt: skip


def _variance(row: Row) -> Row:
    base = _take(row, PAIR)
    if row.get("difference") is None:
        return base | {"reason": "no number"}
    several = row["fraction"] < 1
    words = None if several else "One draw of labels: what another draw would give is not in the interval."
    return base | {
        "difference": row["difference"], "patients": 3e-4, "draws": 1e-4 if several else None, "runs": 5e-5,
        "draw_x_run": 2e-5 if several else None, "patient_interactions": 1e-5, "standard_error": 0.02, "df": 7.5,
        "low": row["low"] - 0.02, "high": row["high"] + 0.02, "count_draws": 5 if several else 1, "count_runs": 2,
        "words": words,
    }  # fmt: skip


def _saved(row: Row) -> Row:
    images = 3400 * float(row["fraction"])
    words = f"What the arm reaches with {images:,.0f} labels takes the reference 412 "
    words += "(95 % interval over test patients: 180 to more than 3,400)."
    found = {"reference_images": "412", "low": "180", "high": "more than 3,400", "factor": 412 / images}
    return _take(row, PAIR) | {"train_images": images} | found | {"words": words}


def _ends(name: str, value: float, half: float = 0.03) -> Row:
    return {name: value, f"{name}_low": max(0.0, value - half), f"{name}_high": min(1.0, value + half)}


def _calibration(row: Row) -> Row:
    found = _take(row, KEYS) | {"draw": 0, "method": "platt", "n_validation": 200, "validation_positives": 110}
    found |= _ends("brier", 0.11) | _ends("ece", 0.04) | {"ece_if_perfect": 0.025, "slope": 0.93, "intercept": 0.08}
    found |= {"threshold": 0.41, "wanted_sensitivity": 0.9} | _ends("sensitivity", 0.91) | _ends("specificity", 0.78)
    found |= _ends("ppv", 0.85) | _ends("npv", 0.86) | {"prevalence": 300 / 514}
    ratios = {"lr_positive": 4.14, "lr_positive_low": 3.52, "lr_positive_high": 4.9, "lr_negative": 0.12}
    ratios |= {"lr_negative_low": 0.08, "lr_negative_high": 0.17, "observed_expected": 1.06}
    return found | ratios | {"observed_expected_low": 0.94, "observed_expected_high": 1.19}


def _decisions_over(row: Row) -> Row:
    found: Row = _take(row, KEYS) | {"classifiers": 5 if row["fraction"] < 1 else 1}
    for name, value in (("threshold", 0.41), ("sensitivity", 0.91), ("specificity", 0.78), ("brier", 0.11)):
        found |= {name: value, f"{name}_median": value - 0.02, f"{name}_least": value - 0.06, f"{name}_most": value}
    return found


def _smooth(row: Row) -> list[Row]:
    tilt = 0.1 if row["arm"] == "imagenet" else 0.03
    points = [(0.04 * i, 0.04 * i + tilt * math.sin(0.12 * i)) for i in range(1, 25)]
    return [
        _take(row, KEYS) | {"point": i, "probability": p, "observed": min(1.0, y)}
        | {"low": max(0.0, y - 0.04), "high": min(1.0, y + 0.05)}
        for i, (p, y) in enumerate(points)
    ]  # fmt: skip


def _decisions(row: Row) -> list[Row]:
    share, found = 300 / 514, []
    for threshold in (0.05, 0.1, 0.2, 0.5, 0.8):
        price = threshold / (1 - threshold)
        everyone, model = share - price * (1 - share), 0.9 * share - 0.2 * price * (1 - share)
        ends = {f"{name}{end}": value + half for name, value in (("model", model), ("all_positive", everyone),
                ("gain", model - everyone)) for end, half in (("", 0), ("_low", -0.03), ("_high", 0.03))}  # fmt: skip
        found.append(_take(row, KEYS) | {"threshold": threshold} | ends)
    return found


def _at_thresholds(row: Row) -> list[Row]:
    gaps = (("sensitivity", 0.04, 12, 6), ("specificity", -0.01, 3, 5))
    return [
        _take(row, PAIR)
        | {"rate": rate, "difference": gap, "low": gap - 0.05, "high": gap + 0.05, "p": 0.238}
        | {"only_arm": more, "only_reference": less, "method": "exact McNemar; intervals joined by correlation"}
        for rate, gap, more, less in gaps
    ]


def _curve(row: Row) -> list[Row]:
    means = (0.06, 0.22, 0.45, 0.7, 0.93)
    tilt = 0.1 if row["arm"] == "imagenet" else 0.03
    return [
        _take(row, KEYS)
        | {"bin": i, "mean_probability": mean, "observed": min(1.0, mean + tilt * math.sin(3 * mean)), "count": 103}
        | {"low": max(0.0, mean - 0.08), "high": min(1.0, mean + 0.12)}
        for i, mean in enumerate(means)
    ]


def _prevalence(row: Row) -> list[Row]:
    found = []
    for share in (0.01, 0.05, 0.1, 0.2, 0.5):
        ppv = 0.91 * share / (0.91 * share + 0.22 * (1 - share))
        found.append(_take(row, KEYS) | {"prevalence": share} | _ends("ppv", ppv) | _ends("npv", 1 - 0.1 * share))
    return found


def _groups(row: Row) -> list[Row]:
    if row.get("auroc") is None:
        return []
    rows = []
    for name, group, images, gap in GROUPS:
        value = row["auroc"] + (gap or 0)
        found = {"attribute": name, "group": group, "n": images, "patients": images // 2, "positives": images // 3}
        found |= {"auroc": value, "low": value - 0.04, "high": min(1, value + 0.04)}
        found |= {"against_group": "M" if name == "sex" else "0 to 4"}
        if gap is not None:
            found |= {"gap": gap, "gap_low": gap - 0.03, "gap_high": gap + 0.03}
            found |= {"p_holm": 0.01 if gap else 0.8, "flagged": int(gap != 0)}
        rows.append(_take(row, KEYS) | found)
    few = {"attribute": "age", "group": "10 and more", "n": 14, "patients": 9, "positives": 4, "reason": FEW}
    return [*rows, _take(row, KEYS) | few]


def _rates(row: Row) -> list[Row]:
    """Sensitivity, specificity and O/E of the groups; those of the smallest have no number."""
    rows = []
    for group in _groups(row):
        names = {name: group[name] for name in (*KEYS, "attribute", "group")} | {
            "against_group": group.get("against_group")
        }
        for rate, value in (("sensitivity", 0.9), ("specificity", 0.78), ("observed_expected", 1.07)):
            if group.get("auroc") is None:
                rows.append(names | {"rate": rate, "reason": FEW})
                continue
            gap = {
                name: group[name] for name in ("gap", "gap_low", "gap_high", "p_holm") if group.get("gap") is not None
            }
            flagged = {"flagged": int(bool(group["gap"]))} if gap else {}
            ends = {"value": value, "value_low": value - 0.03, "value_high": value + 0.03}
            rows.append(names | {"rate": rate} | ends | gap | flagged)
    return rows


def fake_run(number: int) -> Row:
    """What study.json says of a pretraining run."""
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
    return {
        "run": f"moco-{number}",
        "recipe": RECIPE | {"seed": number},
        "health": words
        | {**log[-1], "queue": 4096, "guessing": math.log(4097), "own_key_floor": math.log(2), "dim": 128, "log": log},
    }
