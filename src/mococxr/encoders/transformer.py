"""Vision models of the library transformers (the extra `hub`): built from a configuration, read from a folder.

The feature of an image is the model's own `pooler_output` where its file holds the weights of that pooler, else the
first token (CLS) after the last layer, else, for models without such a token, the mean of all tokens.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mococxr.encoders.spec import EncoderSpec
from mococxr.encoders.stages import STAGES
from mococxr.errors import InputError
from mococxr.files import read_json

_IGNORED = ("_name_or_path", "transformers_version", "architectures", "id2label", "label2id", "dtype")
"""Of a configuration: what builds nothing."""
_RANDOM = ("vit_mae",)
"""Models that hide random parts of the picture even when they only look: their features are never the same twice."""


def _library() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise InputError("This encoder needs the library transformers.", "pip install 'mococxr[hub]'.") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def build(spec: EncoderSpec) -> nn.Module:
    """The network of a spec with random weights."""
    library = _library()
    options = json.loads(spec.config)
    config = library.AutoConfig.for_model(options.pop("model_type"), **options)
    return _without_pooler(library.AutoModel.from_config(config), spec.pool)


def _without_pooler(network: nn.Module, pool: str) -> nn.Module:
    if pool != "pooler" and getattr(network, "pooler", None) is not None:  # unread, its weights may be in no file
        network.pooler = None  # type: ignore[assignment] # transformers' models ask whether there is one
    return network


def read(network: nn.Module, images: Tensor, pool: str, features: str = "last") -> Tensor:
    """Features (N, D) of normalised images (N, C, H, W); `stages` has the means over the last four layers before them."""
    # without it a ViT refuses frames of another size
    sized = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
    options: dict[str, Any] = {"interpolate_pos_encoding": True} if sized else {}
    if features == "stages":
        output = network(pixel_values=images, output_hidden_states=True, **options)
        return torch.cat([*_stage_means(network, images, output), _last(output, pool)], dim=1)
    return _last(network(pixel_values=images, **options), pool)


def _stage_means(network: nn.Module, images: Tensor, output: Any) -> list[Tensor]:
    """Means over H and W, or over the tokens of patches, of the last layers or stages, (N, D) each."""
    maps = getattr(output, "reshaped_hidden_states", None) or output.hidden_states
    patch = getattr(network.config, "patch_size", 0)
    means = []
    for layer in maps[1:][-STAGES:]:  # the first is the embedding, before any layer
        if layer.ndim == 4:  # (N, D, H, W)
            means.append(layer.mean(dim=(2, 3)))
            continue
        patches = (images.shape[2] // patch) * (images.shape[3] // patch) if isinstance(patch, int) and patch else 0
        # CLS and register tokens stand before those of the patches
        means.append(layer[:, max(0, layer.shape[1] - patches) if patches else 0 :].mean(dim=1))
    return means


def _last(output: Any, pool: str) -> Tensor:
    if pool == "pooler":
        return output.pooler_output.flatten(1)
    tokens = output.last_hidden_state
    if tokens.ndim == 4:  # convolutional networks give maps, (N, D, H, W)
        return tokens.mean(dim=(2, 3))
    return tokens[:, 0] if pool == "cls" else tokens.mean(dim=1)


def read_folder(folder: Path, grey: EncoderSpec) -> tuple[nn.Module, EncoderSpec]:
    """The network of a folder of `save_pretrained`, its weights loaded; no code of the folder is run.

    Args:
        folder: config.json and weights.
        grey: size, mean and std, as `grey_of` reads them; its pool and feature_dim too where they are known.

    Returns:
        The network and its spec.

    Raises:
        InputError: not a vision model that can be built, or weights that are not there.
    """
    library = _library()
    try:
        config = library.AutoConfig.from_pretrained(str(folder), local_files_only=True)
        config = getattr(config, "vision_config", config)  # of image and text models, the half that sees
        # in float32: files may hold half precision
        network, loading = library.AutoModel.from_pretrained(
            str(folder), config=config, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:  # the library raises many kinds: unknown model, code needed, damaged file
        raise InputError(
            f"transformers cannot build the model in {folder}: {' '.join(str(error).split())[:300]}",
            "Name a vision model that transformers knows by itself; code from a repository is never run.",
        ) from error
    if config.model_type in _RANDOM or network.main_input_name != "pixel_values":
        raise InputError(
            f"The model in {folder} ({config.model_type}) gives no fixed feature of an image.",
            "Name a vision encoder, such as ViT, DINOv2, Swin or ConvNeXt.",
        )
    _check_whole(loading, folder)
    pool, feature_dim = (
        (grey.pool, grey.feature_dim) if grey.pool else _feature_of(network, bool(loading["missing_keys"]))
    )
    kept = {key: value for key, value in config.to_diff_dict().items() if key not in _IGNORED}
    text = json.dumps({"model_type": config.model_type, **kept}, sort_keys=True)
    spec = EncoderSpec(
        config.model_type, grey.size, int(getattr(config, "num_channels", 3)), grey.mean, grey.std, feature_dim,
        package="transformers", pool=pool, config=text,
    )  # fmt: skip
    return _without_pooler(network, pool), spec


def _check_whole(loading: dict[str, Any], folder: Path) -> None:
    """The file may lack a pooler, and nothing else."""
    missing = sorted(str(key) for key in loading["missing_keys"])
    other = [key for key in missing if not key.startswith("pooler.")] + [str(k) for k in loading["mismatched_keys"]]
    if other:
        raise InputError(
            f"The weights in {folder} do not hold all of the model: {', '.join(other[:8])}.",
            "Get the folder again, or name another model.",
        )


@torch.no_grad()
def _feature_of(network: nn.Module, lacks_pooler: bool) -> tuple[str, int]:
    """What the feature is, and its length, from one blank image."""
    config: Any = network.config
    side = getattr(config, "image_size", 224)
    height, width = (side, side) if isinstance(side, int) else side
    output = network.eval()(pixel_values=torch.zeros(1, getattr(config, "num_channels", 3), height, width))
    if getattr(output, "pooler_output", None) is not None and not lacks_pooler:
        return "pooler", output.pooler_output.flatten(1).shape[1]
    tokens = output.last_hidden_state
    named = any(key.endswith("cls_token") or "class_embedding" in key for key in network.state_dict())
    return "cls" if named else "mean", tokens.shape[1 if tokens.ndim == 4 else 2]


def grey_of(path: Path) -> EncoderSpec:
    """Size, mean and std from a `preprocessor_config.json`, in a spec without a name.

    Raises:
        InputError: it does not say the size of an image.
    """
    settings = read_json(path)
    settings = settings.get("image_processor", settings)
    # where it crops, the crop is what the network was trained on
    crop = settings.get("crop_size") if settings.get("do_center_crop", "crop_size" in settings) else None
    side = _side(crop) or _side(settings.get("size"))
    if not side:
        raise InputError(f"{path} does not state an image size.", "Name another model.")
    # the library scales pixels of 0..255, `Encoder` grey of 0..1
    scale = 255 * float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 255.0
    scale = 1.0 if abs(scale - 1) < 1e-6 else scale  # files write 1/255 with as many digits as they like
    plain = not settings.get("do_normalize", True) or "image_mean" not in settings
    means, stds = ([0.0], [1.0]) if plain else (settings["image_mean"], settings["image_std"])
    mean = tuple(float(value) / scale for value in means)
    std = tuple(float(value) / scale for value in stds)
    alike = len(set(mean)) == len(set(std)) == 1
    return EncoderSpec("", side, mean=mean[0] if alike else mean, std=std[0] if alike else std)


def _side(size: Any) -> int:
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height")
    return int(size or 0)
