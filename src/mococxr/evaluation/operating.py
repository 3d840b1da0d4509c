"""Threshold and calibration: learned on a validation table, or given; judged on the table of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mococxr import metrics
from mococxr.errors import InputError, UndefinedError
from mococxr.evaluation.numbers import Block, Bootstrap, Floats, Rows
from mococxr.metrics import OperatingPoint
from mococxr.metrics.calibration import affordable

COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
NUMBERS = ("sensitivity", "specificity", "ppv", "npv", "accuracy", "f1", "youden")


@dataclass(frozen=True)
class Rule:
    """How a threshold comes to be: a `value` that was given, or chosen on validation rows `by` a rule."""

    by: str
    value: float | None = None
    wanted: float | None = None


def read_rule(text: str) -> Rule:
    """`--threshold`: a number, `youden` or `sensitivity=SHARE`.

    Raises:
        InputError: none of these.
    """
    name, _, share = text.strip().partition("=")
    try:
        if name == "youden" and not share:
            return Rule("youden")
        if name == "sensitivity" and 0 < float(share) <= 1:
            return Rule("sensitivity", wanted=float(share))
        if np.isfinite(float(text)):
            return Rule("given", value=float(text))
    except ValueError:
        pass
    raise InputError(
        f"--threshold cannot be {text!r}.",
        "It is a score, or youden, or sensitivity=SHARE with a share above 0 and up to 1 (sensitivity=0.9).",
    )


def apart(tested: Rows, validation: Rows, named: bool) -> str | None:
    """Refuse a validation table that is the table of predictions; a note where patients stand in both.

    Args:
        named: whether a column names the patients.

    Raises:
        InputError: the two hold the same labels and scores.
    """
    ours, theirs = (
        np.sort(np.stack([r.labels, r.scores], axis=1).view("f8,f8").ravel()) for r in (tested, validation)
    )
    if ours.size == theirs.size and (ours == theirs).all():
        raise InputError(
            f"{validation.name} holds the labels and scores of {tested.name}: chosen and judged on the same rows, a "
            "threshold or calibration looks better than it is.",
            "Give --validation a table of other patients, or --threshold a number that was settled before.",
        )
    if not named:
        return None
    both = np.intersect1d(tested.patients.astype(str), validation.patients.astype(str)).size
    if not both:
        return None
    return (
        f"{both} patients of {tested.name} stand in {validation.name} too: if they are the same people, what was "
        "learned there looks better than it is."
    )


def operating_block(
    rule: Rule, tested: Rows, validation: Rows | None, prevalence: float | None, how: Bootstrap
) -> Block:
    """What the threshold does on the tested rows; the `reason` alone where none could be chosen."""
    about: Block = {
        "by": rule.by,
        "wanted_sensitivity": rule.wanted,
        "validation": validation.name if validation and rule.by != "given" else None,
    }
    threshold = rule.value
    if threshold is None:
        assert validation is not None  # checked with the settings
        reason = metrics.too_few(
            validation.labels, validation.patients, consequence="no threshold is chosen", split="validation"
        )
        if reason is not None:
            return {"threshold": None, **about, "reason": reason}
        threshold = _choose(rule, validation)
    point = metrics.operating_point(
        tested.labels, tested.scores, threshold, tested.patients, how.level, how.replicates, how.seed
    )
    counts = {name: getattr(point, name) for name in COUNTS}
    numbers = {name: getattr(point, name).block() for name in NUMBERS}
    elsewhere = None if prevalence is None else _elsewhere(point, prevalence)
    return {"threshold": threshold, **about, **counts, **numbers, "elsewhere": elsewhere}


def _choose(rule: Rule, validation: Rows) -> float:
    if rule.wanted is None:
        return metrics.threshold_by_youden(validation.labels, validation.scores)
    return metrics.threshold_for_sensitivity(validation.labels, validation.scores, rule.wanted)


def _elsewhere(point: OperatingPoint, prevalence: float) -> Block:
    """PPV and NPV at another prevalence."""
    try:
        found = metrics.predictive_values(point, prevalence)
    except UndefinedError as error:
        nothing = {"value": None, "low": None, "high": None, "reason": str(error)}
        return {"prevalence": prevalence, "ppv": nothing, "npv": nothing}
    return {"prevalence": prevalence, "ppv": found.ppv.block(), "npv": found.npv.block()}


def calibration_block(kind: str, tested: Rows, validation: Rows | None, how: Bootstrap, column: str) -> Block:
    """How right the scores of the `column` are as probabilities: as they stand (`none`), or calibrated on validation
    rows.

    Raises:
        InputError: scores that are no probabilities, taken as they stand.
    """
    about: Block = {
        "method": kind,
        "validation": validation.name if validation and kind != "none" else None,
        "parameters": None,
    }
    if kind == "none":
        probabilities = _as_they_stand(tested, column)
    else:
        assert validation is not None  # checked with the settings
        taken, inputs, shown = _logits(validation, tested)
        about["scores_taken_for"] = taken
        try:
            fitted = metrics.fit_calibrator(kind, validation.labels, inputs, validation.patients)
        except UndefinedError as error:
            return {**about, "reason": f"No calibration is fitted: {error}"}
        about["parameters"] = fitted.parameters()
        probabilities = fitted.apply(shown)
    few = metrics.too_few(tested.labels, tested.patients, consequence="no calibration is judged")
    if few is not None:
        return {**about, "reason": few}
    found = metrics.calibration(
        tested.labels, probabilities, tested.patients,
        replicates=affordable(how.replicates, tested.labels.size), seed=how.seed, level=how.level,
    )  # fmt: skip
    numbers: Block = {name: getattr(found, name).block() for name in ("brier", "ece", "slope", "intercept")}
    return {
        **about,
        **numbers,
        "ece_if_perfect": found.ece_if_perfect,
        "curve": [_bin(one) for one in found.curve],
    }


def _bin(one: metrics.Bin) -> Block:
    return {
        "mean_probability": one.mean_probability,
        **one.observed.block(),
        "rows": one.rows,
        "patients": one.patients,
    }


def _probabilities(rows: Rows) -> bool:
    return bool(((rows.scores >= 0) & (rows.scores <= 1)).all())


def _as_they_stand(rows: Rows, column: str) -> Floats:
    if not _probabilities(rows):
        worst = float(rows.scores[np.argmax(np.abs(rows.scores - 0.5))])
        raise InputError(
            f"{rows.name}, column {column!r}: the scores are no probabilities, one is {worst:g}.",
            "Calibrate them first: --calibrate platt --validation TABLE.",
        )
    return rows.scores


def _logits(validation: Rows, tested: Rows) -> tuple[str, Floats, Floats]:
    """What the scores of both tables are taken for, and their logits."""
    if _probabilities(validation) and _probabilities(tested):
        return "probabilities", metrics.as_logits(validation.scores), metrics.as_logits(tested.scores)
    return "logits", validation.scores, tested.scores


def checked(threshold: str | None, calibrate: str, validation: Any, prevalence: float | None) -> Rule | None:
    """The rule of `--threshold`, once it, `--calibrate`, `--validation` and `--prevalence` fit together.

    Raises:
        InputError: they do not.
    """
    rule = None if threshold is None else read_rule(threshold)
    learns = ([f"--threshold {threshold}"] if rule and rule.value is None else []) + (
        [f"--calibrate {calibrate}"] if calibrate != "none" else []
    )
    if learns and validation is None:
        raise InputError(
            f"{learns[0]} learns from labels, and not from those that it is judged on.",
            "Give --validation a table of other patients"
            + (", or --threshold a number that was settled before." if rule and rule.value is None else "."),
        )
    if validation is not None and not learns:
        raise InputError(
            f"--validation {validation} has no use: nothing learns from it.",
            "Ask for --threshold youden, --threshold sensitivity=0.9 or --calibrate platt, or leave it out.",
        )
    if prevalence is not None and rule is None:
        raise InputError(
            "--prevalence needs --threshold, whose PPV and NPV it moves.",
            "Give --threshold, or leave --prevalence out.",
        )
    return rule
