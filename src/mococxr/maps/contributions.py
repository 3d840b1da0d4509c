"""Convolutional encoders: what each position adds to the logit, exactly.

The head is linear and reads means over maps, so that the logit is a sum over positions: channel c of a map of h x w
positions adds weight_c (value_c - mean_c) / (scale_c h w) at each of them (class activation maps, Zhou et al. 2016,
arXiv 1512.04150; here of every stage that the head reads). What a network does after its last map goes in by its
gradient (HiResCAM, Draelos and Carin 2020, arXiv 2011.08891), which is the same thing where it takes the mean.

N  images    C  channels    h, w  positions of a map    H, W  px of a frame    D  length of a feature
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mococxr.encoders import Encoder
from mococxr.encoders.stages import FeatureMaps


def contributions(encoder: Encoder, images: Tensor, weight_D: Tensor, mean_D: Tensor) -> list[NDArray[np.float64]]:
    """What each position of each map adds to the logit: one (N, h, w) a map, the first stage first.

    Their sum over all maps and positions is weight . (feature - mean).

    Args:
        images: (N, 1, H, W) uint8, on the encoder's device.
        weight_D, mean_D: of the features that this encoder gives, float64; the weight on features as they are.
    """
    with torch.no_grad():
        maps = encoder.maps(images)
    grids, start = [], 0
    for stage in maps.stages:
        part = slice(start, start + stage.shape[1])
        total = torch.einsum("nchw,c->nhw", stage.cpu().double(), weight_D[part]) - weight_D[part] @ mean_D[part]
        grids.append((total / stage[0, 0].numel()).numpy())
        start = part.stop
    grids.append(_of_last(maps, weight_D[start:], mean_D[start:]))
    return grids


def _of_last(maps: FeatureMaps, weight_D: Tensor, mean_D: Tensor) -> NDArray[np.float64]:
    """Value times gradient at each position of the last map; what that leaves of the logit is spread evenly."""
    gradients_first = getattr(maps.network, "output_fmt", "NCHW") == "NCHW"
    with torch.enable_grad():
        last = maps.last.detach().requires_grad_()
        feature = FeatureMaps([], last, maps.network).feature()
        (gradient,) = torch.autograd.grad((feature @ weight_D.to(feature)).sum(), last)
    logit_N = feature.detach().cpu().double() @ weight_D - weight_D @ mean_D
    product = (gradient * last).detach().cpu().double().sum(dim=1 if gradients_first else 3)
    rest_N = (logit_N - product.sum(dim=(1, 2))) / product[0].numel()
    return (product + rest_N[:, None, None]).numpy()


def spread(grid: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Contributions (N, h, w) over the pixels of a frame, (N, H, W), bilinear; the sum stays where H / h is even."""
    finer = nn.functional.interpolate(torch.from_numpy(grid)[:, None], shape, mode="bilinear", align_corners=False)
    return finer[:, 0].numpy() * (grid.shape[1] * grid.shape[2] / (shape[0] * shape[1]))
