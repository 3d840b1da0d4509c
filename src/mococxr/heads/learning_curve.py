"""The learning curve inside the labels there are: heads of parts of the patients, judged on the others.

N  images    D  length of a feature    R  repeats
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.heads.linear import solve_linear
from mococxr.heads.scaling import Scaling, scaling_of

SHARES = (0.125, 0.25, 0.5, 0.75)
"""Shares of the labelled patients that train."""
REPEATS = 24
FEWEST = 2
"""Patients of each class that train, and that are held out, at the least."""


def learning_curve(
    features: ArrayLike,
    labels: NDArray,
    patients: NDArray,
    scaling: Scaling | None = None,
    *,
    C: float | str = 0.01,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> tuple[list[float], list[NDArray[np.float64]]]:
    """Scores of held-out images by heads of 1/8, 1/4, 1/2 and 3/4 of the patients.

    Each order of the patients is used four times, moved on by a quarter, so that every image is held out equally often.

    Args:
        features: (N, D).
        labels: 1 or 0, (N,).
        patients: patient of each image, (N,).
        scaling: of the features; None standardises by these images, whose labels it does not need.
        C: as `solve_linear` takes it.
        seed: of the orders.
        advance: called after each share.

    Returns:
        Images that trained, the mean over repeats, and scores (R, N), NaN where an image trained, of each share for which
        both sides have two patients of each class.
    """
    x = reduced(features, scaling)
    unit = np.unique(patients, return_inverse=True)[1]
    positive = np.bincount(unit, labels == 1) > 0
    groups = [np.flatnonzero(positive == kind) for kind in (True, False)]
    sizes, curves = [], []
    for share in SHARES:
        counts = [round(share * len(group)) for group in groups]
        advance()
        if any(min(n, len(group) - n) < FEWEST for n, group in zip(counts, groups, strict=True)):
            continue
        scores = np.full((REPEATS, len(labels)), np.nan)
        for repeat in range(REPEATS):
            rng = np.random.default_rng([seed, repeat // 4])
            orders = [np.roll(rng.permutation(group), repeat % 4 * len(group) // 4) for group in groups]
            drawn = np.concatenate([order[:n] for order, n in zip(orders, counts, strict=True)])
            trains = np.isin(unit, drawn)
            head = solve_linear(
                x[trains], labels[trains], as_they_are(x.shape[1]), C=C, patients=patients[trains], seed=seed
            )
            scores[repeat, ~trains] = head.logits(x[~trains])
        sizes.append(float(np.isnan(scores).sum(axis=1).mean()))
        curves.append(scores)
    return sizes, curves


def as_they_are(length: int) -> Scaling:
    """Features as they are."""
    return Scaling(np.zeros(length), np.ones(length), 0)


def reduced(features: ArrayLike, scaling: Scaling | None) -> NDArray[np.float64]:
    """Standardised features in the space of their images, (N, at most N): heads with an L2 penalty are the same there."""
    x = np.asarray(features, dtype=np.float64)
    scaling = scaling or scaling_of(x)
    x = (x - scaling.mean) / scaling.scale
    if x.shape[1] <= x.shape[0]:
        return x
    return np.asarray(np.linalg.qr(x.T, mode="r"), dtype=np.float64).T  # x = r.T q.T, and q has orthonormal columns
