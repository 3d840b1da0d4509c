"""Settings of `study`, `report`, `evaluate`, `reproduce` and `demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.classifiers import Mode, TrainingSettings
from mococxr.settings.fields import ENCODERS, PAPER, OnDevice, OnGpus, Seeded, WithJobs, setting
from mococxr.settings.preparation import STORE


@dataclass(frozen=True, kw_only=True)
class StudySettings(TrainingSettings, OnGpus):
    """Compare encoders at each label fraction: arms x modes x targets x fractions x label subsets, paired intervals."""

    store: Path = setting(STORE, positional=True)
    target: tuple[str, ...] = setting("Label to predict: a column, or COLUMN=VALUE (repeatable).")
    arm: tuple[str, ...] = setting(
        "Encoder to compare: NAME=ENCODER, an encoder alone, or NAME=RUN1,RUN2 for several pretraining seeds "
        f"(repeatable). An encoder is one of: {ENCODERS}; or FEATURES.parquet, a table that `embed` wrote."
    )
    out: Path = setting("Study folder (created, or resumed).")
    mode: tuple[Mode, ...] = setting(
        "Linear probe on frozen features, fine-tuning of all layers, fine-tuning from the probe's head (lpft); or several.",
        ("linear",),
        group="Design",
    )
    fraction: tuple[float, ...] = setting(
        "Fractions of the labelled training patients.", (0.01, 0.1, 1.0), above=0, high=1, source=PAPER, group="Design"
    )
    draws: int = setting("Label subsets per fraction; fraction 1 has one.", 5, low=1, source=PAPER, group="Design")
    draws_from: Path | None = setting(
        "Folder of given label subsets, FRACTION-I.csv with path and patient, instead of --draws.", None, group="Design"
    )
    test_on: Path | None = setting(
        "External validation: another store whose test images are scored.",
        None,
        shown="the store's own test images",
        group="Design",
    )
    unit: Literal["image", "study", "patient"] = setting(
        "Level at which test scores are compared.", "image", group="Design"
    )
    aggregate: Literal["max", "mean"] = setting(
        "How image scores of one study or patient are aggregated.", "max", source=PAPER, group="Design"
    )
    against: str | None = setting("Reference arm.", None, shown="the first arm", group="Design")
    replicates: int = setting("Bootstrap resamples of the test patients.", 2000, low=1, group="Statistics")
    margin: float | None = setting(
        "Pre-specified AUROC margin for tests of equivalence and non-inferiority.",
        None,
        above=0,
        below=1,
        shown="no such tests",
        group="Statistics",
    )
    sensitivity: float = setting(
        "Sensitivity at which the threshold is set on validation images.", 0.9, above=0, high=1, group="Statistics"
    )
    subgroup: tuple[str, ...] = setting(
        "Column of subgroups to evaluate separately (repeatable).",
        (),
        shown="sex, age in bands, view, device, source, hospital, each if it has 2 or more values",
        group="Statistics",
    )
    group_minimum: int = setting(
        "Smallest number of positive and of negative patients in a subgroup.",
        10,
        unit="patients",
        low=2,
        group="Statistics",
    )


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Write the report of a study again."""

    study: Path = setting("A study folder.", positional=True)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Seeded):
    """Evaluate any table of predictions: AUROC, comparison, operating point, calibration, subgroups, with intervals."""

    predictions: Path = setting("Table (CSV or Parquet) of labels and scores.", positional=True)
    label: tuple[str, ...] = setting("Column of labels, 1 or 0 (repeatable).", single=True)
    score: tuple[str, ...] = setting("Column of scores, one per label (repeatable).", single=True)
    patient: str | None = setting(
        "Column of patient identifiers.", None, shown="each row is its own patient", group="Columns"
    )
    key: str | None = setting(
        "Column by which the rows of two tables are paired.", None, shown="by position", group="Columns"
    )
    subgroup: tuple[str, ...] = setting(
        "Column of subgroups, each compared with the largest (repeatable); a column age is divided into bands.",
        (),
        group="Columns",
    )
    against: Path | None = setting("A second table to compare with, on the same images.", None, group="Comparison")
    unpaired: bool = setting("The second table has other patients.", False, group="Comparison")
    margin: float | None = setting(
        "Pre-specified AUROC margin for tests of equivalence and non-inferiority.",
        None,
        above=0,
        below=1,
        shown="no such tests",
        group="Comparison",
    )
    target_difference: float = setting(
        "AUROC difference for which the sample size of a future study is computed.",
        0.03,
        above=0,
        below=1,
        group="Comparison",
    )
    validation: Path | None = setting(
        "A table of other patients for fitting --threshold and --calibrate.", None, group="Operating point"
    )
    threshold: str | None = setting(
        "Decision threshold: a score, or youden or sensitivity=VALUE, chosen on --validation.",
        None,
        group="Operating point",
    )
    prevalence: float | None = setting(
        "With --threshold: PPV and NPV also at this prevalence.", None, above=0, below=1, group="Operating point"
    )
    calibration: bool = setting(
        "Assess calibration: Brier score, calibration error, slope, intercept, reliability curve.",
        False,
        group="Operating point",
    )
    calibrate: Literal["none", "platt", "isotonic", "temperature"] = setting(
        "Calibrate the scores on --validation first; implies --calibration.", "none", group="Operating point"
    )
    replicates: int = setting("Bootstrap resamples of the patients.", 2000, low=1, group="Statistics")
    bootstrap: Literal["percentile", "bca"] = setting("Type of bootstrap interval.", "percentile", group="Statistics")
    stratify: bool = setting("Resample patients with and without the finding separately.", False, group="Statistics")
    level: float = setting("Confidence level of the intervals.", 0.95, above=0, below=1, group="Statistics")
    json: Path | None = setting("JSON file for all numbers in full precision.", None, group="Output")


@dataclass(frozen=True, kw_only=True)
class ReproduceSettings(OnDevice, WithJobs, Seeded, OnGpus):
    """Repeat the paper's experiments on CheXpert or Shenzhen and compare with the published numbers."""

    # What differs from the paper is allowed and is listed as a deviation.

    dataset: Literal["chexpert", "shenzhen"] = setting("Dataset: chexpert or shenzhen.", positional=True)
    root: Path = setting("Dataset folder, as released.")
    out: Path = setting("Output folder (created, or resumed).")
    test_root: Path | None = setting(
        "CheXpert: folder of the official test set; without it, cells that need it are skipped.", None, group="Images"
    )
    split: tuple[float, float, float] = setting(
        "Shenzhen: fractions of images for training, validation and test.",
        (0.65, 0.15, 0.2),
        low=0,
        high=1,
        source=PAPER,
        group="Split",
    )
    split_file: Path | None = setting(
        "Shenzhen: a published split or one of its folds, as in `prepare --split-file`.", None, group="Split"
    )
    cells: tuple[str, ...] = setting(
        "Cells to run, as TASK/BACKBONE/MODE/FRACTION/ARM or pretraining/RUN; * and ? match as in file names "
        "(repeatable).",
        (),
        shown="all",
        group="Design",
    )
    variant: tuple[Literal["lbfgs", "std"], ...] = setting(
        "Alternative settings to run beside the paper's (repeatable): solved, a logistic regression solved on frozen "
        "features; std, pretraining with the standard deviation 0.29255 instead of its square.",
        (),
        group="Design",
    )
    fraction: tuple[float, ...] = setting(
        "Label fractions.",
        (),
        above=0,
        high=1,
        shown="0.001 0.01 0.1 1 on CheXpert, 0.0625 0.25 1 on Shenzhen",
        source=PAPER,
        group="Design",
    )
    draws: int | None = setting(
        "Label subsets per fraction; fraction 1 has one.",
        None,
        low=1,
        shown="5 on CheXpert; 8 and 4 on Shenzhen",
        source=PAPER,
        group="Design",
    )
    replicates: int = setting("Bootstrap resamples of the test patients.", 500, low=1, source=PAPER, group="Statistics")
    size: int = setting("Side of images and views.", 320, unit="px", low=16, high=4096, source=PAPER, group="Images")
    init: str = setting(
        "Initial weights of both arms: imagenet, or any encoder that `pretrain` takes.",
        "imagenet",
        source=PAPER,
        group="Encoder",
    )
    pretrained: tuple[str, ...] = setting(
        "Shenzhen: output folder of `reproduce chexpert`, or RUN=ENCODER with RUN as in --cells 'pretraining/*' "
        "(repeatable), e.g. resnet18=DIR.",
        (),
        group="Encoder",
    )
    queue: int | None = setting(
        "Pretraining: queue length.",
        None,
        unit="keys",
        low=1,
        shown="24576, or as many as the images allow",
        source=PAPER,
        group="Contrastive learning",
    )
    epochs: int = setting(
        "Pretraining: passes over the images.", 20, unit="epochs", low=1, source=PAPER, group="Optimisation"
    )
    batch: int = setting(
        "Batch size, in pretraining and on labels.", 16, unit="images", low=2, source=PAPER, group="Optimisation"
    )
    train_epochs: float | None = setting(
        "Training on labels: passes over the labelled images.",
        None,
        unit="epochs",
        above=0,
        shown="220, 95, 41 and 18 on CheXpert, else 220 (n/223)^-0.365 for n images",
        source=PAPER,
        group="Gradient training",
    )
    dry_run: bool = setting(
        "Plan only: write label subsets and plan.csv, time a few steps, read no image.", False, group="Execution"
    )


@dataclass(frozen=True, kw_only=True)
class DemoSettings(Seeded):
    """Run the whole workflow on synthetic images: a demonstration, not evidence."""

    out: Path = setting("Output folder.", Path("demo"), group="Output")
    images: int = setting("Number of synthetic images.", 2400, unit="images", low=200, group="Images")
    epochs: int = setting("Pretraining: passes over the images.", 10, unit="epochs", low=1, group="Optimisation")
