"""Settings of `pretrain` and its two presets.

`paper` follows the released code of MoCo-CXR, which made the published numbers; `tuned` is this project's own
recipe for small archives on small machines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mococxr.errors import InputError
from mococxr.settings.fields import setting

_PRESET = "the preset's"
AUTO = 0
"""What `--batch auto` and `--workers auto` are kept as until a run has found the number."""
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Pretrain an encoder on unlabelled images by momentum contrast (MoCo)."""

    # What a preset decides is None until `resolve` has filled it.

    stores: tuple[Path, ...] = setting("One store, or several to pretrain on together.", positional=True)
    out: Path = setting("The run folder to make.")
    preset: Literal["paper", "tuned"] = setting(
        "Where settings that are not given come from.", "tuned", group="Run"
    )
    backbone: str = setting("Any timm encoder by name.", None, shown=_PRESET, group="Encoder")
    init: str = setting(
        "Where pretraining starts: imagenet, random, a run folder or a weights file, each put into --backbone; or any "
        "other encoder, which brings its own network and grey scale: NAME or timm:NAME, hf:OWNER/NAME, hf:FOLDER, "
        "xrv:NAME, NETWORK:FILE.",
        None,
        shown=_PRESET,
        group="Encoder",
    )
    channels: int = setting(
        "Input channels; an image is repeated into them.", None, shown=_PRESET, group="Encoder"
    )
    size: int = setting("Side of a view.", None, unit="px", shown=_PRESET, group="Encoder")
    epochs: int = setting("Passes over the images.", None, unit="epochs", shown=_PRESET, group="Optimiser")
    batch: int = setting(
        "Images a step, over all processes; auto: the largest power of two that a GPU holds, elsewhere the preset's.",
        None,
        unit="images",
        shown=_PRESET,
        group="Optimiser",
        words={"auto": AUTO},
    )
    accumulate: int = setting(
        "Parts that the queries of a step pass in, one after the other, so that a larger batch fits; batch norm sees "
        "a part at a time.",
        1,
        unit="parts",
        group="Optimiser",
    )
    queue: int = setting(
        "Keys in the queue K; too many for the images is refused.",
        None,
        unit="keys",
        shown="the preset's, or the most that the images allow",
        group="Contrast",
    )
    lr: float = setting("Learning rate.", None, shown=_PRESET, group="Optimiser")
    momentum: float = setting("Momentum m of the key encoder.", None, shown=_PRESET, group="Contrast")
    temperature: float = setting("Temperature T of InfoNCE.", None, shown=_PRESET, group="Contrast")
    head: Literal["mlp", "linear"] = setting(
        "Projection head: mlp as in MoCo v2, linear as in v1.", None, shown=_PRESET, group="Contrast"
    )
    dim: int = setting("Length C of a projected feature.", None, shown=_PRESET, group="Contrast")
    key_groups: int = setting(
        "Shuffled groups a key batch is normalised in on each device, against the batch-norm leak; 1 is off.",
        None,
        shown=_PRESET,
        group="Contrast",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = setting("Optimiser.", None, shown=_PRESET, group="Optimiser")
    weight_decay: float = setting(
        "Weight decay (L2 for adam and sgd, decoupled for adamw).", None, shown=_PRESET, group="Optimiser"
    )
    schedule: Literal["step", "cosine", "constant"] = setting(
        "How the learning rate falls.", None, shown=_PRESET, group="Optimiser"
    )
    milestones: tuple[float, ...] = setting(
        "For the step schedule: shares of the run after which lr falls to a tenth.",
        None,
        shown=_PRESET,
        group="Optimiser",
    )
    warmup: float = setting(
        "Share of the run in which lr rises from 0.", None, shown=_PRESET, group="Optimiser"
    )
    flip: float = setting("Probability of a horizontal flip in a view.", None, shown=_PRESET, group="Views")
    rotation: float = setting(
        "Largest rotation of a view, either way.", None, unit="degrees", shown=_PRESET, group="Views"
    )
    crop: tuple[float, float] = setting(
        "Area of a view as a share of the largest centred square, smallest and largest.",
        None,
        shown=_PRESET,
        group="Views",
    )
    brightness: float = setting(
        "Largest relative change of brightness, either way.", None, shown=_PRESET, group="Views"
    )
    contrast: float = setting(
        "Largest relative change of contrast, either way.", None, shown=_PRESET, group="Views"
    )
    mean: float = setting("Mean subtracted from grey values in 0..1.", None, shown=_PRESET, group="Views")
    std: float = setting(
        "Value that grey values are divided by afterwards.", None, shown=_PRESET, group="Views"
    )
    views_on: Literal["cpu", "device"] = setting(
        "Where views are made: by threads from the stored images, or on the device, to which the stored images then go; "
        "the views differ by rounding.",
        "cpu",
        group="Views",
    )
    positives: Literal["view", "study"] = setting(
        "The second view is of the same image, or of another image of the same study (MedAug).",
        None,
        shown=_PRESET,
        group="Contrast",
    )
    seed: int = setting("Seed of everything random.", 0, group="Run")
    save_every: int = setting("Steps between checkpoints.", 200, unit="steps", group="Run")
    log_every: int = setting("Steps between log lines.", 10, unit="steps", group="Run")
    knn: str | None = setting(
        "A label, LABEL or COLUMN=VALUE, by which encoders are looked at on the way: AUROC of nearest neighbours, from "
        "training patients to validation patients. Nothing is trained by it.",
        None,
        shown="none",
        group="Run",
    )
    select: Literal["last", "knn", "rank"] = setting(
        "Which of the encoders becomes the run's: the last, or of ten on the way that with the highest AUROC of --knn, "
        "or the highest effective rank.",
        "last",
        group="Run",
    )
    pretrain_on: Literal["train", "train+val", "all"] = setting(
        "Whose images are used.", "train", group="Images"
    )
    exclude_patients: Path | None = setting(
        "A list of patients to leave out, one a line.", None, group="Images"
    )
    precision: Literal["auto", "no", "bf16", "fp16"] = setting(
        "Mixed precision.",
        "auto",
        shown="auto: bf16 where it is faster here, else none",
        group="Run",
    )
    compile: bool = setting("Compile the encoders first (torch.compile).", False, group="Run")
    workers: int = setting(
        "Threads that make views.",
        AUTO,
        unit="threads",
        shown="auto: on a GPU one a core, else as many as keep up with the steps",
        group="Run",
        words={"auto": AUTO},
    )
    device: Device = setting("Where to compute.", "auto", group="Run")
    tracker: Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] = setting(
        "Where the log also goes.", "none", group="Run"
    )
    resume: bool = setting("Go on from the last checkpoint in --out.", False, group="Run")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "backbone": "resnet18",
        "init": "imagenet",
        "channels": 3,
        "size": 320,
        "epochs": 20,
        "batch": 16,
        "queue": 24_576,
        "lr": 1e-4,
        "momentum": 0.999,
        "temperature": 0.2,
        "head": "mlp",
        "dim": 128,
        # No shuffling, as the paper's run: its shuffling BN needs several devices and did nothing on one.
        "key_groups": 1,
        "optimizer": "adam",
        "weight_decay": 1e-4,
        "schedule": "step",
        "milestones": (0.6, 0.9),  # epochs 12 and 18 of 20
        "warmup": 0.0,
        "flip": 0.5,
        "rotation": 10.0,
        "crop": (1.0, 1.0),
        "brightness": 0.0,
        "contrast": 0.0,
        "mean": 0.5020,
        # The released code divides by 0.085585 = 0.29255 squared: a variance where a std belongs. Kept.
        "std": 0.085585,
        "positives": "view",
    },
    "tuned": {
        "backbone": "tf_efficientnet_lite0",
        "init": "imagenet",
        "channels": 3,
        "size": 96,
        "epochs": 12,
        "batch": 32,
        "queue": 1024,
        "lr": 5e-4,
        "momentum": 0.99,
        "temperature": 0.2,
        "head": "mlp",
        "dim": 128,
        "key_groups": 2,
        "optimizer": "adamw",
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "milestones": (),
        "warmup": 0.02,
        "flip": 0.5,
        "rotation": 10.0,
        "crop": (0.9, 1.0),
        "brightness": 0.0,
        "contrast": 0.0,
        "mean": 0.449,  # grey mean and std of ImageNet, which the start was trained with
        "std": 0.226,
        "positives": "view",
    },
}
"""preset -> setting -> value. Sources: `paper` is arXiv 2010.05352 and its released code; `tuned` was settled
here on one split of real images (docs/benchmarks.md)."""


def resolve(settings: PretrainSettings) -> PretrainSettings:
    """Fill every setting that was not given from the preset, and check what no type can."""
    preset = PRESETS[settings.preset]
    filled = {name: value for name, value in preset.items() if getattr(settings, name) is None}
    if "queue" in filled:
        filled.pop("queue")  # depends on the images: decided when their number is known
    settings = dataclasses.replace(settings, **filled)
    _check(dataclasses.asdict(settings))
    return settings


def _check(s: Mapping[str, Any]) -> None:
    bounds = {
        "size": (16, 4096), "epochs": (1, 100_000), "batch": (2, 1 << 20), "lr": (0, float("inf")),
        "momentum": (0, 1), "temperature": (1e-4, 100), "dim": (1, 1 << 16),
        "key_groups": (1, s["batch"] // 2), "accumulate": (1, s["batch"] // 2), "workers": (0, 1024),
        "channels": (1, 64), "flip": (0, 1), "rotation": (0, 180),
        "brightness": (0, 1), "contrast": (0, 1),
        "warmup": (0, 1), "save_every": (1, 1 << 40), "log_every": (1, 1 << 40), "std": (1e-6, 1e6),
    }  # fmt: skip
    if s["batch"] == AUTO:  # not known yet; whoever finds it has it checked
        del bounds["batch"], bounds["key_groups"], bounds["accumulate"]
    for name, (low, high) in bounds.items():
        if not low <= s[name] <= high:
            raise InputError(
                f"--{name.replace('_', '-')} cannot be {s[name]}.", f"It lies between {low} and {high}."
            )
    low, high = s["crop"]
    if not 0 < low <= high <= 1:
        raise InputError(
            f"--crop cannot be {low} {high}.", "It takes two areas, 0 < smallest <= largest <= 1."
        )
    if s["queue"] is not None and s["queue"] < 1:
        raise InputError(f"--queue cannot be {s['queue']}.", "It takes at least one key.")
