"""Weights that timm and torchvision load as their own, no key left over; proved by loading them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
import torchvision.models.feature_extraction
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mococxr.encoders.encoder import last_length, timm_options
from mococxr.errors import InputError
from mococxr.exporting.artifact import (
    Artifact,
    difference,
    each_channel,
    logits,
    noise_frames,
    normalised,
    one_network,
    stages_code,
)

WEIGHTS, HEAD = "model.safetensors", "head.safetensors"


def _answers(artifact: Artifact, network: nn.Module, head: Path | None = None, nodes: Sequence[str] = ()) -> float:
    """How far a plain network is from the artifact, on frames that it normalises as the card says.

    Args:
        head: the file of the head that stands beside a network whose stages are read.
        nodes: as `stages_code`.
    """
    frames = noise_frames(artifact)
    images = normalised(artifact, frames)
    with torch.inference_mode():
        if not artifact.staged:
            exported = network.eval()(images)
        else:
            names: dict[str, Any] = {"torch": torch, "torchvision": torchvision, "network": network.eval()}
            exec(stages_code(artifact, nodes), names)  # the text of the card, so that it is proved, too
            exported = names["features_of"](images)
            if head is not None:
                exported = nn.functional.linear(exported, **load_file(head))
    return difference(
        logits(artifact, frames) if artifact.model else artifact.answers(frames), exported.double().numpy()
    )


# --- timm


def write_timm(artifact: Artifact, folder: Path) -> dict[str, Any]:
    """`model.safetensors` and `config.json`, which `timm.create_model("local-dir:DIR", pretrained=True)` loads.

    Returns:
        How it is loaded, and the difference that was measured after loading it back.

    Raises:
        InputError: the network is not timm's, or there are several encoders or checkpoints.
    """
    spec = artifact.spec
    if spec.package != "timm":
        raise InputError(f"The network {spec.architecture} is {spec.package}'s; timm has none.", "Export it --to onnx.")
    weights, head = one_network(artifact, "timm")
    options = timm_options(spec) | {"num_classes": artifact.outputs}
    network = timm.create_model(spec.architecture, pretrained=False, **options)
    if head is not None and not artifact.staged:
        weights |= _named(_classifier(network, spec.architecture), head)
    network.load_state_dict(weights, strict=True)  # before anything is written: a head may not fit
    beside = _head_beside(artifact, head, folder)
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps(_config(artifact, options), indent=2) + "\n")
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return {"difference": _answers(artifact, loaded, beside), "network": spec.architecture}


def _head_beside(artifact: Artifact, head: tuple[Tensor, Tensor] | None, folder: Path) -> Path | None:
    """The file of the head where stages are read: the classifier of a network sees its last layer alone."""
    if head is None or not artifact.staged:
        return None
    save_file(dict(zip(("weight", "bias"), head, strict=True)), folder / HEAD)
    return folder / HEAD


def _classifier(network: nn.Module, name: str) -> str:
    """The name of the linear layer that a timm network ends in."""
    last: Any = network.get_classifier()  # type: ignore[operator] # every timm network has it
    if not isinstance(last, nn.Linear):
        raise InputError(
            f"timm's {name} does not end in one linear layer, so a head cannot be put there.", "Export it --to onnx."
        )
    return next(key for key, module in network.named_modules() if module is last)


def _named(layer: str, head: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {f"{layer}.weight": head[0], f"{layer}.bias": head[1]}


def _config(artifact: Artifact, options: dict[str, Any]) -> dict[str, Any]:
    """`config.json` as timm writes it for the hub."""
    # the tag names weights, which are others here
    spec, name = artifact.spec, artifact.spec.architecture.partition(".")[0]
    model_args = {key: value for key, value in options.items() if (key, value) != ("in_chans", 3)}
    del model_args["num_classes"]  # timm reads it beside them
    flexible = bool(model_args.get("dynamic_img_size")) or not timm.get_pretrained_cfg_value(name, "fixed_input_size")
    return {
        "architecture": name,
        "num_classes": artifact.outputs,
        "num_features": last_length(artifact.encoder.network),
        **({"model_args": model_args} if model_args else {}),
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [spec.channels, artifact.size, artifact.size],
            "fixed_input_size": not flexible,
            "interpolation": "bilinear",
            "crop_pct": 1.0,  # frames come at their size: nothing is cut off
            "crop_mode": "center",
            "mean": each_channel(spec.mean, spec.channels),
            "std": each_channel(spec.std, spec.channels),
            "num_classes": artifact.outputs,
            "pool_size": None,
            "first_conv": timm.get_pretrained_cfg_value(name, "first_conv"),
            "classifier": timm.get_pretrained_cfg_value(name, "classifier"),
        },
    }


# --- torchvision


def write_torchvision(artifact: Artifact, folder: Path) -> dict[str, Any]:
    """`model.safetensors` and `model.pth`, the same tensors under torchvision's names.

    Returns:
        How it is loaded, and the difference that was measured after loading it back.

    Raises:
        InputError: torchvision has no such network, or there are several encoders or checkpoints.
    """
    weights, head = one_network(artifact, "torchvision")
    spec = artifact.spec
    pair = BY_TIMM.get(spec.architecture.partition(".")[0]) if spec.package == "timm" else None
    if pair is None or spec.config:
        raise InputError(
            f"torchvision has no network equal to {spec.architecture}.",
            f"Export it --to timm or --to onnx. torchvision has: {', '.join(BY_TIMM)}.",
        )
    nodes = pair.stages if artifact.staged else ()
    if artifact.staged and not nodes:
        raise InputError(
            f"torchvision's {pair.torchvision} does not tell its stages.",
            "Export it --to timm or --to onnx" + ("." if artifact.model else ", or with --features last."),
        )
    if spec.channels != 3:
        raise InputError(
            f"torchvision's {pair.torchvision} takes three channels, this encoder {spec.channels}.",
            "Export it --to timm or --to onnx.",
        )
    table = pair.to_torchvision(weights)
    if head is not None and not artifact.staged:
        table |= _named(f"{pair.classifier}.{pair.linear}".rstrip("."), head)
    table = {key: value.contiguous().clone() for key, value in table.items()}  # safetensors takes no shared memory
    save_file(table, folder / WEIGHTS)
    torch.save(table, folder / "model.pth")
    beside = _head_beside(artifact, head, folder)
    differences = []
    for stored in (load_file(folder / WEIGHTS), torch.load(folder / "model.pth", weights_only=True)):
        network = pair.build(artifact.outputs)
        network.load_state_dict(stored, strict=True)
        differences.append(_answers(artifact, network, beside, nodes))
    facts = {"network": pair.torchvision, "classifier": pair.classifier, "nodes": list(nodes)}
    return {"difference": float(np.max(differences)), **facts}


# --- torchvision's networks and timm's: which are the same computation


@dataclass(frozen=True)
class ArchitecturePair:
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

    @property
    def stages(self) -> tuple[str, ...]:
        """Torchvision's modules of the stages before the last, where the network's feature is the mean over the last."""
        if self.classifier == "fc":  # ResNets
            return ("layer1", "layer2", "layer3")
        dense = self.torchvision.startswith("densenet")
        return tuple(f"features.denseblock{block}" for block in (1, 2, 3)) if dense else ()

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
PAIRS = (
    *(ArchitecturePair(name, name, classifier) for name, classifier in _SAME_NAMES),
    ArchitecturePair("mnasnet1_0", "mnasnet_100", "classifier", "1"),
    ArchitecturePair("mnasnet0_75", "mnasnet_075", "classifier", "1"),
    ArchitecturePair("mnasnet0_5", "mnasnet_050", "classifier", "1"),
    ArchitecturePair("mobilenet_v2", "mobilenetv2_100", "classifier", "1"),
    ArchitecturePair("efficientnet_b0", "efficientnet_b0", "classifier", "1"),
)
"""All pairs known to be equal. mnasnet1_3 is not among them: timm's mnasnet_140 is wider."""
BY_TORCHVISION = {pair.torchvision: pair for pair in PAIRS}
BY_TIMM = {pair.timm: pair for pair in PAIRS}
