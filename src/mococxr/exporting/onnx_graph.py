"""An ONNX graph with the preprocessing inside: grey frames, uint8, in; features or a probability out.

N  frames    H, W  height and width of a frame in px    M  checkpoints whose probabilities are averaged
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mococxr.errors import InputError, RunError
from mococxr.exporting.artifact import Artifact, difference, input_names, noise_frames
from mococxr.heads.classifier import load_member

OPSET = 18  # the one that torch's exporter writes by itself; others it converts
FILE = "model.onnx"
_SAME = ("Conv2dSame", "MaxPool2dSame", "AvgPool2dSame")
"""Layers of timm that pad by the size of what they see: their graph is good for one size only."""


class Graph(nn.Module):
    """Frames (N, 1, H, W) uint8 for each encoder -> features (N, D), or probabilities (N,), the mean over M checkpoints."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        self.members, self.heads = nn.ModuleList(), nn.ModuleList()
        if artifact.model is None:
            self.members.append(nn.ModuleList(artifact.encoders))
            return
        for member in artifact.model.ensemble.members:
            # each holds weights of its own
            encoders, (weight, bias) = copy.deepcopy(artifact.encoders), member.head.folded_margin()
            load_member(encoders, member)
            layer = nn.Linear(weight.shape[1], 1)
            layer.load_state_dict({"weight": weight, "bias": bias})
            self.members.append(nn.ModuleList(encoders))
            self.heads.append(layer)

    def forward(self, *frames: Tensor) -> Tensor:
        """What is exported."""
        features = [
            torch.cat([encoder(part) for encoder, part in zip(encoders, frames, strict=True)], dim=1)
            for encoders in cast(Iterable[nn.ModuleList], self.members)
        ]
        if not len(self.heads):
            return features[0]
        pairs = zip(features, self.heads, strict=True)
        return torch.stack([torch.sigmoid(head(beside)[:, 0]) for beside, head in pairs]).mean(dim=0)


def write_onnx(artifact: Artifact, folder: Path) -> dict[str, Any]:
    """`model.onnx`: opset 18, any number of frames, their sides free where the network allows it.

    Returns:
        Opset, input, output, and the difference that was measured in onnxruntime.

    Raises:
        InputError: the extra is not installed, or whole images meet a network of one frame size.
        RunError: onnxruntime does not say what PyTorch says.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} is not installed.", "pip install 'mococxr[onnx]'")
    free = all(
        encoder.spec.package == "timm" and not any(type(module).__name__ in _SAME for module in encoder.modules())
        for encoder in artifact.encoders
    )
    if artifact.whole and not free:
        names = " and ".join(encoder.spec.architecture for encoder in artifact.encoders)
        raise InputError(
            f"The graph of {names} takes frames of one size, and this model sees whole images.",
            "Fit it with --crop-mode center, or take a network without size-dependent padding (resnet18).",
        )
    output = "probability" if artifact.model else "features"
    graph = Graph(artifact).eval()
    _export(graph, artifact, free, output, folder / FILE)
    if free and any(isinstance(side, int) for part in _open(folder / FILE).get_inputs() for side in part.shape[2:]):
        _export(graph, artifact, False, output, folder / FILE)  # the exporter found a constant in it
    return {"file": FILE, "opset": OPSET, "output": output, **_prove(artifact, folder / FILE)}


def _export(graph: Graph, artifact: Artifact, free: bool, output: str, path: Path) -> None:
    names = input_names(artifact)
    # the frames of all encoders are of as many images
    axes = [
        {0: "batch"} | ({2: f"{prefix}height", 3: f"{prefix}width"} if free else {})
        for prefix in (name.removeprefix("frames").lstrip("_") and f"{name}_" for name in names)
    ]
    frames = tuple(_example(size, free) for size in artifact.sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        program = torch.onnx.export(
            graph,
            frames,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(tuple(axes),),
            input_names=names,
            output_names=[output],
            verbose=False,
        )
        if program is None:
            raise RunError("PyTorch made no ONNX graph of this network.")
        program.save(str(path), external_data=False)  # one file, with the weights in it


def _example(size: int, free: bool) -> Tensor:
    # Where sides are free none may be 1 inside, or equal the other: the exporter takes such sides for constants.
    height, width = (max(96, size + 32), max(160, size + 96)) if free else (size, size)
    return torch.zeros(2, 1, height, width, dtype=torch.uint8)  # 2: the exporter takes a batch of 1 for a constant


def _prove(artifact: Artifact, path: Path) -> dict[str, Any]:
    """Run the file in onnxruntime on one frame, on five, and on frames of another shape where it takes them."""
    session = _open(path)
    inputs = session.get_inputs()
    if isinstance(inputs[0].shape[0], int):
        raise RunError(f"The ONNX graph takes {inputs[0].shape[0]} frames and no other number; nothing was kept.")
    five = [noise_frames(artifact, part) for part in range(len(inputs))]
    tried = [five, [frames[:1] for frames in five]]
    if not any(isinstance(side, int) for part in inputs for side in part.shape[2:]):
        tried.append([np.concatenate([frames, frames[:, :, :32]], axis=2) for frames in five])
    largest = 0.0
    for parts in tried:
        feed = {part.name: frames[:, None] for part, frames in zip(inputs, parts, strict=True)}
        largest = max(largest, difference(artifact.answers(*parts), session.run(None, feed)[0]))
    words = [f"{part.name}: uint8 (batch, 1, {', '.join(map(str, part.shape[2:]))})" for part in inputs]
    return {"input": "; ".join(words), "difference": largest}


def _open(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = 1  # sums in one order: the same difference in each export.json
    # the answers of PyTorch that it is compared with are a CPU's, too
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
