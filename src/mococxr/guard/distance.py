"""How far the features of an image are from those of the training images.

Features are standardised and brought to length 1; the distance is one less the mean cosine with the five nearest
training images. On images of adults it tells more of what is no such image than Mahalanobis distances do, with Ledoit-Wolf
covariance or by main directions (docs/benchmarks.md).

N  images    B  training images that are kept    D  length of a feature
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

NEAREST = 5
KEPT = 1000
"""Training images whose features are kept, at most: 3.5 MB of features of 1,776 numbers."""
_LEAST = 1e-6  # of a scale: a feature that never varies divides by no 0


@dataclass(frozen=True)
class Reference:
    """Training images in the space of features.

    Args:
        mean, scale: of the features, (D,) float32.
        kept: standardised features of training images, of length 1: (B, D) float16.
    """

    mean: Floats
    scale: Floats
    kept: npt.NDArray[np.float16]

    @classmethod
    def of(cls, features: npt.NDArray[np.floating]) -> Reference:
        """Learn from features (N, D) of training images in a random order, of which the first are kept."""
        values = np.asarray(features, np.float32)
        made = cls(values.mean(axis=0), np.maximum(values.std(axis=0), _LEAST), np.empty((0, 0), np.float16))
        return cls(made.mean, made.scale, made._directions(values[:KEPT]).astype(np.float16))

    def distances(self, features: npt.NDArray[np.floating], same: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Distance of each image, (N,), 0 to 2.

        Args:
            features: (N, D).
            same: pairs of one patient, (N, B), which do not count: for training images themselves.
        """
        cosines = self._directions(np.asarray(features, np.float32)) @ self._kept.T
        if same is not None:
            cosines = np.where(same, np.float32(-1), cosines)
        many = min(NEAREST, cosines.shape[1])
        return np.asarray(1 - np.partition(cosines, -many, axis=1)[:, -many:].mean(axis=1), np.float32)

    @cached_property
    def _kept(self) -> Floats:
        return self.kept.astype(np.float32)

    def _directions(self, features: Floats) -> Floats:
        standard = (features - self.mean) / self.scale
        return np.asarray(standard / np.maximum(np.linalg.norm(standard, axis=1, keepdims=True), _LEAST), np.float32)
