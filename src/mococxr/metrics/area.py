"""The AUROC with the interval that this package shows by default, and DeLong's covariance where patients repeat.

Letters: K score columns, N rows, U patients, P positive and M negative rows, T trials (draws of labels, runs) whose
mean AUROC is asked for: their structural components are averaged, so that it is one number over patients.

Why not DeLong's plain interval: at 10 positives and an AUROC of 0.95 it covers 75 to 82 % instead of 95 %
(`docs/statistics.md`). The default is the wider end, on either side, of two intervals: DeLong's on the logit scale
with Student's t, right for any shape of the scores where there are images enough; and the score interval of the
binormal model, which has a width even where the classes are separated fully.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtr, ndtri, stdtrit

from mococxr.errors import UndefinedError
from mococxr.metrics.binormal import score_interval
from mococxr.metrics.checks import Floats, as_labels, as_scores
from mococxr.metrics.delong import Difference, placements, share_below
from mococxr.metrics.paired import too_few


@dataclass(frozen=True)
class Area:
    """An AUROC with its interval; `warning` says in words what makes it doubtful, or is None.

    `positives` and `negatives` count patients; `variance` is DeLong's, over patients.
    """

    value: float
    low: float
    high: float
    level: float
    variance: float
    positives: int
    negatives: int
    method: str
    warning: str | None


@dataclass(frozen=True)
class _Parts:
    """Areas (K,), their covariance (K, K), and its parts from the positives and from the negatives."""

    areas_K: Floats
    covariance_KK: Floats
    positive_KK: Floats
    negative_KK: Floats
    patients: tuple[int, int]

    def mean(self, share_LK: Floats) -> _Parts:
        """The parts of L weighted means of the columns."""
        total, first, second = (
            share_LK @ part @ share_LK.T for part in (self.covariance_KK, self.positive_KK, self.negative_KK)
        )
        return _Parts(share_LK @ self.areas_K, total, first, second, self.patients)


def clustered_covariance(
    labels: ArrayLike, scores_KN: ArrayLike, patients: ArrayLike
) -> tuple[Floats, Floats]:
    """AUROC (K,) of score columns, and the covariance (K, K) of these areas over patients with several images.

    Source: Obuchowski, Biometrics 53:567 (1997). With one row a patient it is `delong_covariance`.

    Args:
        labels: 1 or 0, shape (N,); a patient may have rows of both.
        scores_KN: finite.
        patients: patient of each row, shape (N,).

    Raises:
        UndefinedError: a class has rows of fewer than two patients.
    """
    parts = _parts(labels, scores_KN, patients)
    return parts.areas_K, parts.covariance_KK


def clustered_paired(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, patients: ArrayLike, level: float = 0.95
) -> Difference:
    """`delong_paired` over patients with several images: a less b, its normal interval and two-sided test.

    Args:
        scores_a, scores_b: shape (N,), or (T, N) for the mean AUROC of T trials; T may differ between the two.

    Raises:
        UndefinedError: a class has rows of fewer than two patients, or the difference is not 0 but has no variance.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, not {level}")
    ours, theirs = _columns(scores_a), _columns(scores_b)
    shares = np.zeros((2, len(ours) + len(theirs)))
    shares[0, : len(ours)], shares[1, len(ours) :] = 1 / len(ours), 1 / len(theirs)
    parts = _parts(labels, np.concatenate([ours, theirs]), patients).mean(shares)
    areas, covariance = parts.areas_K, parts.covariance_KK
    difference, (first, second) = float(areas[0] - areas[1]), covariance.diagonal()
    variance = float(first + second - 2 * covariance[0, 1])
    if variance <= 1e-14:  # rounding: the columns rank the rows alike
        if abs(difference) > 1e-12:
            raise UndefinedError("the difference has no variance: each column separates the classes fully")
        difference = variance = 0.0
    z = difference / float(np.sqrt(variance)) if variance else 0.0
    half = float(ndtri(0.5 + level / 2) * np.sqrt(variance))
    return Difference(
        difference, difference - half, difference + half, z, float(2 * ndtr(-abs(z))), variance,
        float(first), float(second), float(covariance[0, 1]), level,
    )  # fmt: skip


def auroc_interval(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> Area:
    """The AUROC with the default interval at `level` (see the top of this file).

    Args:
        labels: 1 or 0, shape (N,).
        scores: shape (N,), or (T, N) for the mean AUROC of T trials on the same rows.
        patients: patient of each row, shape (N,); None where each row is a patient of its own.

    Raises:
        UndefinedError: a class has rows of fewer than two patients.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, not {level}")
    columns = _columns(scores)
    ids = np.arange(columns.shape[1]) if patients is None else np.asarray(patients)
    each = _parts(labels, columns, ids)
    parts = each.mean(np.full((1, len(columns)), 1 / len(columns)))
    value, variance = float(parts.areas_K[0]), float(max(parts.covariance_KK[0, 0], 0.0))
    count, rest = parts.patients
    worth = _effective(columns, as_labels(labels), ids) / _sameness(each.covariance_KK)
    low, high = score_interval(value, float(worth[0]), float(worth[1]), float(ndtri(0.5 + level / 2)))
    method = "binormal score interval"
    if 0 < value < 1 and variance > 0:
        first, second = parts.positive_KK[0, 0], parts.negative_KK[0, 0]
        df = max(1.0, (first + second) ** 2 / (first**2 / (count - 1) + second**2 / (rest - 1)))
        half = float(stdtrit(df, 0.5 + level / 2)) * np.sqrt(variance) / (value * (1 - value))
        ends = expit(logit(value) + np.array([-half, half]))
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
        method = "DeLong over patients (logit, t) joined with the binormal score interval"
    return Area(value, low, high, level, variance, count, rest, method, _warning(labels, ids))


def _columns(scores: ArrayLike) -> Floats:
    """Scores as (T, N)."""
    values = np.asarray(scores, dtype=np.float64)
    return as_scores(values[None] if values.ndim == 1 else values, ndim=2)


def _sameness(covariance_KK: Floats) -> float:
    """The variance of the mean of the areas over the mean of their variances: 1 where all trials are one.

    Never below 1 / T, what independent trials would give; 1 where a trial's area has no variance.
    """
    own = covariance_KK.diagonal()
    if len(own) == 1 or (own <= 0).any():
        return 1.0
    return float(np.clip(covariance_KK.mean() / own.mean(), 1 / len(own), 1.0))


def _warning(labels: ArrayLike, patients: ArrayLike) -> str | None:
    return too_few(labels, patients, consequence="the interval is a rough one")


def _parts(labels: ArrayLike, scores_KN: ArrayLike, patients: ArrayLike) -> _Parts:
    scores = as_scores(scores_KN, ndim=2)
    positive = as_labels(labels, scores.shape[1])
    ids = np.asarray(patients)
    if ids.shape != positive.shape:
        raise ValueError(f"patients have the shape {ids.shape}, labels {positive.shape}")
    unit_N = np.unique(ids, return_inverse=True)[1]
    outranked_KP, outranking_KM = placements(positive, scores)
    areas_K = outranked_KP.mean(axis=1)
    size = int(unit_N.max()) + 1
    sides, covariances, counts = [], [], []
    for placements_KX, units in ((outranked_KP, unit_N[positive]), (outranking_KM, unit_N[~positive])):
        sums_KU = _sums(placements_KX - areas_K[:, None], units, size)
        patients_here = int(np.unique(units).size)
        if patients_here < 2:
            raise UndefinedError(
                f"a class has rows of {patients_here} patient only: no variance over patients"
            )
        scale = patients_here / (patients_here - 1) / units.size**2
        sides.append(sums_KU / units.size)
        covariances.append(scale * sums_KU @ sums_KU.T)
        counts.append(patients_here)
    cross_KK = size / (size - 1) * sides[0] @ sides[1].T  # patients with images of both classes
    total_KK = covariances[0] + covariances[1] + cross_KK + cross_KK.T
    return _Parts(areas_K, total_KK, covariances[0], covariances[1], (counts[0], counts[1]))


def _sums(values_KX: Floats, units_X: ArrayLike, size: int) -> Floats:
    """The sum over the rows of each patient, shape (K, U)."""
    return np.stack([np.bincount(np.asarray(units_X), weights=row, minlength=size) for row in values_KX])


def _effective(scores_TN: Floats, positive: NDArray[np.bool_], patients: NDArray) -> Floats:
    """How many independent images of each class the rows are worth, between the patients and the rows; shape (2,).

    A patient's m images are worth m / (1 + (m - 1) r), where r is how alike the images of a patient are (over several
    trials, the mean). The variance of the area itself would tell too, but is too noisy where images are few.
    """
    unit_N = np.unique(patients, return_inverse=True)[1]
    images = [np.bincount(unit_N[side]) for side in (positive, ~positive)]
    alike = float(np.mean([_likeness(scores, positive, unit_N) for scores in scores_TN]))
    return np.array([float(m.sum() / (1 + ((m**2).sum() / m.sum() - 1) * alike)) for m in images])


def _likeness(scores: Floats, positive: NDArray[np.bool_], unit_N: NDArray[np.intp]) -> float:
    """Correlation of the images of one patient and class, 0 to 1: analysis of variance of normal scores in the class.

    1 where no patient has two images of a class.
    """
    groups = np.unique(2 * unit_N + positive, return_inverse=True)[1]
    images = np.bincount(groups)
    if images.max() == 1:
        return 1.0
    x = np.empty(scores.size)
    for side in (positive, ~positive):
        x[side] = ndtri(share_below(scores[side], scores[side]))
        x[side] -= x[side].mean()
    mean_G = np.bincount(groups, weights=x) / images
    within = ((x - mean_G[groups]) ** 2).sum() / (x.size - images.size)
    between = (images * mean_G**2).sum() / (images.size - 2)
    usual = (images.sum() - (images**2).sum() / images.sum()) / (images.size - 1)
    shared = max(0.0, (between - within) / usual)
    return float(shared / (shared + within)) if shared + within > 0 else 1.0
