"""Weights that timm and torchvision load as their own, no key left over; proved by loading them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mococxr.encoders.encoder import timm_options
from mococxr.errors import InputError
from mococxr.exporting.artifact import (
    Subject,
    difference,
    each_channel,
    logits,
    normalised,
    one_network,
    proof_frames,
)

WEIGHTS = "model.safetensors"


def _answers(subject: Subject, network: nn.Module) -> float:
    """How far a plain network is from the subject, on frames that it normalises as the card says."""
    frames = proof_frames(subject)
    with torch.inference_mode():
        found = network.eval()(normalised(subject, frames)).double()
    wanted = logits(subject, frames) if subject.outputs else subject.answers(frames)
    return difference(wanted, found.numpy())


# --- timm


def write_timm(subject: Subject, folder: Path) -> dict[str, Any]:
    """`model.safetensors` and `config.json`, which `timm.create_model("local-dir:DIR", pretrained=True)` loads.

    Returns:
        How it is loaded, and the difference that was measured after loading it back.

    Raises:
        InputError: the network is not timm's, or several checkpoints are averaged.
    """
    spec = subject.spec
    if spec.package != "timm":
        raise InputError(
            f"The network {spec.architecture} is {spec.package}'s; timm has none.", "Export it --to onnx."
        )
    weights, head = one_network(subject, "timm")
    options = timm_options(spec) | {"num_classes": subject.outputs}
    network = timm.create_model(spec.architecture, pretrained=False, **options)
    if head is not None:
        weights |= _named(_classifier(network, spec.architecture), head)
    network.load_state_dict(weights, strict=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps(_config(subject, options), indent=2) + "\n")
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return {"difference": _answers(subject, loaded), "network": spec.architecture}


def _classifier(network: nn.Module, name: str) -> str:
    """The name of the linear layer that a timm network ends in."""
    last: Any = network.get_classifier()  # type: ignore[operator] # every timm network has it
    if not isinstance(last, nn.Linear):
        raise InputError(
            f"timm's {name} does not end in one linear layer, so a head cannot be put there.",
            "Export it --to onnx.",
        )
    return next(key for key, module in network.named_modules() if module is last)


def _named(layer: str, head: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {f"{layer}.weight": head[0], f"{layer}.bias": head[1]}


def _config(subject: Subject, options: dict[str, Any]) -> dict[str, Any]:
    """`config.json` as timm writes it for the hub."""
    spec, name = subject.spec, subject.spec.architecture.partition(".")[0]
    given = {key: value for key, value in options.items() if key != "num_classes"}
    if given.get("in_chans") == 3:
        del given["in_chans"]
    flexible = bool(given.get("dynamic_img_size")) or not timm.get_pretrained_cfg_value(
        name, "fixed_input_size"
    )
    return {
        "architecture": name,
        "num_classes": subject.outputs,
        "num_features": spec.feature_dim,
        **({"model_args": given} if given else {}),
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [spec.channels, subject.size, subject.size],
            "fixed_input_size": not flexible,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": each_channel(spec.mean, spec.channels),
            "std": each_channel(spec.std, spec.channels),
            "num_classes": subject.outputs,
            "pool_size": None,
            "first_conv": timm.get_pretrained_cfg_value(name, "first_conv"),
            "classifier": timm.get_pretrained_cfg_value(name, "classifier"),
        },
    }


# --- torchvision


def write_torchvision(subject: Subject, folder: Path) -> dict[str, Any]:
    """`model.safetensors` and `model.pth`, the same tensors under torchvision's names.

    Returns:
        How it is loaded, and the difference that was measured after loading it back.

    Raises:
        InputError: torchvision has no such network, or several checkpoints are averaged.
    """
    spec = subject.spec
    twin = BY_TIMM.get(spec.architecture.partition(".")[0]) if spec.package == "timm" else None
    if twin is None or spec.config:
        raise InputError(
            f"torchvision has no network equal to {spec.architecture}.",
            f"Export it --to timm or --to onnx. torchvision has: {', '.join(BY_TIMM)}.",
        )
    if spec.channels != 3:
        raise InputError(
            f"torchvision's {twin.torchvision} takes three channels, this encoder {spec.channels}.",
            "Export it --to timm or --to onnx.",
        )
    weights, head = one_network(subject, "torchvision")
    table = twin.to_torchvision(weights)
    if head is not None:
        table |= _named(f"{twin.classifier}.{twin.linear}".rstrip("."), head)
    table = {key: value.contiguous().clone() for key, value in table.items()}
    save_file(table, folder / WEIGHTS)
    torch.save(table, folder / "model.pth")
    differences = []
    for stored in (load_file(folder / WEIGHTS), torch.load(folder / "model.pth", weights_only=True)):
        network = twin.build(subject.outputs)
        network.load_state_dict(stored, strict=True)
        differences.append(_answers(subject, network))
    return {
        "difference": float(np.max(differences)),
        "network": twin.torchvision,
        "classifier": twin.classifier,
    }


# --- torchvision's networks and timm's: which are the same computation


@dataclass(frozen=True)
class Twin:
    """One network under its two names.

    Args:
        torchvision, timm: what each library calls it.
        classifier: torchvision's module after the features.
        linear: where the linear layer stands in it; empty where it is the module itself.
    """

    torchvision: str
    timm: str
    classifier: str
    linear: str = ""

    def template(self) -> dict[str, Tensor]:
        """The tensors of torchvision without the classifier, in order; shapes only, no memory."""
        with torch.device("meta"):
            network = getattr(torchvision.models, self.torchvision)(weights=None)
        return {k: v for k, v in network.state_dict().items() if not k.startswith(f"{self.classifier}.")}

    def to_timm(self, weights: Mapping[str, Tensor], timm_keys: list[str]) -> dict[str, Tensor]:
        """Tensors of torchvision under timm's names."""
        return {new: weights[old] for old, new in zip(self.template(), timm_keys, strict=True)}

    def to_torchvision(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of timm, in timm's order, under torchvision's names."""
        return dict(zip(self.template(), weights.values(), strict=True))

    def build(self, outputs: int) -> nn.Module:
        """The network of torchvision in eval mode with so many outputs; 0 leaves the classifier out."""
        network = getattr(torchvision.models, self.torchvision)(weights=None, num_classes=max(outputs, 1))
        if not outputs:
            setattr(network, self.classifier, nn.Identity())
        return network.eval()


_SAME_NAMES = (
    *((name, "fc") for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")),
    *((name, "fc") for name in ("resnext50_32x4d", "wide_resnet50_2", "wide_resnet101_2")),
    *((name, "classifier") for name in ("densenet121", "densenet161", "densenet169", "densenet201")),
)
TWINS = (
    *(Twin(name, name, classifier) for name, classifier in _SAME_NAMES),
    Twin("mnasnet1_0", "mnasnet_100", "classifier", "1"),
    Twin("mnasnet0_75", "mnasnet_075", "classifier", "1"),
    Twin("mnasnet0_5", "mnasnet_050", "classifier", "1"),
    Twin("mobilenet_v2", "mobilenetv2_100", "classifier", "1"),
    Twin("efficientnet_b0", "efficientnet_b0", "classifier", "1"),
)
"""All pairs known to be equal. mnasnet1_3 is not among them: timm's mnasnet_140 is wider."""
BY_TORCHVISION = {twin.torchvision: twin for twin in TWINS}
BY_TIMM = {twin.timm: twin for twin in TWINS}
