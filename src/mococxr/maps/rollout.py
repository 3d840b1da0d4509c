"""Transformers: gradient rollout of attention (Chefer, Gur and Wolf 2021, arXiv 2103.15679, self-attention).

Relevance starts as the identity and grows by relevance + positive part of (gradient x attention), averaged over the
heads, times relevance, block after block. Where the classifier's head reads several blocks, relevance is the mean over
what is read.

N  images    T  tokens, those that are no patches first    P  patches
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mococxr.encoders import Encoder


def attentions(network: nn.Module) -> list[Any]:
    """The attention of each block of a plain transformer of timm; none of other networks."""
    blocks: Any = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList):
        return []
    layers = [getattr(block, "attn", None) for block in blocks]
    return (
        layers
        if layers and all(hasattr(layer, "fused_attn") and hasattr(layer, "attn_drop") for layer in layers)
        else []
    )


def rollout(encoder: Encoder, images: Tensor, weight_D: Tensor) -> NDArray[np.float64]:
    """Relevance of each patch for the logit, (N, h, w), none below 0.

    Args:
        images: (N, 1, H, W) uint8, on the encoder's device.
        weight_D: the head's weight on features as they are, float64.
    """
    network: Any = encoder.network
    with torch.enable_grad(), _watched(attentions(network)) as seen:
        maps = encoder.maps(images)
        feature = maps.feature()
        gradients = torch.autograd.grad((feature @ weight_D.to(feature)).sum(), seen)
    tokens, first = seen[0].shape[-1], int(network.num_prefix_tokens)
    relevance = torch.eye(tokens).cpu().double().expand(len(images), -1, -1)
    readings = []
    stages = range(len(seen) - len(maps.stages), len(seen))
    for block, (attention, gradient) in enumerate(zip(seen, gradients, strict=True)):
        weighed = (gradient * attention).detach().cpu().double().clamp(min=0).mean(dim=1)  # over heads: (N, T, T)
        relevance = relevance + weighed @ relevance
        if block in stages:
            readings.append(relevance[:, first:, first:].mean(dim=1))
    readings.append(
        relevance[:, 0, first:] if network.global_pool == "token" else relevance[:, first:, first:].mean(dim=1)
    )
    height, width = network.patch_embed.dynamic_feat_size(images.shape[2:])
    return torch.stack(readings).mean(dim=0).reshape(-1, height, width).numpy()


@contextmanager
def _watched(layers: list[Any]) -> Iterator[list[Tensor]]:
    """The attention (N, heads, T, T) of each layer in the forward pass inside, in order."""
    seen: list[Tensor] = []
    fused = [layer.fused_attn for layer in layers]
    hooks = [layer.attn_drop.register_forward_hook(lambda *io: seen.append(io[-1])) for layer in layers]
    try:
        for layer in layers:
            layer.fused_attn = False  # the fused kernel shows no attention
        yield seen
    finally:
        for layer, hook, was in zip(layers, hooks, fused, strict=True):
            layer.fused_attn = was
            hook.remove()
