"""Images into studies or patients: one score each."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.metrics.checks import Floats


def aggregate(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, how: str = "max"
) -> tuple[NDArray[np.int64], Floats, NDArray]:
    """Join the images of each group: label = 1 where any image is 1, score = highest or mean score.

    The paper takes `max` over the views of a study. Images with an unknown label are left out beforehand.

    Args:
        labels: 1 or 0, shape (N,).
        scores: shape (N,) or (T, N).
        groups: study or patient of each image, shape (N,).
        how: `max` or `mean`.

    Returns:
        labels (G,), scores (G,) or (T, G), group ids (G,), sorted.

    >>> labels, scores, studies = aggregate([0, 1, 0], [0.1, 0.7, 0.9], ["b", "b", "a"])
    >>> labels.tolist(), scores.tolist(), studies.tolist()
    ([0, 1], [0.9, 0.7], ['a', 'b'])
    """
    values, known = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    ids, first, inverse = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    if not known.shape == inverse.shape == values.shape[-1:]:
        raise ValueError(f"labels {known.shape}, scores {values.shape}, groups {inverse.shape} do not match")
    if not np.isin(known, (0, 1)).all():
        raise ValueError("labels must be 1 or 0; leave other images out first")
    if np.isnan(values).any():
        raise ValueError("an image without a score cannot be aggregated")
    if how not in ("max", "mean"):
        raise ValueError(f"no aggregate named {how!r}: max or mean")
    if not first.size:
        return known.astype(np.int64), values, ids
    order = np.argsort(inverse, kind="stable")  # the rows of a group side by side, for reduceat
    counts = np.bincount(inverse)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    joined_labels = np.maximum.reduceat(known[order].astype(np.int64), starts)
    if how == "max":
        return joined_labels, np.maximum.reduceat(values[..., order], starts, axis=-1), ids
    return joined_labels, np.add.reduceat(values[..., order], starts, axis=-1) / counts, ids
