"""What every measure asks of its arrays, said once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.errors import UndefinedError

Floats = NDArray[np.float64]


def as_labels(labels: ArrayLike, size: int | None = None) -> NDArray[np.bool_]:
    """Labels 1 and 0 as booleans, shape (N,).

    Raises:
        ValueError: another shape, another length than `size`, or a value that is neither 1 nor 0.
        UndefinedError: one of the two classes is absent.
    """
    values = np.asarray(labels)
    if values.ndim != 1 or (size is not None and values.size != size):
        raise ValueError(f"labels have the shape {values.shape}, scores have {size} rows")
    positive = values == 1
    if not np.all(positive | (values == 0)):
        raise ValueError("labels must be 1 or 0; leave other rows out first")
    if not values.size:
        raise UndefinedError("there are no rows")
    if positive.all() or not positive.any():
        raise UndefinedError(f"all {values.size} labels are {int(positive[0])}: only one class is present")
    return positive


def as_scores(scores: ArrayLike, ndim: int = 1) -> Floats:
    """Scores as float64, the rows on the last axis.

    Raises:
        ValueError: another number of dimensions, or a score that is NaN or infinite (a row without a score).
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != ndim:
        raise ValueError(f"scores have the shape {values.shape}, expected {ndim} dimension(s)")
    if not np.isfinite(values).all():
        first = np.argwhere(~np.isfinite(values))[0].tolist()
        raise ValueError(
            f"the score at {first} is not a finite number: a row without a score cannot be ranked"
        )
    return values


def as_weights(weights: ArrayLike | None, size: int) -> Floats:
    """Row weights as float64, shape (N,); all 1 when `weights` is None.

    Raises:
        ValueError: another shape, or a weight that is negative or not finite.
    """
    if weights is None:
        return np.ones(size)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (size,) or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"weights must be {size} finite numbers, none negative")
    return values
