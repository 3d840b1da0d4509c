"""Scores into probabilities (Platt, isotonic, temperature), and how right probabilities are.

A calibrator is fitted on validation rows and applied to others. Letters: N rows, B replicates (weightings of the
rows), G bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, stdtrit

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import TOO_FEW, Floats, as_labels, as_patients, as_scores, count_patients, numbered, too_few
from mococxr.metrics.intervals import DRAWN, Estimate
from mococxr.metrics.logistic import logistic_fit, moved_coefficients
from mococxr.metrics.observed_expected import observed_expected
from mococxr.metrics.proportions import proportion

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
    # 0 and 1 stay: their logits are infinite.
    return expit(logit(np.asarray(probabilities, dtype=np.float64)) + logit(now) - logit(was))


def fit_calibrator(
    kind: str, labels: ArrayLike, logits: ArrayLike, patients: ArrayLike | None = None, minimum: int = TOO_FEW,
    weights: Floats | None = None,
) -> Calibrator:  # fmt: skip
    """Fit on validation rows, which the classifier was not trained on.

    Args:
        kind: `platt` (with Platt's soft targets, which keep it finite), `isotonic` (needs hundreds of rows; makes
            ties), or `temperature` (keeps 0.5 where it is).
        labels: 1 or 0, shape (N,).
        logits: finite; `as_logits` of probabilities.
        patients: patient of each row; None where each row is a patient of its own.
        minimum: patients of each class that are needed.
        weights: of the rows, (N,): one by the probability with which a row was chosen; None is 1 each.

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
    reason = too_few(positive, ids, minimum, "no calibration is fitted", "validation", weights)
    if reason is not None:
        raise UndefinedError(reason)
    if kind not in KINDS:
        raise ValueError(f"no calibration named {kind!r}: {', '.join(KINDS)}")
    return KINDS[kind](x, positive.astype(np.float64), np.ones_like(x) if weights is None else weights)


def _platt(x: Floats, y: Floats, w: Floats) -> Calibrator:
    """Platt (1999): the positives' target is (n + 1) / (n + 2), the negatives' 1 / (n + 2)."""
    intercept, slope = logistic_fit(x, _soft_targets(y, w), w)
    if not slope > 0:
        raise UndefinedError("the scores do not rise with the label on the validation rows")
    return Calibrator("platt", slope, intercept)


def _soft_targets(y: Floats, w: Floats) -> Floats:
    positives, negatives = float(w @ y), float(w @ (1 - y))
    # With 0 and 1 a separating score would have an infinite slope.
    return np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def platt_intervals(
    calibrator: Calibrator, labels: ArrayLike, logits: ArrayLike, patients: ArrayLike, weights: Floats | None = None,
    level: float = 0.95,
) -> dict[str, list[float]]:  # fmt: skip
    """Low and high end of `slope` and `intercept`, over the patients that fitted them: sandwich, Student's t.

    Args:
        calibrator: of the kind platt, from `fit_calibrator` with these arguments.

    >>> rows = [0, 0, 1, 0, 1, 1], [-2, -1, -0.5, 0, 1, 2]
    >>> ends = platt_intervals(fit_calibrator("platt", *rows, minimum=2), *rows, patients=range(6))
    >>> ends["slope"][0] < 1.1 < ends["slope"][1]
    True
    """
    x = as_scores(logits)
    y, ids = as_labels(labels, x.size).astype(np.float64), as_patients(patients, x.size)
    w = np.ones_like(x) if weights is None else weights
    fitted = np.array([calibrator.intercept, calibrator.slope], dtype=np.float64)
    moved_UK = moved_coefficients(np.stack([np.ones_like(x), x], axis=1), _soft_targets(y, w), fitted, numbered(ids), w)
    few = min(count_patients(ids[y == label]) for label in (0, 1))
    half_K = float(-stdtrit(few - 1, (1 - level) / 2)) * np.sqrt((moved_UK**2).sum(axis=0))
    ends_2K = fitted + half_K * np.array([[-1.0], [1.0]])
    return {name: ends_2K[:, k].tolist() for k, name in ((1, "slope"), (0, "intercept"))}


def _temperature(x: Floats, y: Floats, w: Floats) -> Calibrator:
    def loss_slope(slope: float) -> float:  # the derivative of the loss; it rises with the slope
        return float(w @ (x * (expit(slope * x) - y)))

    if loss_slope(0.0) >= 0:
        raise UndefinedError("the scores do not rise with the label on the validation rows")
    if np.all(x * (2 * y - 1) >= 0):  # the loss falls for ever as the slope grows: no root
        raise UndefinedError("the logit 0 separates the validation rows fully: no temperature is the best")
    steepest = 1.0
    while loss_slope(steepest) < 0:
        steepest *= 2
    return Calibrator("temperature", float(brentq(loss_slope, 0.0, steepest, xtol=1e-13, rtol=1e-13)), 0.0)


def _isotonic(x: Floats, y: Floats, w: Floats) -> Calibrator:
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0, y_max=1, increasing=True).fit(x, y, sample_weight=w)
    inputs, outputs = (tuple(float(v) for v in knots) for knots in (fit.X_thresholds_, fit.y_thresholds_))
    if outputs[0] == outputs[-1]:  # a level map would give all images one probability
        raise UndefinedError("the scores do not rise with the label on the validation rows")
    return Calibrator("isotonic", inputs=inputs, outputs=outputs)


KINDS = {"platt": _platt, "isotonic": _isotonic, "temperature": _temperature}


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
    `slope`: 1 is right, below 1 too sure; `intercept`: 0 is right, above 0 too low throughout (slope fixed at 1);
    `observed_expected`: 1 is right, above 1 too low on the whole.
    """

    brier: Estimate
    ece: Estimate
    ece_if_perfect: float
    slope: Estimate
    intercept: Estimate
    observed_expected: Estimate
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
        replicates, seed: of the labels that are drawn for the ECE.
        level: of the intervals.

    Raises:
        ValueError: a probability outside 0 to 1.

    >>> result = calibration([0, 1, 0, 1], [0.2, 0.6, 0.4, 0.8], bins=2, replicates=50)
    >>> round(result.brier.value, 3), [point.rows for point in result.curve]
    (0.1, [2, 2])
    """
    p = as_scores(probabilities)
    y, logits = as_labels(labels, p.size).astype(np.float64), as_logits(p)
    ids = as_patients(patients, p.size)
    unit_N, few = numbered(ids), min(count_patients(ids[y == label]) for label in (0, 1))
    bin_N = bin_of(p, bins)
    curve = []
    for g in range(int(bin_N.max()) + 1):
        member = bin_N == g
        observed = proportion(y[member], unit_N[member], level)
        # Drawn at the mean, not at the bin's middle: bins differ in width.
        curve.append(Bin(float(p[member].mean()), observed, int(member.sum()), count_patients(unit_N[member])))
    ece, if_perfect = _ece(p, y, _recalibrated(logits, y, bin_N), bin_N, unit_N, replicates, seed, level)
    intercept, slope = _intercept(logits, y, unit_N, few, level), _slope(logits, y, unit_N, few, level)
    ratio = observed_expected(y, p, unit_N, level)
    return Calibration(_brier((p - y) ** 2, unit_N, few, level), ece, if_perfect, slope, intercept, ratio, tuple(curve))


def bin_of(probabilities: Floats, bins: int) -> NDArray[np.intp]:
    """The bin of each row, from 0, empty ones left out; a bin holds its upper edge, the first one 0 too."""
    # Equal mass: with equal widths most bins of a rare finding are empty.
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, probabilities, side="left"), return_inverse=True)[1]


def _ece(
    p: Floats, y: Floats, right: Floats, bin_N: NDArray[np.intp], unit_N: NDArray[np.intp], replicates: int, seed: int,
    level: float,
) -> tuple[Estimate, float]:  # fmt: skip
    """The ECE with its interval, and what perfect probabilities would show on the mean.

    Noise makes an ECE too large, by how much depends on the unknown true gaps of the bins: percentiles of resamples never
    hold a true 0. Two bounds hold whatever the gaps are: an ECE is too large by the sum of the sizes of the bins' noise at
    the most, and too small by their sum with the signs of the gaps. The noise is that of labels drawn with the
    recalibrated probabilities `right`.
    """
    gap_G = _gaps(p, y, bin_N)
    value, rng = float(np.abs(gap_G).sum()) / p.size, np.random.default_rng(seed)
    perfect_BG, noise_BG = (gaps / p.size for gaps in _gaps_drawn((p, right), bin_N, unit_N, replicates, rng))
    # The most that noise can have added, hence the lower end.
    above = float(np.quantile(np.abs(noise_BG).sum(axis=1), 0.5 + level / 2))
    # Noise against the gaps makes the ECE too small: the upper end.
    below = float(np.quantile(noise_BG @ np.where(gap_G < 0, -1.0, 1.0), 0.5 + level / 2))
    ends = max(0.0, value - above), min(1.0, value + max(0.0, below))
    return Estimate(value, *ends, "bounds by simulated labels"), float(np.abs(perfect_BG).sum(axis=1).mean())


def _recalibrated(logits: Floats, y: Floats, bin_N: NDArray[np.intp]) -> Floats:
    """Probabilities by logistic regression on the logits; where it has no finite solution, the share of each bin, half a
    row of either class added so that none is certain.
    """
    intercept, slope = logistic_fit(logits, y)
    if not np.isnan(slope):
        return expit(intercept + slope * logits)
    # A share of 0 or 1 would draw labels without noise.
    return ((np.bincount(bin_N, weights=y) + 0.5) / (np.bincount(bin_N) + 1))[bin_N]


def _gaps(p: Floats, y: Floats, bin_N: NDArray[np.intp]) -> Floats:
    """Probabilities less labels, summed over each bin (G,)."""
    return np.asarray(np.bincount(bin_N, weights=p - y), dtype=np.float64)


def _gaps_drawn(
    chances: tuple[Floats, ...], bin_N: NDArray[np.intp], unit_N: NDArray[np.intp], replicates: int,
    rng: np.random.Generator,
) -> list[Floats]:  # fmt: skip
    """The same of labels that are drawn with these very chances, by one random number a patient (B, G), for each."""
    order = np.argsort(bin_N, kind="stable")
    unit_N, starts = unit_N[order], np.flatnonzero(np.diff(bin_N[order], prepend=-1))
    in_bins = [chance[order].astype(np.float32) for chance in chances]  # half the memory to run through
    size, step = int(unit_N.max()) + 1, max(1, DRAWN // order.size)
    pieces = []
    for start in range(0, replicates, step):
        # One number a patient: the labels of its images go together.
        uniform = rng.random((min(step, replicates - start), size), dtype=np.float32).take(unit_N, axis=1)
        pieces.append([np.add.reduceat(uniform < chance, starts, axis=1, dtype=np.int32) for chance in in_bins])
    expected = [np.bincount(bin_N, weights=chance) for chance in chances]
    return [sums_G - hits_BG for sums_G, hits_BG in zip(expected, np.concatenate(pieces, axis=1), strict=True)]


def _brier(square_N: Floats, unit_N: NDArray[np.intp], few: int, level: float) -> Estimate:
    """The mean square with its interval over patients on the scale of the logarithm (Student's t): squares are skewed."""
    value = float(square_N.mean())
    error = float(np.sqrt((np.bincount(unit_N, weights=square_N - value) ** 2).sum())) / square_N.size
    if few < 2 or not error > 1e-12 * value:  # equal squares may differ by rounding
        return Estimate(value, reason=f"too few patients ({few} of a class), or all squares are equal")
    # The smaller class decides how well the spread is known, hence few - 1.
    factor = float(np.exp(-float(stdtrit(few - 1, (1 - level) / 2)) * error / value))
    return Estimate(value, value / factor, min(1.0, value * factor), "over patients, logarithm, t")


def _intercept(logits: Floats, y: Floats, unit_N: NDArray[np.intp], few: int, level: float) -> Estimate:
    """The intercept beside a slope of 1, with the ends at which the residuals, summed by patient, do not sum to 0."""
    # No end is found, and the reason is given below.
    most = float(-stdtrit(few - 1, (1 - level) / 2)) if few > 1 else np.inf

    def excess(shift: float) -> float:
        return float((y - expit(shift + logits)).sum())

    def standardised(shift: float, quantile: float) -> float:
        sums_U = np.bincount(unit_N, weights=y - expit(shift + logits))
        return float(sums_U.sum() / np.sqrt((sums_U**2).sum())) - quantile

    # Probabilities are kept 1e-7 from 0 and 1, so that logits lie within 17.
    value = float(brentq(excess, -60, 60, xtol=1e-12))
    if (np.bincount(unit_N, weights=y - expit(value + logits)) ** 2).sum() < 1e-18:
        return Estimate(value, reason="the images of every patient are together as expected")
    if standardised(-60, most) < 0 or standardised(60, -most) > 0:
        return Estimate(value, reason=f"too few patients ({few} of a class)")
    low, high = (
        float(brentq(standardised, *sorted((value, end)), args=(q,), xtol=1e-9))
        for end, q in ((-60, most), (60, -most))
    )
    return Estimate(value, low, high, "score test over patients")


def _slope(logits: Floats, y: Floats, unit_N: NDArray[np.intp], few: int, level: float) -> Estimate:
    """The slope with the sandwich interval over patients, each left out in turn to first order (Student's t)."""
    if np.ptp(logits) == 0:
        return Estimate(None, reason="all probabilities are equal: no slope is defined")
    intercept, slope = logistic_fit(logits, y)
    if np.isnan(slope):
        return Estimate(None, reason="the probabilities separate the classes fully: no slope is finite")
    design_N2 = np.stack([np.ones_like(logits), logits], axis=1)
    moved_U = moved_coefficients(design_N2, y, np.array([intercept, slope]), unit_N)[:, 1]  # column 1: the slope
    half = float(-stdtrit(few - 1, (1 - level) / 2)) * float(np.sqrt((moved_U**2).sum())) if few > 1 else np.inf
    if not np.isfinite(half):
        return Estimate(slope, reason=f"too few patients ({few} of a class)")
    return Estimate(slope, slope - half, slope + half, "sandwich over patients, t")
