"""The cells of the paper's tables: what must be trained for each, and what the paper prints there.

A cell is one number of one arm: task, backbone, mode, label fraction, arm. Differences are not cells: they
follow from two of them. All cells of one task, backbone and fraction are one study, since they share their
draws and are judged on the same resamples.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from mococxr.errors import InputError

STUDY: dict[str, Any] = {
    "mode": ("linear", "finetune"),
    "linear": "paper",
    "optimizer": "adam",
    "lr": 3e-5,
    "weight_decay": 0.0,
    "batch": 16,
    "checkpoints": 10,
    "frame": "centre",
    "uncertain": "ignore",
    "unit": "study",
    "vote": "max",
    "replicates": 500,
}
"""What `reproduce` asks of `study` in every cell, whatever the task, backbone and share of labels; on Shenzhen,
where a patient has one image, the unit is the image."""
HONEST_STD = 0.29255
"""The standard deviation of CheXpert's grey values, whose square the released code divides by."""

CHEXPERT_TASKS = ("Pleural Effusion", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema")
"""The five competition tasks; the paper's main one first."""
SHENZHEN_TASK = "Tuberculosis"
FRACTIONS = {"chexpert": (0.001, 0.01, 0.1, 1.0), "shenzhen": (0.0625, 0.25, 1.0)}
DRAWS = {"chexpert": (5, 5, 5, 1), "shenzhen": (8, 4, 1)}
"""Draws of labels at each fraction, in the order of `FRACTIONS`."""
EPOCHS = {"chexpert": (220, 95, 41, 18)}
"""Passes over the labelled images at each fraction; not printed for Shenzhen."""
MODES = ("linear", "finetune")
ABLATION = (1e-2, 1e-3, 1e-4, 1e-5)
"""Learning rates of pretraining that the paper compares: ResNet-18, linear, Shenzhen, all labels."""
DEFAULT_LR = 1e-4


@dataclass(frozen=True)
class Cell:
    """One arm at one place of the tables.

    Args:
        dataset: `chexpert` or `shenzhen`.
        task: name of the label.
        backbone: `resnet18` or `densenet121`.
        mode: `linear` or `finetune`.
        fraction: share of the labelled images.
        arm: `moco`, `imagenet`, or `moco-lrX` for the ablation.
        draws: label draws at this fraction.
        epochs: passes over the labelled images; None where the paper prints none.
    """

    dataset: str
    task: str
    backbone: str
    mode: str
    fraction: float
    arm: str
    draws: int
    epochs: int | None

    @property
    def id(self) -> str:
        """`pleural-effusion/resnet18/linear/0.001/moco`."""
        return f"{task_name(self.task)}/{self.backbone}/{self.mode}/{self.fraction:g}/{self.arm}"

    @property
    def study(self) -> str:
        """The study folder that holds the cell: `pleural-effusion-resnet18-0.001`; the ablation has its own."""
        ablation = "-lr" if self.arm.startswith("moco-lr") else ""
        return f"{task_name(self.task)}-{self.backbone}-{self.fraction:g}{ablation}"

    @property
    def run(self) -> str | None:
        """The pretraining run that the arm starts from: `resnet18`, `resnet18-lr0.01`; None for ImageNet."""
        if self.arm == "imagenet":
            return None
        lr = self.arm.removeprefix("moco").removeprefix("-lr")
        return run_name(self.backbone, float(lr) if lr else DEFAULT_LR)


@dataclass(frozen=True)
class Published:
    """A number as printed, with its 95 % interval where there is one."""

    value: float
    low: float | None
    high: float | None
    note: str = ""


def task_name(task: str) -> str:
    """`Pleural Effusion` -> `pleural-effusion`."""
    return task.lower().replace(" ", "-")


def run_name(backbone: str, lr: float) -> str:
    """Folder of a pretraining run; the learning rate is named where it is not the paper's choice."""
    return backbone if lr == DEFAULT_LR else f"{backbone}-lr{lr:g}"


def cells_of(dataset: str) -> list[Cell]:
    """Every cell of a data set that the paper prints, in the order of its tables."""
    if dataset == "chexpert":
        pairs = [(CHEXPERT_TASKS[0], "resnet18"), (CHEXPERT_TASKS[0], "densenet121")]
        pairs += [(task, "resnet18") for task in CHEXPERT_TASKS[1:]]
    else:
        pairs = [(SHENZHEN_TASK, "resnet18"), (SHENZHEN_TASK, "densenet121")]
    epochs = EPOCHS.get(dataset, (None,) * len(FRACTIONS[dataset]))
    rows = list(zip(FRACTIONS[dataset], DRAWS[dataset], epochs, strict=True))
    found = [
        Cell(dataset, task, backbone, mode, fraction, arm, draws, passes)
        for task, backbone in pairs
        for mode in MODES
        for fraction, draws, passes in rows
        for arm in ("imagenet", "moco")
    ]
    if dataset == "shenzhen":
        found += [
            Cell(dataset, SHENZHEN_TASK, "resnet18", "linear", 1.0, f"moco-lr{lr:g}", 1, None)
            for lr in ABLATION
            if lr != DEFAULT_LR
        ]
    return found


def choose(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells whose id matches a pattern (`*` and `?` as in file names); no pattern means all.

    Raises:
        InputError: a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.id, pattern) for cell in cells):
            raise InputError(
                f"--cells {pattern!r} names no cell.",
                f"A cell reads TASK/BACKBONE/MODE/FRACTION/ARM, for example {cells[0].id!r}; * stands for anything.",
            )
    return [cell for cell in cells if not patterns or any(fnmatchcase(cell.id, p) for p in patterns)]


@cache
def _table() -> dict[tuple[str, ...], Published]:
    text = (files("mococxr.reproduction.reproduce") / "published.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    keys = ("task", "backbone", "mode", "fraction", "arm", "measure")
    return {
        tuple(row[key] for key in keys): Published(
            float(row["value"]),
            float(row["low"]) if row["low"] else None,
            float(row["high"]) if row["high"] else None,
            row["note"],
        )
        for row in rows
    }


def published(
    task: str, backbone: str, mode: str, fraction: float, arm: str, measure: str = "auroc"
) -> Published | None:
    """What the paper prints in one place; None where it prints nothing.

    Args:
        arm: `moco`, `imagenet`, `moco-lr0.01`, `difference` (MoCo less ImageNet, same mode), or
            `difference-from-imagenet-finetune` (linear MoCo less fine-tuned ImageNet).
        measure: `auroc` or `average_precision`.
    """
    return _table().get((task, backbone, mode, f"{fraction:g}", arm, measure))
