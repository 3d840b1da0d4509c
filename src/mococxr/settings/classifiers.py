"""Settings of what is done with an encoder: `embed`, `fit`, `predict`, and how all train on labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.fields import setting
from mococxr.settings.pretraining import Device

ENCODER = (
    "A run folder, imagenet, random, a timm network (resnet50.a1_in1k), hf:OWNER/NAME or hf:FOLDER, "
    "xrv:NAME (torchxrayvision), or NETWORK:FILE with a weights file."
)
Mode = Literal["linear", "finetune"]


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """How images reach an encoder."""

    backbone: str | None = setting(
        "timm network, where the encoder is imagenet, random or a weights file and no run says it.",
        None,
        shown="the run's",
        group="Encoder",
    )
    size: int | None = setting(
        "Side of the frame an encoder sees.", None, unit="px", shown="each encoder's own", group="Encoder"
    )
    frame: Literal["centre", "whole"] = setting(
        "What of an image is seen: the centred square of its shorter side, or all of it, aspect kept.",
        "centre",
        source="arXiv 2010.05352",
        group="Encoder",
    )
    device: Device = setting("Where to compute.", "auto", group="Run")
    jobs: int | None = setting("Threads or processes at work.", None, shown="one a core", group="Run")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(EncoderSettings):
    """How a classifier learns from labels: shared by `fit` and `study`."""

    where: tuple[str, ...] = setting(
        "COLUMN=VALUE that every image used must have (repeatable).", (), shown="all images", group="Labels"
    )
    uncertain: Literal["ignore", "zeros", "ones", "multiclass"] = setting(
        "What a label of -1 counts as.", "ignore", source="arXiv 2010.05352", group="Labels"
    )
    blank: Literal["negative", "unknown"] | None = setting(
        "What a blank label counts as.",
        None,
        shown="unknown; negative for CheXpert-like sets",
        group="Labels",
    )
    strength: str = setting(
        "Linear: inverse regularisation C of the logistic regression on standardised features, or cv for "
        "cross-validation inside the training patients.",
        "0.01",
        group="Linear head",
    )
    linear: Literal["solved", "paper"] = setting(
        "Linear: solved logistic regression on frozen features, or the paper's epochs over the images with "
        "batch norm in train mode.",
        "solved",
        group="Linear head",
    )
    lr: float = setting(
        "Learning rate by gradient.", 3e-5, source="arXiv 2010.05352", group="Trained by gradient"
    )
    optimizer: Literal["adam", "adamw"] = setting(
        "Optimiser by gradient.", "adam", source="arXiv 2010.05352", group="Trained by gradient"
    )
    weight_decay: float = setting(
        "Weight decay by gradient.", 0.0, source="arXiv 2010.05352", group="Trained by gradient"
    )
    batch: int = setting(
        "Images an update by gradient.",
        16,
        unit="images",
        source="arXiv 2010.05352",
        group="Trained by gradient",
    )
    epochs: float | None = setting(
        "Passes over the labelled images by gradient.",
        None,
        unit="epochs",
        shown="220 (n/223)^-0.365 for n images, which gives the paper's 220, 95, 41 and 18",
        group="Trained by gradient",
    )
    checkpoints: int = setting(
        "The probabilities of up to so many checkpoints, the best by validation AUROC, are averaged; 0 keeps "
        "the last weights and uses no validation labels.",
        10,
        source="arXiv 2010.05352",
        group="Trained by gradient",
    )
    seed: int = setting("Seed of everything random.", 0, group="Run")


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(EncoderSettings):
    """Write the features of every image in a store."""

    store: Path = setting("A store made by `prepare`.", positional=True)
    encoder: str = setting(ENCODER)
    out: Path = setting("The Parquet table to write.")


@dataclass(frozen=True, kw_only=True)
class FitSettings(TrainingSettings):
    """Make the classifier that a user keeps."""

    store: Path = setting("A store made by `prepare`.", positional=True)
    encoder: str = setting(ENCODER)
    target: str = setting("A label column, or COLUMN=VALUE.")
    mode: Mode = setting("A linear head on frozen features, or all layers.", "linear", group="Classifier")
    fraction: float = setting("Share of the labelled training patients to use.", 1.0, group="Labels")
    draw: int = setting("Which draw of that share.", 0, group="Labels")
    calibrate: Literal["platt", "isotonic", "temperature", "none"] = setting(
        "How validation images turn scores into calibrated probabilities.", "platt", group="Operating point"
    )
    threshold_by: Literal["sensitivity", "youden", "none"] = setting(
        "What validation images choose the threshold for: a wanted sensitivity, or the greatest sum of "
        "sensitivity and specificity.",
        "sensitivity",
        group="Operating point",
    )
    sensitivity: float | None = setting(
        "The wanted sensitivity, above 0 and up to 1.", None, shown="0.9", group="Operating point"
    )
    out: Path = setting("The model folder to make.")


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Score images with a fitted classifier."""

    model: Path = setting("A model folder made by `fit`.", positional=True)
    images: tuple[Path, ...] = setting("Image files, folders of images, or a store.", positional=True)
    out: Path = setting("The CSV table to write.")
    prevalence: float | None = setting(
        "Share of images with the finding where the images come from: calibrated probabilities are moved to it.",
        None,
        shown="that of the validation images",
        group="Operating point",
    )
    key: Path | None = setting(
        "A key of pseudonyms, as `prepare` takes one: images, patients and studies are then written as keyed "
        "hashes, patient and study from the header.",
        None,
        shown="paths as given",
        group="Privacy",
    )
    device: Device = setting("Where to compute.", "auto", group="Run")
    jobs: int | None = setting(
        "Processes that decode images, and threads that compute.", None, shown="one a core", group="Run"
    )
