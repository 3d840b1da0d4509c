"""Scores of labelled images by heads that never saw their patients: what few labels give beside their own head.

N  images    D  length of a feature
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.heads.classifier import TrainConfig, TrainData
from mococxr.heads.linear import solve_linear
from mococxr.heads.scaling import Scaling

FOLDS = 10
"""Nine tenths of the labels train each head, whose scores are then like those of the head of all."""


def cross_fit(data: TrainData, config: TrainConfig) -> NDArray[np.float64]:
    """Scores of the labelled training rows, (N,), by heads as `solve_probe` makes them of the other patients' rows."""
    scaling = data.scaling() if config.standardize == "unlabelled" else None
    features = data.features_of(data.rows)
    return cross_fitted(features, data.labels, data.patients, scaling, C=config.C, seed=config.seed)


def cross_fitted(
    features: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike,
    scaling: Scaling | None = None,
    *,
    C: float | str = 0.01,
    seed: int = 0,
    folds: int = FOLDS,
) -> NDArray[np.float64]:
    """Score each image by a head solved on the images of other patients.

    Args:
        features: (N, D).
        labels: 1, 0, or 2 for uncertain as a class, (N,).
        patients: patient of each image, (N,).
        scaling, C: as `solve_linear` takes them; with `C="cv"` it is chosen in each fold by itself.
        seed: of the folds.
        folds: at the most; one a patient where there are fewer.

    Returns:
        Probabilities, (N,).

    Raises:
        UndefinedError: a class has one patient only, without whom no head can be solved.
    """
    x, y, ids = np.asarray(features), np.asarray(labels), np.asarray(patients)
    fold = deal_patients(y, ids, folds, seed)
    scores = np.empty(len(y))
    for held in np.unique(fold):
        inside, outside = fold != held, fold == held
        head = solve_linear(x[inside], y[inside], scaling, C=C, patients=ids[inside], seed=seed)
        scores[outside] = head.scores(x[outside])
    return scores


def deal_patients(labels: NDArray, patients: NDArray, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each image (N,): patients are dealt one by one, at random among those of the same classes.

    Patients with positive images only come first, then those with both kinds, then those with negative ones, so that
    each class is dealt without a gap: where it has two patients or more, no fold holds it alone.
    """
    unique, unit = np.unique(patients, return_inverse=True)
    positive, negative = (np.bincount(unit, labels == value) > 0 for value in (1, 0))
    kind = np.select([positive & ~negative, positive, negative], [0, 1, 2], 3)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(unique)), kind))
    fold = np.empty(len(unique), dtype=np.int64)
    fold[order] = np.arange(len(unique)) % min(folds, len(unique))
    return fold[unit]
