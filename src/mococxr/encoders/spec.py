"""What must be known to build an encoder, as `encoder.json` holds it, where it comes from, and its name in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mococxr.errors import InputError
from mococxr.files import sha256_file
from mococxr.version import VERSION

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
IMAGENET_MEAN, IMAGENET_STD = 0.449, 0.226
"""Grey mean and standard deviation of ImageNet: the means of timm's three channel values."""
BUILT_IN = ("imagenet", "random")
"""Encoders without a network of their own: they take it from `--backbone` or from the first run."""

Grey = float | tuple[float, ...]
"""One number for all channels, or one for each."""


def grey_value(values: float | Sequence[float], flag: str) -> Grey | None:
    """A setting of one number, or one for each of three channels; None where it has none.

    Raises:
        InputError: another number of values.
    """
    values = (values,) if isinstance(values, float | int) else tuple(values)
    if len(values) not in (0, 1, 3):
        raise InputError(f"{flag} must be one value or three (got {len(values)}).", "Give one value for grey.")
    return values if len(values) == 3 else values[0] if values else None


@dataclass(frozen=True)
class EncoderSpec:
    """What must be known to build an encoder.

    Args:
        architecture: network name in timm, or in transformers (its `model_type`) where `package` says so.
        size: side of the frames it was trained on, px.
        channels: input channels; an image is repeated into them.
        mean, std: grey values in 0..1 become (grey - mean) / std.
        feature_dim: length D of a feature.
        package: `timm` or `transformers`: whose network it is.
        pool: for transformers, what of the network's output is the feature: `pooler` (its own `pooler_output`),
            `cls` (the first token after the last layer) or `mean` (the mean of all tokens). timm networks pool
            themselves.
        config: JSON of what builds the network besides: transformers' configuration, or timm's model arguments.
        features: what is read of the network: `last`, its own feature, or `stages`, the means over the maps of its last
            four stages with its own feature behind them.
    """

    architecture: str
    size: int
    channels: int = 3
    mean: Grey = IMAGENET_MEAN
    std: Grey = IMAGENET_STD
    feature_dim: int = 0
    package: str = "timm"
    pool: str = ""
    config: str = ""
    features: str = "last"


def spec_of(content: Mapping[str, Any], where: str) -> EncoderSpec:
    """The spec that a JSON file holds.

    Args:
        where: the file, for the message.

    Raises:
        InputError: a field is missing.
    """
    values: dict[str, Any] = {}
    content = {"features": "last", **content}  # of a file from before there was a choice
    for field in fields(EncoderSpec):
        if field.name not in content:
            raise InputError(
                f"{where} (version {content.get('version')}) has no {field.name!r}.",
                f"This is version {VERSION}: make the run again, or update mococxr.",
            )
        value = content[field.name]
        # JSON has no tuples
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return EncoderSpec(**values)


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder comes from, all its files at hand, before it is built.

    Args:
        name: as the user wrote it.
        kind: a key of `sources.SOURCES`.
        spec: what it is built as; `spec.size` is the side of the frames it is shown.
        path: the run folder, or the folder of the published weights.
        files: the files that are read, weights first.
    """

    name: str
    kind: str
    spec: EncoderSpec
    path: Path | None = None
    files: tuple[Path, ...] = ()

    @property
    def pretrained(self) -> bool:
        """Whether this package pretrained it and its record lies beside it."""
        return self.kind in ("run", "published")

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file read, by file name."""
        return {file.name: sha256_file(file) for file in self.files}


Parts = tuple[EncoderSource, ...]
"""Encoders whose features stand side by side; one, as a rule."""


@dataclass(frozen=True)
class Defaults:
    """What completes the name of an encoder that does not say everything.

    Args:
        backbone: timm name for `imagenet`, `random` and a weights file; None takes that of `like`.
        size: side of a frame, px; None takes the encoder's own, or for `imagenet` and `random` that of `like`.
        like: the spec of the first run among the arms; `imagenet` and `random` follow its channels and grey.
        mean, std: of an encoder that states neither: a weights file, or a folder without a preprocessor file.
    """

    backbone: str | None = None
    size: int | None = None
    like: EncoderSpec | None = None
    mean: Grey | None = None
    std: Grey | None = None

    @property
    def network(self) -> str | None:
        """The timm name to take where none is given."""
        return self.backbone or (self.like.architecture if self.like else None)


def short_name(encoder: str) -> str:
    """What an encoder is called in tables: the last part of its name, without a weights file's ending."""
    name = encoder.rpartition(":")[2]
    last = Path(name.partition("@")[0] if encoder.startswith("hf:") else name).name  # without the revision
    for suffix in (".safetensors", ".pth", ".pt", ".bin"):
        last = last.removesuffix(suffix)
    return last


def display_name(encoder: str) -> str:
    """An encoder as the user named it, without the path of a folder or file on this machine."""
    kind, colon, rest = encoder.rpartition(":")
    if encoder in BUILT_IN or not Path(rest).exists():
        return encoder
    return f"{kind}{colon}{Path(rest).name}"
