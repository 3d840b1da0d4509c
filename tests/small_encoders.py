"""Small encoders on disk in each format that a user may name, made without network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file

CNN, VIT = "test_efficientnet", "test_vit"
GREY = {"image_mean": [0.48, 0.45, 0.40], "image_std": [0.22, 0.23, 0.24]}


def images(count: int = 3, side: int = 64, seed: int = 0) -> torch.Tensor:
    """uint8 (N, 1, side, side)."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, 1, side, side), dtype=np.uint8)
    return torch.from_numpy(drawn)


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """Weights that a start does not have, in batch norm and layer norm too."""
    generator = torch.Generator().manual_seed(11)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(value + 0.05 * torch.rand(value.shape, generator=generator))
    return network.eval()


def timm_repository(folder: Path, name: str = VIT, size: int = 64, **arguments: Any) -> torch.nn.Module:
    """What timm writes for the hub: config.json and model.safetensors; returns the network without classifier."""
    from timm.models import save_for_hf

    if name == VIT:
        arguments["img_size"] = size
    network = lively(timm.create_model(name, num_classes=5, **arguments))
    about = {"input_size": (3, size, size), "mean": (0.3, 0.4, 0.5), "std": (0.2, 0.25, 0.3), "num_classes": 5}
    network.pretrained_cfg.update(about)
    save_for_hf(network, str(folder), model_args=arguments, safe_serialization=True)
    network.reset_classifier(0)
    return network


def transformers_folder(folder: Path, model: torch.nn.Module, **preprocessing: Any) -> torch.nn.Module:
    """What `save_pretrained` writes for a vision model, with its image processor's file."""
    lively(model).save_pretrained(folder)
    told = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, **GREY}
    told |= {"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": {"height": 56, "width": 56}}
    told |= {"image_processor_type": "BitImageProcessor", "resample": 3, "do_convert_rgb": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(told | preprocessing))
    return model


def small_dinov2(**changed: Any) -> torch.nn.Module:
    from transformers import Dinov2Config, Dinov2Model

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    return Dinov2Model(Dinov2Config(image_size=56, patch_size=14, **{**small, **changed}))


def hub_cache(cache: Path, repository: str, files: dict[str, Path], revision: str = "0" * 40) -> Path:
    """A repository in the layout of the hub's cache, blobs under their hashes; returns the snapshot folder."""
    from mococxr.files import sha256_file

    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / revision
    for sub in (snapshot, place / "blobs", place / "refs"):
        sub.mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(revision)
    for name, file in files.items():
        blob = place / "blobs" / sha256_file(file)
        blob.write_bytes(file.read_bytes())
        (snapshot / name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def timm_weights(file: Path, name: str = CNN) -> torch.nn.Module:
    """A safetensors file of a timm network with its classifier; returns the network without."""
    network = lively(timm.create_model(name, pretrained=False, num_classes=7))
    save_file(network.state_dict(), file)
    network.reset_classifier(0)
    return network
