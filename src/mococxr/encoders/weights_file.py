"""A weights file, whoever wrote it: its table of tensors, read without running its code, under the names of a network.

Trainers wrap a network (`module.`, `backbone.`, `encoder_q.`), put its table beside others (`state_dict`, `teacher`),
and save settings or the whole module with it.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mococxr import console
from mococxr.errors import InputError

CONTAINERS = (
    "state_dict_ema", "model_ema", "ema", "teacher", "state_dict", "model_state_dict", "model", "net", "network",
    "module", "encoder", "backbone", "student", "params", "weights",
)  # fmt: skip
"""Entries of a checkpoint that may hold the table, the best first: an average over the training before its last state."""
_SECOND = re.compile(r"(^|[._])(encoder_k|\w*momentum\w*|key|target\w*|ema|student)([._]|$)")
"""Prefixes of a second copy of the network, where a table holds two."""
_GUESSED = (
    "resnet18", "resnet34", "resnet50", "resnet101", "densenet121", "efficientnet_b0", "tf_efficientnet_lite0",
    "mobilenetv3_large_100", "convnext_tiny", "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224",
    "vit_large_patch16_224",
)  # fmt: skip
"""Networks of timm that a message proposes where the tensors are theirs."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors or PyTorch file: a table of them, a checkpoint that holds one, or a whole module.

    No class or function that the file names is imported or called but those that rebuild tensors: every other one
    becomes an empty stand-in that only keeps what was stored in it.

    Raises:
        InputError: unreadable, or nothing in it is a table of tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stored = _unpickle(path)
    except InputError:
        raise
    except Exception as error:  # both readers raise many kinds on a damaged file
        reason = " ".join(re.sub(r"\x1b\[[\d;]*m", "", str(error)).split())[:200] or type(error).__name__
        raise InputError(
            f"Cannot read weights from {path}: {reason}.", "Name a .safetensors or PyTorch file, or copy it again."
        ) from error
    if weights := _table(stored):
        return weights
    names = ", ".join(map(str, list(stored)[:8])) if isinstance(stored, Mapping) else type(stored).__name__
    raise InputError(
        f"{path} holds no table of tensors (it holds {names}).",
        "Write one where it was made: torch.save(model.state_dict(), FILE).",
    )


def _unpickle(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise InputError(
                    f"{path} is a TorchScript program, which would have to be run.",
                    "Write its tensors: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth').",
                )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the source of a stand-in cannot be compared
        # weights_only=True refuses whole modules; `_Pickle` reads them and imports nothing of theirs.
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_Pickle)


def _table(stored: Any) -> dict[str, Tensor]:
    """The table of tensors in what a file holds; empty without one."""
    if isinstance(stored, StandIn):
        return dict(_of_module(stored, ""))
    if not isinstance(stored, Mapping):
        return {}
    inside = (_table(stored[name]) for name in CONTAINERS if isinstance(stored.get(name), Mapping | StandIn))
    plain = {key: value for key, value in stored.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return next(filter(None, inside), plain)


def _of_module(module: StandIn, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a pickled module and of all in it, under the names that `state_dict` gives."""
    inside = vars(module)
    for key, value in {**inside.get("_parameters", {}), **inside.get("_buffers", {})}.items():
        if isinstance(value, Tensor):
            yield prefix + key, value.detach()
    for key, child in inside.get("_modules", {}).items():
        if isinstance(child, StandIn):
            yield from _of_module(child, f"{prefix}{key}.")


class StandIn:
    """In the place of every class of the file but those that rebuild tensors."""

    dump_patches = False  # torch asks it of each module class that it meets

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, *_: Any) -> None: ...

    append = extend = add = update = __setitem__  # by these pickle fills lists, sets and dicts


_REBUILD = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
}


class _Pickle:
    """What `torch.load` takes for the module pickle."""

    class Unpickler(pickle.Unpickler):
        """Finds what rebuilds tensors, and a stand-in for everything else."""

        def find_class(self, module: str, name: str) -> Any:
            # tensors' bytes are asked for by their storage's class
            storage = module == "torch" and name.endswith("Storage") and hasattr(torch, name)
            if storage or (module, name) in _REBUILD:
                return super().find_class(module, name)
            return type(name, (StandIn,), {})

    @classmethod
    def load(cls, file: Any, **options: Any) -> Any:
        """As `pickle.load`."""
        return cls.Unpickler(file, **options).load()


def fit_names(weights: Mapping[str, Tensor], network: nn.Module, architecture: str, source: str) -> dict[str, Tensor]:
    """The tensors under the names of the network, without what a file holds beside it; what was done is said once.

    A prefix is taken off where all the rest then fits. Tensors that are no part of the network (a classifier, a
    projection head, a decoder) are left out. Where a trainer has numbered the layers, they are taken in their order if
    every shape agrees.

    Args:
        weights: as `read_weights`.
        network: gives names and shapes.
        architecture, source: its name and the file's, for messages.

    Raises:
        InputError: they do not fit; it names the prefix, three keys and what to write.
    """
    state = network.state_dict()
    needed = [key for key in state if not key.endswith("num_batches_tracked")]  # torch before 0.4.1 kept none
    ends = [key.removesuffix(needed[0]) for key in weights if key.endswith(needed[0])]
    # without a dot before the match it is the tail of a longer name
    whole = [p for p in ends if p[-1:] in ("", ".") and all(p + key in weights for key in needed)]
    if "" not in whole and len(whole) > 1:
        whole = [prefix for prefix in whole if not _SECOND.search(prefix)]
    if "" not in whole and len(whole) > 1:
        raise InputError(
            f"{source} holds {len(whole)} networks: {', '.join(whole)}.",
            "Write the table of one into a file of its own.",
        )
    if not whole:
        if (ordered := _by_order(weights, state, needed)) is not None:
            _say_once(f"{source}: its layers are numbered; taken in their order, in which every shape agrees.")
            return ordered
        raise _no_fit(weights, architecture, source)
    prefix = "" if "" in whole else whole[0]
    inside = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    children = {key.split(".")[0] for key in state}
    # What is unknown inside a known layer stays in, so that loading refuses it.
    left = [key for key in inside if key not in state and key.split(".")[0] not in children]
    if prefix or left:
        beside = sorted({key.split(".")[0] for key in (*left, *(set(weights) - {prefix + key for key in inside}))})
        what = f"the tensors after {prefix!r}" if prefix else "its tensors"
        rest = f"; left out: {', '.join(beside[:4])}{', ...' if len(beside) > 4 else ''}" if beside else ""
        _say_once(f"{source}: {what} fit {architecture}{rest}.")
    return {key: value for key, value in state.items() if key not in needed} | {
        key: value for key, value in inside.items() if key not in left
    }


def _by_order(
    weights: Mapping[str, Tensor], state: Mapping[str, Tensor], needed: list[str]
) -> dict[str, Tensor] | None:
    """Tensors under some prefix whose shapes and last names are those of the network one after the other."""
    plain = [key for key in weights if not key.endswith("num_batches_tracked")]
    prefixes = {"", *(key[: match.end()] for key in plain for match in re.finditer(r"\.", key))}
    fitting = []
    for prefix in sorted(prefixes, key=len):
        keys = [key for key in plain if key.startswith(prefix)]
        if len(keys) == len(needed) and all(
            a.split(".")[-1] == b.split(".")[-1] and weights[a].shape == state[b].shape
            for a, b in zip(keys, needed, strict=True)
        ):
            # Prefixes come by length, so that the innermost table is the last that fits.
            fitting.append({b: weights[a] for a, b in zip(keys, needed, strict=True)})
    return {key: state[key] for key in state if key not in needed} | fitting[-1] if fitting else None


def _no_fit(weights: Mapping[str, Tensor], architecture: str, source: str) -> InputError:
    keys = list(weights)
    first = {key.split(".")[0] for key in keys}
    prefix = f", all after {first.pop()!r}" if len(first) == 1 else ""
    file = source.split(":")[-1]
    names = network_of(weights)
    advice = (
        f"They fit {names}: write {names}:{file}." if names else f"Write NETWORK:{file} with timm's name of theirs."
    )
    return InputError(
        f"The weights in {source} do not fit {architecture}: {len(keys)} tensors{prefix}, {', '.join(keys[:3])}, ...",
        advice,
    )


def network_of(weights: Mapping[str, Tensor]) -> str | None:
    """A common network of timm whose names and shapes these are; None for any other."""
    for name in _GUESSED:
        with torch.device("meta"):  # names and shapes, and no memory
            state = timm.create_model(name, num_classes=0).state_dict()
        needed = [key for key in state if not key.endswith("num_batches_tracked")]
        for prefix in {key.removesuffix(needed[0]) for key in weights if key.endswith(needed[0])}:
            inside = {key.removeprefix(prefix) for key in weights if key.startswith(prefix)}
            fits = all(key in inside and weights[prefix + key].shape == state[key].shape for key in needed)
            layers = {key.split(".")[0] for key in state}
            # or it is a larger network
            if fits and not any(key not in state and key.split(".")[0] in layers for key in inside):
                return name
    return None


@cache
def _say_once(text: str) -> None:
    console.say(text)
