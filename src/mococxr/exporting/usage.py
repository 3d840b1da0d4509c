"""How to load what was exported, as code in the model card; a test runs it as it stands there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mococxr.exporting.artifact import Subject

_TIMM = """\
import timm

network = timm.create_model("local-dir:.", pretrained=True).eval()"""

_TORCHVISION = """\
import torch, torchvision

network = torchvision.models.{network}(weights=None{outputs}){no_classifier}
network.load_state_dict(torch.load("model.pth", weights_only=True))
network.eval()"""

_ONNX = """\
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
ask = lambda frames: session.run(None, {"frames": frames})[0]  # uint8 (N, 1, H, W)"""

_TENSOR = """\
# frame: uint8 (H, W), see below
grey = torch.from_numpy(frame)[None, None].float() / 255
films = (grey.expand(-1, {channels}, -1, -1) - torch.tensor({mean})[:, None, None]) / torch.tensor({std})[:, None, None]
{answer} = network(films){then}"""

_SHORTER = """\
import cv2

def shorter(film, size):  # grey uint8 (H, W)
    height, width = film.shape
    short = min(height, width)
    wanted = (max(size, round(width * size / short)), max(size, round(height * size / short)))
    how = cv2.INTER_AREA if size < short else cv2.INTER_LINEAR
    return film if short == size else cv2.resize(film, wanted, interpolation=how)
"""

_STORED = """
def stored(film):  # as the training films were kept: {store} px, then means of blocks of {factor} x {factor} px
    film = shorter(film, {store})
    height, width = film.shape[0] // {factor}, film.shape[1] // {factor}
    top, left = (film.shape[0] - height * {factor}) // 2, (film.shape[1] - width * {factor}) // 2
    film = film[top : top + height * {factor}, left : left + width * {factor}]
    return cv2.resize(film, (width, height), interpolation=cv2.INTER_AREA)
"""

_CENTRE = """
def frame_of(film):
    film = shorter({film}, {size})
    top, left = (film.shape[0] - {size}) // 2, (film.shape[1] - {size}) // 2
    return film[top : top + {size}, left : left + {size}]"""

_WHOLE = """
def frame_of(film):
    film = {film}
    height, width = film.shape
    longer = max({size}, 32 * round(max(height, width) * {size} / min(height, width) / 32))
    wanted = ({size}, longer) if height > width else (longer, {size})
    shrinks = wanted[0] <= width and wanted[1] <= height
    return cv2.resize(film, wanted, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)"""


def usage(subject: Subject, facts: Mapping[str, Any]) -> str:
    """The section: loading it, and making a frame of a film."""
    return (
        f"In this folder:\n\n```python\n{_loading(subject, facts)}\n```\n\n"
        f"From a film to a frame:\n\n```python\n{_framing(facts['preprocessing'])}\n```"
    )


def _loading(subject: Subject, facts: Mapping[str, Any]) -> str:
    how = facts["preprocessing"]
    if facts["to"] == "onnx":
        return f"{_ONNX}\n\n# {facts['input']} -> {facts['output']}, opset {facts['opset']}"
    load = _TIMM.replace("import timm", "import timm, torch")
    if facts["to"] == "torchvision":
        load = _TORCHVISION.format(
            network=facts["network"],
            outputs=", num_classes=1" if subject.outputs else "",
            no_classifier="" if subject.outputs else f"\nnetwork.{facts['classifier']} = torch.nn.Identity()",
        )
    answer, then = ("probability", ".sigmoid()[:, 0]") if subject.outputs else ("features", "")
    tensor = _TENSOR.format(
        channels=how["channels"], mean=how["mean"], std=how["std"], answer=answer, then=then
    )
    return f"{load}\n\n{tensor}"


def _framing(how: Mapping[str, Any]) -> str:
    size, store = how["size"], how["store_size"]
    parts, film = [_SHORTER], "film"
    if store:
        factor = 1
        while store // (2 * factor) >= size:
            factor *= 2
        parts.append(_STORED.format(store=store, factor=factor))
        film = "stored(film)"
    template = _WHOLE if how["frame"] == "whole" else _CENTRE
    return "".join([*parts, template.format(film=film, size=size)])
