"""torchxrayvision's pretrained classifiers as encoders: DenseNet-121 and ResNet-50 on one channel of -1024..1024.

Their DenseNet is timm's `densenet121` and their ResNet torchvision's `resnet50`, each with one input channel, so
torchxrayvision itself is not needed. The features are those before the classifier (its `features2`; for the ResNet
`features`). Most of its files are whole pickled modules; `read_weights` reads them without any of their code.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mococxr.encoders.spec import EncoderSpec
from mococxr.encoders.weights import url_file
from mococxr.encoders.weights_file import read_weights
from mococxr.errors import InputError

RELEASE = "https://github.com/mlmed/torchxrayvision/releases/download/v1/"
_DENSE = "-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
FILES = {
    "densenet121-res224-all": f"nih-pc-chex-mimic_ch-google-openi-kaggle{_DENSE}",
    "densenet121-res224-nih": f"nih{_DENSE}",
    "densenet121-res224-pc": f"pc{_DENSE}",
    "densenet121-res224-chex": f"chex{_DENSE}",
    "densenet121-res224-rsna": f"kaggle{_DENSE}",
    "densenet121-res224-mimic_nb": f"mimic_nb{_DENSE}",
    "densenet121-res224-mimic_ch": f"mimic_ch{_DENSE}",
    "resnet50-res512-all": "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt",
}
"""Name in torchxrayvision -> file of its first release."""


def xrv_spec(name: str) -> EncoderSpec:
    """Network, size and grey scale of one of torchxrayvision's networks.

    Raises:
        InputError: it has no such network.
    """
    if name not in FILES:
        raise InputError(f"torchxrayvision has no network {name!r}.", f"Known are: {', '.join(FILES)}.")
    network, size, _ = name.split("-", 2)
    # (2 grey - 1) x 1024 is (grey - 1/2) / (1/2048), to the last bit.
    return EncoderSpec(network, int(size.removeprefix("res")), channels=1, mean=0.5, std=1 / 2048)


def xrv_file(name: str) -> Path:
    """The weights, in torchxrayvision's own cache; fetched once."""
    return url_file(RELEASE + FILES[name], Path.home() / ".torchxrayvision" / "models_data")


def xrv_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a file of torchxrayvision, without the classifier."""
    weights = read_weights(path)
    outside = ("classifier.", "fc.", "op_threshs")  # the heads of the two networks, and thresholds of their scores
    return {key: value for key, value in weights.items() if not key.startswith(outside)}
