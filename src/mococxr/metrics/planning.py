"""How many test patients a study needs, before it is made.

Source: the variance of a difference of paired areas as DeLong and Obuchowski (Statistics in Medicine 13:1489, 1994;
Academic Radiology 2:S22, 1995) write it, with the binormal model for its parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from mococxr.metrics.binormal import shared_covariance
from mococxr.metrics.checks import as_labels, as_scores
from mococxr.metrics.delong import placements


@dataclass(frozen=True)
class Plan:
    """Test patients, one image each, that show a difference with the wanted power; and what that rests on."""

    patients: int
    positives: int
    negatives: int
    difference: float
    prevalence: float
    power: float
    alpha: float
    words: str


def patients_needed(
    auroc: float,
    difference: float,
    prevalence: float,
    correlation: float = 0.5,
    power: float = 0.8,
    alpha: float = 0.05,
) -> Plan:
    """Test patients that a paired comparison of two classifiers needs.

    Args:
        auroc: of the weaker one.
        difference: to be seen, above 0; the other's AUROC is the sum, below 1.
        prevalence: share of positive patients, between 0 and 1.
        correlation: of the two scores among patients of one class, 0 to below 1: two heads on like features 0.7 and
            more, unlike models 0.3 to 0.5; the less alike, the more patients.
        power: chance of seeing the difference, above alpha.
        alpha: two-sided level.
    """
    part = _binormal_part(auroc, difference, correlation)
    return _plan(part, part, difference, prevalence, power, alpha)


def patients_needed_from(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    difference: float,
    prevalence: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> Plan:
    """As `patients_needed`, with the variance that DeLong finds in pilot data (one image a patient) instead of a model.

    Args:
        labels, scores_a, scores_b: the pilot, shape (N,); at least two of each class.
        difference: to be seen, above 0; need not be the pilot's.
        prevalence: of the study to come; None for the pilot's.
        power, alpha: as `patients_needed`.
    """
    scores_2N = np.stack([as_scores(scores_a), as_scores(scores_b)])
    positive = as_labels(labels, scores_2N.shape[1])
    parts = [float((found[0] - found[1]).var(ddof=1)) for found in placements(labels, scores_2N)]
    share = float(positive.mean()) if prevalence is None else prevalence
    return _plan(parts[0], parts[1], difference, share, power, alpha)


def patients_needed_like(
    variance: float,
    patients: int,
    positives: int,
    difference: float,
    power: float = 0.8,
    alpha: float = 0.05,
) -> Plan:
    """As `patients_needed`, for test patients like those of a study that was made: as many images each, as many
    positive, the same draws of labels.

    Args:
        variance: of the study's difference over patients (`clustered_paired`), above 0.
        patients, positives: test patients of the study.
        difference: to be seen, above 0; need not be the study's.
        power, alpha: as `patients_needed`.
    """
    if not variance > 0 or not 0 < positives < patients:
        raise ValueError("needed: a variance above 0, and patients of both classes")
    share = positives / patients
    part = variance * patients * share * (1 - share)  # split alike between the classes: only the sum counts
    return _plan(part, part, difference, share, power, alpha)


def power_of(
    patients: int,
    auroc: float,
    difference: float,
    prevalence: float,
    correlation: float = 0.5,
    alpha: float = 0.05,
) -> float:
    """The chance that the paired test sees the difference with that many test patients; arguments as above."""
    part = _binormal_part(auroc, difference, correlation)
    error = np.sqrt(_of_one(part, part, prevalence) / patients)
    return float(ndtr(difference / error - ndtri(1 - alpha / 2)))


def _binormal_part(auroc: float, difference: float, correlation: float) -> float:
    """Variance of one patient's placement by a less that by b; the same for positives and negatives."""
    if not (0.5 <= auroc < auroc + difference < 1 and 0 <= correlation < 1):
        raise ValueError("needed: 0.5 <= auroc < auroc + difference < 1, and a correlation from 0 to below 1")
    distances = ndtri(np.array([auroc, auroc + difference]))
    own = shared_covariance(distances, distances, 0.5).sum()
    return float(own - 2 * shared_covariance(distances[0], distances[1], correlation / 2))


def _of_one(positive_part: float, negative_part: float, prevalence: float) -> float:
    """Variance of the difference times the number of patients."""
    if not 0 < prevalence < 1:
        raise ValueError(f"the prevalence must lie between 0 and 1, not {prevalence}")
    return positive_part / prevalence + negative_part / (1 - prevalence)


def _plan(
    positive_part: float,
    negative_part: float,
    difference: float,
    prevalence: float,
    power: float,
    alpha: float,
) -> Plan:
    if not difference > 0 or not 0 < alpha < power < 1:
        raise ValueError("needed: a difference above 0, and 0 < alpha < power < 1")
    reach = float(ndtri(1 - alpha / 2) + ndtri(power))
    wanted = reach**2 * _of_one(positive_part, negative_part, prevalence) / difference**2
    patients = int(np.ceil(wanted))
    positives = round(patients * prevalence)
    words = (
        f"To see a difference of {difference:g} in AUROC with {100 * power:g} % power (two-sided {100 * alpha:g} %), "
        f"{patients:,} test patients are needed, {positives:,} of them positive."
    )
    return Plan(patients, positives, patients - positives, difference, prevalence, power, alpha, words)
