"""The command `import`: a checkpoint of MoCo or MoCo-CXR -> a run folder like any other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mococxr import console
from mococxr.encoders import SETS, Encoder, EncoderSpec, build, grey_value, load_weights, save_encoder
from mococxr.errors import InputError
from mococxr.exporting.moco_checkpoint import MoCoCheckpoint, read_checkpoint, split_checkpoint, tensors_of
from mococxr.files import atomic, atomic_write, claim, sha256_file, write_json
from mococxr.settings import ImportSettings, to_yaml
from mococxr.version import VERSION


def run_import(settings: ImportSettings) -> Path:
    """The command `import`: every tensor checked, what is left out named, the rest refused.

    Returns:
        The run folder: `encoder.safetensors`, `encoder.json`, `head.safetensors` (the projection head, where there
        is one), `settings.yaml`, `run.json`.

    Raises:
        InputError: a file that is not such a checkpoint, whole; nothing was written.
    """
    out, path = Path(settings.out), Path(settings.file)
    claim(out)
    content = read_checkpoint(path)
    arch = content.get("arch")
    checkpoint = split_checkpoint(tensors_of(content, path), str(arch) if arch is not None else None, str(path))
    encoder = _encoder(checkpoint, settings)
    left = checkpoint.left_out | _beside(content)
    _write(out, settings, encoder, checkpoint, _facts(settings, content, checkpoint, left, encoder))
    _announce(out, encoder, checkpoint, left)
    return out


def _encoder(checkpoint: MoCoCheckpoint, s: ImportSettings) -> Encoder:
    """The network of timm with these weights, in eval mode, proved to give finite features."""
    mean, std = grey_value(s.mean, "--mean") or 0.0, grey_value(s.std, "--std") or 1.0
    # as MoCo-CXR repeats grey
    encoder = build(EncoderSpec(architecture=checkpoint.pair.timm, size=s.size, channels=3, mean=mean, std=std))
    keys = list(encoder.network.state_dict())
    # paired by order: same networks
    load_weights(encoder, checkpoint.pair.to_timm(checkpoint.encoder, keys), str(s.file))
    encoder.eval()
    with torch.inference_mode():
        grey = encoder(torch.full((1, 1, 64, 64), 128, dtype=torch.uint8))
    if not bool(torch.isfinite(grey).all()):
        raise InputError(f"The encoder in {s.file} gives features that are not finite.", "Get the file again.")
    return encoder


def _beside(content: Mapping[str, Any]) -> dict[str, list[str]]:
    """What stands beside the state_dict and is left out: the optimiser's tensors, and whatever else."""
    left: dict[str, list[str]] = {}
    for name in content:
        if name in ("state_dict", "arch", "epoch"):
            continue
        tensors = list(_tensor_names(content[name], name))
        left["optimizer" if name == "optimizer" else "other entries"] = [
            *left.get("optimizer" if name == "optimizer" else "other entries", []),
            *(tensors or [name]),
        ]
    return left


def _tensor_names(value: Any, name: str) -> list[str]:
    if isinstance(value, Tensor):
        return [name]
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [inner for key, item in items for inner in _tensor_names(item, f"{name}.{key}")]


def _facts(
    s: ImportSettings,
    content: Mapping[str, Any],
    checkpoint: MoCoCheckpoint,
    left: Mapping[str, list[str]],
    encoder: Encoder,
) -> dict[str, Any]:
    """What `run.json` says; what a checkpoint does not record is null, never guessed."""
    epoch = content.get("epoch")
    pretrained_on = {"source": [s.source], "images": None, "patients": None, "splits": None}
    return {
        "version": VERSION,
        "kind": "imported",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "backbone": encoder.spec.architecture,
        "init": None,
        "weights": "a checkpoint of MoCo, imported",
        "checkpoint": {
            "kind": s.kind,
            "sha256": sha256_file(s.file),
            "architecture": checkpoint.pair.torchvision,
            "architecture_from": "arch" if checkpoint.stated else "the tensors",
            "epoch": int(epoch) if isinstance(epoch, int | float) else None,
            "head": checkpoint.head_kind,
            "tensors_read": len(checkpoint.encoder),
            "left_out": dict(left),
        },
        "pretrained_on": pretrained_on if s.source else None,
        "started_from": {
            "known": s.source is not None,
            "sets": [s.source] if s.source in SETS else [],
            "labels": False,
        },
        "synthetic": None,
    }


def _write(out: Path, s: ImportSettings, encoder: Encoder, checkpoint: MoCoCheckpoint, facts: dict[str, Any]) -> None:
    record = {"init": None, "pretrained_on": facts["pretrained_on"], "imported": facts["checkpoint"]["sha256"]}
    save_encoder(encoder, out, record)
    if checkpoint.head:
        with atomic(out / "head.safetensors") as temporary:
            save_file({key: value.contiguous() for key, value in checkpoint.head.items()}, temporary)
    atomic_write(out / "settings.yaml", to_yaml(s))
    write_json(out / "run.json", facts)  # last: it says that all is there


def _announce(out: Path, encoder: Encoder, checkpoint: MoCoCheckpoint, left: Mapping[str, list[str]]) -> None:
    origin = "as it says" if checkpoint.stated else "as its tensors say; it names none"
    console.say(
        f"{checkpoint.pair.torchvision} ({origin}), {len(checkpoint.encoder)} tensors -> timm's {encoder.spec.architecture}"
    )
    for group, names in left.items():
        first = ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
        console.say(f"left out: {group}, {len(names):,} ({first})")
    kept = " The projection head is kept in head.safetensors." if checkpoint.head else ""
    console.say(f"all of them are named in run.json.{kept}")
    console.say(
        f"preprocessing taken: {encoder.spec.size} px, mean {encoder.spec.mean}, std {encoder.spec.std}; "
        "the checkpoint records none"
    )
    console.say(f"encoder: {out}")
