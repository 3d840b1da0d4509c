"""Settings of `study`, `report`, `evaluate`, `reproduce` and `demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.classifiers import Mode, TrainingSettings
from mococxr.settings.fields import ENCODERS, PAPER, SIZED, OnDevice, OnGpus, Seeded, Tracked, WithJobs, setting, under
from mococxr.settings.preparation import STORE

_images, _split, _design, _columns, _comparison = under("Images", "Split", "Design", "Columns", "Comparison")
_operating_point, _statistics, _encoder = under("Operating point", "Statistics", "Encoder")
_contrastive, _optimisation, _gradient = under("Contrastive learning", "Optimisation", "Gradient training")
_output, _execution = under("Output", "Execution")


@dataclass(frozen=True, kw_only=True)
class StudySettings(TrainingSettings, OnGpus, Tracked):
    """Compare encoders at each label fraction: arms x modes x targets x fractions x label subsets, paired intervals."""

    store: Path = setting(STORE, positional=True)
    target: tuple[str, ...] = setting(
        "Label to predict: a column, COLUMN=VALUE, or COLUMN~FINDING of a column of lists (repeatable)."
    )
    arm: tuple[str, ...] = setting(
        "Encoder to compare: NAME=ENCODER, an encoder alone, or NAME=RUN1,RUN2 for several pretraining seeds "
        f"(repeatable). An encoder is one of: {ENCODERS}; or FEATURES.parquet, a table that `embed` wrote. {SIZED}."
    )
    out: Path = setting("Study folder (created, or resumed).")
    mode: tuple[Mode, ...] = _design(
        "Linear probe, fine-tuning of all layers, fine-tuning from the probe's head (lpft), or several.", ("linear",)
    )
    fraction: tuple[float, ...] = _design(
        "Fractions of labelled training patients.", (0.01, 0.1, 1.0), above=0, high=1, source=PAPER
    )
    draws: int = _design("Label subsets per fraction; fraction 1 has one.", 5, low=1, source=PAPER)
    draws_from: Path | None = _design(
        "Folder of label subsets FRACTION-I.csv (path, patient), instead of --draws.", None
    )
    test_on: Path | None = _design(
        "External validation: another store whose test images are scored.", None, shown="the store's own test images"
    )
    unit: Literal["image", "study", "patient"] = _design("Level at which test scores are compared.", "image")
    aggregate: Literal["max", "mean"] = _design(
        "How image scores of one study or patient are aggregated.", "max", source=PAPER
    )
    against: str | None = _design("Reference arm.", None, shown="the first arm")
    baseline: bool = _design(
        "Add the arm imagenet@288 (or the images' size), linear, and compare every arm with it first.", True
    )
    replicates: int = _statistics("Bootstrap resamples of the test patients.", 2000, low=200)
    primary: str | None = _statistics(
        "The primary comparison, TARGET[:MODE][:FRACTION][:ARM], fixed in advance: tested first, the others behind it.",
        None,
        shown="first target, mode and arm, smallest fraction; all adjusted together",
    )
    margin: float | None = _statistics(
        "Pre-specified AUROC margin of equivalence and non-inferiority.", None, above=0, below=1, shown="no such tests"
    )
    sensitivity: float = _statistics("Sensitivity at the threshold, set on validation images.", 0.9, above=0, high=1)
    subgroup: tuple[str, ...] = _statistics(
        "Column of subgroups (repeatable).", (), shown="sex, age bands, view, device, source, hospital, where they vary"
    )
    group_minimum: int = _statistics("Fewest positive and negative patients in a subgroup.", 10, unit="patients", low=2)


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Rewrite the report of a study."""

    study: Path = setting("A study folder.", positional=True)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(OnDevice, WithJobs, Seeded):
    """Evaluate models on a store, or a table of predictions: AUROC, comparison, threshold, calibration, subgroups."""

    predictions: tuple[Path, ...] = setting(
        "Table (CSV, Excel or Parquet) of labels and scores; or one or more models made by `fit`, and a store.",
        positional=True,
        table=True,
    )
    label: tuple[str, ...] = _columns("Column of labels, 1 or 0 (repeatable).", (), single=True)
    score: tuple[str, ...] = _columns("Column of scores, one per label (repeatable).", (), single=True)
    split: Literal["train", "val", "test"] = _split("Split of the store that models are judged on.", "test")
    patient: str | None = _columns("Column of patient identifiers.", None, shown="each row is its own patient")
    study: str | None = _columns("Column of study identifiers, for --unit study.", None)
    key: str | None = _columns("Column by which the rows of two tables are paired.", None, shown="by position")
    subgroup: tuple[str, ...] = _columns(
        "Column of subgroups, each compared with the largest (repeatable); age is divided into bands.", ()
    )
    unit: Literal["image", "study", "patient"] = _columns(
        "What is judged: images, or the studies or patients that they are joined to.", "image"
    )
    aggregate: Literal["max", "mean"] = _columns("How image scores of one study or patient are aggregated.", "max")
    against: Path | None = _comparison("A second table to compare with, on the same images.", None, table=True)
    unpaired: bool = _comparison("The second table has other patients.", False)
    margin: float | None = _comparison(
        "Pre-specified AUROC margin of equivalence and non-inferiority.", None, above=0, below=1, shown="no such tests"
    )
    target_difference: float = _comparison(
        "AUROC difference for the sample size of a future study.", 0.03, above=0, below=1
    )
    validation: Path | None = _operating_point(
        "Table of other patients, to fit --threshold and --calibrate.", None, table=True
    )
    threshold: str | None = _operating_point(
        "Decision threshold: a score, or youden or sensitivity=VALUE on --validation.", None
    )
    reader: tuple[str, ...] = _operating_point(
        "Column of a reader's calls, 1 or 0, beside the model at its threshold (repeatable).", ()
    )
    prevalence: float | None = _operating_point("Prevalence at which to give PPV and NPV, too.", None, above=0, below=1)
    calibration: bool = _operating_point(
        "Brier score, calibration error, slope, intercept and reliability curve.", False
    )
    calibrate: Literal["none", "platt", "isotonic", "temperature"] = _operating_point(
        "Calibrate on --validation first; implies --calibration.", "none"
    )
    replicates: int = _statistics("Bootstrap resamples of the patients.", 2000, low=200)
    bootstrap: Literal["percentile", "bca"] = _statistics("Type of bootstrap interval.", "percentile")
    stratify: bool = _statistics("Resample patients with and without the finding separately.", False)
    level: float = _statistics("Confidence level of the intervals.", 0.95, above=0, below=1)
    json: Path | None = _output("JSON file for all numbers in full precision.", None)
    out: Path | None = _output("Of models: folder of page, numbers and scores.", None, shown="MODEL.evaluation")
    gallery: bool = _output("Show wrong and borderline images on the page of models.", True)
    maps: bool = _output("Show beside each image of the gallery where the model looks, and check these maps.", False)


@dataclass(frozen=True, kw_only=True)
class ReproduceSettings(OnDevice, WithJobs, Seeded, OnGpus):
    """Repeat the paper's experiments on CheXpert or Shenzhen and compare with the published numbers."""

    # What differs from the paper is allowed and is listed as a deviation.

    dataset: Literal["chexpert", "shenzhen"] = setting("Dataset: chexpert or shenzhen.", positional=True)
    root: Path = setting("Dataset folder, as released.")
    out: Path = setting("Output folder (created, or resumed).")
    test_root: Path | None = _images("CheXpert: folder of the official test set, which some cells need.", None)
    split: tuple[float, float, float] = _split(
        "Shenzhen: fractions for training, validation and test.", (0.65, 0.15, 0.2), low=0, high=1, source=PAPER
    )
    split_file: Path | None = _split("Shenzhen: a published split or fold, as in `prepare --split-file`.", None)
    cells: tuple[str, ...] = _design(
        "Cells to run: TASK/BACKBONE/MODE/FRACTION/ARM or pretraining/RUN, with * and ? (repeatable).", (), shown="all"
    )
    variant: tuple[Literal["lbfgs", "std"], ...] = _design(
        "Also run (repeatable): lbfgs, logistic regression on frozen features; std, pretraining with std 0.29255.", ()
    )
    fraction: tuple[float, ...] = _design(
        "Label fractions.",
        (),
        above=0,
        high=1,
        shown="0.001 0.01 0.1 1 on CheXpert, 0.0625 0.25 1 on Shenzhen",
        source=PAPER,
    )
    draws: int | None = _design(
        "Label subsets per fraction.", None, low=1, shown="5 on CheXpert; 8 and 4 on Shenzhen; 1 of all", source=PAPER
    )
    replicates: int = _statistics("Bootstrap resamples of the test patients.", 500, low=200, source=PAPER)
    size: int = _images("Side of images and views.", 320, unit="px", low=16, high=4096, source=PAPER)
    init: str = _encoder("Initial weights of both arms, as in `pretrain`.", "imagenet", source=PAPER)
    pretrained: tuple[str, ...] = _encoder(
        "Shenzhen: output of `reproduce chexpert`, or RUN=ENCODER (repeatable), e.g. resnet18=DIR.", ()
    )
    queue: int | None = _contrastive(
        "Queue length K.", None, unit="keys", low=1, shown="24576, or as many as half an epoch allows", source=PAPER
    )
    epochs: int = _optimisation("Pretraining: passes over the images.", 20, unit="epochs", low=1, source=PAPER)
    batch: int = _optimisation("Batch size, in pretraining and on labels.", 16, unit="images", low=2, source=PAPER)
    train_epochs: float | None = _gradient(
        "Passes over the labelled images.",
        None,
        unit="epochs",
        above=0,
        source=PAPER,
        shown="220, 95, 41 and 18 on CheXpert, else 220 (n/223)^-0.365 for n images",
    )
    dry_run: bool = _execution("Plan only: write label subsets and plan.csv, time a few steps.", False)


@dataclass(frozen=True, kw_only=True)
class DemoSettings(Seeded):
    """Run the whole workflow on synthetic images: a demonstration, not evidence."""

    out: Path = _output("Output folder.", Path("demo"))
    loop: bool = _images(
        "Start without labels: rounds of choosing, labelling, fitting, forecasting and judging.", False
    )
    images: int | None = _images("Number of synthetic images.", None, low=200, shown="2400; 1000 with --loop")
    epochs: int | None = _optimisation(
        "Pretraining: passes over the images.", None, unit="epochs", low=1, shown="10; 6 with --loop"
    )
