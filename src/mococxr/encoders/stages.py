"""A timm network read at its stages: the means over their maps, and behind them the network's own feature.

What the last layer has thrown away as no help in telling everyday pictures apart may tell X-rays apart, and a linear
head finds it in the layers before (docs/benchmarks.md).

N  images    D  length of a feature
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

STAGES = 4
"""Stages that are read, the last ones; of a network of fewer all. A transformer's are its blocks."""


@dataclass(frozen=True)
class FeatureMaps:
    """What the feature of a network of timm is made of, before anything is pooled.

    Args:
        stages: the maps whose means are its first parts, (N, D, H, W) each; none where the last layer alone is read.
        last: what `forward_head` makes the last part of: maps (N, D, H, W), or tokens (N, T, D) of a transformer.
        network: whose they are.
    """

    stages: list[Tensor]
    last: Tensor
    network: nn.Module

    def feature(self) -> Tensor:
        """The feature, (N, D)."""
        network: Any = self.network
        return torch.cat([*(stage.mean(dim=(2, 3)) for stage in self.stages), network.forward_head(self.last)], dim=1)


def read_maps(network: nn.Module, images: Tensor, features: str) -> FeatureMaps:
    """The maps of normalised images (N, C, H, W).

    Args:
        features: `last` or `stages`, as in `EncoderSpec`.
    """
    timm_network: Any = network
    if features == "last":
        return FeatureMaps([], timm_network.forward_features(images), network)
    count = min(STAGES, len(timm_network.feature_info))
    last, maps = timm_network.forward_intermediates(images, indices=count)
    return FeatureMaps(maps, last, network)


class StageReader(nn.Module):
    """Normalised images (N, C, H, W) -> (N, D): the mean of each stage's map over H and W, then the last feature.

    Of transformers the mean is over the tokens of patches, before the last normalisation.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Pool the maps of each image."""
        return read_maps(self.network, images, "stages").feature()
