"""What there is to do: pretraining runs and studies, from the paper's cells and what the user asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mococxr.errors import InputError
from mococxr.reproduction.cells import (
    ABLATION,
    FRACTIONS,
    HONEST_STD,
    MODES,
    Cell,
    cells_of,
    choose,
    run_name,
)

BACKBONES = ("resnet18", "densenet121")
OTHER_DRAWS = 5
"""Draws at a share of labels that the paper has not."""


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
        variant: `paper`, `solved` or `std`.
        runs: arm -> pretraining run that it starts from; None for the arm without.
    """

    name: str
    variant: str
    cells: tuple[Cell, ...]
    modes: tuple[str, ...]
    runs: dict[str, str | None]

    @property
    def first(self) -> Cell:
        """A cell of the study: task, backbone, fraction, draws and epochs are the same in all."""
        return self.cells[0]


def every_cell(dataset: str, fractions: Sequence[float], draws: int | None) -> list[Cell]:
    """The paper's cells, and those at shares of labels that it has not; `draws` in place of its own.

    A share that the paper has not gets the paper's arms, tasks and modes, and the formula's epochs.
    """
    own = cells_of(dataset)
    further = [fraction for fraction in dict.fromkeys(fractions) if fraction not in FRACTIONS[dataset]]
    first = [cell for cell in own if cell.fraction == FRACTIONS[dataset][0]]
    own += [
        dataclasses.replace(cell, fraction=fraction, draws=OTHER_DRAWS, epochs=None)
        for fraction in further
        for cell in first
    ]
    if draws is None:
        return own
    return [dataclasses.replace(cell, draws=1 if cell.fraction == 1 else draws) for cell in own]


def every_run(dataset: str, variants: Sequence[str]) -> list[Run]:
    """The pretraining runs: two backbones, the ablation of the learning rate, and the honest divisor."""
    if dataset != "chexpert":
        return []
    plain = [Run(backbone, backbone, 1e-4) for backbone in BACKBONES]
    plain += [Run(run_name(BACKBONES[0], lr), BACKBONES[0], lr) for lr in ABLATION if lr != 1e-4]
    if "std" not in variants:
        return plain
    return plain + [Run(f"{b}-std", b, 1e-4, HONEST_STD) for b in BACKBONES]


def chosen(
    cells: Sequence[Cell], runs: Sequence[Run], patterns: Sequence[str], fractions: Sequence[float]
) -> tuple[list[Cell], list[Run]]:
    """The cells and runs that are asked for; with a cell the run that it starts from.

    Args:
        patterns: `--cells`; those that begin with `pretraining/` choose runs. None chooses all cells.
        fractions: `--fraction`; none means all.

    Raises:
        InputError: a pattern that matches nothing, or nothing is left.
    """
    own = [pattern for pattern in patterns if pattern.startswith("pretraining/")]
    for pattern in own:
        if not any(fnmatchcase(run.id, pattern) for run in runs):
            known = ", ".join(run.id for run in runs) or "none: Shenzhen takes encoders by --pretrained"
            raise InputError(f"--cells {pattern!r} names no pretraining run.", f"There are {known}.")
    rest = [pattern for pattern in patterns if pattern not in own]
    taken = choose(cells, rest) if rest or not own else []
    taken = [cell for cell in taken if not fractions or cell.fraction in fractions]
    if not taken and not own:
        raise InputError("--cells and --fraction together leave no cell.", "Leave one of them out.")
    needed = {name for cell in taken if cell.run for name in (cell.run, f"{cell.run}-std")}
    wanted = [run for run in runs if run.name in needed or any(fnmatchcase(run.id, p) for p in own)]
    return taken, wanted


def studies_of(cells: Sequence[Cell], variants: Sequence[str]) -> list[Study]:
    """The study folders that the cells lie in, the cheaper fractions of a task first, then the variants.

    A study holds all of its arms in all of its modes: that is more than was asked for where the cells chosen
    are not all arms of all modes.
    """
    folders: dict[str, list[Cell]] = {}
    for cell in cells:
        folders.setdefault(cell.study, []).append(cell)
    made = [_study(name, "paper", members) for name, members in folders.items()]
    for variant in ("solved", "std"):
        if variant in variants:
            made += [
                one for name, members in folders.items() if (one := _study(name, variant, members)).cells
            ]
    return made


def _study(name: str, variant: str, members: Sequence[Cell]) -> Study:
    wanted = {"solved": lambda cell: cell.mode == "linear", "std": lambda cell: "-lr" not in cell.arm}
    cells = tuple(filter(wanted.get(variant), members))
    runs = {
        cell.arm: f"{cell.run}-std" if variant == "std" and cell.run else cell.run
        for cell in sorted(cells, key=lambda one: one.arm)
    }
    modes = tuple(mode for mode in MODES if any(cell.mode == mode for cell in cells))
    return Study(name if variant == "paper" else f"{name}-{variant}", variant, cells, modes, runs)
