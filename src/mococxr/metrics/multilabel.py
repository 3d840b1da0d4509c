"""Several findings at once: macro and micro averages of AUROC and average precision.

Letters: N rows, L labels, B replicates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.errors import UndefinedError
from mococxr.metrics.bootstrap import Resamples, patient_resamples, resampled
from mococxr.metrics.checks import Floats
from mococxr.metrics.proportions import Number, bootstrapped
from mococxr.metrics.ranking import (
    Measure,
    auroc,
    auroc_measure,
    average_precision,
    average_precision_measure,
)

MEASURES: dict[str, tuple[Callable[..., float], Callable[..., Measure]]] = {
    "auroc": (auroc, auroc_measure),
    "average_precision": (average_precision, average_precision_measure),
}


Found: TypeAlias = tuple[float | None, Floats | str]
"""A value with its replicates (B,), or None with the reason."""


@dataclass(frozen=True)
class Multilabel:
    """Each label's number, their mean (`macro`), and the number of all rows and labels in one list (`micro`)."""

    labels: tuple[Number, ...]
    macro: Number
    micro: Number


def multilabel(
    labels_NL: ArrayLike,
    scores_NL: ArrayLike,
    measure: str = "auroc",
    patients: ArrayLike | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Multilabel:
    """AUROC or average precision of several labels, all on the same resamples of the patients.

    A label of which one class is absent has no number and a reason; the macro average then has none either (a mean over
    fewer labels would be another quantity): leave the label out to have one.

    Args:
        labels_NL: 1, 0, or NaN where unknown (that row is left out of that label).
        scores_NL: finite.
        measure: `auroc` or `average_precision`.
        patients: patient of each row; None where each row is a patient of its own.
        replicates, seed, level: of the interval.
    """
    labels, scores = np.asarray(labels_NL, dtype=np.float64), np.asarray(scores_NL, dtype=np.float64)
    if labels.ndim != 2 or labels.shape != scores.shape or measure not in MEASURES:
        raise ValueError(f"{measure}: labels have the shape {labels.shape}, scores {scores.shape}")
    ids = np.arange(len(labels)) if patients is None else np.asarray(patients)
    drawn = patient_resamples(ids, replicates, seed)
    known_NL = ~np.isnan(labels)
    found: list[Found] = []
    for number in range(labels.shape[1]):
        try:
            found.append(_measured(measure, labels[:, number], scores[:, number], drawn, known_NL[:, number]))
        except UndefinedError as error:
            found.append((None, f"label {number}: {error}"))
    each = tuple(_shown(value, replicates, level) for value, replicates in found)
    whole = replace(drawn, unit_N=np.repeat(drawn.unit_N, labels.shape[1]))
    try:
        micro = _measured(measure, labels.ravel(), scores.ravel(), whole, known_NL.ravel())
    except UndefinedError as error:
        micro = (None, str(error))
    return Multilabel(each, _shown(*_macro(found), level), _shown(*micro, level))


def _measured(name: str, labels: Floats, scores: Floats, drawn: Resamples, rows: NDArray[np.bool_]) -> Found:
    one, make = MEASURES[name]
    return one(labels[rows], scores[rows]), resampled(make, labels, scores[None], drawn, rows)[0]


def _macro(found: list[Found]) -> Found:
    reasons = [text for _, text in found if isinstance(text, str)]
    if reasons:
        return None, "; ".join(reasons)
    replicates_LB = np.array([replicates for _, replicates in found])
    return float(np.mean([value for value, _ in found])), replicates_LB.mean(axis=0)


def _shown(value: float | None, replicates: Floats | str, level: float) -> Number:
    if value is None or isinstance(replicates, str):
        return Number(None, reason=str(replicates))
    return bootstrapped(value, replicates, level)
