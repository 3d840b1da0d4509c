"""Settings of what is made of an encoder: `embed`, `fit`, `predict`, `import`, `export`, and training on labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.fields import ENCODERS, PAPER, OnDevice, Seeded, WithJobs, setting
from mococxr.settings.preparation import STORE

Mode = Literal["linear", "finetune", "lpft"]
_CODE = "released code of arXiv 2010.05352"


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(OnDevice, WithJobs):
    """How images reach an encoder."""

    backbone: str | None = setting(
        "timm architecture, needed if the encoder is imagenet, random or a weights file and no run tells it.",
        None,
        shown="the run's",
        group="Encoder",
    )
    size: int | None = setting(
        "Side of the encoder's input.", None, unit="px", low=1, high=4096, shown="each encoder's own", group="Encoder"
    )
    crop_mode: Literal["center", "full"] = setting(
        "Input crop: center, the square of the shorter side, or full, the whole image with its aspect ratio kept.",
        "center",
        source=PAPER,
        group="Encoder",
    )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(EncoderSettings, Seeded):
    """How a classifier learns from labels: shared by `fit` and `study`."""

    where: tuple[str, ...] = setting(
        "Use only images with COLUMN=VALUE (repeatable).", (), shown="all images", group="Labels"
    )
    uncertain: Literal["ignore", "zeros", "ones", "multiclass"] = setting(
        "How uncertain labels (-1) are treated.", "ignore", source=PAPER, group="Labels"
    )
    blank: Literal["negative", "unknown"] | None = setting(
        "How missing labels are treated.", None, shown="unknown; negative for CheXpert-like datasets", group="Labels"
    )
    C: str = setting(
        "Inverse regularisation C of the logistic regression on standardised features, or cv to choose it by "
        "cross-validation among training patients.",
        "0.01",
        group="Linear probe",
    )
    linear_solver: Literal["lbfgs", "gradient"] = setting(
        "lbfgs: logistic regression on frozen features; gradient: the paper's epochs, with batch norm in train mode.",
        "lbfgs",
        group="Linear probe",
    )
    lr: float = setting("Learning rate.", 3e-5, above=0, source=PAPER, group="Gradient training")
    optimizer: Literal["adam", "adamw"] = setting("Optimiser.", "adam", source=PAPER, group="Gradient training")
    weight_decay: float = setting("Weight decay.", 0.0, low=0, source=PAPER, group="Gradient training")
    batch: int = setting("Batch size.", 16, unit="images", low=1, source=PAPER, group="Gradient training")
    epochs: float | None = setting(
        "Passes over the labelled images.",
        None,
        unit="epochs",
        above=0,
        shown="220 (n/223)^-0.365 for n images, the paper's 220, 95, 41 and 18",
        group="Gradient training",
    )
    checkpoints: int = setting(
        "Number of checkpoints, best by validation AUROC, whose probabilities are averaged; 0 uses the final weights "
        "and no validation labels.",
        10,
        low=0,
        source=PAPER,
        group="Gradient training",
    )


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(EncoderSettings):
    """Write the features of every image of a store."""

    store: Path = setting(STORE, positional=True)
    encoder: str = setting(f"Encoder: {ENCODERS}.")
    out: Path = setting("Parquet table to write.")


@dataclass(frozen=True, kw_only=True)
class FitSettings(TrainingSettings):
    """Train the classifier to keep, with calibration and an operating point."""

    store: Path = setting(STORE, positional=True)
    encoder: str = setting(f"Encoder: {ENCODERS}.")
    target: str = setting("Label to predict: a column, or COLUMN=VALUE.")
    mode: Mode = setting(
        "Linear probe on frozen features, fine-tuning of all layers, or fine-tuning from the probe's head (lpft).",
        "linear",
        group="Classifier",
    )
    fraction: float = setting(
        "Fraction of the labelled training patients to use.", 1.0, above=0, high=1, group="Labels"
    )
    draw: int = setting("Which label subset of that fraction.", 0, low=0, group="Labels")
    calibrate: Literal["platt", "isotonic", "temperature", "none"] = setting(
        "Calibration of the probabilities on validation images.", "platt", group="Operating point"
    )
    threshold_by: Literal["sensitivity", "youden", "none"] = setting(
        "Threshold from validation images: at a given sensitivity, or at Youden's J.",
        "sensitivity",
        group="Operating point",
    )
    sensitivity: float | None = setting(
        "Sensitivity that the threshold should reach.", None, above=0, high=1, shown="0.9", group="Operating point"
    )
    out: Path = setting("Model folder to create.")


@dataclass(frozen=True, kw_only=True)
class PredictSettings(OnDevice, WithJobs):
    """Score images with a fitted classifier."""

    model: Path = setting("A model folder made by `fit`.", positional=True)
    images: tuple[Path, ...] = setting("Image files, folders of images, or a store.", positional=True)
    out: Path = setting("CSV table to write.")
    prevalence: float | None = setting(
        "Prevalence of the finding where the images come from; calibrated probabilities are adjusted to it.",
        None,
        above=0,
        below=1,
        shown="that of the validation images",
        group="Operating point",
    )
    key: Path | None = setting(
        "Pseudonym key as in `prepare`: image, patient and study names are written as keyed hashes.",
        None,
        shown="names as they are",
        group="Privacy",
    )


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """Turn a checkpoint of MoCo or MoCo-CXR into a run folder."""

    kind: Literal["moco-cxr"] = setting("Kind of checkpoint; moco-cxr also reads MoCo's.", positional=True)
    file: Path = setting("Checkpoint file, e.g. checkpoint_0019.pth.tar.", positional=True)
    out: Path = setting("Run folder to create.")
    size: int = setting(
        "Input size it was trained with.", 320, unit="px", low=32, high=4096, source=_CODE, group="Encoder"
    )
    mean: tuple[float, ...] = setting(
        "Grey mean of its normalisation, one value or one per channel.",
        (0.5020,),
        low=0,
        high=1,
        source=_CODE,
        group="Encoder",
    )
    std: tuple[float, ...] = setting(
        "Divisor of its normalisation, one value or one per channel; the released code uses the variance.",
        (0.085585,),
        low=1e-6,
        high=1,
        source=_CODE,
        group="Encoder",
    )
    source: str | None = setting(
        "Dataset it was pretrained on, as stores name it (e.g. chexpert).", None, shown="unknown", group="Images"
    )


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Export an encoder or a fitted classifier to timm, torchvision or ONNX, with a model card."""

    path: Path = setting("A run folder, or a model folder made by `fit`.", positional=True)
    to: Literal["timm", "torchvision", "onnx"] = setting("Target library.")
    out: Path = setting("Folder to create.")
    study: Path | None = setting(
        "Study of this encoder whose results go into the model card.", None, group="Comparison"
    )
    arm: str | None = setting("Its arm in that study.", None, shown="the arm with the same weights", group="Comparison")
