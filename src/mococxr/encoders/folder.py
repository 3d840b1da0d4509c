"""An encoder folder: `encoder.safetensors` (the network's own keys, no classifier) and `encoder.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from mococxr.encoders.encoder import Encoder, build, load_weights
from mococxr.encoders.spec import EncoderSpec, spec_of
from mococxr.encoders.weights import read_weights
from mococxr.errors import InputError
from mococxr.files import atomic, read_json, write_json
from mococxr.version import VERSION


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
    return spec_of(read_json(folder / "encoder.json"), str(folder / "encoder.json"))


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
