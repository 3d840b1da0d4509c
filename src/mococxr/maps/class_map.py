"""A classifier and an image -> a map of what speaks for the finding, and against it.

| method | of | values |
|---|---|---|
| `contributions` | convolutional encoders of timm, also side by side | parts of the logit, which sum to it |
| `rollout` | one plain transformer of timm | relevance for the finding, none below 0 |
| `occlusion` | everything else | by how much the logit falls where the image is covered |

N  images    H, W  height and width in px
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mococxr.encoders import Encoder
from mococxr.heads.classifier import Ensemble, LinearHead, load_member
from mococxr.maps.contributions import contributions, spread
from mococxr.maps.occlusion import Frames, occlusion
from mococxr.maps.rollout import attentions, rollout

Method: TypeAlias = Literal["contributions", "rollout", "occlusion"]


@dataclass(frozen=True)
class ClassMap:
    """Where a classifier looks in one image.

    Args:
        values: (H, W) float64, of the largest frame that the classifier sees; above 0 speaks for the finding.
        logit: of the finding, the mean over the classifier's checkpoints.
        intercept: the logit of an average training image; contributions sum to `logit - intercept`.
    """

    values: NDArray[np.float64]
    logit: float
    intercept: float

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the largest value."""
        row, column = np.unravel_index(int(np.argmax(self.values)), self.values.shape)
        return int(row), int(column)


def method_of(encoders: Sequence[Encoder]) -> Method:
    """The method for a classifier on these encoders."""
    if all(encoder.spec.package == "timm" and _gives_maps(encoder) for encoder in encoders):
        return "contributions"
    alone = encoders[0] if len(encoders) == 1 and encoders[0].spec.package == "timm" else None
    return "rollout" if alone is not None and attentions(alone.network) else "occlusion"


@torch.no_grad()
def _gives_maps(encoder: Encoder) -> bool:
    blank = torch.zeros(1, 1, encoder.size, encoder.size, device=next(encoder.parameters()).device)
    return encoder.eval().maps(blank).last.ndim == 4


def class_maps(
    ensemble: Ensemble, images: Sequence[Frames], device: torch.device, method: Method | None = None, target: int = 0
) -> list[ClassMap]:
    """The map of each image, the mean over the classifier's checkpoints.

    Args:
        images: of each image its frame (H, W) uint8 for each encoder.
        method: None takes that of `method_of`.
        target: its number among those of the classifier.
    """
    encoders = [encoder.to(device).eval() for encoder in ensemble.encoders]
    method = method or method_of(encoders)
    summed: list[NDArray[np.float64]] = []
    logits_N, intercepts = np.zeros(len(images)), []
    for member in ensemble.members:
        load_member(encoders, member)
        head = member.heads[target]
        maps = [_METHODS[method](ensemble, head, frames, device) for frames in images]
        summed = [before + values for before, values in zip(summed, maps, strict=True)] if summed else maps
        logits_N += head.logits(ensemble.features(images, device)) if len(images) else 0.0
        intercepts.append(head.intercept)
    count, intercept = len(ensemble.members), float(np.mean(intercepts))
    return [
        ClassMap(values / count, float(logit) / count, intercept)
        for values, logit in zip(summed, logits_N, strict=True)
    ]


def _by_contributions(
    ensemble: Ensemble, head: LinearHead, frames: Frames, device: torch.device
) -> NDArray[np.float64]:
    """Contributions of all maps of all encoders, spread over the pixels and added up."""
    shape: tuple[int, int] = max((frame.shape for frame in frames), key=np.prod)
    weight_D, mean_D = head.folded_margin()[0][0], torch.from_numpy(head.mean)
    total, start = np.zeros(shape), 0
    for encoder, frame in zip(ensemble.encoders, frames, strict=True):
        part = slice(start, start + encoder.spec.feature_dim)
        for grid in contributions(encoder, _tensor(frame, device), weight_D[part], mean_D[part]):
            total += spread(grid, shape)[0]
        start = part.stop
    return total


def _by_rollout(ensemble: Ensemble, head: LinearHead, frames: Frames, device: torch.device) -> NDArray[np.float64]:
    weight_D = head.folded_margin()[0][0]
    grid = rollout(ensemble.encoders[0], _tensor(frames[0], device), weight_D)
    return spread(grid, frames[0].shape)[0]


def _by_occlusion(ensemble: Ensemble, head: LinearHead, frames: Frames, device: torch.device) -> NDArray[np.float64]:
    return occlusion(frames, lambda images: head.logits(ensemble.features(images, device)))


def _tensor(frame: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame))[None, None].to(device)


_METHODS: dict[Method, Callable[[Ensemble, LinearHead, Frames, torch.device], NDArray[np.float64]]] = {
    "contributions": _by_contributions,
    "rollout": _by_rollout,
    "occlusion": _by_occlusion,
}
