"""The authors' checkpoints, tensor by tensor: what is the encoder, what is left out, what does not belong.

Names as MoCo's released code writes them: `module.encoder_q.*` (the encoder and its projection head),
`module.encoder_k.*` (the key encoder), `module.queue`, `module.queue_ptr`; `module.` comes from parallel training.
Heads: `fc` in ResNets, `classifier` in DenseNets and MNASNets; `.0` and `.2` with a ReLU between (v2), or one
linear layer (v1), which MNASNet may also have as `classifier.1`.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mococxr.errors import InputError
from mococxr.exporting.state_dicts import BY_TORCHVISION, PAIRS, ArchitecturePair

HEADS = {
    "mlp": ("0.weight", "0.bias", "2.weight", "2.bias"),
    "linear": ("weight", "bias"),
    "linear in a sequence": ("1.weight", "1.bias"),
}
SHOWN = 8
"""Keys named in a message, at most; `run.json` has all."""


@dataclass(frozen=True)
class MoCoCheckpoint:
    """A checkpoint taken apart, every tensor accounted for.

    Args:
        pair: the network.
        stated: whether the checkpoint names it; else its tensors alone say so.
        encoder: torchvision's keys -> tensors, in torchvision's order, no head.
        head: the query's projection head: `0.weight` and so on.
        head_kind: a name of `HEADS`, or `none`.
        left_out: group -> the file's own keys of all that is not the encoder.
    """

    pair: ArchitecturePair
    stated: bool
    encoder: dict[str, Tensor]
    head: dict[str, Tensor]
    head_kind: str
    left_out: dict[str, list[str]]


def split_checkpoint(tensors: Mapping[str, Tensor], arch: str | None, path: str) -> MoCoCheckpoint:
    """Sort and check the tensors of a checkpoint.

    Args:
        tensors: the checkpoint's `state_dict`.
        arch: torchvision's name of the network as the checkpoint states it; None finds it from the tensors.
        path: the file, for messages.

    Raises:
        InputError: a tensor is missing, unknown, of another shape or kind, or not finite; each is named.
    """
    plain = {key.removeprefix("module."): value for key, value in tensors.items()}
    if len(plain) != len(tensors):  # else one of two tensors would be lost without a word
        raise InputError(f"{path} holds tensors with and without `module.`.", "It is no checkpoint of MoCo.")
    query, key_side = _under(plain, "encoder_q."), _under(plain, "encoder_k.")
    if not query:
        raise InputError(
            f"{path} holds no tensor module.encoder_q.*: it is no checkpoint of MoCo's pretraining "
            f"(it begins with {', '.join(list(tensors)[:3])}).",
            "A network's own weights are an arm as they are: --arm NAME=timm-name:FILE.",
        )
    pair = _network(arch, query, path)
    template = pair.template()
    body, head = _split(query, pair)
    faults = {f"encoder_q.{what}": keys for what, keys in _faults(body, template, pair).items()}
    kind, head_faults = _head_kind(head)
    faults |= head_faults
    others = [key for key in plain if not key.startswith(("encoder_q.", "encoder_k."))]
    faults |= _other_faults(plain, others) | _key_faults(key_side, query)
    _refuse(faults, pair, path)
    written = {key.removeprefix("module."): key for key in tensors}
    left = {
        "key encoder": [written[f"encoder_k.{key}"] for key in key_side],
        "projection head": [written[f"encoder_q.{pair.classifier}.{key}"] for key in head],
        "queue": [written[key] for key in others],
    }
    # files may be in half precision
    encoder = {key: body[key].to(like.dtype).contiguous() for key, like in template.items()}
    return MoCoCheckpoint(pair, arch is not None, encoder, head, kind, {k: v for k, v in left.items() if v})


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _split(query: Mapping[str, Tensor], pair: ArchitecturePair) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    head = _under(query, f"{pair.classifier}.")
    return {k: v for k, v in query.items() if not k.startswith(f"{pair.classifier}.")}, head


def _network(arch: str | None, query: Mapping[str, Tensor], path: str) -> ArchitecturePair:
    """The network that the checkpoint names, or the one that its tensors are of."""
    known = ", ".join(BY_TORCHVISION)
    if arch is not None:
        if arch not in BY_TORCHVISION:
            raise InputError(
                f"{path} is of the network {arch!r}, which timm does not have in equal form.",
                f"Networks that can be imported: {known}.",
            )
        return BY_TORCHVISION[arch]
    for pair in PAIRS:
        template, (body, _) = pair.template(), _split(query, pair)
        if body.keys() == template.keys() and all(body[k].shape == v.shape for k, v in template.items()):
            return pair
    raise InputError(
        f"{path} does not name its network, and its tensors are those of none that is known.",
        f"Known are {known}. A tensor may be missing: add 'arch' to the checkpoint and it will be named.",
    )


def _faults(body: Mapping[str, Tensor], template: Mapping[str, Tensor], pair: ArchitecturePair) -> dict[str, list[str]]:
    both = [(key, body[key], like) for key, like in template.items() if key in body]
    return {
        f"* missing for torchvision's {pair.torchvision}": [key for key in template if key not in body],
        "* unknown": [key for key in body if key not in template],
        "* of another shape": [
            f"{key} {tuple(value.shape)} for {tuple(like.shape)}"
            for key, value, like in both
            if value.shape != like.shape
        ],
        "* of another kind": [
            f"{key} {value.dtype}" for key, value, like in both if value.is_floating_point() != like.is_floating_point()
        ],
        "* negative variances": [
            key
            for key, value, _ in both
            # batch norm takes their root
            if key.endswith("running_var") and value.is_floating_point() and bool((value < 0).any())
        ],
    }


def _head_kind(head: Mapping[str, Tensor]) -> tuple[str, dict[str, list[str]]]:
    """Which head it is; one of odd shapes or keys is a fault."""
    if not head:
        return "none", {}
    for kind, keys in HEADS.items():
        if set(head) == set(keys):
            chain = [head[key] for key in keys]
            fits = all(w.ndim == 2 and b.shape == w.shape[:1] for w, b in zip(chain[::2], chain[1::2], strict=True))
            if fits and (len(chain) == 2 or chain[2].shape[1] == chain[0].shape[0]):
                return kind, {}
            shapes = [f"{key} {tuple(head[key].shape)}" for key in keys]
            return kind, {"projection head of shapes that do not fit": shapes}
    return "unknown", {"projection head that is neither MoCo v2's nor v1's": list(head)}


def _key_faults(key_side: Mapping[str, Tensor], query: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """The key encoder is left out, but half of one means a damaged file."""
    if not key_side:
        return {}
    return {
        "encoder_k.* missing": [key for key in query if key not in key_side],
        "encoder_k.* unknown": [key for key in key_side if key not in query],
        "encoder_k.* of another shape than encoder_q.*": [
            key for key in query if key in key_side and key_side[key].shape != query[key].shape
        ],
    }


def _other_faults(plain: Mapping[str, Tensor], others: Iterable[str]) -> dict[str, list[str]]:
    bad = [k for k, v in plain.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    return {"unknown": [k for k in others if k not in ("queue", "queue_ptr")], "not finite": bad}


def _refuse(faults: Mapping[str, list[str]], pair: ArchitecturePair, path: str) -> None:
    listed = [
        f"{what}: {', '.join(keys[:SHOWN])}" + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
        for what, keys in faults.items()
        if keys
    ]
    if listed:
        raise InputError(
            f"{path} is no whole checkpoint of MoCo with {pair.torchvision} ({'; '.join(listed)}).",
            "Get the file again, or one of another epoch; nothing was written.",
        )


# --- a checkpoint read without running what is in it

_NUMBERS = ("bool", "int32", "int64", "float32", "float64")
_SCALAR = np.float64(0).__reduce__()[0]  # NumPy's own function, wherever this version keeps it
SAFE_GLOBALS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in _NUMBERS),  # each kind of dtype has a class, which pickles name
]
"""What builds a NumPy number, under the names of NumPy 1 and 2: nothing in it calls anything else."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a PyTorch checkpoint, or a safetensors file as if it were the `state_dict` of one.

    Raises:
        InputError: absent, damaged, no checkpoint, or one that only running its code could restore (the classes
            are named; nothing of it has run).
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.", "Name a checkpoint, e.g. checkpoint_0019.pth.tar.")
    try:
        if path.suffix == ".safetensors":
            return {"state_dict": load_file(path)}
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # by this weights_only refuses code
        raise _refusal(path, error) from error
    except Exception as error:  # the readers raise many kinds on a damaged file
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no checkpoint but a {type(content).__name__}.", _KINDS)
    return content if "state_dict" in content else {"state_dict": content}  # a bare table of tensors


_KINDS = "Name the file that MoCo's training script has written: epoch, arch, state_dict, optimizer."


def _refusal(path: Path, error: Exception) -> InputError:
    classes = _classes(path, error)
    if not classes:
        return _damaged(path, error)
    return InputError(
        f"{path} holds objects of {', '.join(classes)}, which only running code from the file could restore; "
        "nothing of it was run.",
        "Where it was made, and if you trust it, load it and write only its tensors: "
        "torch.save({'arch': c['arch'], 'state_dict': c['state_dict']}, 'clean.pth.tar').",
    )


def _classes(path: Path, error: Exception) -> list[str]:
    """The classes and functions that the file asks for and does not get."""
    if zipfile.is_zipfile(path):
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error))))  # files older than torch 1.6 are no archives


def _damaged(path: Path, error: Exception) -> InputError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return InputError(f"{path} cannot be read ({first}): cut off or damaged.", "Copy or download it again.")


def tensors_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The table of tensors in a checkpoint.

    Raises:
        InputError: it holds none, or something else in it.
    """
    table = content["state_dict"]
    if not isinstance(table, Mapping) or not table:
        raise InputError(f"The state_dict in {path} is no table of tensors.", _KINDS)
    strange = [str(key) for key, value in table.items() if not isinstance(value, Tensor)]
    if strange:
        raise InputError(f"In {path} these are no tensors: {', '.join(strange[:8])}.", _KINDS)
    return dict(table)
