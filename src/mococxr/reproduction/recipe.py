"""The paper's experiments as data: what it trained, on what, and what it prints (arXiv 2010.05352).

A cell is one number of one arm: task, network, mode, label fraction, arm. All cells of one task, network and fraction
are one study, since they share their label subsets and are judged on the same resamples. Differences follow from cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mococxr.errors import InputError

TASKS = {
    "chexpert": ("Pleural Effusion", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema"),
    "shenzhen": ("Tuberculosis",),
}
"""The labels of each dataset; the paper's main one first, the only one on both networks."""
BACKBONES = ("resnet18", "densenet121")
MODES = ("linear", "finetune")
SUBSETS: dict[str, dict[float, tuple[int, int | None]]] = {
    "chexpert": {0.001: (5, 220), 0.01: (5, 95), 0.1: (5, 41), 1.0: (1, 18)},
    "shenzhen": {0.0625: (8, None), 0.25: (4, None), 1.0: (1, None)},
}
"""Label fraction -> label subsets drawn, and epochs on them (not printed for Shenzhen)."""
OTHER_SUBSETS = 5
"""Label subsets at a fraction that the paper does not have."""
DEFAULT_LR = 1e-4
LEARNING_RATES = (1e-2, 1e-3, DEFAULT_LR, 1e-5)
"""Learning rates of pretraining that the paper compares: ResNet-18, linear, Shenzhen, all labels."""
STUDY: dict[str, Any] = {
    "baseline": False,  # the paper compares with ImageNet at the size of the run
    "mode": MODES,
    "linear_solver": "gradient",  # the paper's epochs, batch norm in train mode
    "standardize": "labelled",  # of a solved head, which is a variant: labels are all that it is given
    "optimizer": "adam",
    "lr": 3e-5,
    "weight_decay": 0.0,
    "batch": 16,
    "checkpoints": 10,  # the most that the paper averages, by validation AUROC
    "crop_mode": "center",
    "features": "last",
    "uncertain": "ignore",  # U-Ignore
    "unit": "study",  # 500 studies have a vote each
    "aggregate": "max",  # over the views of a study
    "replicates": 500,
}
"""What `study` is asked for in every cell; on Shenzhen, where a patient has one image, the unit is the image."""
HONEST_STD = 0.29255
"""The standard deviation of CheXpert's grey values, whose square the released code divides by."""
VARIANTS = ("lbfgs", "std")
"""Ways that we hold to be sounder, run beside the paper's."""


@dataclass(frozen=True)
class Cell:
    """One arm at one place of the tables.

    Args:
        dataset: `chexpert` or `shenzhen`.
        task: name of the label.
        backbone: `resnet18` or `densenet121`.
        mode: `linear` or `finetune`.
        fraction: share of the labelled images.
        arm: `moco`, `imagenet`, or `moco-lrX` for the comparison of learning rates.
        draws: label subsets at this fraction.
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
        return cell_id(self.task, self.backbone, self.mode, self.fraction, self.arm)

    @property
    def study(self) -> str:
        """The study folder that holds the cell: `pleural-effusion-resnet18-0.001`; learning rates have their own."""
        rates = "-lr" if self.arm.startswith("moco-lr") else ""
        return f"{task_name(self.task)}-{self.backbone}-{self.fraction:g}{rates}"

    @property
    def run(self) -> str | None:
        """The pretraining run that the arm starts from: `resnet18`, `resnet18-lr0.01`; None for ImageNet."""
        if self.arm == "imagenet":
            return None
        return run_name(self.backbone, float(self.arm.partition("-lr")[2] or DEFAULT_LR))


@dataclass(frozen=True)
class Run:
    """A pretraining run; `std` is None where the preset's holds."""

    name: str
    backbone: str
    lr: float
    std: float | None = None

    @property
    def id(self) -> str:
        """Its name among cells: `pretraining/resnet18`."""
        return f"pretraining/{self.name}"


@dataclass(frozen=True)
class Study:
    """One ordinary study folder, with the cells that it gives numbers for.

    Args:
        variant: `paper`, `lbfgs` or `std`.
        runs: arm -> pretraining run that it starts from; None for the arm without.
    """

    name: str
    variant: str
    cells: tuple[Cell, ...]
    modes: tuple[str, ...]
    runs: dict[str, str | None]

    @property
    def first(self) -> Cell:
        """A cell of the study: task, network, fraction, subsets and epochs are the same in all."""
        return self.cells[0]


def task_name(task: str) -> str:
    """`Pleural Effusion` -> `pleural-effusion`."""
    return task.lower().replace(" ", "-")


def cell_id(task: str, backbone: str, mode: str, fraction: float, arm: str) -> str:
    """The name of a cell in `--cells`, plan.csv and reproduce.json."""
    return f"{task_name(task)}/{backbone}/{mode}/{fraction:g}/{arm}"


def run_name(backbone: str, lr: float) -> str:
    """Folder of a pretraining run; the learning rate is named where it is not the paper's choice."""
    return backbone if lr == DEFAULT_LR else f"{backbone}-lr{lr:g}"


def cells_of(dataset: str) -> list[Cell]:
    """Every cell of a dataset that the paper prints, in the order of its tables."""
    main, *others = TASKS[dataset]
    pairs = [(main, backbone) for backbone in BACKBONES] + [(task, BACKBONES[0]) for task in others]
    cells = [
        Cell(dataset, task, backbone, mode, fraction, arm, draws, epochs)
        for task, backbone in pairs
        for mode in MODES
        for fraction, (draws, epochs) in SUBSETS[dataset].items()
        for arm in ("imagenet", "moco")
    ]
    if dataset == "shenzhen":
        rates = [lr for lr in LEARNING_RATES if lr != DEFAULT_LR]
        cells += [Cell(dataset, main, BACKBONES[0], "linear", 1.0, f"moco-lr{lr:g}", 1, None) for lr in rates]
    return cells


def every_cell(dataset: str, fractions: Sequence[float], draws: int | None) -> list[Cell]:
    """The paper's cells, and those at fractions that it does not have; `draws` in place of its own.

    A further fraction gets the paper's arms, tasks and modes, and the formula's epochs.
    """
    cells = cells_of(dataset)
    smallest = [cell for cell in cells if cell.fraction == next(iter(SUBSETS[dataset]))]
    further = [fraction for fraction in dict.fromkeys(fractions) if fraction not in SUBSETS[dataset]]
    cells += [
        dataclasses.replace(cell, fraction=fraction, draws=OTHER_SUBSETS, epochs=None)
        for fraction in further
        for cell in smallest
    ]
    if draws is None:
        return cells
    # all labels: one subset
    return [dataclasses.replace(cell, draws=1 if cell.fraction == 1 else draws) for cell in cells]


def every_run(dataset: str, variants: Sequence[str]) -> list[Run]:
    """The pretraining runs: two networks, the other learning rates, and the unsquared standard deviation."""
    if dataset != "chexpert":
        return []
    runs = [Run(backbone, backbone, DEFAULT_LR) for backbone in BACKBONES]
    runs += [Run(run_name(BACKBONES[0], lr), BACKBONES[0], lr) for lr in LEARNING_RATES if lr != DEFAULT_LR]
    if "std" in variants:
        runs += [Run(f"{backbone}-std", backbone, DEFAULT_LR, HONEST_STD) for backbone in BACKBONES]
    return runs


def select(
    cells: Sequence[Cell], runs: Sequence[Run], patterns: Sequence[str], fractions: Sequence[float] = ()
) -> tuple[list[Cell], list[Run]]:
    """The cells and runs that are asked for; with a cell the run that it starts from.

    Args:
        patterns: `--cells`, `*` and `?` as in file names; those that begin with `pretraining/` select runs. None
            selects all cells.
        fractions: `--fraction`; none means all.

    Raises:
        InputError: a pattern that matches nothing, or nothing is left.
    """
    of_runs = [pattern for pattern in patterns if pattern.startswith("pretraining/")]
    of_cells = [pattern for pattern in patterns if pattern not in of_runs]
    for pattern in of_runs:
        if not any(fnmatchcase(run.id, pattern) for run in runs):
            known = ", ".join(run.id for run in runs) or "none: Shenzhen takes encoders by --pretrained"
            raise InputError(f"--cells {pattern!r} matches no pretraining run.", f"There are {known}.")
    for pattern in of_cells:
        if not any(fnmatchcase(cell.id, pattern) for cell in cells):
            raise InputError(
                f"--cells {pattern!r} matches no cell.",
                f"A cell reads TASK/BACKBONE/MODE/FRACTION/ARM, for example {cells[0].id!r}; * stands for anything.",
            )
    selected = [
        cell
        for cell in cells
        if (any(fnmatchcase(cell.id, pattern) for pattern in of_cells) or not patterns)
        and (not fractions or cell.fraction in fractions)
    ]
    if not selected and not of_runs:
        raise InputError("--cells and --fraction together leave no cell.", "Leave one of them out.")
    starts = {name for cell in selected if cell.run for name in (cell.run, f"{cell.run}-std")}
    return selected, [
        run for run in runs if run.name in starts or any(fnmatchcase(run.id, pattern) for pattern in of_runs)
    ]


def studies_of(cells: Sequence[Cell], variants: Sequence[str]) -> list[Study]:
    """The study folders that the cells lie in, the cheaper fractions of a task first, then the variants.

    A study holds all of its arms in all of its modes: that is more than was asked for where the cells selected
    are not all arms of all modes.
    """
    folders: dict[str, list[Cell]] = {}
    for cell in cells:
        folders.setdefault(cell.study, []).append(cell)
    paper = [_study(name, "paper", members) for name, members in folders.items()]
    # A closed-form head needs no fine-tuning beside it, and the learning rates were run with the paper's divisor.
    solved = {name: [cell for cell in members if cell.mode == "linear"] for name, members in folders.items()}
    std = {name: [cell for cell in members if "-lr" not in cell.arm] for name, members in folders.items()}
    return paper + [
        _study(name, variant, members)
        for variant, members_of in (("lbfgs", solved), ("std", std))
        if variant in variants
        for name, members in members_of.items()
        if members
    ]


def _study(name: str, variant: str, cells: Sequence[Cell]) -> Study:
    runs = {
        cell.arm: f"{cell.run}-std" if variant == "std" and cell.run else cell.run
        for cell in sorted(cells, key=lambda cell: cell.arm)  # imagenet before moco: the first arm is the reference
    }
    modes = tuple(mode for mode in MODES if any(cell.mode == mode for cell in cells))
    return Study(name if variant == "paper" else f"{name}-{variant}", variant, tuple(cells), modes, runs)
