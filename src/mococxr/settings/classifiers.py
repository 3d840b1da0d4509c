"""Settings of what is made of an encoder: `embed`, `fit`, `predict`, `import`, `export`, and training on labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mococxr.settings.fields import ENCODERS, PAPER, SIZED, Device, OnDevice, Seeded, WithJobs, setting, under
from mococxr.settings.preparation import STORE

Mode = Literal["linear", "finetune", "lpft"]  # the keys of heads.MODES, which this room may not import
_images, _labels, _privacy = under("Images", "Labels", "Privacy")
_operating_point, _encoder, _card = under("Operating point", "Encoder", "Model card")
_probe, _gradient, _execution = under("Linear probe", "Gradient training", "Execution")
_CODE = "released code of arXiv 2010.05352"


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(OnDevice, WithJobs):
    """How images reach an encoder."""

    backbone: str | None = _encoder(
        "timm architecture, for imagenet, random and weights files.", None, shown="that of a run, if there is one"
    )
    size: int | None = _encoder(
        "Side of the encoder's input.", None, unit="px", low=1, high=4096, shown="each encoder's own"
    )
    mean: tuple[float, ...] = _encoder(
        "Grey mean, one value or one per channel, of an encoder that states none.",
        (),
        shown="ImageNet's",
        low=0,
        high=1,
    )
    std: tuple[float, ...] = _encoder("Grey standard deviation, as --mean.", (), shown="ImageNet's", low=1e-6, high=1)
    features: Literal["last", "stages"] = _encoder(
        "Features: the pooled maps of the encoder's last four stages beside its last layer, or the last layer alone.",
        "stages",
    )
    crop_mode: Literal["center", "full"] = _encoder(
        "Input crop: the central square, or the full image with its aspect ratio.", "center", source=PAPER
    )

    @property
    def encoder_options(self) -> dict[str, Any]:
        """What completes the name of an encoder that does not say everything."""
        names = ("backbone", "size", "mean", "std", "features")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class KeepsFeatures:
    """Features on disk that runs share."""

    feature_cache: Path | None = _execution(
        "Folder of features that runs share: an encoder reads an image once.", None, shown="none; a study keeps its own"
    )
    feature_cache_size: float = _execution(
        "Size of that folder above which the features unused for longest are removed.", 20.0, unit="GB", above=0
    )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(EncoderSettings, Seeded, KeepsFeatures):
    """How a classifier learns from labels: shared by `fit` and `study`."""

    where: tuple[str, ...] = _labels(
        "Use only images with COLUMN=VALUE or COLUMN~FINDING (repeatable).", (), shown="all images"
    )
    uncertain: Literal["ignore", "zeros", "ones", "multiclass"] = _labels(
        "How uncertain labels (-1) are treated.", "ignore", source=PAPER
    )
    blank: Literal["negative", "unknown"] | None = _labels(
        "How missing labels are treated.", None, shown="unknown; negative for CheXpert-like datasets"
    )
    labels_as_of: str | None = _labels(
        "Labels as they were: a date (UTC, that day included), or a number of label events (0: as `prepare` wrote them).",
        None,
        shown="as they are now",
    )
    C: str = _probe(  # text: a number, or cv
        "Inverse L2 regularisation strength, on standardised features; cv: chosen by cross-validation.", "0.01"
    )
    standardize: Literal["unlabelled", "labelled"] = _probe(
        "Standardise features by all training images, which needs no label, or by the labelled ones alone.",
        "unlabelled",
    )
    linear_solver: Literal["lbfgs", "gradient"] = _probe(
        "Logistic regression on frozen features, or the paper's epochs with batch norm in train mode.", "lbfgs"
    )
    lr: float = _gradient("Learning rate.", 3e-5, above=0, source=PAPER)
    optimizer: Literal["adam", "adamw"] = _gradient("Optimiser.", "adam", source=PAPER)
    weight_decay: float = _gradient("Weight decay.", 0.0, low=0, source=PAPER)
    batch: int = _gradient("Batch size.", 16, unit="images", low=1, source=PAPER)
    epochs: float | None = _gradient(
        "Passes over the labelled images.", None, unit="epochs", above=0, shown="220 (n/223)^-0.365 for n images"
    )
    checkpoints: int = _gradient(
        "Checkpoints to average, best by validation AUROC; 0: final weights, no validation labels.",
        10,
        low=0,
        source=PAPER,
    )


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(EncoderSettings):
    """Write the features of every image of a store."""

    store: Path = setting(STORE, positional=True)
    encoder: str = setting(f"Encoder: {ENCODERS}. {SIZED}.")
    out: Path = setting("Parquet table to write.")


@dataclass(frozen=True, kw_only=True)
class OperatingSettings:
    """How scores become probabilities and decisions: shared by `fit` and `recalibrate`."""

    calibrate: Literal["platt", "isotonic", "temperature", "none"] = _operating_point(
        "Calibration on validation images.", "platt"
    )
    threshold_by: Literal["sensitivity", "youden", "none"] = _operating_point(
        "Threshold on validation images: at --sensitivity, or at Youden's J.", "sensitivity"
    )
    # None: given beside another rule it is refused
    sensitivity: float | None = _operating_point("Sensitivity at the threshold.", None, above=0, high=1, shown="0.9")


@dataclass(frozen=True, kw_only=True)
class FitSettings(OperatingSettings, TrainingSettings):
    """Train a classifier for use, with calibrated probabilities and an operating point."""

    store: Path = setting(STORE, positional=True)
    encoder: str = setting(f"Encoder: {ENCODERS}. {SIZED}.")
    target: tuple[str, ...] = setting(
        "Label to predict: a column, COLUMN=VALUE, or COLUMN~FINDING of a column of lists; several share one model "
        "(repeatable)."
    )
    mode: Mode = setting(
        "Linear probe, fine-tuning of all layers, or from the probe's head (lpft).", "linear", group="Classifier"
    )
    fraction: float = _labels("Fraction of the labelled training patients to use.", 1.0, above=0, high=1)
    draw: int = _labels("Index of the label subset of that fraction.", 0, low=0)
    onnx: bool = _execution(
        "Leave model.onnx, by which `predict` scores without PyTorch; writing it takes some seconds to a minute.", True
    )
    out: Path = setting("Model folder to create.")


@dataclass(frozen=True, kw_only=True)
class ForecastSettings(TrainingSettings):
    """Say what more labels would give: the learning curve of a linear head so far, continued, with intervals.

    On real images of adults its 90 % intervals held 87 % of the time: take them as rough.
    """

    store: Path = setting("A store, or a study folder, whose own cells are continued.", positional=True)
    encoder: str | None = _encoder(
        f"Encoder, for a store: {ENCODERS}. {SIZED}.", None, shown="none; a study has its arms"
    )
    target: str | None = _labels(
        "Label to predict: a column, COLUMN=VALUE, or COLUMN~FINDING of a column of lists; needed for a store.",
        None,
        shown="all of a study",
    )
    auroc: float | None = _labels("AUROC for which labels are counted.", None, above=0.5, below=1, shown="none")
    width: float | None = _labels(
        "Width of the interval of the AUROC (95 %) for which test images are counted.",
        None,
        above=0,
        below=1,
        shown="none",
    )


@dataclass(frozen=True, kw_only=True)
class RecalibrateSettings(OperatingSettings, OnDevice, WithJobs):
    """Give a fitted classifier the calibration and threshold of another site; encoder and head stay as they are."""

    model: Path = setting("A model folder made by `fit`.", positional=True)
    store: Path = setting("Store of that site, with labels.", positional=True)
    target: tuple[str, ...] = _labels(
        "Label of that store, as `fit` takes it: one for each target of the model, in its order.",
        (),
        shown="the model's",
    )
    where: tuple[str, ...] = _labels(
        "Use only images with COLUMN=VALUE or COLUMN~FINDING (repeatable).", (), shown="all images"
    )
    blank: Literal["negative", "unknown"] | None = _labels(
        "How missing labels are treated.", None, shown="unknown; negative for CheXpert-like datasets"
    )
    labels_as_of: str | None = _labels(
        "Labels as they were: a date (UTC, that day included), or a number of label events.",
        None,
        shown="as they are now",
    )
    out: Path = setting("Model folder to create.")


@dataclass(frozen=True, kw_only=True)
class PredictSettings(OnDevice, WithJobs):
    """Score images with a fitted classifier."""

    model: Path = setting("A model folder made by `fit`.", positional=True)
    images: tuple[Path, ...] = setting(
        "Image files, folders of images, lists of images (a table or TXT), or a store.", positional=True, table=True
    )
    out: Path = setting("CSV table to write.")
    split: Literal["train", "val", "test", "all"] | None = _images(
        "Of a store the images of this split (all: of every split), with columns label and split.",
        None,
        shown="every image, without these columns",
    )
    refuse: bool = _operating_point(
        "Leave the numbers of an image blank where a warning says that they mean nothing.", False
    )
    prevalence: tuple[float, ...] = _operating_point(
        "Prevalence to adjust calibrated probabilities to: one number for each target of the model, in its order.",
        (),
        above=0,
        below=1,
        shown="that of the validation images",
    )
    maps: Path | None = _images(
        "Folder for a picture of each image with what speaks for the finding (orange) and against it (blue), by PyTorch.",
        None,
        shown="no maps",
    )
    device: Device = setting(
        "Compute device; auto, cpu: the CPU by model.onnx where the model has it, without PyTorch (else auto: a GPU if "
        "available); cuda, mps: PyTorch.",
        "auto",
        group="Execution",
    )
    key: Path | None = _privacy(
        "Key of `prepare`, to write image, patient and study as pseudonyms.", None, shown="names as they are"
    )


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """Turn a checkpoint of MoCo or MoCo-CXR into a run folder."""

    kind: Literal["moco-cxr"] = setting("Kind of checkpoint; moco-cxr also reads MoCo's.", positional=True)
    file: Path = setting("Checkpoint file, e.g. checkpoint_0019.pth.tar.", positional=True)
    out: Path = setting("Run folder to create.")
    size: int = _encoder("Input size it was trained with.", 320, unit="px", low=32, high=4096, source=_CODE)
    mean: tuple[float, ...] = _encoder(
        "Grey mean of its normalisation, one value or one per channel.", (0.5020,), low=0, high=1, source=_CODE
    )
    std: tuple[float, ...] = _encoder(
        "Divisor of its normalisation; the released code uses the variance.",
        (0.085585,),
        low=1e-6,
        high=1,
        source=_CODE,
    )
    source: str | None = _images("Dataset it was pretrained on, e.g. chexpert.", None, shown="unknown")


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Export an encoder or a fitted classifier to timm, torchvision or ONNX, with a model card."""

    path: Path = setting("A run folder, or a model folder made by `fit`.", positional=True)
    to: Literal["timm", "torchvision", "onnx"] = setting("Target library.")
    out: Path = setting("Folder to create.")
    features: Literal["last", "stages"] | None = _encoder(
        "Features of a run's encoder: its last layer, or the pooled maps of its last four stages beside it.",
        None,
        shown="last; a model has its own",
    )
    study: Path | None = _card("Study of this encoder whose results go into the model card.", None)
    arm: str | None = _card("Its arm in that study.", None, shown="the arm with the same weights")
