"""How far two readers agree, beyond chance, over patients.

Letters: N images, U patients, K answers, B replicates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats, as_patients
from mococxr.metrics.intervals import Estimate, patient_resamples, percentile_estimate


def kappa(
    first: ArrayLike,
    second: ArrayLike,
    patients: ArrayLike | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Cohen's kappa of two readers (Educ Psychol Meas 20:37, 1960), unweighted, with an interval over patients.

    1 where they always agree, 0 where they agree as often as readers who answer with the same frequencies by chance.

    Args:
        first, second: their answers to the same images, any values that compare, shape (N,).
        patients: patient of each image; None where each is of a patient of its own.
        replicates, seed: of the resamples; those in which both give one answer throughout are undefined and left out.
        level: coverage.

    Raises:
        UndefinedError: no image, or both give one and the same answer throughout.
        ValueError: answers of different shapes.

    >>> result = kappa([1, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1], replicates=500)
    >>> round(result.value, 3)
    0.714
    """
    answers_2N = np.stack([np.asarray(first), np.asarray(second)])
    if answers_2N.shape[1] == 0:
        raise UndefinedError("no image was read by both")
    kinds, codes = np.unique(answers_2N, return_inverse=True)
    a_N, b_N = codes.reshape(answers_2N.shape)
    drawn = patient_resamples(as_patients(patients, len(a_N)), replicates, seed)
    counts_UKK = np.zeros((drawn.patients_U.size, kinds.size, kinds.size))
    np.add.at(counts_UKK, (drawn.unit_N, a_N, b_N), 1)
    value = float(_kappa(counts_UKK.sum(axis=0)))
    if np.isnan(value):
        raise UndefinedError("both readers give one and the same answer throughout")
    return percentile_estimate(value, _kappa(np.tensordot(drawn.weights_BU, counts_UKK, axes=1)), level)


def _kappa(counts_BKK: Floats) -> Floats:
    """Kappa of each table of answers; NaN where chance alone gives full agreement."""
    total_B = counts_BKK.sum(axis=(-2, -1))
    same_B = np.trace(counts_BKK, axis1=-2, axis2=-1) / total_B
    chance_B = (counts_BKK.sum(axis=-1) * counts_BKK.sum(axis=-2)).sum(axis=-1) / total_B**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance_B < 1, (same_B - chance_B) / (1 - chance_B), np.nan)
