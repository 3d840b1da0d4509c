"""What every measure asks of its arrays, and when a class has too few patients to be judged."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.errors import UndefinedError

Floats = NDArray[np.float64]

TOO_FEW = 10
"""Patients of a class below which nothing is tested."""


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
        raise ValueError(f"the score at {first} is not a finite number: a row without a score cannot be ranked")
    return values


def as_columns(scores: ArrayLike) -> Floats:
    """The scores of one trial (N,) or of several (T, N) as (T, N); errors as `as_scores`."""
    values = np.asarray(scores, dtype=np.float64)
    return as_scores(values[None] if values.ndim == 1 else values, ndim=2)


def as_patients(patients: ArrayLike | None, size: int) -> NDArray:
    """The patient of each row, shape (N,); None makes each row a patient of its own.

    Raises:
        ValueError: another shape than (size,).
    """
    if patients is None:
        return np.arange(size)
    ids = np.asarray(patients)
    if ids.shape != (size,):
        raise ValueError(f"{ids.size} patients for {size} rows")
    return ids


def numbered(ids: NDArray) -> NDArray[np.intp]:
    """Patients as numbers from 0 in the order of their ids, shape (N,); small whole numbers without sorting.

    >>> numbered(np.array([7, 3, 7])).tolist()
    [1, 0, 1]
    """
    # 16: identifiers far apart, as MIMIC's, would take a table of counts larger than the data.
    if ids.dtype.kind in "iu" and ids.size and ids.min() >= 0 and ids.max() < 16 * ids.size:
        return (np.cumsum(np.bincount(ids) > 0) - 1)[ids]  # no sort, which cost half a second at 200,000 rows
    return np.unique(ids, return_inverse=True)[1]


def count_patients(patients: ArrayLike) -> int:
    """How many patients there are; of small whole numbers counted without sorting."""
    ids = np.asarray(patients)
    if ids.dtype.kind in "iu" and ids.size and ids.min() >= 0 and ids.max() < 16 * ids.size:
        return int(np.count_nonzero(np.bincount(ids)))
    return int(np.unique(ids).size)


def kish(weights: NDArray) -> float:
    """How many equal weights these are worth, (sum w)^2 / sum w^2 (Kish 1965); 0 of none.

    >>> round(kish(np.array([1.0, 1.0, 2.0])), 3)
    2.667
    """
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def check_level(level: float) -> None:
    """Refuse a level of confidence that is no share, such as 95.

    Raises:
        ValueError: it does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, not {level}")


def too_few(
    labels: ArrayLike,
    patients: ArrayLike,
    minimum: int = TOO_FEW,
    consequence: str = "no test is made of the difference",
    split: str = "test",
    weights: Floats | None = None,
) -> str | None:
    """Why nothing is judged where a class has fewer than `minimum` patients; None where both have enough.

    A patient counts for each class of which it has a row.

    Args:
        labels: 1 or 0, shape (N,).
        patients: patient of each row, shape (N,).
        minimum: patients needed of each class.
        consequence: the end of the sentence.
        split: which patients they are, in words.
        weights: of the rows, (N,): patients then count for as many equal weights as theirs are worth (Kish 1965).

    >>> too_few([1, 0, 0], ["a", "b", "c"], minimum=2)
    'Too few to judge: 1 positive test patient, fewer than 2; no test is made of the difference.'
    """
    values, ids = np.asarray(labels), np.asarray(patients)
    # Patients, not rows: many images of one patient tell little.
    of_class = {"positive": values == 1, "negative": values == 0}
    if weights is None:
        counts = {name: count_patients(ids[rows]) for name, rows in of_class.items()}
    else:
        worth = {name: kish(np.bincount(numbered(ids[rows]), weights[rows])) for name, rows in of_class.items()}
        counts = {name: int(number + 1e-9) for name, number in worth.items()}  # rounding takes no patient away
    name = min(counts, key=lambda key: counts[key])
    if counts[name] >= minimum:
        return None
    by_weight = "" if weights is None else " by weight"
    return (
        f"Too few to judge: {counts[name]} {name} {split} patient{'' if counts[name] == 1 else 's'}{by_weight}, "
        f"fewer than {minimum}; {consequence}."
    )
