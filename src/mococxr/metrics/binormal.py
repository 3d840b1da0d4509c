"""The AUROC of two normal distributions of equal spread, and how it varies from sample to sample.

The only place where a shape of the scores is assumed. It serves the score interval (`area`), which must know how an
area varies even where the sample separates the classes fully, and the planning of studies (`planning`).

A positive's score less a negative's is normal with mean d and spread 1 (scores scaled so); the AUROC is Phi(d). Two
such comparisons that share an image have the correlation 1/2, and r/2 where the shared image was scored by two readers
whose scores have the correlation r.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from mococxr.metrics.checks import Floats

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


def shared_covariance(d_a: ArrayLike, d_b: ArrayLike, correlation: ArrayLike) -> Floats:
    """P(X > -d_a and Y > -d_b) - Phi(d_a) Phi(d_b) for standard normal X, Y with that correlation.

    By quadrature over the arc sine of the correlation (Drezner and Wesolowsky, J Stat Comput Simul 35:101, 1990); exact
    to 1e-10 for correlations up to 0.9. The arguments are broadcast against each other.
    """
    a, b, r = (np.asarray(x, dtype=np.float64)[..., None] for x in np.broadcast_arrays(d_a, d_b, correlation))
    arc = np.arcsin(r)
    angle = arc * (_NODES + 1) / 2
    height = np.exp(-(a * a + b * b - 2 * a * b * np.sin(angle)) / (2 * np.cos(angle) ** 2))
    return (height * _WEIGHTS).sum(axis=-1) * arc[..., 0] / (4 * np.pi)


def binormal_variance(area: ArrayLike, positives: float, negatives: float) -> Floats:
    """The variance of the AUROC of that many independent positives and negatives, where the true one is `area`."""
    theta = np.asarray(area, dtype=np.float64)
    d = ndtri(theta)
    shared = shared_covariance(d, d, 0.5)
    pairs = positives * negatives
    return ((positives + negatives - 2) * shared + theta * (1 - theta)) / pairs


def score_interval(area: float, positives: float, negatives: float, z: float) -> tuple[float, float]:
    """The true areas that lie within `z` of their own standard errors of the `area` found.

    The standard error belongs to the true area (Newcombe, Statistics in Medicine 25:559, 2006, his fifth method, with
    the binormal variance); so the interval has a width even where `area` is 0 or 1.
    """

    def outside(theta: Floats) -> NDArray[np.bool_]:
        return np.abs(area - theta) > z * np.sqrt(binormal_variance(theta, positives, negatives))

    edge = 1e-12
    middle = min(max(area, edge), 1 - edge)
    ends = np.array([edge, 1 - edge])
    inner = np.array([middle, middle])
    if outside(inner).any():  # so near 0 or 1 that the rounding above moved it
        return float(area), float(area)
    for _ in range(60):
        half = (ends + inner) / 2
        out = outside(half)
        ends, inner = np.where(out, half, ends), np.where(out, inner, half)
    low, high = (ends + inner) / 2
    return (0.0 if low < 2 * edge else float(low)), (1.0 if high > 1 - 2 * edge else float(high))
