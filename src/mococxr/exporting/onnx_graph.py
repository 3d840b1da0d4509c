"""An ONNX graph with the preprocessing inside: grey frames, uint8, in; features, and a classifier's answers, out.

N  frames    T  targets    H, W  height and width of a frame in px    M  checkpoints whose probabilities are averaged
K  points of an isotonic calibration
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mococxr.classifier.graph import FILE, open_graph
from mococxr.classifier.saved import calibrator_of, columns_of, threshold_of
from mococxr.errors import InputError, RunError
from mococxr.exporting.artifact import Artifact, difference, folded_heads, input_names, noise_frames
from mococxr.heads.classifier import load_member
from mococxr.metrics import Calibrator
from mococxr.metrics.calibration import NEAREST

OPSET = 18  # the one that torch's exporter writes by itself; others it converts
_SAME = ("Conv2dSame", "MaxPool2dSame", "AvgPool2dSame")
"""Layers of timm that pad by the size of what they see: their graph is good for one size only."""


class Graph(nn.Module):
    """Frames (N, 1, H, W) uint8 for each encoder -> features (N, D); of a classifier before them
    the other `outputs`, (N,) each, of target after target. The features are those of its first checkpoint.

    Heads and what follows them compute in float64, as the classifier does.
    """

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        self.members, self.heads = nn.ModuleList(), nn.ModuleList()
        if artifact.model is None:
            self.members.append(nn.ModuleList(artifact.encoders))
            self.outputs = ["features"]
            return
        for member in artifact.model.ensemble.members:
            # each holds weights of its own
            encoders, (weight, bias) = copy.deepcopy(artifact.encoders), folded_heads(member)
            load_member(encoders, member)
            layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
            layer.load_state_dict({"weight": weight, "bias": bias})
            self.members.append(nn.ModuleList(encoders))
            self.heads.append(layer)
        blocks = artifact.model.record["targets"]
        self.points = nn.ModuleList(_Point(block) for block in blocks)
        names = columns_of(artifact.model.targets, "score", "calibrated", "decision")
        made = [(True, point.calibration is not None, point.threshold is not None) for point in self.points]
        pairs = (zip(*each, strict=True) for each in zip(names, made, strict=True))
        self.outputs = [*(name for each in pairs for name, has in each if has), "features"]

    def forward(self, *frames: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What is exported."""
        features = [
            torch.cat([encoder(part) for encoder, part in zip(encoders, frames, strict=True)], dim=1)
            for encoders in cast(Iterable[nn.ModuleList], self.members)
        ]
        if not len(self.heads):
            return features[0]
        pairs = zip(features, self.heads, strict=True)
        score = torch.stack([torch.sigmoid(head(beside.double())) for beside, head in pairs]).mean(dim=0)
        answers = [output for target, point in enumerate(self.points) for output in point(score[:, target])]
        return (*answers, features[0])


class _Point(nn.Module):
    """Scores of a target (N,) -> score, and where the target has them calibrated probability and decision, (N,) each."""

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__()
        calibrator, threshold = calibrator_of(block), threshold_of(block)
        self.calibration = None if calibrator is None else _Calibration(calibrator)
        self.threshold = None if threshold is None else nn.Buffer(torch.tensor(threshold, dtype=torch.float64))

    def forward(self, score: Tensor) -> list[Tensor]:
        """What is exported."""
        outputs = [score]
        if self.calibration is not None:
            outputs.append(self.calibration(score))
        if self.threshold is not None:
            outputs.append((score >= self.threshold).to(torch.int8))
        return outputs


class _Calibration(nn.Module):
    """Scores (N,) -> calibrated probabilities (N,): `Calibrator.apply` of their logits."""

    ends: Tensor
    unit: Tensor
    slope: Tensor
    intercept: Tensor
    inputs: Tensor  # (K,), as the outputs
    outputs: Tensor

    def __init__(self, calibrator: Calibrator) -> None:
        super().__init__()
        # float64 tensors: the exporter takes a plain number for a float32
        for name, value in (("ends", (NEAREST, 1 - NEAREST)), ("unit", (0, 1)), *calibrator.parameters().items()):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))
        self.by_points = calibrator.slope is None

    def forward(self, score: Tensor) -> Tensor:
        """What is exported."""
        kept = _kept(score, self.ends)
        logit = torch.log(kept / (1 - kept))
        if not self.by_points:
            return torch.sigmoid(self.slope * logit + self.intercept)
        right = (logit[:, None] >= self.inputs).sum(dim=1).clamp(1, len(self.inputs) - 1)
        low, high = self.inputs[right - 1], self.inputs[right]
        share = _kept((logit - low) / (high - low), self.unit)
        return self.outputs[right - 1] + share * (self.outputs[right] - self.outputs[right - 1])


def _kept(values: Tensor, ends: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(values, ends[0]), ends[1])


def write_onnx(artifact: Artifact, folder: Path) -> dict[str, Any]:
    """`model.onnx`: opset 18, any number of frames, their sides free where the network allows it.

    Returns:
        Opset, input, output, and the difference that was measured in onnxruntime.

    Raises:
        InputError: whole images meet a network of one frame size.
        RunError: onnxruntime does not say what PyTorch says.
    """
    free = all(
        encoder.spec.package == "timm" and not any(type(module).__name__ in _SAME for module in encoder.modules())
        for encoder in artifact.encoders
    )
    if artifact.whole and not free:
        raise InputError(
            f"The graph of {_names(artifact)} takes frames of one size, and this model sees whole images.",
            "Fit it with --crop-mode center, or take a network without size-dependent padding (resnet18).",
        )
    graph = Graph(artifact).eval()
    _export(graph, artifact, free, folder / FILE)
    if free and any(
        isinstance(side, int) for part in open_graph(folder / FILE).get_inputs() for side in part.shape[2:]
    ):
        _export(graph, artifact, False, folder / FILE)  # the exporter found a constant in it
    return {"file": FILE, "opset": OPSET, "output": ", ".join(graph.outputs), **_prove(artifact, folder / FILE)}


def _export(graph: Graph, artifact: Artifact, free: bool, path: Path) -> None:
    names = input_names(artifact)
    # the frames of all encoders are of as many images
    axes = [
        {0: "batch"} | ({2: f"{prefix}height", 3: f"{prefix}width"} if free else {})
        for prefix in (name.removeprefix("frames").lstrip("_") and f"{name}_" for name in names)
    ]
    frames = tuple(_example(size, free) for size in artifact.sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        try:
            program = torch.onnx.export(
                graph,
                frames,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(tuple(axes),),
                input_names=names,
                output_names=graph.outputs,
                verbose=False,
            )
        except Exception as error:  # of many kinds, and pages long: a layer that ONNX has no operator for
            raise InputError(
                f"PyTorch's exporter makes no ONNX graph of {_names(artifact)}: {_first_line(error)}",
                "Use it through mococxr, which runs it by PyTorch; or take another network (resnet18).",
            ) from error
        if program is None:
            raise RunError("PyTorch made no ONNX graph of this network.")
        program.save(str(path), external_data=False)  # one file, with the weights in it


def _names(artifact: Artifact) -> str:
    return " and ".join(encoder.spec.architecture for encoder in artifact.encoders)


def _first_line(error: Exception) -> str:
    """The first line of the cause: what the exporter itself says is about its own steps."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)[:200]


def _example(size: int, free: bool) -> Tensor:
    # Where sides are free none may be 1 inside, or equal the other: the exporter takes such sides for constants.
    height, width = (max(96, size + 32), max(160, size + 96)) if free else (size, size)
    return torch.zeros(2, 1, height, width, dtype=torch.uint8)  # 2: the exporter takes a batch of 1 for a constant


def _prove(artifact: Artifact, path: Path) -> dict[str, Any]:
    """Run the file in onnxruntime on one frame, on five, and on frames of another shape where it takes them."""
    session = open_graph(path)  # one thread, sums in one order: the same difference in each export.json
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
        expected: dict[str, Any] = {}
        if artifact.model:
            images = list(zip(*parts, strict=True))
            scores, expected["features"] = artifact.model.ensemble.answers(images, torch.device("cpu"))
            expected |= artifact.model.columns(scores)
        else:
            expected["features"] = artifact.answers(*parts)
        for output, values in zip(session.get_outputs(), session.run(None, feed), strict=True):
            if output.type.endswith("(int8)"):  # of a decision the last digit decides at the threshold
                continue
            off = difference(expected[output.name], values)
            # of a classifier its answers count; its features are held to the tolerance all the same
            largest = largest if artifact.model and output.name == "features" else max(largest, off)
    words = [f"{part.name}: uint8 (batch, 1, {', '.join(map(str, part.shape[2:]))})" for part in inputs]
    return {"input": "; ".join(words), "difference": largest}
