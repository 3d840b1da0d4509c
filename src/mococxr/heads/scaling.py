"""Standardisation of features: by the training images of a store, whether they have a label or not.

Mean and spread need no label, and few labelled images give poor ones: all training images give those of the hospital.
Validation and test images never enter.

N  images    D  length of a feature
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from mococxr.augment import uniforms

if TYPE_CHECKING:
    from mococxr.store import Store

MOST = 20_000
"""Training images that features are standardised by, at most: a mean of so many is known to 1 % of the spread."""
PART = 4096
"""Images whose features are made float64 together, which limits the memory."""


@dataclass(frozen=True)
class Scaling:
    """What a feature is standardised by: (feature - mean) / scale.

    Args:
        mean, scale: (D,) float64; a feature that never varies has the scale 1.
        images: how many they are of.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    images: int


def scaling_of(features: NDArray[np.floating]) -> Scaling:
    """Mean and standard deviation of features (N, D)."""
    scaler = StandardScaler()
    part = len(features) if features.dtype == np.float64 else PART
    for start in range(0, len(features), part):
        scaler.partial_fit(np.asarray(features[start : start + part], dtype=np.float64))
    return Scaling(scaler.mean_, scaler.scale_, len(features))


def beside(scalings: Sequence[Scaling]) -> Scaling:
    """Of features that stand side by side, each scaled by itself."""
    mean, scale = (np.concatenate([getattr(part, name) for part in scalings]) for name in ("mean", "scale"))
    return Scaling(mean, scale, scalings[0].images)


def scaling_rows(store: Store, most: int = MOST) -> NDArray[np.int64]:
    """The training rows that features are standardised by, in order: all of them, or `most` drawn at random.

    The draw is the same whatever the seed of a run, so that features once read serve every run; a smaller one is part of it.
    """
    rows = store.rows_in("train")
    if len(rows) <= most:
        return rows
    number = uniforms(0, 0, rows, 0)[:, 0]
    return np.sort(rows[np.argsort(number, kind="stable")[:most]])


def scaling_facts(store: Store, images: int) -> dict[str, int] | None:
    """How many images standardise, of how many in training, for records; None where the labelled ones do it (0)."""
    return {"images": images, "training_images": len(store.rows_in("train"))} if images else None


def scaling_words(facts: Mapping[str, int]) -> str:
    """`features standardised on 20,000 of 200,000 training images, drawn at random`."""
    images, training = facts["images"], facts["training_images"]
    if images == training:
        return f"features standardised on all {training:,} training images, labelled or not"
    return f"features standardised on {images:,} of {training:,} training images, drawn at random"
