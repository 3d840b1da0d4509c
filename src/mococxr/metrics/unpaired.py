"""Two classifiers judged on different patients, who may have several images each."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr

from mococxr.errors import UndefinedError
from mococxr.metrics.area import auroc_interval
from mococxr.metrics.delong import Difference


def clustered_unpaired(
    labels_a: ArrayLike,
    scores_a: ArrayLike,
    patients_a: ArrayLike,
    labels_b: ArrayLike,
    scores_b: ArrayLike,
    patients_b: ArrayLike,
    level: float = 0.95,
) -> Difference:
    """`delong_unpaired` over patients: a less b, its normal interval, and p from Welch's t over the patients.

    Args:
        labels_a, labels_b: 1 or 0, each of its own length.
        scores_a, scores_b: finite.
        patients_a, patients_b: patient of each row; nobody stands in both.

    Raises:
        UndefinedError: a class has rows of fewer than two patients, or the difference has no variance.
    """
    a = auroc_interval(labels_a, scores_a, patients_a, level)
    b = auroc_interval(labels_b, scores_b, patients_b, level)
    difference, variance = a.value - b.value, a.variance + b.variance
    if not variance > 0:
        raise UndefinedError("the difference has no variance: each column separates the classes fully")
    sizes = [int(np.unique(np.asarray(ids)).size) for ids in (patients_a, patients_b)]
    spread = sum(one.variance**2 / (size - 1) for one, size in zip((a, b), sizes, strict=True))
    df, error = variance**2 / spread, float(np.sqrt(variance))
    z, half = difference / error, float(ndtri(0.5 + level / 2)) * error
    return Difference(
        difference, difference - half, difference + half, z, float(2 * stdtr(df, -abs(z))), variance,
        a.variance, b.variance, 0.0, level, df,
    )  # fmt: skip
