"""A checkpoint read without running what is in it.

A PyTorch file is a pickle, and a pickle is a program. Only tensors, containers, numbers and text are let
through, and NumPy's numbers, which training scripts leave behind; all else is named and refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mococxr.errors import InputError

_NUMBERS = ("bool", "int32", "int64", "float32", "float64")
_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in _NUMBERS),
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
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except Exception as error:  # the readers raise many kinds on a damaged file
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no checkpoint but a {type(content).__name__}.", _KINDS)
    return content if "state_dict" in content else {"state_dict": content}


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
        with torch.serialization.safe_globals(HARMLESS):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error))))


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
