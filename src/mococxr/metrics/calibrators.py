"""Scores into probabilities: Platt, isotonic, temperature. Fitted on validation rows, applied to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats, as_labels, as_scores, as_weights
from mococxr.metrics.logistic import logistic_fits
from mococxr.metrics.paired import TOO_FEW, too_few

KINDS = ("platt", "isotonic", "temperature")
NEAREST = 1e-7
"""Probabilities are kept this far from 0 and 1 where a logit is taken."""


@dataclass(frozen=True)
class Calibrator:
    """A map from logits to probabilities; its fields are plain numbers, so it can be written as JSON and back.

    `platt`: expit(slope x + intercept). `temperature`: the same without intercept, temperature = 1 / slope.
    `isotonic`: straight lines between the points (`inputs`, `outputs`), level beyond them.
    """

    kind: str
    slope: float | None = None
    intercept: float | None = None
    inputs: tuple[float, ...] = ()
    outputs: tuple[float, ...] = ()

    def parameters(self) -> dict[str, Any]:
        """The fields of this kind but `kind`, as JSON holds them; `Calibrator(kind, **parameters)` is equal to it."""
        if self.slope is None:
            return {"inputs": list(self.inputs), "outputs": list(self.outputs)}
        return {"slope": self.slope, "intercept": self.intercept}

    def __post_init__(self) -> None:
        """Lists, as JSON gives them, become tuples."""
        for name in ("inputs", "outputs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def apply(self, logits: ArrayLike) -> Floats:
        """Probabilities, in the shape of the logits."""
        x = np.asarray(logits, dtype=np.float64)
        if self.slope is None or self.intercept is None:
            return np.interp(x, self.inputs, self.outputs)
        return expit(self.slope * x + self.intercept)


def as_logits(probabilities: ArrayLike) -> Floats:
    """log(p / (1 - p)), with p kept 1e-7 from 0 and 1.

    Raises:
        ValueError: a value outside 0 to 1.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a probability lies outside 0 to 1, or is missing")
    return logit(np.clip(values, NEAREST, 1 - NEAREST))


def at_prevalence(probabilities: ArrayLike, was: float, now: float) -> Floats:
    """Calibrated probabilities where another share of the images has the finding: the odds times the ratio of the odds.

    Bayes' rule, as long as images with the finding look the same in both places, and those without it too (Saerens,
    Latinne and Decaestecker, Neural Computation 14:21, 2002). The order of the images stays.

    Args:
        probabilities: 0 to 1, calibrated where the share is `was`.
        was, now: shares of images with the finding, between 0 and 1.
    """
    if not (0 < was < 1 and 0 < now < 1):
        raise ValueError(f"a prevalence must lie between 0 and 1, not {was} and {now}")
    return expit(logit(np.asarray(probabilities, dtype=np.float64)) + logit(now) - logit(was))


def fit_calibrator(
    kind: str,
    labels: ArrayLike,
    logits: ArrayLike,
    patients: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    minimum: int = TOO_FEW,
) -> Calibrator:
    """Fit on validation rows, which the classifier was not trained on.

    Args:
        kind: `platt` (with Platt's soft targets, which keep it finite), `isotonic` (needs hundreds of rows; makes
            ties), or `temperature` (keeps 0.5 where it is).
        labels: 1 or 0, shape (N,).
        logits: finite; `as_logits` of probabilities.
        patients: patient of each row; None where each row is a patient of its own.
        weights: of the rows.
        minimum: patients of each class that are needed.

    Raises:
        UndefinedError: too few patients of a class; or the rows define no rising map (scores that do not rise with the
            label; a temperature where 0 separates the classes fully).
    """
    x = as_scores(logits)
    positive = as_labels(labels, x.size)
    ids = np.arange(x.size) if patients is None else np.asarray(patients)
    reason = too_few(positive, ids, minimum, "no calibration is fitted", "validation")
    if reason is not None:
        raise UndefinedError(reason)
    heavy = as_weights(weights, x.size)
    fits = {"platt": _platt, "isotonic": _isotonic, "temperature": _temperature}
    if kind not in fits:
        raise ValueError(f"no calibration named {kind!r}: {', '.join(KINDS)}")
    return fits[kind](x, positive.astype(np.float64), heavy)


def _platt(x: Floats, y: Floats, weights: Floats) -> Calibrator:
    """Platt (1999): the positives' target is (n + 1) / (n + 2), the negatives' 1 / (n + 2)."""
    positives, negatives = float(weights @ y), float(weights @ (1 - y))
    soft = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    intercept, slope = (float(found[0]) for found in logistic_fits(x, soft, weights[:, None]))
    if not slope > 0:
        raise UndefinedError("the scores do not rise with the label on the validation rows")
    return Calibrator("platt", slope, intercept)


def _temperature(x: Floats, y: Floats, weights: Floats) -> Calibrator:
    from scipy.optimize import brentq

    def pull(slope: float) -> float:  # the derivative of the loss; it rises with the slope
        return float(weights @ (x * (expit(slope * x) - y)))

    if pull(0.0) >= 0:
        raise UndefinedError("the scores do not rise with the label on the validation rows")
    if np.all(x[weights > 0] * (2 * y[weights > 0] - 1) >= 0):
        raise UndefinedError("the logit 0 separates the validation rows fully: no temperature is the best")
    steepest = 1.0
    while pull(steepest) < 0:
        steepest *= 2
    return Calibrator("temperature", float(brentq(pull, 0.0, steepest, xtol=1e-13, rtol=1e-13)), 0.0)


def _isotonic(x: Floats, y: Floats, weights: Floats) -> Calibrator:
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0, y_max=1, increasing=True).fit(x, y, sample_weight=weights)
    inputs, outputs = (tuple(float(v) for v in knots) for knots in (fit.X_thresholds_, fit.y_thresholds_))
    if outputs[0] == outputs[-1]:
        raise UndefinedError("the scores do not rise with the label on the validation rows")
    return Calibrator("isotonic", inputs=inputs, outputs=outputs)
