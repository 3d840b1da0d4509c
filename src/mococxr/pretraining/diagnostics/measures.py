"""Measures of a contrastive run, from tensors.

N  images      C  length of a projected feature      D  length of an encoder's feature      K  keys in the queue
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def contrast_accuracy(logits: Tensor) -> Tensor:
    """Share of images whose own key is nearer than all K others; `logits` has the positive in column 0.

    A tie is no success: where all features are one, nothing was told apart.
    """
    return (logits[:, 0] > logits[:, 1:].amax(dim=1)).float().mean()


@torch.no_grad()
def pair_auroc(logits: Tensor, newest: Tensor) -> Tensor:
    """AUROC of an image's own key against the keys of the step before, mean over images; 0.5 is guessing.

    It moves long before the contrast accuracy, which asks for the first of K + 1. Against the whole queue, pairs of
    strangers reach 0.65: keys of one moment are alike, and so an image's own key is told by its age.

    Args:
        logits: (N, 1 + K), the positive in column 0.
        newest: places in the queue of the keys that entered last.
    """
    own, others = logits[:, :1], logits[:, 1:][:, newest]
    return ((own > others).float().mean() + (own >= others).float().mean()) / 2


@torch.no_grad()
def tied(logits: Tensor, within: float = 1e-6) -> float:
    """Share of images with a negative that is their own key to rounding, |difference| <= `within` x (1 + |logit|).

    About 0 in a sound run, whatever it has learned (a stranger's cosine falls there once in 10^5 keys or so); 1 where a
    key is enqueued before its loss, and where all is one point.
    """
    own = logits[:, :1]
    nearest = (logits[:, 1:] - own).abs().amin(dim=1)
    return float((nearest <= within * (1 + own[:, 0].abs())).float().mean())


@torch.no_grad()
def view_change(views: Tensor) -> float | None:
    """How much the two views of an image differ, over how much two images do: mean absolute differences of grey values.

    Args:
        views: (2, n, 1, S, S), the two sides.

    Returns:
        0 where the views are equal, about 1 where they have nothing in common; None where all images are equal.
    """
    one, other = (side.float() for side in views)
    strangers = float((one - one.roll(1, dims=0)).abs().mean())
    return float((one - other).abs().mean()) / strangers if strangers else None


@torch.no_grad()
def alignment(logits: Tensor, temperature: float) -> Tensor:
    """Mean squared distance of the two views of an image, 0..4 (Wang and Isola 2020, arXiv 2005.10242, alpha = 2).

    Args:
        logits: (N, 1 + K), cosines over T, the positive in column 0.
    """
    return (2 - 2 * temperature * logits[:, 0].float()).mean()


@torch.no_grad()
def uniformity(z_NC: Tensor) -> float:
    """Log of the mean over pairs of exp(-2 x squared distance) (Wang and Isola 2020, t = 2); N >= 2 unit features.

    0 at one point; the more even the spread over the sphere the lower, about -3.9 in 128 dimensions.
    """
    squared = torch.pdist(z_NC.float()).square()
    return float(torch.logsumexp(-2 * squared, dim=0) - math.log(len(squared)))


@torch.no_grad()
def feature_std(z_NC: Tensor) -> float:
    """Standard deviation over images, mean over dimensions, times sqrt(C); N >= 2.

    1 for features spread evenly over the sphere, 0 for a collapse to one point (SimSiam, Chen and He 2021, sec. 4.1).
    """
    return float(z_NC.float().std(dim=0).mean() * math.sqrt(z_NC.shape[1]))


@torch.no_grad()
def effective_rank(z_NC: Tensor, eps: float = 1e-7) -> float:
    """RankMe: exp of the entropy of the normalised singular values, 1..min(N, C) (Garrido et al. 2023, eq. 1)."""
    singular = torch.linalg.svdvals(z_NC.float())
    p = singular / singular.sum().clamp_min(eps) + eps
    return float(torch.exp(-(p * p.log()).sum()))


@torch.no_grad()
def knn_scores(
    near_ND: Tensor, labels_N: Tensor, images_MD: Tensor, neighbours: int = 20, temperature: float = 0.07
) -> Tensor:
    """Share of positives among the nearest neighbours, each weighted by exp(cosine / T) (Wu et al. 2018, sec. 3.4).

    Args:
        near_ND: features of the images with labels.
        labels_N: 1 or 0.
        images_MD: features of the images to be judged.
        neighbours: how many vote, at most.

    Returns:
        (M,) 0..1, higher is more likely positive.
    """
    near, images = (torch.nn.functional.normalize(side.float(), dim=1) for side in (near_ND, images_MD))
    cosine, place = (images @ near.T).topk(min(neighbours, len(near)), dim=1)
    weight = torch.softmax(cosine / temperature, dim=1)
    return (weight * labels_N.to(weight.device)[place].float()).sum(dim=1)


@torch.no_grad()
def gradient_norm(network: nn.Module) -> Tensor:
    """Length of the gradient over all parameters, on their device: reading it is what waits. 0 without gradients."""
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    return _norm(gradients) if gradients else torch.zeros(())


@torch.no_grad()
def relative_distance(one: nn.Module, other: nn.Module, each: int = 512) -> float:
    """Distance of two networks' parameters over the length of the first's.

    Of a parameter with more than `each` weights so many are looked at, evenly spaced, and stand for all.
    """
    apart = length = torch.zeros(())
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        seen = _spaced(mine, each).float()
        stand_for = mine.numel() / seen.numel()
        apart = apart.to(seen.device) + stand_for * (seen - _spaced(theirs, each).float()).square().sum()
        length = length.to(seen.device) + stand_for * seen.square().sum()
    return float((apart / length.clamp_min(1e-30)).sqrt())


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(list(tensors))).float().norm()


@torch.no_grad()
def weight_sample(network: nn.Module, each: int = 256) -> Tensor:
    """Up to `each` weights of every parameter, evenly spaced: where a network stands, in a few thousand numbers."""
    return torch.cat([_spaced(weight, each).float() for weight in network.parameters()])


def _spaced(weight: Tensor, each: int) -> Tensor:
    """Up to `each` numbers, evenly spaced in the order of the indices; no copy is made of a channels-last weight."""
    step = -(-weight.numel() // each)
    while math.gcd(step, weight.numel()) > 1:
        step += 1  # else a few places of each kernel would stand for all
    if weight.is_contiguous():
        return weight.view(-1)[::step]
    places = torch.arange(0, weight.numel(), step, device=weight.device)
    return weight[torch.unravel_index(places, weight.shape)]
