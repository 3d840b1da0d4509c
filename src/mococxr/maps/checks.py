"""Whether to believe a classifier's maps: they must change with its weights, and with the image, and matter to its score.

N  images    H, W  height and width in px
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from mococxr.heads.classifier import Ensemble, EnsembleMember, load_member
from mococxr.maps.class_map import class_maps
from mococxr.maps.occlusion import Frames

Maps = Sequence[NDArray[np.float64]]
GRID = 28
"""Cells along a side over which maps are compared."""
STEPS = 5
"""Parts in which an image is taken away, or given back."""
BLUR = 1 / 8
"""Standard deviation of the blur that stands for what was taken away, as a share of the side."""


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's correlation of two maps (H, W) over a grid of cells; 0 where one of them is even.

    >>> rising = np.add.outer(np.arange(28.0), np.arange(28.0))
    >>> round(rank_correlation(rising, rising**3), 6), round(rank_correlation(rising, -rising), 6)
    (1.0, -1.0)
    """
    ranks = [rankdata(cv2.resize(values, (GRID, GRID), interpolation=cv2.INTER_AREA)) for values in (first, second)]
    if min(ranks_of.std() for ranks_of in ranks) == 0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def mirrored(
    ensemble: Ensemble, images: Sequence[Frames], maps: Maps, device: torch.device, target: int = 0
) -> NDArray[np.float64]:
    """Rank correlation of the map of each mirrored image with its mirrored map, (N,)."""
    turned = [[np.ascontiguousarray(frame[:, ::-1]) for frame in frames] for frames in images]
    again = class_maps(ensemble, turned, device, target=target)
    return np.array([rank_correlation(new.values[:, ::-1], old) for new, old in zip(again, maps, strict=True)])


def randomised(
    ensemble: Ensemble, images: Sequence[Frames], maps: Maps, device: torch.device, target: int = 0, seed: int = 0
) -> NDArray[np.float64]:
    """Rank correlation of each map with that of the classifier when all its weights are shuffled, (N,)."""
    *_, (_, last) = cascade(ensemble, images, device, target, seed)
    return np.array([rank_correlation(new, old) for new, old in zip(last(), maps, strict=True)])


def cascade(
    ensemble: Ensemble, images: Sequence[Frames], device: torch.device, target: int = 0, seed: int = 0
) -> Iterator[tuple[str, MapMaker]]:
    """The classifier with ever more layers shuffled, from the head down (Adebayo et al. 2018, arXiv 1810.03292).

    The values of each tensor are shuffled among themselves, so that their scale stays. Of several checkpoints the
    first is taken; the ensemble itself stays as it is.

    Yields:
        The layer that was shuffled last, and what makes the maps of that state; they are of that state when it is called.
    """
    rng = np.random.default_rng(seed)
    member = ensemble.members[0]
    load_member(ensemble.encoders, member)
    encoders = copy.deepcopy(ensemble.encoders)
    head = member.heads[target]
    head = replace(head, weight=rng.permuted(head.weight, axis=1))
    shuffled = Ensemble(encoders, [EnsembleMember(None, (head,))])
    yield "head", MapMaker(shuffled, images, device)
    names = [_layers(encoder.network) for encoder in encoders]
    for depth in range(max(map(len, names))):
        for layers in names:
            for tensor in layers[depth][1] if depth < len(layers) else []:
                order = torch.from_numpy(rng.permutation(tensor.numel())).to(tensor.device)
                tensor.data.copy_(tensor.data.reshape(-1)[order].reshape(tensor.shape))
        yield next(layers[depth][0] for layers in names if depth < len(layers)), MapMaker(shuffled, images, device)


class MapMaker:
    """Makes the maps of a classifier as it is when it is called."""

    def __init__(self, ensemble: Ensemble, images: Sequence[Frames], device: torch.device) -> None:
        self._of = ensemble, images, device

    def __call__(self) -> list[NDArray[np.float64]]:
        """The values of the map of each image."""
        return [drawn.values for drawn in class_maps(*self._of)]


def _layers(network: torch.nn.Module) -> list[tuple[str, list[torch.Tensor]]]:
    """The tensors of each layer, the last layer first; a layer is the first two parts of their names."""
    layers: dict[str, list[torch.Tensor]] = {}
    for key, tensor in network.state_dict(keep_vars=True).items():
        if tensor.is_floating_point():
            parts = key.split(".")[:-1]
            layers.setdefault(".".join(parts[:2]), []).append(tensor)
    return list(layers.items())[::-1]


def insertion_less_deletion(
    ensemble: Ensemble, images: Sequence[Frames], maps: Maps, device: torch.device
) -> NDArray[np.float64]:
    """How much more the logit is, on average, while an image is given back by its map than while it is taken away, (N,).

    A fifth of the pixels at a time, the largest values first, between the image and its blur (Petsiuk et al. 2018, arXiv
    1806.07421). A map that orders pixels at random has about 0. Of several targets the first.
    """
    gaps = []
    for frames, values in zip(images, maps, strict=True):
        steps = [share / STEPS for share in range(1, STEPS)]
        inserted = [_mixed(frames, values >= np.quantile(values, 1 - share)) for share in steps]
        deleted = [_mixed(frames, values < np.quantile(values, 1 - share)) for share in steps]
        logits = np.mean(
            [_logits(ensemble, member, [*inserted, *deleted], device) for member in ensemble.members], axis=0
        )
        gaps.append(float(logits[: len(steps)].mean() - logits[len(steps) :].mean()))
    return np.array(gaps)


def _logits(
    ensemble: Ensemble, member: EnsembleMember, images: Sequence[Frames], device: torch.device
) -> NDArray[np.float64]:
    load_member(ensemble.encoders, member)
    return member.head.logits(ensemble.features(images, device))


def _mixed(frames: Frames, kept: NDArray[np.bool_]) -> list[NDArray[np.uint8]]:
    """Frames sharp where a map of the largest says so, and blurred elsewhere."""
    mixed = []
    for frame in frames:
        mask = cv2.resize(kept.astype(np.uint8), frame.shape[::-1], interpolation=cv2.INTER_NEAREST)
        mixed.append(np.where(mask == 1, frame, cv2.GaussianBlur(frame, (0, 0), BLUR * min(frame.shape))))
    return mixed
