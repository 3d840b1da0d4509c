"""A model beside a reader: the model's sensitivity where its specificity is the reader's.

Letters: N rows, U patients, B replicates, G steps of the ROC curve.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.metrics.checks import Floats, as_labels, as_patients, as_scores, check_level
from mococxr.metrics.intervals import Estimate, few_at_a_time, patient_resamples, percentile_estimate
from mococxr.metrics.ranking import Curve, curve_of


def at_reader_specificity(
    labels: ArrayLike,
    scores: ArrayLike,
    reads: ArrayLike,
    patients: ArrayLike | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Estimate, Estimate]:
    """The model's sensitivity at the reader's specificity, and that less the reader's sensitivity.

    It is read off the ROC curve, straight between two scores. Intervals are percentiles over resampled patients, in each of
    which the reader's specificity is measured anew.

    Args:
        labels, reads: 1 or 0, both labels present, shape (N,).
        scores: shape (N,).
        patients: patient of each row; None where each row is a patient of its own.
        replicates, seed: of the resamples.
        level: coverage.

    >>> model, less = at_reader_specificity([1, 1, 1, 0, 0, 0], [5, 4, 1, 3, 2, 0], [1, 0, 0, 1, 0, 0], replicates=200)
    >>> round(model.value, 3), round(less.value, 3)
    (0.667, 0.333)
    """
    check_level(level)
    values = as_scores(scores)
    positive, called = as_labels(labels, values.size), np.asarray(reads) == 1
    # Model and reader on the same resamples: paired.
    drawn = patient_resamples(as_patients(patients, values.size), replicates, seed)
    unit_N, size = drawn.unit_N, drawn.patients_U.size
    curve = curve_of(positive, values, unit_N)
    counts_4U = np.stack(
        [
            np.bincount(unit_N[rows], minlength=size)
            for rows in (positive, ~positive, positive & called, ~positive & called)
        ]
    ).astype(np.float64)

    def both(weights_UB: Floats) -> tuple[Floats, Floats]:
        positives_B, negatives_B, hits_B, alarms_B = counts_4U @ weights_UB
        with np.errstate(invalid="ignore", divide="ignore"):  # a class without weight gives NaN
            model_B = sensitivity_at(curve(weights_UB), alarms_B) / positives_B
            # No negatives: the reader has no specificity to stand at.
            return np.where(negatives_B > 0, model_B, np.nan), hits_B / positives_B

    pieces = [both(weights_UB) for weights_UB in few_at_a_time(drawn.weights_BU, values.size)]
    model_B, reader_B = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    (model,), (reader,) = both(np.ones((size, 1)))
    return (
        percentile_estimate(float(model), model_B, level),
        percentile_estimate(float(model - reader), model_B - reader_B, level),
    )


def sensitivity_at(curve: Curve, alarms_B: NDArray) -> Floats:
    """The weight of the positives that are called where the negatives that are called weigh `alarms_B`."""
    width_GB = curve.false_GB - curve.above_GB
    beyond_GB = alarms_B - curve.above_GB
    # A step without negatives is vertical: all of it or nothing.
    along_GB = np.divide(beyond_GB, width_GB, out=(beyond_GB >= 0).astype(np.float64), where=width_GB > 0)
    return np.asarray((curve.steps_GB * np.clip(along_GB, 0, 1)).sum(axis=0))
