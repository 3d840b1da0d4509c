"""An ONNX graph with the preprocessing inside: grey frames, uint8, in; features or a probability out.

N  frames    H, W  height and width of a frame in px    M  checkpoints whose probabilities are averaged
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mococxr.errors import InputError, RunError
from mococxr.exporting.artifact import Artifact, difference, noise_frames

OPSET = 18  # the one that torch's exporter writes by itself; others it converts
FILE = "model.onnx"
_SAME = ("Conv2dSame", "MaxPool2dSame", "AvgPool2dSame")
"""Layers of timm that pad by the size of what they see: their graph is good for one size only."""


class Graph(nn.Module):
    """Frames (N, 1, H, W) uint8 -> features (N, D), or probabilities (N,) as the mean over M checkpoints."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        self.encoders, self.heads = nn.ModuleList(), nn.ModuleList()
        if artifact.model is None:
            self.encoders.append(artifact.encoder)
            return
        for member in artifact.model.ensemble.members:
            # each holds weights of its own
            encoder, (weight, bias) = copy.deepcopy(artifact.encoder), member.head.folded_margin()
            encoder.network.load_state_dict(member.weights or {}, strict=True)
            layer = nn.Linear(weight.shape[1], 1)
            layer.load_state_dict({"weight": weight, "bias": bias})
            self.encoders.append(encoder)
            self.heads.append(layer)

    def forward(self, frames: Tensor) -> Tensor:
        """What is exported."""
        if not len(self.heads):
            return self.encoders[0](frames)
        pairs = zip(self.encoders, self.heads, strict=True)
        return torch.stack([torch.sigmoid(head(encoder(frames))[:, 0]) for encoder, head in pairs]).mean(dim=0)


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
    free = artifact.spec.package == "timm" and not any(type(m).__name__ in _SAME for m in artifact.encoder.modules())
    if artifact.whole and not free:
        raise InputError(
            f"The graph of {artifact.spec.architecture} takes frames of one size, and this model sees whole images.",
            "Fit it with --crop-mode center, or take a network without size-dependent padding (resnet18).",
        )
    output = "probability" if artifact.model else "features"
    graph = Graph(artifact).eval()
    _export(graph, artifact, free, output, folder / FILE)
    if free and any(isinstance(side, int) for side in _open(folder / FILE).get_inputs()[0].shape[2:]):
        _export(graph, artifact, False, output, folder / FILE)  # the exporter found a constant in it
    return {"file": FILE, "opset": OPSET, "output": output, **_prove(artifact, folder / FILE)}


def _export(graph: Graph, artifact: Artifact, free: bool, output: str, path: Path) -> None:
    axes = {0: "batch", 2: "height", 3: "width"} if free else {0: "batch"}
    # Where sides are free none may be 1 inside, or equal the other: the exporter takes such sides for constants.
    height, width = (max(96, artifact.size + 32), max(160, artifact.size + 96)) if free else [artifact.size] * 2
    frames = torch.zeros(2, 1, height, width, dtype=torch.uint8)  # 2: the exporter takes a batch of 1 for a constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        program = torch.onnx.export(
            graph,
            (frames,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(axes,),
            input_names=["frames"],
            output_names=[output],
            verbose=False,
        )
        if program is None:
            raise RunError("PyTorch made no ONNX graph of this network.")
        program.save(str(path), external_data=False)  # one file, with the weights in it


def _prove(artifact: Artifact, path: Path) -> dict[str, Any]:
    """Run the file in onnxruntime on one frame, on five, and on frames of another shape where it takes them."""
    session = _open(path)
    shape = session.get_inputs()[0].shape
    if isinstance(shape[0], int):
        raise RunError(f"The ONNX graph takes {shape[0]} frames and no other number; nothing was kept.")
    five = noise_frames(artifact)
    tried = [five, five[:1]]
    if not isinstance(shape[2], int) and not isinstance(shape[3], int):
        tried.append(np.concatenate([five, five[:, :, :32]], axis=2))
    exported = [session.run(None, {"frames": frames[:, None]})[0] for frames in tried]
    largest = max(difference(artifact.answers(x), y) for x, y in zip(tried, exported, strict=True))
    sides = [str(side) for side in shape[2:]]
    return {"input": f"frames: uint8 (batch, 1, {', '.join(sides)})", "difference": largest}


def _open(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = 1  # sums in one order: the same difference in each export.json
    # the answers of PyTorch that it is compared with are a CPU's, too
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
