"""Settings of `pretrain` and its two presets.

`paper` follows the released code of MoCo-CXR, which made the published numbers; `tuned` is this project's own
recipe for small archives on small machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from mococxr.errors import InputError
from mococxr.settings.fields import ENCODERS, OnDevice, Seeded, flag, setting

AUTO = 0
"""What `--batch auto` and `--workers auto` are kept as until a run has chosen the number."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What a preset decides. The defaults are those of `tuned`, chosen on real images (docs/benchmarks.md)."""

    backbone: str = setting("Encoder architecture: any timm name.", "tf_efficientnet_lite0", group="Encoder")
    init: str = setting(
        f"Initial weights: {ENCODERS}. imagenet, random, a run and a weights file are loaded into --backbone; any "
        "other brings its own architecture and normalisation.",
        "imagenet",
        group="Encoder",
    )
    channels: int = setting("Input channels; the grey image is repeated into each.", 3, low=1, high=64, group="Encoder")
    size: int = setting("Side of a view.", 96, unit="px", low=16, high=4096, group="Encoder")
    epochs: int = setting("Passes over the images.", 12, unit="epochs", low=1, high=100_000, group="Optimisation")
    batch: int = setting(
        "Batch size over all processes; auto: the largest power of two that fits the GPU, or on a CPU the preset's.",
        32,
        unit="images",
        low=2,
        high=1 << 20,
        group="Optimisation",
        words={"auto": AUTO},
    )
    lr: float = setting("Learning rate.", 5e-4, above=0, group="Optimisation")
    momentum: float = setting("Momentum m of the key encoder.", 0.99, low=0, high=1, group="Contrastive learning")
    temperature: float = setting(
        "Temperature T of the contrastive loss.", 0.2, low=1e-4, high=100, group="Contrastive learning"
    )
    head: Literal["mlp", "linear"] = setting(
        "Projection head: mlp as in MoCo v2, linear as in v1.", "mlp", group="Contrastive learning"
    )
    dim: int = setting("Embedding dimension C.", 128, low=1, high=1 << 16, group="Contrastive learning")
    # The paper's run does not shuffle: its shuffling batch norm needs several devices and did nothing on one.
    key_groups: int = setting(
        "Shuffled groups per device in which batch norm sees the keys, against leakage by batch norm; 1 turns it off.",
        2,
        low=1,
        group="Contrastive learning",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = setting("Optimiser.", "adamw", group="Optimisation")
    weight_decay: float = setting(
        "Weight decay (L2 for adam and sgd, decoupled for adamw).", 1e-4, low=0, group="Optimisation"
    )
    schedule: Literal["step", "cosine", "constant"] = setting("Learning rate schedule.", "cosine", group="Optimisation")
    milestones: tuple[float, ...] = setting(
        "Step schedule: fractions of the run after which the learning rate falls to a tenth.",
        (),
        low=0,
        high=1,
        group="Optimisation",
    )
    warmup: float = setting(
        "Fraction of the run in which the learning rate rises from 0.", 0.02, low=0, high=1, group="Optimisation"
    )
    flip: float = setting("Probability of a horizontal flip.", 0.5, low=0, high=1, group="Augmentation")
    rotation: float = setting(
        "Largest rotation in either direction.", 10.0, unit="degrees", low=0, high=180, group="Augmentation"
    )
    crop: tuple[float, float] = setting(
        "Smallest and largest area of a random crop, as fractions of the largest centred square.",
        (0.9, 1.0),
        above=0,
        high=1,
        group="Augmentation",
    )
    brightness: float = setting("Brightness jitter, relative.", 0.0, low=0, high=1, group="Augmentation")
    contrast: float = setting("Contrast jitter, relative.", 0.0, low=0, high=1, group="Augmentation")
    mean: float = setting("Mean subtracted from grey values in 0 to 1.", 0.449, low=0, high=1, group="Augmentation")
    std: float = setting("Divisor of the grey values after that.", 0.226, above=0, group="Augmentation")
    positives: Literal["view", "study"] = setting(
        "Positive pairs: two views of one image, or two images of one study (MedAug).",
        "view",
        group="Contrastive learning",
    )


TUNED = Preset()
PAPER = Preset(
    backbone="resnet18",
    size=320,
    epochs=20,
    batch=16,
    lr=1e-4,
    momentum=0.999,
    key_groups=1,
    optimizer="adam",
    schedule="step",
    milestones=(0.6, 0.9),  # epochs 12 and 18 of 20
    warmup=0.0,
    crop=(1.0, 1.0),
    mean=0.5020,
    # The released code divides by 0.085585 = 0.29255 squared: a variance where a std belongs. Kept.
    std=0.085585,
)
PRESETS = {"paper": PAPER, "tuned": TUNED}
QUEUES = {"paper": 24_576, "tuned": 1024}
"""Length of a preset's queue. No field of it: with too few images `pretrain` shortens the queue, but never one that
was asked for."""


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(Preset, OnDevice, Seeded):
    """Pretrain an encoder on unlabelled images by a self-supervised method."""

    presets: ClassVar[dict[str, Preset]] = PRESETS

    stores: tuple[Path, ...] = setting("One store, or several to pretrain on together.", positional=True)
    out: Path = setting("Run folder to create.")
    method: Literal["moco", "simclr", "simsiam"] = setting(
        "Self-supervised method: momentum contrast (MoCo), SimCLR or SimSiam.", "moco", group="Method"
    )
    preset: Literal["paper", "tuned"] = setting(
        "Preset that supplies every setting not given.", "tuned", group="Optimisation"
    )
    accumulate: int = setting(
        "Parts that the queries of a step are computed in, one after the other, to fit a larger batch; batch norm sees "
        "one part at a time.",
        1,
        unit="parts",
        low=1,
        group="Optimisation",
    )
    queue: int | None = setting(
        "Queue length K; more keys than the images allow are refused.",
        None,
        unit="keys",
        low=1,
        shown="paper 24576, tuned 1024, or as many as the images allow",
        group="Contrastive learning",
    )
    views_on: Literal["cpu", "device"] = setting(
        "Where views are computed: on CPU threads, or on the device, which then holds the stored images; results "
        "differ by rounding only.",
        "cpu",
        group="Augmentation",
    )
    pretrain_on: Literal["train", "train+val", "all"] = setting(
        "Splits whose images are used.", "train", group="Images"
    )
    exclude_patients: Path | None = setting("File of patients to exclude, one per line.", None, group="Images")
    knn: str | None = setting(
        "Label for online kNN evaluation, LABEL or COLUMN=VALUE: AUROC on validation patients from nearest training "
        "patients. It does not influence training.",
        None,
        group="Checkpoints and logging",
    )
    select: Literal["last", "knn", "rank"] = setting(
        "Which encoder to keep: the last, or of ten checkpoints the best by --knn AUROC or by effective rank.",
        "last",
        group="Checkpoints and logging",
    )
    save_every: int = setting("Steps between checkpoints.", 200, unit="steps", low=1, group="Checkpoints and logging")
    log_every: int = setting("Steps between log lines.", 10, unit="steps", low=1, group="Checkpoints and logging")
    tracker: Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] = setting(
        "Experiment tracker that also receives the log.", "none", group="Checkpoints and logging"
    )
    resume: bool = setting("Resume from the last checkpoint in --out.", False, group="Checkpoints and logging")
    precision: Literal["auto", "no", "bf16", "fp16"] = setting(
        "Mixed precision; auto uses bf16 where it is faster.", "auto", group="Execution"
    )
    compile: bool = setting("Compile the encoders (torch.compile).", False, group="Execution")
    workers: int = setting(
        "Threads that compute views; auto: one per core with a GPU, else as many as keep up with training.",
        AUTO,
        unit="threads",
        low=0,
        high=1024,
        shown="auto",
        group="Execution",
        words={"auto": AUTO},
    )

    def __post_init__(self) -> None:
        if self.crop[0] > self.crop[1]:
            raise InputError(
                f"--crop must be smallest, then largest (got {self.crop[0]:g} {self.crop[1]:g}).",
                "Give two areas, 0 < smallest <= largest <= 1.",
            )
        for name in ("key_groups", "accumulate"):
            parts = getattr(self, name)
            # An automatic batch is checked when `replace` puts its number in.
            if self.batch != AUTO and parts > self.batch // 2:
                raise InputError(
                    f"{flag(name)} must be at most half of --batch {self.batch} (got {parts}).",
                    "Batch norm needs two images in each part.",
                )
