"""Calibration and threshold of a finished classifier: the settings of `fit`, its words, what `model.json` keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mococxr.errors import InputError
from mococxr.measure.operating import SENSITIVITY, ThresholdRule
from mococxr.metrics import Calibrator

Facts = dict[str, Any]


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
    by_sensitivity = threshold_by == "sensitivity"
    return ThresholdRule(threshold_by, sensitivity=(sensitivity or SENSITIVITY) if by_sensitivity else None)


def describe(blocks: Mapping[str, Facts]) -> tuple[list[str], list[str]]:
    """What `fit` says of the two blocks, and what it warns of."""
    lines, warnings = [], []
    calibration, threshold = blocks["calibration"], blocks["threshold"]
    images = f"{calibration['validation_images']:,} validation images"
    if calibration["reason"]:
        warnings.append(f"No calibrated probability. {calibration['reason']}")
    else:
        lines.append(f"calibrated by {calibration['method']} on {images}")
    if threshold["reason"]:
        warnings.append(f"No decision. {threshold['reason']}")
    else:
        rates = ", ".join(
            f"{name} {threshold[name]['value']:.2f} ({threshold[name]['low']:.2f} to {threshold[name]['high']:.2f})"
            for name in ("sensitivity", "specificity")
        )
        lines.append(f"threshold {threshold['value']:.4g}: {rates} on the {images} that chose it")
    return lines, warnings


def calibrator_of(about: Mapping[str, Any]) -> Calibrator | None:
    """The calibrator that `model.json` keeps; None where it keeps none."""
    block = about.get("calibration") or {}
    if not block.get("method"):
        return None
    return Calibrator(block["method"], **block["parameters"])


def threshold_of(about: Mapping[str, Any]) -> float | None:
    """The threshold that `model.json` keeps."""
    return (about.get("threshold") or {}).get("value")
