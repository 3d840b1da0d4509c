"""torchxrayvision's pretrained classifiers as encoders: DenseNet-121 and ResNet-50 on one channel of -1024..1024.

Their DenseNet is timm's `densenet121` and their ResNet torchvision's `resnet50`, each with one input channel, so
torchxrayvision itself is not needed. The features are those before the classifier (its `features2`; for the ResNet
`features`). Most of its files are whole pickled modules; here they are read without any of their code.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mococxr.encoders.spec import EncoderSpec
from mococxr.encoders.weights import url_file
from mococxr.errors import InputError

RELEASE = "https://github.com/mlmed/torchxrayvision/releases/download/v1/"
_DENSE = "-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
FILES = {
    "densenet121-res224-all": f"nih-pc-chex-mimic_ch-google-openi-kaggle{_DENSE}",
    "densenet121-res224-nih": f"nih{_DENSE}",
    "densenet121-res224-pc": f"pc{_DENSE}",
    "densenet121-res224-chex": f"chex{_DENSE}",
    "densenet121-res224-rsna": f"kaggle{_DENSE}",
    "densenet121-res224-mimic_nb": f"mimic_nb{_DENSE}",
    "densenet121-res224-mimic_ch": f"mimic_ch{_DENSE}",
    "resnet50-res512-all": "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt",
}
"""Name in torchxrayvision -> file of its first release."""


def xrv_spec(name: str) -> EncoderSpec:
    """Network, size and grey scale of one of torchxrayvision's networks.

    Raises:
        InputError: it has no such network.
    """
    if name not in FILES:
        raise InputError(f"torchxrayvision has no network {name!r}.", f"Known are: {', '.join(FILES)}.")
    network, size, _ = name.split("-", 2)
    # (2 grey - 1) x 1024 is (grey - 1/2) / (1/2048), to the last bit.
    return EncoderSpec(network, int(size.removeprefix("res")), channels=1, mean=0.5, std=1 / 2048)


def xrv_file(name: str) -> Path:
    """The weights, in torchxrayvision's own cache; fetched once."""
    return url_file(RELEASE + FILES[name], Path.home() / ".torchxrayvision" / "models_data")


def xrv_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a file of torchxrayvision, without the classifier."""
    weights = read_module(path)
    outside = ("classifier.", "fc.", "op_threshs")
    return {key: value for key, value in weights.items() if not key.startswith(outside)}


def read_module(path: Path) -> dict[str, Tensor]:
    """Tensors of a PyTorch file that holds a table of tensors, or a whole pickled module of any class.

    No class or function that the file names is imported or called but those that rebuild tensors: every other
    one becomes an empty stand-in that only keeps what was stored in it.

    Raises:
        InputError: unreadable, or nothing in it is a tensor.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the source of a stand-in cannot be compared
            stored = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_Listed)
    except Exception as error:  # torch raises many kinds on a damaged file
        raise InputError(
            f"Cannot read weights from {path}: {error}.".replace("\n", " ")[:400], "Delete the file and get it again."
        ) from error
    weights = dict(_tensors(stored, ""))
    if not weights:
        raise InputError(f"{path} holds no tensors.", "Delete the file and get it again.")
    return weights


def _tensors(module: Any, prefix: str) -> list[tuple[str, Tensor]]:
    """Parameters and buffers of a stand-in and of all in it, under the names that `state_dict` gives."""
    if isinstance(module, dict):
        return [(key, value) for key, value in module.items() if isinstance(value, Tensor)]
    inside = vars(module) if isinstance(module, _StandIn) else {}
    tensors = {**inside.get("_parameters", {}), **inside.get("_buffers", {})}
    named = [(prefix + key, value.detach()) for key, value in tensors.items() if isinstance(value, Tensor)]
    for key, child in inside.get("_modules", {}).items():
        named += _tensors(child, f"{prefix}{key}.")
    return named


class _StandIn:
    """In the place of every class of the file."""

    dump_patches = False

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


_REBUILD = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
}


class _Listed:
    """What `torch.load` takes for the module pickle."""

    class Unpickler(pickle.Unpickler):
        """Finds what rebuilds tensors, and a stand-in for everything else."""

        def find_class(self, module: str, name: str) -> Any:
            storage = module == "torch" and name.endswith("Storage") and hasattr(torch, name)
            if storage or (module, name) in _REBUILD:
                return super().find_class(module, name)
            return type(name, (_StandIn,), {})

    @classmethod
    def load(cls, file: Any, **options: Any) -> Any:
        """As `pickle.load`."""
        return cls.Unpickler(file, **options).load()
