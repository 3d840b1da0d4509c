"""Which labelled images calibration and threshold are learned from, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mococxr.errors import InputError
from mococxr.heads.targets import UNCERTAIN_CLASS, Target, column_of
from mococxr.measure.operating import SENSITIVITY, ScoredRows, ThresholdRule
from mococxr.metrics import too_few
from mococxr.metrics.checks import TOO_FEW, count_patients
from mococxr.store import Store

Rows = NDArray[np.int64]
SITE = "another site"
"""How scores were made of images of a store that the model was not trained on."""
LINEAR = "A linear head (--mode linear, lbfgs) needs fewer: its training images count too."
NONE: Rows = np.empty(0, dtype=np.int64)


def read_rule(threshold_by: str, sensitivity: float | None) -> ThresholdRule | None:
    """The rule of `--threshold-by` and `--sensitivity`; None for no threshold.

    Raises:
        InputError: a sensitivity that nothing would use.
    """
    if sensitivity is not None and threshold_by != "sensitivity":
        raise InputError(
            f"--sensitivity {sensitivity:g} cannot be combined with --threshold-by {threshold_by}.",
            "Leave one of the two out.",
        )
    if threshold_by == "none":
        return None
    return ThresholdRule(threshold_by, None, (sensitivity or SENSITIVITY) if threshold_by == "sensitivity" else None)


@dataclass(frozen=True)
class Judged:
    """Rows of a store whose labels and scores calibration and threshold are learned from.

    Args:
        held: rows that no head has seen, scored by the head that is kept.
        crossed: training rows, scored by heads that never saw their patients.
        weights: of `held`, then `crossed`; None: 1 each.
        left_out, remedy, how: as `ScoredRows` has them.
    """

    held: Rows
    crossed: Rows
    weights: NDArray[np.float64] | None = None
    left_out: int = 0
    remedy: str = ""
    how: str = ""

    def scored(self, store: Store, target: Target, scores: NDArray[np.float64]) -> ScoredRows:
        """The rows with their scores, of `held`, then of `crossed`."""
        rows = np.concatenate([self.held, self.crossed])
        held = np.arange(len(rows)) < len(self.held)
        patients = store.index["patient"].to_numpy()[rows]
        rest = self.weights, self.left_out, self.remedy, self.how
        return ScoredRows(target.labels[rows], scores, patients, held, *rest)


def choose_judged(
    store: Store, target: Target, held: Rows, trained: Rows = NONE, where: str = "training or validation"
) -> Judged:
    """The smallest change from plain validation that has enough patients of each class.

    Labels that were chosen at random come first (those of `prepare`, and those of which nobody said how they were chosen,
    count as such): the held rows, then the training rows besides. Then the same of labels that were chosen
    with a known probability, each weighted by one over it (Horvitz and Thompson, JASA 47:663, 1952).

    Args:
        held: rows with labels of 1 and 0 that no head has seen.
        trained: the labelled rows that the head was trained on, where heads that never saw their patients can score them.
        where: the patients whose images may be labelled, for the remedy.

    Returns:
        Where nothing is enough, the most there is, with a remedy.
    """
    random, probability = choices(store, target)
    patients = store.index["patient"].to_numpy()
    known = trained[target.labels[trained] != UNCERTAIN_CLASS]
    pools = [(held, NONE)]
    if too_few(target.labels[known], patients[known], minimum=2) is None:
        pools.append((held, known))  # one patient of a class leaves the others without a head

    def judged(pool: tuple[Rows, Rows], usable: NDArray[np.bool_], *, weighted: bool) -> Judged:
        held, crossed = (part[usable[part]] for part in pool)
        left_out = sum(map(len, pool)) - len(held) - len(crossed)
        if not weighted:
            return Judged(held, crossed, None, left_out)
        weights = 1 / probability[np.concatenate([held, crossed])]
        return Judged(held, crossed, weights / max(weights.sum(), 1) * len(weights), left_out)

    tried = [judged(pool, random, weighted=False) for pool in pools]
    tried += [judged(pool, np.isfinite(probability), weighted=True) for pool in pools]
    for candidate in tried:
        rows = np.concatenate([candidate.held, candidate.crossed])
        if too_few(target.labels[rows], patients[rows], weights=candidate.weights) is None:
            return candidate
    most = tried[len(pools) - 1]
    rows = np.concatenate([most.held, most.crossed])
    remedy = _remedy(target.labels[rows], patients[rows], where)
    return replace(most, remedy=f"{remedy} {LINEAR}" if where == "validation" else remedy)


def choices(store: Store, target: Target) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which rows count as chosen at random, and the probability with which each was chosen, NaN where nobody knows it."""
    chosen = store.chosen(column_of(store, target.name) or target.name)
    rule = chosen["chosen_by"].str.strip_chars().str.to_lowercase()
    return (rule.is_null() | (rule == "random")).to_numpy(), chosen["probability"].to_numpy()


def _remedy(labels: NDArray, patients: NDArray, split: str) -> str:
    """How many more patients have to be labelled, at the shares so far."""
    counts = {name: count_patients(patients[labels == value]) for name, value in (("positive", 1), ("negative", 0))}
    name = min(counts, key=lambda key: counts[key])
    if not counts[name]:
        return f"None is {name} so far: label more {split} images, chosen at random (chosen_by random)."
    more = math.ceil((TOO_FEW - counts[name]) * count_patients(patients) / counts[name])
    return f"At the share so far, label images of about {more:,} more {split} patients, chosen at random (chosen_by random)."


def describe(blocks: Mapping[str, dict[str, Any]]) -> tuple[list[str], list[str]]:
    """What `fit` says of the two blocks, and what it warns of."""
    lines, warnings = [], []
    calibration, threshold = blocks["calibration"], blocks["threshold"]
    images = images_words(calibration)
    if calibration["reason"]:
        warnings.append(f"No calibrated probability. {calibration['reason']}")
    else:
        ends = ", ".join(
            f"{'share of positives' if name == 'prevalence' else name} {value:.3g} ({low:.3g} to {high:.3g})"
            for name, value, (low, high) in interval_rows(calibration)
        )
        lines.append(f"calibrated by {calibration['method']} on {images}: {ends}")
    if threshold["reason"]:
        warnings.append(f"No decision. {threshold['reason']}")
    else:
        rates = ", ".join(
            f"{name} {threshold[name]['value']:.2f} ({threshold[name]['low']:.2f} to {threshold[name]['high']:.2f})"
            for name in ("sensitivity", "specificity")
        )
        lines.append(f"threshold {threshold['value']:.4g}: {rates} on the {images} that chose it")
    if calibration["left_out"]:
        lines.append(
            f"{calibration['left_out']:,} labels took no part in either: their images were not chosen at random, or not "
            "with a known probability"
        )
    return lines, warnings


def interval_rows(calibration: Mapping[str, Any]) -> list[tuple[str, float, Sequence[float]]]:
    """Name, value and ends of each number of a calibration that has an interval."""
    values = {"prevalence": calibration["prevalence"], **calibration["parameters"]}
    return [(name, values[name], ends) for name, ends in (calibration.get("intervals") or {}).items()]


def images_words(block: Mapping[str, Any]) -> str:
    """`60 validation images, 14 positive`; of others also how their scores were made."""
    if block.get("how") == SITE:
        words = f"{block['images']:,} labelled images of another site, {block['positives']:,} positive"
    elif block.get("how", "validation") == "validation":  # models of before have no word of it
        words = f"{block['validation_images']:,} validation images, {block['validation_positives']:,} positive"
    else:
        words = (
            f"{block['images']:,} labelled images, {block['positives']:,} positive (training images cross-fitted by "
            "patient, since those of validation are too few)"
        )
    return f"{words}, weighted by one over the probability of being chosen" if block.get("weighted") else words
