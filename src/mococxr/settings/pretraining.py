"""Settings of `pretrain` and its two presets.

`paper` follows the released code of MoCo-CXR, which made the published numbers; `tuned` is this project's own
recipe for small archives on small machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from mococxr.errors import InputError
from mococxr.settings.fields import ENCODERS, OnDevice, Seeded, Tracked, flag, setting, typed, under

_images, _encoder, _method, _contrastive = under("Images", "Encoder", "Method", "Contrastive learning")
_augmentation, _optimisation = under("Augmentation", "Optimisation")
_logging, _execution = under("Checkpoints and logging", "Execution")
AUTO = 0
"""What `--batch auto` and `--workers auto` are kept as until a run has chosen the number."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What a preset decides. The defaults are those of `tuned`, chosen on real images (docs/benchmarks.md)."""

    backbone: str = _encoder("Encoder architecture: any timm name.", "tf_efficientnet_lite0")
    init: str = _encoder(
        f"Initial weights: {ENCODERS}. imagenet, random, a run and a weights file are loaded into --backbone; any "
        "other brings its own architecture and normalisation.",
        "imagenet",
    )
    channels: int = _encoder("Input channels, each the grey image.", 3, low=1, high=64)
    size: int = _encoder("Side of a view.", 96, unit="px", low=16, high=4096)
    epochs: int = _optimisation("Passes over the images.", 12, unit="epochs", low=1, high=100_000)
    sizes: tuple[str, ...] = _optimisation(
        "Phases of growing views in place of --size and --epochs, each SIZE:EPOCHS, as in 96:12 224:3; with SIZE:EPOCHS:LR "
        "a phase has a learning rate schedule of its own.",
        (),
    )
    batch: int = _optimisation(
        "Batch size over all processes; auto: the largest power of two that fits the GPU; on a CPU the preset's.",
        32,
        unit="images",
        low=2,
        high=1 << 20,
        words={"auto": AUTO},
    )
    lr: float = _optimisation("Learning rate.", 5e-4, above=0)
    momentum: float = _contrastive("Momentum m of the key encoder.", 0.99, low=0, high=1)
    temperature: float = _contrastive("Temperature T of the contrastive loss.", 0.2, low=1e-4, high=100)
    head: Literal["mlp", "linear"] = _contrastive("Projection head: mlp as in MoCo v2, linear as in v1.", "mlp")
    dim: int = _contrastive("Embedding dimension C.", 128, low=1, high=1 << 16)
    # The paper's run does not shuffle: its shuffling batch norm needs several devices and did nothing on one.
    key_groups: int = _contrastive(
        "Shuffled key groups per device, against information leakage by batch norm; 1 turns it off.", 2, low=1
    )
    optimizer: Literal["adam", "adamw", "sgd"] = _optimisation("Optimiser.", "adamw")
    weight_decay: float = _optimisation("Weight decay (L2 for adam and sgd, decoupled for adamw).", 1e-4, low=0)
    schedule: Literal["step", "cosine", "constant"] = _optimisation("Learning rate schedule.", "cosine")
    milestones: tuple[float, ...] = _optimisation(
        "Step schedule: fractions of the run after which the learning rate drops tenfold.", (), low=0, high=1
    )
    warmup: float = _optimisation("Fraction of the run with linear learning rate warm-up.", 0.02, low=0, high=1)
    ema: float = _optimisation(
        "Decay per step of an average of the encoder's weights, which is then the encoder that is kept; 0 turns it off.",
        0.0,
        low=0,
        below=1,
    )
    flip: float = _augmentation("Probability of a horizontal flip.", 0.5, low=0, high=1)
    rotation: float = _augmentation("Largest rotation in either direction.", 10.0, unit="degrees", low=0, high=180)
    crop: tuple[float, float] = _augmentation(
        "Smallest and largest area of a random crop, as fractions of the largest square.", (0.9, 1.0), above=0, high=1
    )
    brightness: float = _augmentation("Brightness jitter, relative.", 0.0, low=0, high=1)
    contrast: float = _augmentation("Contrast jitter, relative.", 0.0, low=0, high=1)
    resampling: Literal["area", "bilinear"] = _augmentation(
        "How views that shrink the image are cut: by means over areas, or by bilinear samples, in a third of the time.",
        "area",
    )
    # ImageNet's in grey; no constants are best for all targets: docs/benchmarks.md
    mean: float = _augmentation("Mean of the grey values (0 to 1), for normalisation.", 0.449, low=0, high=1)
    std: float = _augmentation("Standard deviation of the grey values, for normalisation.", 0.226, above=0)
    features: Literal["last", "stages"] = _logging(
        "What --knn judges: the pooled maps of the encoder's last four stages beside its last layer, or that alone. "
        "Training itself is always on the last layer.",
        "stages",
    )
    positives: Literal["view", "study"] = _contrastive(
        "Positive pairs: views of one image, or of two images of one study.", "view"
    )
    negatives_from: Literal["image", "study", "patient"] = _contrastive(
        "Negatives never come from the same image, study or patient; with --positives study never from the same study.",
        "image",
    )


TUNED = Preset()
PAPER = Preset(
    backbone="resnet18",  # beside DenseNet-121 in the paper
    size=320,  # the paper prints 224; its code scales the shorter side to 320 and crops 320
    epochs=20,
    batch=16,  # on one GPU
    lr=1e-4,  # the best of 1e-2 to 1e-5 in the paper
    momentum=0.999,  # a memory of 1,000 steps
    key_groups=1,
    optimizer="adam",  # betas 0.9 and 0.999; its weight decay is L2
    schedule="step",
    milestones=(0.6, 0.9),  # epochs 12 and 18 of 20
    warmup=0.0,
    crop=(1.0, 1.0),  # the released code draws where on the longer side the square lies, and no scale
    mean=0.5020,  # of the released code; the paper prints none
    # The released code divides by 0.085585 = 0.29255 squared: a variance where a std belongs. Kept.
    std=0.085585,
    features="last",
)
PRESETS = {"paper": PAPER, "tuned": TUNED}
QUEUES = {"paper": 24_576, "tuned": 1024}
"""Length of a preset's queue. No field of it: with too few images `pretrain` shortens the queue, but never one that
was asked for."""


class Phase(NamedTuple):
    """Epochs of a run whose views have one size.

    Args:
        size: side of a view, px.
        epochs: passes over the images.
        lr: learning rate of a schedule of its own; None where it shares the run's.
    """

    size: int
    epochs: int
    lr: float | None = None


def read_phase(text: str) -> Phase:
    """`96:12` or `160:2:2e-4` as a phase.

    Raises:
        InputError: it is neither, or a number is out of its setting's range.
    """
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise InputError(f"--sizes {text!r} is no phase.", "Write SIZE:EPOCHS or SIZE:EPOCHS:LR, as in 96:12 224:3.")
    return Phase(**typed(Preset, dict(zip(Phase._fields, parts, strict=False))))


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(Preset, OnDevice, Seeded, Tracked):
    """Pretrain an encoder on unlabelled images by a self-supervised method."""

    presets: ClassVar[dict[str, Preset]] = PRESETS

    stores: tuple[Path, ...] = setting("One store, or several to pretrain on together.", positional=True)
    out: Path = setting("Run folder to create.")
    method: Literal["moco", "simclr", "simsiam"] = _method("Self-supervised method.", "moco")
    preset: Literal["paper", "tuned"] = _method("Preset that supplies every setting not given.", "tuned")
    auxiliary: tuple[str, ...] = _method(
        "Metadata columns that the encoder learns to predict besides, such as view or age; never labels.", ()
    )
    auxiliary_weight: float = _method("Weight of that loss beside the method's.", 0.1, low=0)
    accumulate: int = _optimisation(
        "Parts in which the queries of a step are computed, to fit a larger batch; batch norm sees one part.", 1, low=1
    )
    queue: int | None = _contrastive(
        "Queue length K.", None, unit="keys", low=1, shown="paper 24576, tuned 1024, or as many as half an epoch allows"
    )
    views_on: Literal["cpu", "device"] = _augmentation(
        "Compute views on CPU threads, or on the device, which then holds the images; same up to rounding.", "cpu"
    )
    pretrain_on: Literal["train", "train+val", "all"] = _images("Splits whose images are used.", "train")
    exclude_patients: Path | None = _images("Table of patients to exclude, or one per line.", None, table=True)
    knn: str | None = _logging(
        "Label (or COLUMN=VALUE or COLUMN~FINDING) of online kNN evaluation by validation AUROC; training does not see it.",
        None,
    )
    select: Literal["last", "knn", "rank"] = _logging(
        "Encoder to keep: the last, or of ten checkpoints the best by --knn AUROC or by effective rank.", "last"
    )
    save_every: int = _logging("Interval between checkpoints.", 200, unit="steps", low=1)
    log_every: int = _logging("Interval between log lines.", 10, unit="steps", low=1)
    resume: bool = _logging("Resume from the last checkpoint in --out.", False)
    precision: Literal["auto", "no", "bf16", "fp16"] = _execution("Mixed precision; auto: bf16 where faster.", "auto")
    compile: bool = _execution("Compile the encoders (torch.compile).", False)
    workers: int = _execution(
        "Threads that compute views; auto: one per core with a GPU, else as many as keep up with training.",
        AUTO,
        unit="threads",
        low=0,
        high=1024,
        shown="auto",
        words={"auto": AUTO},
    )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the run, at least one."""
        return tuple(map(read_phase, self.sizes)) or (Phase(self.size, self.epochs),)

    def __post_init__(self) -> None:
        if self.sizes:
            self._follow_sizes()
        if self.crop[0] > self.crop[1]:
            raise InputError(
                f"--crop must be smallest, then largest (got {self.crop[0]:g} {self.crop[1]:g}).",
                "Give two areas, 0 < smallest <= largest <= 1.",
            )
        if self.auxiliary and self.compile:
            raise InputError("--auxiliary reads features inside the encoder, which --compile hides.", "Leave one out.")
        for name in ("key_groups", "accumulate"):
            parts = getattr(self, name)
            # An automatic batch is checked when `replace` puts its number in.
            if self.batch != AUTO and parts > self.batch // 2:
                raise InputError(
                    f"{flag(name)} must be at most half of --batch {self.batch} (got {parts}).",
                    "Batch norm needs two images in each part.",
                )

    def _follow_sizes(self) -> None:
        """Have `size` and `epochs` say what the phases come to: the last size, all epochs."""
        phases = self.phases
        for name, value in (("size", phases[-1].size), ("epochs", sum(phase.epochs for phase in phases))):
            # the preset's is what nobody gave
            if getattr(self, name) not in (value, getattr(PRESETS[self.preset], name)):
                raise InputError(
                    f"{flag(name)} {getattr(self, name)} contradicts --sizes {' '.join(self.sizes)}.",
                    f"Leave {flag(name)} out: --sizes has the side and the epochs of each phase.",
                )
            object.__setattr__(self, name, value)  # settled once, before anybody reads it
