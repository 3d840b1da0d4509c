"""Logistic regression by maximum likelihood, and what each patient moves its coefficients by.

Letters: N rows, K coefficients, U patients.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mococxr.metrics.checks import Floats

NEWTON_STEPS = 60
"""Newton needs some ten; classes that are separated fully have no finite solution and use all 60."""


def logistic_fit(x_N: Floats, y_N: Floats, weights_N: Floats | None = None) -> tuple[float, float]:
    """Logistic regression on one number: intercept and slope.

    Args:
        x_N: the number; it is centred and scaled inside.
        y_N: labels or soft labels, 0 to 1.
        weights_N: of the rows; None is 1 each.

    Returns:
        NaN where there is no finite solution: one class, or classes that are separated.
    """
    middle, scale = float(x_N.mean()), float(x_N.std()) or 1.0
    # Unscaled, large scores spoil the condition of the matrix.
    fitted_2 = coefficients(np.stack([np.ones_like(x_N), (x_N - middle) / scale], axis=1), y_N, weights_N)
    return float(fitted_2[0] - fitted_2[1] * middle / scale), float(fitted_2[1] / scale)


def coefficients(design_NK: Floats, y_N: Floats, weights_N: Floats | None = None) -> Floats:
    """Coefficients of maximum likelihood by Newton's steps, halved where they make it worse; NaN without a finite solution.

    Args:
        design_NK: columns of about one size.
        y_N: labels or soft labels, 0 to 1.
        weights_N: of the rows; None is 1 each.
    """
    rows_N = np.ones_like(y_N) if weights_N is None else weights_N

    def loss(line_N: Floats) -> float:
        return float(
            (rows_N * (np.logaddexp(0, line_N) - y_N * line_N)).sum()
        )  # log(1 + exp(x)) overflows from x = 710 on

    size = design_NK.shape[1]
    fitted_K, step_K = np.zeros(size), np.ones(size)
    for _ in range(NEWTON_STEPS):
        p = expit(design_NK @ fitted_K)
        curvature_KK = (design_NK * (rows_N * p * (1 - p))[:, None]).T @ design_NK
        if not np.linalg.cond(curvature_KK) < 1e12:  # one class, one value, or on the way to infinity
            break
        step_K = np.linalg.solve(curvature_KK, design_NK.T @ (rows_N * (y_N - p)))
        before = loss(design_NK @ fitted_K) + 1e-9  # rounding is no rise
        while np.abs(step_K).max() > 0.01 and loss(design_NK @ (fitted_K + step_K)) > before:
            step_K = step_K / 2
        fitted_K = fitted_K + step_K
        if np.abs(step_K).max() < 1e-9:
            return fitted_K
    return np.full(size, np.nan)  # not raised: whether that is an error depends on who asks


def moved_coefficients(
    design_NK: Floats, y_N: Floats, fitted_K: Floats, unit_N: NDArray[np.intp], weights_N: Floats | float = 1.0
) -> Floats:
    """What each patient moves the coefficients by (U, K), itself left out to first order: their squares are the sandwich."""
    p = expit(design_NK @ fitted_K)
    curvature = weights_N * p * (1 - p)
    moved_NK = design_NK @ np.linalg.inv((design_NK * curvature[:, None]).T @ design_NK)
    leverage_U = np.bincount(unit_N, weights=curvature * (moved_NK * design_NK).sum(axis=1))
    moved_NK *= (weights_N * (y_N - p))[:, None]
    moved_UK = np.stack([np.bincount(unit_N, weights=column) for column in moved_NK.T], axis=1)
    return moved_UK / np.maximum(1 - leverage_U, 0.05)[:, None]  # a patient that decides the fit alone has leverage 1
