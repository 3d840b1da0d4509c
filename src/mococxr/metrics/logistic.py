"""Logistic regression on one number, for many weightings of the rows at once.

Letters: N rows, B weightings (bootstrap replicates).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from mococxr.metrics.bootstrap import BLOCK, Resamples
from mococxr.metrics.checks import Floats

STEPS = 60
"""Newton needs some ten; classes that are separated fully have no finite solution and use all."""

LONG = 0.5
"""Steps up to this, in standard deviations, are taken as they are."""


def logistic_fits(
    x_N: Floats,
    y_N: Floats,
    weights_NB: Floats,
    slope: float | None = None,
    near: tuple[float, float] = (0.0, 0.0),
) -> tuple[Floats, Floats]:
    """Intercept (B,) and slope (B,) of maximum likelihood, by Newton's steps, halved where they make it worse.

    Args:
        x_N: the number; it is centred and scaled inside.
        y_N: labels or soft labels, 0 to 1.
        weights_NB: of the rows.
        slope: fixed; None to fit it.
        near: intercept and slope to begin at.

    Returns:
        NaN where there is no finite solution: one class without weight, or classes that are separated.
    """
    middle, scale = (float(x_N.mean()), float(x_N.std()) or 1.0) if slope is None else (0.0, 1.0)
    z = ((x_N - middle) / scale)[:, None]
    y = y_N[:, None]
    fixed = slope is not None
    begin = (near[0], slope) if slope is not None else (near[0] + near[1] * middle, near[1] * scale)
    a, b = (np.full(weights_NB.shape[1], float(one)) for one in begin)
    lost = np.zeros(a.shape, dtype=bool)
    for _ in range(STEPS):
        step_a, step_b = _newton(a, b, z, y, weights_NB, fixed)
        lost |= ~np.isfinite(step_a + step_b)
        step_a, step_b = np.where(lost, 0.0, step_a), np.where(lost, 0.0, step_b)
        if max(np.abs(step_a).max(), np.abs(step_b).max()) > LONG:
            size = _shortened(a, b, step_a, step_b, z, y, weights_NB)
            step_a, step_b = size * step_a, size * step_b
        a, b = a + step_a, b + step_b
        moved = np.abs(step_a) + np.abs(step_b)
        if np.all(moved < 1e-7):  # the next step would be its square
            break
    lost |= moved > 1e-6
    a, b = np.where(lost, np.nan, a), np.where(lost, np.nan, b)
    return (a, b) if fixed else (a - b * middle / scale, b / scale)


def _shortened(
    a: Floats, b: Floats, step_a: Floats, step_b: Floats, z: Floats, y: Floats, weights: Floats
) -> Floats:
    """How much of each step to take: all of it, or a half, a quarter, ... where more makes the loss greater."""
    before, size = _loss(a, b, z, y, weights), np.ones_like(a)
    for _ in range(6):
        worse = _loss(a + size * step_a, b + size * step_b, z, y, weights) > before + 1e-9 * np.abs(before)
        if not worse.any():
            break
        size = np.where(worse, size / 2, size)
    return size


def _loss(a: Floats, b: Floats, z: Floats, y: Floats, weights: Floats) -> Floats:
    line = a + b * z
    return (weights * (np.logaddexp(0, line) - y * line)).sum(axis=0)


def _newton(
    a: Floats, b: Floats, z: Floats, y: Floats, weights: Floats, fixed: bool
) -> tuple[Floats, Floats]:
    p = expit(a + b * z)
    left, curve = weights * (y - p), weights * p * (1 - p)
    g0, h00 = left.sum(axis=0), curve.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        if fixed:
            return g0 / h00, np.zeros_like(b)
        g1, h01, h11 = (left * z).sum(axis=0), (curve * z).sum(axis=0), (curve * z * z).sum(axis=0)
        det = h00 * h11 - h01**2
        return (h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det


def resampled_fits(
    x_N: Floats, y_N: Floats, resamples: Resamples, slope: float | None = None
) -> tuple[Floats, Floats]:
    """`logistic_fits` on every resample of the patients, a bounded number of resamples at a time."""
    whole = logistic_fits(x_N, y_N, np.ones((x_N.size, 1)), slope)
    near = (float(np.nan_to_num(whole[0][0])), float(np.nan_to_num(whole[1][0])))
    step = max(1, BLOCK // x_N.size)
    found = []
    for start in range(0, len(resamples.weights_BU), step):
        weights_NB = resamples.weights_BU[start : start + step][:, resamples.unit_N].T.astype(np.float64)
        found.append(logistic_fits(x_N, y_N, weights_NB, slope, near))
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])
