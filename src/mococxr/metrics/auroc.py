"""The AUROC with its interval over patients: DeLong's method.

Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44:837 (1988); for patients with several images Obuchowski,
Biometrics 53:567 (1997), which is the same where each patient has one row. The placement of a positive is the share of
the negatives that it outranks (a tie counts one half), that of a negative the share of the positives that outrank it;
both come from sorted scores in O(N log N) (Sun and Xu, IEEE Signal Processing Letters 21:1389, 2014).

Letters: K score columns, N rows, U patients, P positive and M negative rows, T trials (label subsets, runs) whose mean
AUROC is asked for: their placements are averaged, so that it is one number over patients.

Why the interval to quote is not DeLong's plain one: at 10 positives and an AUROC of 0.95 that covers 75 to 82 %
instead of 95 % (`docs/statistics.md`). `auroc_interval` takes the wider end, on either side, of two intervals: DeLong's
on the logit scale with Student's t, right for any shape of the scores where there are images enough; and the score
interval of the binormal model, which has a width even where the classes are separated fully.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri, stdtrit

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats, as_columns, as_labels, as_patients, check_level, numbered
from mococxr.metrics.intervals import Estimate

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


@dataclass(frozen=True)
class Area:
    """An AUROC with what its interval takes: DeLong's variance, of the positives and of the negatives, their patients,
    and the independent images that the rows of each class count for.
    """

    value: float
    variance: float
    parts: tuple[float, float]
    patients: tuple[int, int]
    images: tuple[float, float]

    def ends(self, tail: float) -> tuple[float, float]:
        """The interval to quote (see the top of this file), with `tail` left out on either side."""
        low, high = score_interval(self.value, *self.images, float(-ndtri(tail)))
        if not self.logit:
            return low, high
        first, second = self.parts
        # Welch and Satterthwaite: the smaller class decides how well the variance is known.
        df = max(
            1.0,
            (first + second) ** 2 / sum(part**2 / (n - 1) for part, n in zip(self.parts, self.patients, strict=True)),
        )
        half = float(-stdtrit(df, tail)) * np.sqrt(self.variance) / (self.value * (1 - self.value))
        # On the logit scale the interval cannot leave 0 to 1, and is right for areas near them.
        ends = expit(logit(self.value) + np.array([-half, half]))
        return min(low, float(ends[0])), max(high, float(ends[1]))

    def estimate(self, level: float = 0.95) -> Estimate:
        """The AUROC with that interval; `variance` is DeLong's."""
        return Estimate(self.value, *self.ends((1 - level) / 2), self.method, None, self.variance)

    @property
    def method(self) -> str:
        """How the interval is made."""
        return ("DeLong over patients (logit, t) joined with the " if self.logit else "") + "binormal score interval"

    @property
    def logit(self) -> bool:
        """Whether DeLong's variance gives an interval: not where the classes are separated fully."""
        return 0 < self.value < 1 and self.variance > 0  # the logit of 0 or 1 is infinite


@dataclass(frozen=True)
class Parts:
    """Areas (K,), their covariance (K, K), and its parts from the positives and from the negatives."""

    areas_K: Floats
    covariance_KK: Floats
    positive_KK: Floats
    negative_KK: Floats
    patients: tuple[int, int]

    def some(self, columns: slice) -> Parts:
        """The parts of some of the columns."""
        total, first, second = (
            part[columns, columns] for part in (self.covariance_KK, self.positive_KK, self.negative_KK)
        )
        return Parts(self.areas_K[columns], total, first, second, self.patients)

    def mean(self, share_LK: Floats) -> Parts:
        """The parts of L weighted means of the columns."""
        total, first, second = (
            share_LK @ part @ share_LK.T for part in (self.covariance_KK, self.positive_KK, self.negative_KK)
        )
        return Parts(share_LK @ self.areas_K, total, first, second, self.patients)


def auroc_interval(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """The AUROC with the interval to quote at `level` (see the top of this file); `variance` is DeLong's.

    Args:
        labels: 1 or 0, shape (N,).
        scores: shape (N,), or (T, N) for the mean AUROC of T trials on the same rows.
        patients: patient of each row, shape (N,); None where each row is a patient of its own.
        level: coverage.

    Raises:
        UndefinedError: a class has rows of fewer than two patients.

    >>> value, low, high = auroc_interval([1, 0, 1, 0, 1, 0], [3, 1, 2, 1, 0, 0]).ends()
    >>> round(value, 3), round(low, 3), round(high, 3)
    (0.722, 0.009, 0.999)
    """
    check_level(level)
    return area(labels, scores, patients).estimate(level)


def area(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None) -> Area:
    """What the interval of an AUROC takes. Arguments and errors as `auroc_interval`."""
    columns = as_columns(scores)
    ids = as_patients(patients, columns.shape[1])
    return area_of(parts_of(labels, columns, ids), as_labels(labels), columns, ids)


def area_of(parts_T: Parts, positive: NDArray[np.bool_], scores_TN: Floats, ids: NDArray) -> Area:
    """The same from the parts of the columns, where they are known."""
    mean = parts_T.mean(np.full((1, len(scores_TN)), 1 / len(scores_TN)))
    total, first, second = (float(part[0, 0]) for part in (mean.covariance_KK, mean.positive_KK, mean.negative_KK))
    # A mean over T trials varies less, as one area of more images would.
    images = _effective_n(scores_TN, positive, ids) / _trial_correlation(parts_T.covariance_KK)
    # Rounding may leave a variance of -1e-20.
    return Area(
        float(mean.areas_K[0]), max(total, 0.0), (first, second), mean.patients, (float(images[0]), float(images[1]))
    )


def delong_interval(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """The AUROC with DeLong's variance and its normal interval, cut at 0 and 1, as other programs give it.

    Arguments and errors as `auroc_interval`.

    >>> result = delong_interval([1, 0, 1, 0, 1, 0], [3, 1, 2, 1, 0, 0])
    >>> round(result.value, 3), round(result.variance, 3)
    (0.722, 0.08)
    """
    columns = as_columns(scores)
    parts = parts_of(labels, columns, as_patients(patients, columns.shape[1]))
    mean = parts.mean(np.full((1, len(columns)), 1 / len(columns)))
    value, variance = float(mean.areas_K[0]), float(mean.covariance_KK[0, 0])
    half = _normal_half_width(variance, level)
    # pROC cuts at 0 and 1 too.
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), "DeLong", None, variance)


def _normal_half_width(variance: float, level: float) -> float:
    check_level(level)
    return float(ndtri(0.5 + level / 2) * np.sqrt(variance))


def parts_of(labels: ArrayLike, scores_KN: Floats, patients: ArrayLike | None) -> Parts:
    """AUROC of every column, and the covariance of these areas over patients (Obuchowski 1997)."""
    positive = as_labels(labels, scores_KN.shape[1])
    unit_N = numbered(as_patients(patients, positive.size))
    areas_K, sides_KU, counts = influence(positive, scores_KN, unit_N, size := int(unit_N.max()) + 1)
    # n - 1 of the class's own patients, as DeLong's S10 and S01: unbiased.
    first, second = (count / (count - 1) * side_KU @ side_KU.T for side_KU, count in zip(sides_KU, counts, strict=True))
    cross_KK = size / (size - 1) * sides_KU[0] @ sides_KU[1].T  # of patients with images of both classes
    return Parts(areas_K, first + second + cross_KK + cross_KK.T, first, second, counts)


def influence(
    positive_N: NDArray[np.bool_], scores_KN: Floats, unit_N: NDArray[np.intp], size: int
) -> tuple[Floats, tuple[Floats, Floats], tuple[int, int]]:
    """AUROC of every column (K,); what each of `size` patients moves it by (K, U), by positives and by negatives; how
    many patients have rows of each class.

    Raises:
        UndefinedError: a class has rows of fewer than two patients.
    """
    outranked_KP = np.stack([share_below(row[positive_N], row[~positive_N]) for row in scores_KN])
    outranking_KM = np.stack([1.0 - share_below(row[~positive_N], row[positive_N]) for row in scores_KN])
    areas_K = outranked_KP.mean(axis=1)  # the mean over the negatives is the same number
    sides, counts = [], []
    for placements_KX, units in ((outranked_KP, unit_N[positive_N]), (outranking_KM, unit_N[~positive_N])):
        counts.append(int(np.count_nonzero(np.bincount(units, minlength=size))))
        if counts[-1] < 2:
            raise UndefinedError(
                f"a class has rows of {counts[-1]} patient only: DeLong's variance needs two patients of each class"
            )
        centred_KX = placements_KX - areas_K[:, None]
        # A patient is the unit: what its rows deviate by is summed before it is squared.
        sides.append(np.stack([np.bincount(units, weights=row, minlength=size) for row in centred_KX]) / units.size)
    return areas_K, (sides[0], sides[1]), (counts[0], counts[1])


def share_below(values: Floats, others: Floats) -> Floats:
    """The share of `others` below each value, ties counting one half."""
    ordered, order = np.sort(others), np.argsort(values)
    rising, share = values[order], np.empty(values.size)  # neighbours are looked up after each other: twice as fast
    passed = np.searchsorted(ordered, rising, side="left") + np.searchsorted(ordered, rising, side="right")
    share[order] = passed / (2.0 * others.size)
    return share


def _trial_correlation(covariance_KK: Floats) -> float:
    """The variance of the mean of the areas over the mean of their variances: 1 where all trials are one.

    Never below 1 / T, what independent trials would give; 1 where a trial's area has no variance.
    """
    variances = covariance_KK.diagonal()
    if len(variances) == 1 or (variances <= 0).any():
        return 1.0
    return float(np.clip(covariance_KK.mean() / variances.mean(), 1 / len(variances), 1.0))


def _effective_n(scores_TN: Floats, positive: NDArray[np.bool_], patients: NDArray) -> Floats:
    """How many independent images of each class the rows count for, between the patients and the rows; shape (2,).

    A patient's m images count for m / (1 + (m - 1) r), where r is how alike the images of a patient are (over several
    trials, the mean). The variance of the area itself would tell too, but is too noisy where images are few.
    """
    unit_N = numbered(np.asarray(patients))
    # A patient without images of the class adds 0 to both sums.
    images = [np.bincount(unit_N[side]) for side in (positive, ~positive)]
    alike = float(np.mean([_intraclass_correlation(scores, positive, unit_N) for scores in scores_TN]))
    # Unequal numbers of images: their mean weighted by size (Kish's design effect).
    return np.array([float(m.sum() / (1 + ((m**2).sum() / m.sum() - 1) * alike)) for m in images])


def _intraclass_correlation(scores: Floats, positive: NDArray[np.bool_], unit_N: NDArray[np.intp]) -> float:
    """Correlation of the images of one patient and class, 0 to 1: analysis of variance of normal scores in the class.

    1 where no patient has two images of a class.
    """
    groups = np.unique(2 * unit_N + positive, return_inverse=True)[1]
    images = np.bincount(groups)
    if images.max() == 1:
        return 1.0
    x = np.empty(scores.size)
    for side in (positive, ~positive):  # normal scores, so that any monotone change of the scores gives the same
        x[side] = ndtri(share_below(scores[side], scores[side]))
        x[side] -= x[side].mean()
    mean_G = np.bincount(groups, weights=x) / images
    within = ((x - mean_G[groups]) ** 2).sum() / (x.size - images.size)
    between = (images * mean_G**2).sum() / (images.size - 2)  # two means were taken out, one of each class
    # The mean number of images for groups of unequal size, as the analysis of variance takes it.
    usual = (images.sum() - (images**2).sum() / images.sum()) / (images.size - 1)
    shared = max(0.0, (between - within) / usual)  # the estimate may fall below 0, a correlation of images may not
    return float(shared / (shared + within)) if shared + within > 0 else 1.0


def binormal_variance(area: ArrayLike, positives: float, negatives: float) -> Floats:
    """The variance of the AUROC of that many independent positives and negatives, where the true one is `area`.

    The only place where a shape of the scores is assumed: two normal distributions of equal spread. A positive's score
    less a negative's is then normal with mean d and spread 1 (scores scaled so), the AUROC is Phi(d), and two such
    comparisons that share an image have the correlation 1/2. Their covariance is taken by quadrature over the arc sine
    of the correlation (Drezner and Wesolowsky, J Stat Comput Simul 35:101, 1990), exact to 1e-10.
    """
    theta = np.asarray(area, dtype=np.float64)
    d = ndtri(theta)[..., None]
    arc = np.arcsin(0.5)
    angle = arc * (_NODES + 1) / 2
    height = np.exp(-(d * d + d * d - 2 * d * d * np.sin(angle)) / (2 * np.cos(angle) ** 2))
    shared = (height * _WEIGHTS).sum(axis=-1) * arc / (4 * np.pi)
    # M - 1 pairs share the positive, P - 1 the negative; equal spreads make their covariances equal.
    return ((positives + negatives - 2) * shared + theta * (1 - theta)) / (positives * negatives)


def score_interval(area: float, positives: float, negatives: float, z: float) -> tuple[float, float]:
    """The true areas that lie within `z` of their own standard errors of the measured `area`.

    The standard error belongs to the true area (Newcombe, Statistics in Medicine 25:559, 2006, his fifth method, with
    the binormal variance); so the interval has a width even where `area` is 0 or 1.
    """

    def beyond(theta: float) -> float:
        return abs(area - theta) - z * float(np.sqrt(binormal_variance(theta, positives, negatives)))

    edge = 1e-12  # ndtri of 0 or 1 is infinite
    middle = min(max(area, edge), 1 - edge)
    if beyond(middle) > 0:  # so near 0 or 1 that the line above moved it
        return float(area), float(area)
    low, high = (brentq(beyond, middle, end, xtol=1e-15) if beyond(end) > 0 else end for end in (edge, 1 - edge))
    return (0.0 if low < 2 * edge else float(low)), (1.0 if high > 1 - 2 * edge else float(high))
