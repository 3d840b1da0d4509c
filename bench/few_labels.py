"""Few labels end to end: fine-tuning and LP-FT from one encoder, against a linear head on it, frozen.

    python bench/few_labels.py ENCODER --store STORE --out runs/few [--size 224] [--fraction 0.2] [--draws 3]

A study of the three modes on the same label subsets (12 epochs of AdamW 1e-4, last weights: no validation label is
read), with the baseline of a study beside it. Prints what each mode gains over the linear head on the same test
images, with intervals over patients. At 224 px, 120 labelled images and two cores a subset takes some minutes a mode;
what is done is not done again.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import mococxr
from ceiling import SHOWN, aurocs, interval, resampled, scored
from real_images import quoted

MODES = ("linear", "finetune", "lpft")
GRADIENT: dict[str, Any] = {"epochs": 12, "checkpoints": 0, "optimizer": "adamw", "lr": 1e-4}
TARGETS = ("Effusion", "Pneumonia")


def gains(folder: Path) -> pl.DataFrame:
    """AUROC of each arm in each mode by gradient, and its gain over the linear head of that arm.

    Returns:
        target, fraction, arm, mode, linear, auroc, gain, low, high; means over the label subsets.
    """
    trials = list(scored(folder))
    weights = resampled(pl.concat(table["patient"] for _, table in trials))
    values: dict[tuple[Any, ...], list[NDArray]] = defaultdict(list)
    for trial, plain in trials:
        table = plain.join(weights, on="patient", maintain_order="left")
        values[trial["target"], trial["fraction"], trial["arm"], trial["mode"]].append(aurocs(table, "score"))
    means = {key: np.mean(several, axis=0) for key, several in values.items()}
    rows = []
    for (*cell, mode), mean in means.items():
        if mode != "linear":  # an added baseline has no other mode
            linear = means[(*cell, "linear")]
            rows.append((*cell, mode, linear[0], mean[0], *interval(mean - linear)))
    names = ["target", "fraction", "arm", "mode", "linear", "auroc", "gain", "low", "high"]
    return pl.DataFrame(rows, schema=names, orient="row").sort("target", "fraction", "mode")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="a run folder, or any encoder by name")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/few"))
    parser.add_argument("--size", type=int, default=224, help="side of its frames, px")
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--fraction", type=float, nargs="+", default=[0.2])
    parser.add_argument("--draws", type=int, default=3)
    asked = parser.parse_args()
    mococxr.study(
        asked.store, target=asked.targets, arm=f"encoder={quoted(asked.encoder)}@{asked.size}", mode=MODES,
        fraction=asked.fraction, draws=asked.draws, out=asked.out, **GRADIENT,
    )  # fmt: skip
    with pl.Config(**SHOWN):
        print(gains(asked.out))


if __name__ == "__main__":
    main()
