"""The encoder: a network with its grey-image preprocessing inside; building one, and putting weights into it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.func import functional_call

from mococxr.encoders import transformer
from mococxr.encoders.spec import OFFLINE_BACKBONE, EncoderSpec, Grey, spec_of
from mococxr.encoders.stages import FeatureMaps, StageReader, read_maps
from mococxr.errors import InputError
from mococxr.files import atomic, read_json, write_json
from mococxr.version import VERSION


class Encoder(nn.Module):
    """Images (N, 1, H, W), uint8 0..255 or float 0..1, any H and W -> features (N, D) float32."""

    def __init__(self, network: nn.Module, spec: EncoderSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.stem = one_channel_stem(network, spec)
        # in a tuple it is no part of this module: the network has one name in its state
        self._readers = (StageReader(network),) if (spec.package, spec.features) == ("timm", "stages") else ()

    @property
    def size(self) -> int:
        """Side of the frames it was trained on, px."""
        return self.spec.size

    def forward(self, images: Tensor) -> Tensor:
        """Normalise on the device, repeat into the channels, encode.

        The layer that sees the image gives the same for an image repeated into C channels and for the image itself with
        the sum of the C kernels, and so do the gradients; the second costs 1 / C of the arithmetic. So the image is
        repeated only where no such layer is known (`one_channel_stem`).
        """
        grey = self._normalised(images)
        if self.stem:
            kernels = self.network.get_parameter(self.stem).sum(dim=1, keepdim=True)
            # Of one channel, either layout is contiguous; the strides of the kernels tell the layer which is meant.
            kernels = kernels.clone(memory_format=torch.channels_last)
            reader, name = (self._readers[0], f"network.{self.stem}") if self._readers else (self.network, self.stem)
            return functional_call(reader, {name: kernels}, (grey,), tie_weights=False).float()
        expanded = self._expanded(grey)
        if self.spec.package == "transformers":
            return transformer.read(self.network, expanded, self.spec.pool, self.spec.features).float()
        # under autocast it is bfloat16, and what reads features counts on float32
        return (self._readers[0] if self._readers else self.network)(expanded).float()

    def maps(self, images: Tensor) -> FeatureMaps:
        """The maps that a network of timm makes its features of; images as `forward` takes them."""
        return read_maps(self.network, self._expanded(self._normalised(images)), self.spec.features)

    def _normalised(self, images: Tensor) -> Tensor:
        """Grey values (N, 1 or C, H, W) as the network expects them."""
        if images.ndim != 4 or images.shape[1] != 1:
            raise ValueError(f"images are (N, 1, H, W), not {tuple(images.shape)}")
        # In place is safe after the conversion from bytes, which made a copy; floats may be the caller's own.
        grey = images.float().div_(255.0) if images.dtype == torch.uint8 else images.float()
        return (grey - _per_channel(self.spec.mean, grey)) / _per_channel(self.spec.std, grey)

    def _expanded(self, grey: Tensor) -> Tensor:
        """One image in each channel, (N, C, H, W)."""
        # Channels-last as the weights are: layers otherwise work in the other layout, which is slower.
        return grey.expand(-1, self.spec.channels, -1, -1).contiguous(memory_format=torch.channels_last)


def one_channel_stem(network: nn.Module, spec: EncoderSpec) -> str:
    """The kernels of the one layer that sees the channels of an image, by name; empty where they cannot be summed.

    timm names that layer, for its own networks of another number of channels. It must be a plain convolution, linear in
    its kernels, and every channel must get the same numbers.
    """
    name = getattr(network, "pretrained_cfg", {}).get("first_conv")
    if not isinstance(name, str) or isinstance(spec.mean, tuple) or isinstance(spec.std, tuple):  # channels that differ
        return ""
    layer = network.get_submodule(name)
    plain = isinstance(layer, nn.Conv2d) and type(layer) in (nn.Conv2d, Conv2dSame) and layer.groups == 1
    return f"{name}.weight" if plain and 1 < spec.channels == layer.in_channels else ""


def _per_channel(value: Grey, like: Tensor) -> Tensor | float:
    return like.new_tensor(value)[:, None, None] if isinstance(value, tuple) else value


def build(spec: EncoderSpec, seed: int = 0) -> Encoder:
    """An encoder with random weights, in train mode, channels-last.

    Raises:
        InputError: the library has no such network, or is not installed.
    """
    if spec.package == "timm":
        check_name(spec.architecture)
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(seed)
        if spec.package == "transformers":
            network = transformer.build(spec)
        else:
            network = timm.create_model(spec.architecture, pretrained=False, **timm_options(spec))
    return wrap(network, spec)


def wrap(network: nn.Module, spec: EncoderSpec) -> Encoder:
    """The encoder around a network, channels-last, with the length of its features in its spec.

    Raises:
        InputError: features of the stages are asked for, and the network does not give them.
    """
    network = network.to(memory_format=torch.channels_last)  # a step is 4 to 5 % faster (docs/benchmarks.md)
    length = spec.feature_dim if spec.package == "transformers" else last_length(network)
    encoder = Encoder(network, replace(spec, features="last", feature_dim=length))
    return at_stages(encoder) if spec.features == "stages" else encoder


def last_length(network: nn.Module) -> int:
    """Length of the own feature of a network of timm."""
    # Where a head has a layer of its own before the classifier, features have that layer's length.
    length: Any = getattr(network, "head_hidden_size", None) or network.num_features
    return int(length)


@torch.no_grad()
def at_stages(encoder: Encoder) -> Encoder:
    """The same network, not a copy of it, read at its stages; modules stay in the modes that they are in.

    Raises:
        InputError: it has none that can be read.
    """
    modes = [(module, module.training) for module in encoder.modules()]
    blank = torch.zeros(1, 1, encoder.size, encoder.size, device=next(encoder.parameters()).device)
    try:
        staged = Encoder(encoder.network, replace(encoder.spec, features="stages"))
        length = staged.eval()(blank).shape[1]  # measured: no library states it of every network
    except (AttributeError, AssertionError, NotImplementedError, TypeError) as error:  # of networks without stages
        raise InputError(
            f"The network {encoder.spec.architecture} does not give features of its stages at {encoder.size} px ({error}).",
            "Take --features last, or another --size where that is the reason.",
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    return Encoder(encoder.network, replace(staged.spec, feature_dim=length))


def check_name(name: str) -> None:
    """Refuse what is not a network of timm.

    Raises:
        InputError: with the names that are near.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), 5)
        close = close or ["resnet18", "densenet121", OFFLINE_BACKBONE]
        raise InputError(f"timm has no network {name!r}.", "Known are for example: " + ", ".join(close) + ".")


def timm_options(spec: EncoderSpec) -> dict[str, Any]:
    """What timm builds the network of a spec with: no classifier, and any side of frames for its transformers."""
    family = timm.model_entrypoint(spec.architecture).__module__.rsplit(".", 1)[-1]
    options = json.loads(spec.config) if spec.config else {}
    if family in ("vision_transformer", "deit", "eva"):  # other families refuse these arguments
        options |= {"img_size": spec.size, "dynamic_img_size": True, "dynamic_img_pad": True}
    return options | {"num_classes": 0, "in_chans": spec.channels}


def load_weights(encoder: Encoder, weights: Mapping[str, Tensor], source: str) -> None:
    """Load every tensor of the network, or refuse.

    Raises:
        InputError: a key is missing, left over, or has another shape; each is named.
    """
    state = encoder.network.state_dict()
    missing = [key for key in state if key not in weights]
    extra = [key for key in weights if key not in state]
    shapes = [
        f"{key} {tuple(weights[key].shape)} for {tuple(state[key].shape)}"
        for key in state
        if key in weights and state[key].shape != weights[key].shape
    ]
    faults = [
        f"{what}: {', '.join(keys[:8])}{f' and {len(keys) - 8} more' if len(keys) > 8 else ''}"
        for what, keys in (("missing", missing), ("not in the network", extra), ("of another shape", shapes))
        if keys
    ]
    if faults:
        raise InputError(
            f"The weights in {source} do not fit {encoder.spec.architecture} ({'; '.join(faults)}).",
            "Name the backbone that they were made for.",
        )
    encoder.network.load_state_dict(dict(weights), strict=True)


# --- a run folder: `encoder.safetensors` (the network's own keys, no classifier) and `encoder.json`


def save_encoder(encoder: Encoder, folder: Path, record: Mapping[str, Any]) -> None:
    """Write `encoder.safetensors` and `encoder.json` (weights first: the JSON says that they are whole)."""
    # safetensors refuses strides such as channels-last
    tensors = {key: value.detach().cpu().contiguous() for key, value in encoder.network.state_dict().items()}
    with atomic(folder / "encoder.safetensors") as temporary:
        # the file alone is then an encoder, too (`spec_inside`)
        save_file(tensors, temporary, metadata={"spec": json.dumps(asdict(encoder.spec))})
    write_json(folder / "encoder.json", {"version": VERSION, **asdict(encoder.spec), **record})


def read_spec(folder: Path) -> EncoderSpec:
    """The spec of an encoder folder.

    Raises:
        InputError: the folder has no finished encoder, or one of another version.
    """
    if not (folder / "encoder.json").is_file():
        raise InputError(f"{folder} has no encoder.json.", "Name a finished run folder.")
    return spec_of(read_json(folder / "encoder.json"), str(folder / "encoder.json"))
