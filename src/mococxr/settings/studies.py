"""Settings of `study`, `report` and `demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.classifiers import Mode, TrainingSettings
from mococxr.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class StudySettings(TrainingSettings):
    """Compare encoders fairly: arms x modes x targets x label fractions x draws, with paired intervals."""

    store: Path = setting("A store made by `prepare`.", positional=True)
    target: tuple[str, ...] = setting("A label column, or COLUMN=VALUE (repeatable).")
    arm: tuple[str, ...] = setting(
        "NAME, NAME=ENCODER or NAME=RUN1,RUN2 for several pretraining seeds (repeatable); an encoder is a "
        "run folder, imagenet, random, a timm network, hf:OWNER/NAME, hf:FOLDER, xrv:NAME, or NETWORK:FILE."
    )
    mode: tuple[Mode, ...] = setting("linear, finetune, or both.", ("linear",), group="Comparison")
    fraction: tuple[float, ...] = setting(
        "Shares of the labelled training patients.",
        (0.01, 0.1, 1.0),
        source="arXiv 2010.05352",
        group="Comparison",
    )
    draws: int = setting(
        "Draws of labels at each fraction; at fraction 1 there is one.",
        5,
        source="arXiv 2010.05352",
        group="Comparison",
    )
    draws_from: Path | None = setting(
        "A folder of draws made elsewhere, FRACTION-I.csv with path and patient, in place of --draws.",
        None,
        group="Comparison",
    )
    test_on: Path | None = setting(
        "Another store whose test images are judged instead of the store's own: external validation.",
        None,
        shown="the store's own test images",
        group="Comparison",
    )
    unit: Literal["image", "study", "patient"] = setting(
        "What is scored on the test side.", "image", group="Comparison"
    )
    vote: Literal["max", "mean"] = setting(
        "How images of one unit become one score.", "max", source="arXiv 2010.05352", group="Comparison"
    )
    against: str | None = setting("The reference arm.", None, shown="the first arm named", group="Comparison")
    replicates: int = setting("Bootstrap resamples of the test patients.", 2000, group="Comparison")
    margin: float | None = setting(
        "A difference of AUROC, named beforehand, for tests of equivalence and of being no worse.",
        None,
        shown="no such test",
        group="Comparison",
    )
    sensitivity: float = setting(
        "The sensitivity that the threshold, chosen on validation images, is to have.",
        0.9,
        group="Comparison",
    )
    subgroup: tuple[str, ...] = setting(
        "A column whose groups are judged apart (repeatable).",
        (),
        shown="sex, age in bands, view, device, source, hospital, where they have 2 or more values",
        group="Comparison",
    )
    group_minimum: int = setting(
        "Positive and negative patients that a group needs to be judged.",
        10,
        unit="patients",
        group="Comparison",
    )
    executor: Literal["local", "ray"] = setting(
        "Where trials run: on this machine, or over a Ray cluster that shares its file system.",
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
    out: Path = setting("The study folder to make or go on with.")


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Write the report of a study again."""

    study: Path = setting("A study folder.", positional=True)


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Show the whole way on synthetic images (phantoms): it demonstrates and proves nothing."""

    out: Path = setting("Where to put everything.", Path("demo"))
    images: int = setting("How many phantom images to draw.", 2400, unit="images", group="Run")
    epochs: int = setting("Passes over the training images in pretraining.", 10, unit="epochs", group="Run")
    seed: int = setting("Seed of everything random.", 0, group="Run")
