"""torchvision's networks and timm's: which are the same computation, and what each calls its tensors.

Two networks pair up tensor by tensor in their own order; where all names agree the order says the same. A test
compares their features (difference 0.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn


@dataclass(frozen=True)
class Twin:
    """One network under its two names.

    Args:
        torchvision, timm: what each library calls it.
        classifier: torchvision's module after the features.
        linear: where the linear layer stands in it; empty where it is the module itself.
    """

    torchvision: str
    timm: str
    classifier: str
    linear: str = ""

    def template(self) -> dict[str, Tensor]:
        """The tensors of torchvision without the classifier, in order; shapes only, no memory."""
        with torch.device("meta"):
            network = getattr(torchvision.models, self.torchvision)(weights=None)
        return {k: v for k, v in network.state_dict().items() if not k.startswith(f"{self.classifier}.")}

    def to_timm(self, weights: Mapping[str, Tensor], timm_keys: list[str]) -> dict[str, Tensor]:
        """Tensors of torchvision under timm's names."""
        return {new: weights[old] for old, new in zip(self.template(), timm_keys, strict=True)}

    def to_torchvision(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of timm, in timm's order, under torchvision's names."""
        return dict(zip(self.template(), weights.values(), strict=True))

    def build(self, outputs: int) -> nn.Module:
        """The network of torchvision in eval mode with so many outputs; 0 leaves the classifier out."""
        network = getattr(torchvision.models, self.torchvision)(weights=None, num_classes=max(outputs, 1))
        if not outputs:
            setattr(network, self.classifier, nn.Identity())
        return network.eval()


_SAME_NAMES = (
    *((name, "fc") for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")),
    *((name, "fc") for name in ("resnext50_32x4d", "wide_resnet50_2", "wide_resnet101_2")),
    *((name, "classifier") for name in ("densenet121", "densenet161", "densenet169", "densenet201")),
)
TWINS = (
    *(Twin(name, name, classifier) for name, classifier in _SAME_NAMES),
    Twin("mnasnet1_0", "mnasnet_100", "classifier", "1"),
    Twin("mnasnet0_75", "mnasnet_075", "classifier", "1"),
    Twin("mnasnet0_5", "mnasnet_050", "classifier", "1"),
    Twin("mobilenet_v2", "mobilenetv2_100", "classifier", "1"),
    Twin("efficientnet_b0", "efficientnet_b0", "classifier", "1"),
)
"""All pairs known to be equal. mnasnet1_3 is not among them: timm's mnasnet_140 is wider."""
BY_TORCHVISION = {twin.torchvision: twin for twin in TWINS}
BY_TIMM = {twin.timm: twin for twin in TWINS}
