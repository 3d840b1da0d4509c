"""Scores into probabilities (Platt, isotonic, temperature), and how right probabilities are.

A calibrator is fitted on validation rows and applied to others. Letters: N rows, B replicates (weightings of the
rows), G bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import TOO_FEW, Floats, as_labels, as_patients, as_scores, too_few
from mococxr.metrics.intervals import (
    BLOCK,
    DRAWN,
    Estimate,
    Resamples,
    patient_resamples,
    percentile_estimate,
    resampled_sums,
    wilson,
)
from mococxr.metrics.ranking import safe_divide

NEAREST = 1e-7
"""Probabilities are kept this far from 0 and 1 where a logit is taken."""

NEWTON_STEPS = 60
"""Newton needs some ten; classes that are separated fully have no finite solution and use all 60."""

LONG_STEP = 0.5
"""Steps up to this, in standard deviations, are taken as they are."""


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

    >>> as_logits([0.5, 0.9]).round(3).tolist()
    [0.0, 2.197]
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a probability lies outside 0 to 1, or is missing")
    return logit(np.clip(values, NEAREST, 1 - NEAREST))


def at_prevalence(probabilities: ArrayLike, was: float, now: float) -> Floats:
    """Calibrated probabilities where another share of the images has the finding: the odds times the ratio of odds.

    Bayes' rule, as long as images with the finding look the same in both places, and those without it too (Saerens,
    Latinne and Decaestecker, Neural Computation 14:21, 2002). The order of the images stays.

    Args:
        probabilities: 0 to 1, calibrated where the share is `was`.
        was, now: shares of images with the finding, between 0 and 1.

    >>> at_prevalence([0.5], was=0.5, now=0.1).round(3).tolist()
    [0.1]
    """
    if not (0 < was < 1 and 0 < now < 1):
        raise ValueError(f"a prevalence must lie between 0 and 1, not {was} and {now}")
    return expit(logit(np.asarray(probabilities, dtype=np.float64)) + logit(now) - logit(was))


def fit_calibrator(
    kind: str, labels: ArrayLike, logits: ArrayLike, patients: ArrayLike | None = None, minimum: int = TOO_FEW
) -> Calibrator:
    """Fit on validation rows, which the classifier was not trained on.

    Args:
        kind: `platt` (with Platt's soft targets, which keep it finite), `isotonic` (needs hundreds of rows; makes
            ties), or `temperature` (keeps 0.5 where it is).
        labels: 1 or 0, shape (N,).
        logits: finite; `as_logits` of probabilities.
        patients: patient of each row; None where each row is a patient of its own.
        minimum: patients of each class that are needed.

    Raises:
        UndefinedError: too few patients of a class; or the rows define no rising map (scores that do not rise with the
            label; a temperature where 0 separates the classes fully).

    >>> calibrator = fit_calibrator("platt", [0, 0, 1, 0, 1, 1], [-2, -1, -0.5, 0, 1, 2], minimum=2)
    >>> calibrator.apply([-2, 2]).round(2).tolist()
    [0.2, 0.83]
    """
    x = as_scores(logits)
    positive = as_labels(labels, x.size)
    ids = as_patients(patients, x.size)
    reason = too_few(positive, ids, minimum, "no calibration is fitted", "validation")
    if reason is not None:
        raise UndefinedError(reason)
    if kind not in KINDS:
        raise ValueError(f"no calibration named {kind!r}: {', '.join(KINDS)}")
    return KINDS[kind](x, positive.astype(np.float64))


def _platt(x: Floats, y: Floats) -> Calibrator:
    """Platt (1999): the positives' target is (n + 1) / (n + 2), the negatives' 1 / (n + 2)."""
    positives, negatives = float(y.sum()), float((1 - y).sum())
    soft = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    intercept, slope = (float(fitted[0]) for fitted in logistic_fits(x, soft, np.ones((x.size, 1))))
    if not slope > 0:
        raise UndefinedError("the scores do not rise with the label on the validation rows")
    return Calibrator("platt", slope, intercept)


def _temperature(x: Floats, y: Floats) -> Calibrator:
    from scipy.optimize import brentq

    ones = np.ones_like(x)

    def loss_slope(slope: float) -> float:  # the derivative of the loss; it rises with the slope
        return float(ones @ (x * (expit(slope * x) - y)))

    if loss_slope(0.0) >= 0:
        raise UndefinedError("the scores do not rise with the label on the validation rows")
    if np.all(x * (2 * y - 1) >= 0):
        raise UndefinedError("the logit 0 separates the validation rows fully: no temperature is the best")
    steepest = 1.0
    while loss_slope(steepest) < 0:
        steepest *= 2
    return Calibrator("temperature", float(brentq(loss_slope, 0.0, steepest, xtol=1e-13, rtol=1e-13)), 0.0)


def _isotonic(x: Floats, y: Floats) -> Calibrator:
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0, y_max=1, increasing=True).fit(x, y)
    inputs, outputs = (tuple(float(v) for v in knots) for knots in (fit.X_thresholds_, fit.y_thresholds_))
    if outputs[0] == outputs[-1]:
        raise UndefinedError("the scores do not rise with the label on the validation rows")
    return Calibrator("isotonic", inputs=inputs, outputs=outputs)


KINDS = {"platt": _platt, "isotonic": _isotonic, "temperature": _temperature}


def logistic_fits(
    x_N: Floats, y_N: Floats, weights_NB: Floats, slope: float | None = None, start: tuple[float, float] = (0.0, 0.0)
) -> tuple[Floats, Floats]:
    """Logistic regression on one number for many weightings of the rows at once: intercept (B,) and slope (B,).

    Maximum likelihood by Newton's steps, halved where they make it worse.

    Args:
        x_N: the number; it is centred and scaled inside.
        y_N: labels or soft labels, 0 to 1.
        weights_NB: of the rows.
        slope: fixed; None to fit it.
        start: intercept and slope to begin at.

    Returns:
        NaN where there is no finite solution: one class without weight, or classes that are separated.
    """
    middle, scale = (float(x_N.mean()), float(x_N.std()) or 1.0) if slope is None else (0.0, 1.0)
    z = ((x_N - middle) / scale)[:, None]
    y = y_N[:, None]
    fixed = slope is not None
    begin = (start[0], slope) if slope is not None else (start[0] + start[1] * middle, start[1] * scale)
    a, b = (np.full(weights_NB.shape[1], float(value)) for value in begin)
    failed = np.zeros(a.shape, dtype=bool)
    for _ in range(NEWTON_STEPS):
        step_a, step_b = _newton(a, b, z, y, weights_NB, fixed)
        failed |= ~np.isfinite(step_a + step_b)  # one class has no weight, or the curvature is gone
        step_a, step_b = np.where(failed, 0.0, step_a), np.where(failed, 0.0, step_b)
        if max(np.abs(step_a).max(), np.abs(step_b).max()) > LONG_STEP:
            size = _shortened(a, b, step_a, step_b, z, y, weights_NB)
            step_a, step_b = size * step_a, size * step_b
        a, b = a + step_a, b + step_b
        moved = np.abs(step_a) + np.abs(step_b)
        if np.all(moved < 1e-7):  # the next step would be its square
            break
    failed |= moved > 1e-6  # still on the way: separated classes have no finite solution
    a, b = np.where(failed, np.nan, a), np.where(failed, np.nan, b)
    if slope is not None and failed.any():
        a[failed] = _intercepts(slope * z, y, weights_NB[:, failed])
    return (a, b) if fixed else (a - b * middle / scale, b / scale)


def _intercepts(line_N1: Floats, y_N1: Floats, weights_NB: Floats) -> Floats:
    """The intercepts (B,) beside a fixed line, by bisection: where scores are 0 and 1, Newton's curvature is 0."""
    low, high = (np.full(weights_NB.shape[1], end) for end in (-100.0, 100.0))
    for _ in range(60):
        middle = (low + high) / 2
        below = (weights_NB * (y_N1 - expit(middle + line_N1))).sum(axis=0) > 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where((weights_NB * y_N1).any(axis=0) & (weights_NB * (1 - y_N1)).any(axis=0), (low + high) / 2, np.nan)


def _shortened(a: Floats, b: Floats, step_a: Floats, step_b: Floats, z: Floats, y: Floats, weights: Floats) -> Floats:
    """How much of each step to take: all of it, or a half, a quarter, ... where more makes the loss greater."""

    def loss(size: Floats | float) -> Floats:
        line = (a + size * step_a) + (b + size * step_b) * z
        return (weights * (np.logaddexp(0, line) - y * line)).sum(axis=0)

    before, size = loss(0.0), np.ones_like(a)
    for _ in range(6):
        worse = loss(size) > before + 1e-9 * np.abs(before)
        if not worse.any():
            break
        size = np.where(worse, size / 2, size)
    return size


def _newton(a: Floats, b: Floats, z: Floats, y: Floats, weights: Floats, fixed: bool) -> tuple[Floats, Floats]:
    p = expit(a + b * z)
    residual, curvature = weights * (y - p), weights * p * (1 - p)
    g0, h00 = residual.sum(axis=0), curvature.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        if fixed:
            return g0 / h00, np.zeros_like(b)
        g1, h01 = (residual * z).sum(axis=0), (curvature * z).sum(axis=0)
        h11 = (curvature * z * z).sum(axis=0)
        det = h00 * h11 - h01**2
        return (h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det


@dataclass(frozen=True)
class Bin:
    """One point of the reliability curve: rows whose probability lies in a bin, and how many were positive."""

    mean_probability: float
    observed: Estimate
    rows: int
    patients: int


@dataclass(frozen=True)
class Calibration:
    """How right the probabilities are, each number with its interval over patients.

    `ece`: mean distance between probability and observed share over the bins. It is above 0 for perfect probabilities
    too: `ece_if_perfect` is its mean if every row were positive with just its probability (all rows of a patient by one
    random number), so compare the two.
    `slope`: 1 is right, below 1 too sure; `intercept`: 0 is right, above 0 too low throughout (slope fixed at 1).
    """

    brier: Estimate
    ece: Estimate
    ece_if_perfect: float
    slope: Estimate
    intercept: Estimate
    curve: tuple[Bin, ...]


def calibration(
    labels: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike | None = None,
    bins: int = 10,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Calibration:
    """Judge probabilities on test rows.

    Args:
        labels: 1 or 0, both present, shape (N,).
        probabilities: 0 to 1, shape (N,).
        patients: patient of each row; None where each row is a patient of its own.
        bins: of the curve, as many rows in each; equal probabilities stay in one bin, and empty bins are left out.
        replicates, seed, level: of the intervals; the bins are those of all rows in every resample.

    Raises:
        ValueError: a probability outside 0 to 1.

    >>> result = calibration([0, 1, 0, 1], [0.2, 0.6, 0.4, 0.8], bins=2, replicates=50)
    >>> round(result.brier.value, 3), [point.rows for point in result.curve]
    (0.1, [2, 2])
    """
    p = as_scores(probabilities)
    y, logits = as_labels(labels, p.size).astype(np.float64), as_logits(p)
    ids = as_patients(patients, p.size)
    drawn = patient_resamples(ids, replicates, seed)
    bin_N = bin_of(p, bins)
    member_NG = bin_N[:, None] == np.arange(bin_N.max() + 1)
    columns = np.concatenate([member_NG, member_NG * y[:, None], member_NG * p[:, None], (p - y)[:, None] ** 2], axis=1)
    sums_B = resampled_sums(columns, drawn)
    count_BG, positive_BG, total_BG = np.split(sums_B[:, :-1], 3, axis=1)
    size_B, clustered = count_BG.sum(axis=1), drawn.patients_U.size < p.size
    observed_BG = safe_divide(positive_BG, count_BG)
    curve = []
    for g, member in enumerate(member_NG.T):
        observed = _observed(y[member], observed_BG[:, g], clustered, level)
        rows, count = int(member.sum()), int(np.unique(ids[member]).size)
        curve.append(Bin(float(p[member].mean()), observed, rows, count))
    perfect_B = _if_perfect(p, member_NG, drawn.unit_N, replicates, seed)
    gap = float(np.abs((p - y) @ member_NG).sum() / p.size)
    gap_B = np.abs(total_BG - positive_BG).sum(axis=1) / size_B
    intercept, slope = _lines(logits, y, drawn, level)
    brier = percentile_estimate(float(((p - y) ** 2).mean()), sums_B[:, -1] / size_B, level)
    ece = _basic_interval(gap, gap_B, perfect_B, level)
    return Calibration(brier, ece, float(perfect_B.mean()), slope, intercept, tuple(curve))


def bin_of(probabilities: Floats, bins: int) -> NDArray[np.intp]:
    """The bin of each row, from 0, empty ones left out; a bin holds its upper edge, the first one 0 too."""
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, probabilities, side="left"), return_inverse=True)[1]


def _if_perfect(
    p: Floats, member_NG: NDArray[np.bool_], unit_N: NDArray[np.intp], replicates: int, seed: int
) -> Floats:
    """ECE (B,) of labels that are drawn with the probabilities themselves, by one random number a patient."""
    rng = np.random.default_rng(seed)
    size, step = int(unit_N.max()) + 1, max(1, DRAWN // p.size)
    pieces = []
    for start in range(0, replicates, step):
        uniform = rng.random((min(step, replicates - start), size))[:, unit_N]
        pieces.append(np.abs((p - (uniform < p)) @ member_NG).sum(axis=1) / p.size)
    return np.concatenate(pieces)


def _observed(y: Floats, replicates_B: Floats, clustered: bool, level: float) -> Estimate:
    share = float(y.mean())
    if clustered and 0 < share < 1:  # where all are alike, so is every resample: the bootstrap has no width
        return percentile_estimate(share, replicates_B, level)
    return Estimate(share, *wilson(float(y.sum()), y.size, level), "Wilson")


def _basic_interval(value: float, replicates_B: Floats, perfect_B: Floats, level: float) -> Estimate:
    """The bootstrap interval turned over (basic): a resample's ECE lies as far above that of the data as the ECE of
    the data lies above the true one. It begins at 0 where perfect probabilities would show as much.
    """
    plain = percentile_estimate(value, replicates_B, level)
    if plain.low is None or plain.high is None:
        return plain
    usual = value <= float(np.quantile(perfect_B, 0.5 + level / 2))
    low = 0.0 if usual else max(0.0, 2 * value - plain.high)
    high = max(value if usual else 0.0, 2 * value - plain.low)
    return Estimate(value, low, high, "basic bootstrap over patients")


def _lines(logits: Floats, y: Floats, drawn: Resamples, level: float) -> tuple[Estimate, Estimate]:
    """Intercept (slope fixed at 1) and slope."""
    shift, shift_B = (fits[0] for fits in _fits(logits, y, drawn, 1.0))
    slope, slope_B = (fits[1] for fits in _fits(logits, y, drawn))
    intercept = percentile_estimate(float(shift[0]), shift_B, level)
    if not np.isnan(slope[0]):
        return intercept, percentile_estimate(float(slope[0]), slope_B, level)
    if np.ptp(logits) == 0:
        return intercept, Estimate(None, reason="all probabilities are equal: no slope is defined")
    return intercept, Estimate(None, reason="the probabilities separate the classes fully: no slope is finite")


def _fits(
    x_N: Floats, y_N: Floats, resamples: Resamples, slope: float | None = None
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """`logistic_fits` of all rows, and on every resample, a bounded number of resamples at a time."""
    whole = logistic_fits(x_N, y_N, np.ones((x_N.size, 1)), slope)
    start = (float(np.nan_to_num(whole[0][0])), float(np.nan_to_num(whole[1][0])))
    step = max(1, BLOCK // x_N.size)
    pieces = []
    for first in range(0, len(resamples.weights_BU), step):
        weights_NB = resamples.weights_BU[first : first + step][:, resamples.unit_N].T.astype(np.float64)
        pieces.append(logistic_fits(x_N, y_N, weights_NB, slope, start))
    return whole, (np.concatenate([a for a, _ in pieces]), np.concatenate([b for _, b in pieces]))
