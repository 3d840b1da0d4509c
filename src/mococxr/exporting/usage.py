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
images = (grey.expand(-1, {channels}, -1, -1) - torch.tensor({mean})[:, None, None]) / torch.tensor({std})[:, None, None]
{answer} = network(images){then}"""

_SHORTER = """\
import cv2

def shorter(image, size):  # grey uint8 (H, W)
    height, width = image.shape
    short = min(height, width)
    wanted = (max(size, round(width * size / short)), max(size, round(height * size / short)))
    how = cv2.INTER_AREA if size < short else cv2.INTER_LINEAR
    return image if short == size else cv2.resize(image, wanted, interpolation=how)
"""

_STORED = """
def stored(image):  # as the training images were kept: {store} px, then means of blocks of {factor} x {factor} px
    image = shorter(image, {store})
    height, width = image.shape[0] // {factor}, image.shape[1] // {factor}
    top, left = (image.shape[0] - height * {factor}) // 2, (image.shape[1] - width * {factor}) // 2
    image = image[top : top + height * {factor}, left : left + width * {factor}]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
"""

_CENTRE = """
def frame_of(image):
    image = shorter({image}, {size})
    top, left = (image.shape[0] - {size}) // 2, (image.shape[1] - {size}) // 2
    return image[top : top + {size}, left : left + {size}]"""

_WHOLE = """
def frame_of(image):
    image = {image}
    height, width = image.shape
    longer = max({size}, 32 * round(max(height, width) * {size} / min(height, width) / 32))
    wanted = ({size}, longer) if height > width else (longer, {size})
    shrinks = wanted[0] <= width and wanted[1] <= height
    return cv2.resize(image, wanted, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)"""


def usage(subject: Subject, facts: Mapping[str, Any]) -> str:
    """The section: loading it, and making a frame of an image."""
    return (
        f"In this folder:\n\n```python\n{_loading(subject, facts)}\n```\n\n"
        f"From an image to a frame:\n\n```python\n{_framing(facts['preprocessing'])}\n```"
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
    parts, image = [_SHORTER], "image"
    if store:
        factor = 1
        while store // (2 * factor) >= size:
            factor *= 2
        parts.append(_STORED.format(store=store, factor=factor))
        image = "stored(image)"
    template = _WHOLE if how["frame"] == "whole" else _CENTRE
    return "".join([*parts, template.format(image=image, size=size)])
