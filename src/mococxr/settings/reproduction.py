"""Settings of `reproduce`: the paper's experiments in one command, and what may differ from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.fields import setting
from mococxr.settings.pretraining import Device

_PAPER = "arXiv 2010.05352"


@dataclass(frozen=True, kw_only=True)
class ReproduceSettings:
    """Repeat the paper's experiments on CheXpert or Shenzhen, number beside published number."""

    # What differs from the paper is allowed and is listed as a departure.

    dataset: Literal["chexpert", "shenzhen"] = setting("chexpert or shenzhen.", positional=True)
    root: Path = setting("The folder of the data set, as released.")
    out: Path = setting("The folder to make or go on with.")
    test_root: Path | None = setting(
        "CheXpert: the folder of the official test set; without it no cell that needs it is run.",
        None,
        group="Images",
    )
    cells: tuple[str, ...] = setting(
        "Which cells, as TASK/BACKBONE/MODE/FRACTION/ARM or pretraining/RUN; * and ? as in file names "
        "(repeatable).",
        (),
        shown="all",
        group="Comparison",
    )
    dry_run: bool = setting(
        "Plan only: write draws and plan.csv, measure a few steps, read no image.", False, group="Run"
    )
    variant: tuple[Literal["solved", "std"], ...] = setting(
        "Run beside the paper's way a sounder one (repeatable): solved, a linear head solved on frozen "
        "features; std, pretraining that divides by the standard deviation 0.29255 instead of its square.",
        (),
        group="Comparison",
    )
    size: int = setting("Side of images and views.", 320, unit="px", source=_PAPER, group="Images")
    epochs: int = setting(
        "Pretraining: passes over the images.", 20, unit="epochs", source=_PAPER, group="Optimiser"
    )
    train_epochs: float | None = setting(
        "Training on labels: passes over the labelled images.",
        None,
        unit="epochs",
        shown="220, 95, 41 and 18 on CheXpert, else 220 (n/223)^-0.365 for n images",
        source=_PAPER,
        group="Trained by gradient",
    )
    queue: int | None = setting(
        "Pretraining: keys in the queue.",
        None,
        unit="keys",
        shown="24576, or the most that the images allow",
        source=_PAPER,
        group="Contrast",
    )
    batch: int = setting(
        "Images a step, in pretraining and on labels.", 16, unit="images", source=_PAPER, group="Optimiser"
    )
    init: str = setting(
        "Where both arms start: imagenet, or any encoder that pretrain takes.",
        "imagenet",
        source=_PAPER,
        group="Encoder",
    )
    fraction: tuple[float, ...] = setting(
        "Shares of the labels.",
        (),
        shown="0.001 0.01 0.1 1 on CheXpert, 0.0625 0.25 1 on Shenzhen",
        source=_PAPER,
        group="Comparison",
    )
    draws: int | None = setting(
        "Draws of labels at each share; at 1 there is one.",
        None,
        shown="5 on CheXpert; 8 and 4 on Shenzhen",
        source=_PAPER,
        group="Comparison",
    )
    replicates: int = setting(
        "Bootstrap resamples of the test patients.", 500, source=_PAPER, group="Comparison"
    )
    pretrained: tuple[str, ...] = setting(
        "Shenzhen: the OUT of `reproduce chexpert`, or RUN=ENCODER with RUN as in --cells 'pretraining/*' "
        "(repeatable), e.g. resnet18=DIR.",
        (),
        group="Encoder",
    )
    split: tuple[float, float, float] = setting(
        "Shenzhen: shares of the images for training, validation and test.",
        (0.65, 0.15, 0.2),
        source=_PAPER,
        group="Split",
    )
    split_file: Path | None = setting(
        "Shenzhen: a published split or one of its folds instead of shares, as `prepare --split-file`.",
        None,
        group="Split",
    )
    seed: int = setting(
        "Seed of weights, views, orders, resamples and the split by shares; CheXpert's draws are the paper's.",
        0,
        group="Run",
    )
    device: Device = setting("Where to compute.", "auto", group="Run")
    jobs: int | None = setting("Processes at work.", None, shown="one a core", group="Run")
    executor: Literal["local", "ray"] = setting(
        "Where images are decoded and trials run: on this machine, or over a Ray cluster that shares its file system. "
        "Pretraining stays in this process.",
        "local",
        group="Run",
    )
    gpus: float | None = setting(
        "With --executor ray: share of a GPU that a trial by gradient takes, and each pass over the images.",
        None,
        shown="0.25 where the cluster has GPUs; 0 is the CPU",
        unit="GPUs",
        group="Run",
    )
