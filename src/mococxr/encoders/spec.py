"""What must be known to build an encoder, as `encoder.json` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from mococxr.errors import InputError
from mococxr.version import VERSION

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
IMAGENET_MEAN, IMAGENET_STD = 0.449, 0.226
"""Grey mean and standard deviation of ImageNet: the means of timm's three channel values."""

Grey = float | tuple[float, ...]
"""One number for all channels, or one for each."""


@dataclass(frozen=True)
class EncoderSpec:
    """What must be known to build an encoder.

    Args:
        timm: network name in timm, or in transformers (its `model_type`) where `package` says so.
        size: side of the frames it was trained on, px.
        channels: input channels; an image is repeated into them.
        mean, std: grey values in 0..1 become (grey - mean) / std.
        width: length D of a feature.
        package: `timm` or `transformers`: whose network it is.
        pool: for transformers, what of the network's output is the feature: `pooler` (its own `pooler_output`),
            `cls` (the first token after the last layer) or `mean` (the mean of all tokens). timm networks pool
            themselves.
        config: JSON of what builds the network besides: transformers' configuration, or timm's model arguments.
    """

    timm: str
    size: int
    channels: int = 3
    mean: Grey = IMAGENET_MEAN
    std: Grey = IMAGENET_STD
    width: int = 0
    package: str = "timm"
    pool: str = ""
    config: str = ""


_NEEDED = ("timm", "size", "channels", "mean", "std", "width")


def spec_of(content: Mapping[str, Any], where: str) -> EncoderSpec:
    """The spec that a JSON file holds; what files of earlier versions lack has its default.

    Args:
        where: the file, for the message.

    Raises:
        InputError: a field is missing.
    """
    for name in _NEEDED:
        if name not in content:
            raise InputError(
                f"{where} (version {content.get('version')}) has no {name!r}.",
                f"This is version {VERSION}: make the run again, or update mococxr.",
            )
    given = {
        field.name: content.get(field.name, field.default)
        for field in fields(EncoderSpec)
        if field.name in content or field.default is not MISSING
    }
    for name in ("mean", "std"):
        given[name] = tuple(given[name]) if isinstance(given[name], list) else given[name]
    return EncoderSpec(**given)
