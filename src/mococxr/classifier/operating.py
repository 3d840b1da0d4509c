"""What validation images teach a finished classifier: calibrated probabilities and a threshold, kept in `model.json`.

Test images are no argument of anything here. The calibrator maps the logit of the score; the threshold stands on the
score itself, so that a decision depends on neither calibration nor prevalence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import InputError, UndefinedError
from mococxr.metrics import Calibrator

Facts = dict[str, Any]
WANTED = 0.9
"""Sensitivity that a threshold is chosen for where nobody says another."""
NUMBERS = ("sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True)
class Wish:
    """What is to be made of validation images.

    Args:
        calibrate: platt, isotonic, temperature or none.
        threshold_by: sensitivity, youden or none.
        sensitivity: the wanted one, where it chooses the threshold.
    """

    calibrate: str
    threshold_by: str
    sensitivity: float | None

    @property
    def anything(self) -> bool:
        """Whether validation images are needed at all."""
        return (self.calibrate, self.threshold_by) != ("none", "none")


def read_wish(calibrate: str, threshold_by: str, sensitivity: float | None) -> Wish:
    """The settings of the same names, checked.

    Raises:
        InputError: a sensitivity that nothing would use.
    """
    if sensitivity is not None and threshold_by != "sensitivity":
        raise InputError(
            f"--sensitivity {sensitivity:g} has no use with --threshold-by {threshold_by}.",
            "Leave one of the two out.",
        )
    wanted = sensitivity or WANTED
    return Wish(calibrate, threshold_by, wanted if threshold_by == "sensitivity" else None)


def from_validation(
    labels: NDArray[np.int8], scores: NDArray[np.float64], patients: NDArray, wish: Wish
) -> dict[str, Facts]:
    """The blocks `calibration` and `threshold` of `model.json`.

    Args:
        labels: of the validation images, 1 or 0, shape (N,).
        scores: what the classifier says of them, 0 to 1.
        patients: patient of each.

    Returns:
        What was fitted, or None in its place and a `reason` in words.
    """
    counts = {
        "validation_images": int(labels.size),
        "validation_patients": int(np.unique(patients).size),
        "validation_positives": int((labels == 1).sum()),
    }
    return {
        "calibration": {**_calibration(labels, scores, patients, wish), **counts},
        "threshold": {**_threshold(labels, scores, patients, wish), **counts},
    }


def _why_not(labels: NDArray[np.int8], patients: NDArray, consequence: str) -> str | None:
    if not labels.size:
        return f"There are no labelled validation images; {consequence}."
    return metrics.too_few(labels, patients, consequence=consequence, split="validation")


def _calibration(
    labels: NDArray[np.int8], scores: NDArray[np.float64], patients: NDArray, wish: Wish
) -> Facts:
    empty = {"method": None, "parameters": None, "prevalence": None}
    if wish.calibrate == "none":
        return {**empty, "reason": "--calibrate none"}
    reason = _why_not(labels, patients, "no calibration is fitted")
    if reason is not None:
        return {**empty, "reason": reason}
    try:
        fitted = metrics.fit_calibrator(wish.calibrate, labels, metrics.as_logits(scores), patients)
    except UndefinedError as error:
        return {**empty, "reason": f"No calibration is fitted: {error}."}
    share = float((labels == 1).mean())
    return {"method": fitted.kind, "parameters": fitted.parameters(), "prevalence": share, "reason": None}


def _threshold(labels: NDArray[np.int8], scores: NDArray[np.float64], patients: NDArray, wish: Wish) -> Facts:
    rule = {"by": wish.threshold_by, "wanted_sensitivity": wish.sensitivity}
    empty = {"value": None, **rule, **dict.fromkeys(NUMBERS)}
    if wish.threshold_by == "none":
        return {**empty, "reason": "--threshold-by none"}
    reason = _why_not(labels, patients, "no threshold is chosen")
    if reason is not None:
        return {**empty, "reason": reason}
    if wish.sensitivity is None:
        value = metrics.threshold_by_youden(labels, scores)
    else:
        value = metrics.threshold_for_sensitivity(labels, scores, wish.sensitivity)
    point = metrics.operating_point(labels, scores, value, patients)
    shown = {name: getattr(point, name).block() for name in NUMBERS}
    return {"value": value, **rule, **shown, "reason": None}


def in_words(blocks: Mapping[str, Facts]) -> tuple[list[str], list[str]]:
    """What `fit` says of the two blocks, and what it warns of."""
    said, warned = [], []
    calibration, threshold = blocks["calibration"], blocks["threshold"]
    images = f"{calibration['validation_images']:,} validation images"
    if calibration["reason"]:
        warned.append(f"No calibrated probability. {calibration['reason']}")
    else:
        said.append(f"calibrated by {calibration['method']} on {images}")
    if threshold["reason"]:
        warned.append(f"No decision. {threshold['reason']}")
    else:
        found = ", ".join(
            f"{name} {threshold[name]['value']:.2f} ({threshold[name]['low']:.2f} to {threshold[name]['high']:.2f})"
            for name in ("sensitivity", "specificity")
        )
        said.append(f"threshold {threshold['value']:.4g}: {found} on the {images} that chose it")
    return said, warned


def calibrator_of(about: Mapping[str, Any]) -> Calibrator | None:
    """The calibrator that `model.json` keeps; None where it keeps none."""
    block = about.get("calibration") or {}
    if not block.get("method"):
        return None
    return Calibrator(block["method"], **block["parameters"])


def threshold_of(about: Mapping[str, Any]) -> float | None:
    """The threshold that `model.json` keeps."""
    return (about.get("threshold") or {}).get("value")
