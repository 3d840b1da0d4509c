"""A timm network read at its stages: the means over their maps, and behind them the network's own feature.

What the last layer has thrown away as no help in telling everyday pictures apart may tell X-rays apart, and a linear
head finds it in the layers before (docs/benchmarks.md).

N  images    D  length of a feature
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

STAGES = 4
"""Stages that are read, the last ones; of a network of fewer all. A transformer's are its blocks."""


class StageReader(nn.Module):
    """Normalised images (N, C, H, W) -> (N, D): the mean of each stage's map over H and W, then the last feature."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        stages: Any = network.feature_info
        self.count = min(STAGES, len(stages))

    def forward(self, images: Tensor) -> Tensor:
        """Of transformers the mean is over the tokens of patches, before the last normalisation."""
        network: Any = self.network
        last, maps = network.forward_intermediates(images, indices=self.count)
        return torch.cat([*(stage.mean(dim=(2, 3)) for stage in maps), network.forward_head(last)], dim=1)
