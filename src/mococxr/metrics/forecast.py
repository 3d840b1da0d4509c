"""What more labels would give: the learning curve so far, continued by a power law, with an interval.

AUC(n) = a - b n^-c (Figueroa et al., BMC Medical Informatics 12:8, 2012), written by its value v at the labels
there are, N, and the gap g from there to the plateau a: AUC(n) = v + g (1 - (n / N)^-c).

Letters: F sizes of the curve, N rows, R repeats, B draws of curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtri, owens_t

from mococxr.errors import UndefinedError
from mococxr.metrics.checks import Floats, as_labels, numbered
from mococxr.metrics.intervals import Estimate
from mococxr.metrics.labels_saved import Labels

WIDEST = 0.2
"""An interval that is wider says nothing."""
FEWEST = 3
"""Sizes of a curve that a power law takes."""
GAPS = np.linspace(0.0, 0.5, 201)
SHAPES = np.linspace(0.2, 1.4, 25)
USUAL_GAP = 0.3
"""Spread of the gap that is expected before any label is seen."""
SPREAD = 0.5
"""Standard deviation of the AUROC over draws of N labels is this over the root of N: 0.055 at 80 labels of real images."""
ROUGH = 0.005
"""What the points of a curve are off by themselves: repeats are few, and no curve is a power law to the digit."""
FLOOR = 0.2
"""No point's standard error is below this over the root of the labels that trained its heads: subsets of few labels overlap,
and what they say together looks surer than it is."""
MOST_LABELS = 1e6


@dataclass(frozen=True)
class Forecast:
    """Curves that the labels so far leave possible.

    Args:
        labels: how many there are.
        value_B, gap_B, shape_B: v, g and c of each curve.
        spread: standard deviation of the AUROC over label subsets of that size.
    """

    labels: float
    value_B: Floats
    gap_B: Floats
    shape_B: Floats
    spread: float = 0.0

    def at(self, labels: float, level: float = 0.9) -> Estimate:
        """The AUROC with so many labels, for a new draw of them; a `reason` where its interval says nothing.

        >>> curves = Forecast(100, np.array([0.7, 0.7]), np.array([0.1, 0.1]), np.array([1.0, 1.0]))
        >>> round(curves.at(200).value, 3)
        0.75
        """
        noise = self.spread * float(np.sqrt(self.labels / labels))
        curve_B = self._curves(labels)
        moved_B = curve_B + noise * ndtri((np.arange(curve_B.size) * 0.618033988749895 + 0.5) % 1)  # spread evenly
        low, high = (min(1.0, float(end)) for end in np.quantile(moved_B, [(1 - level) / 2, (1 + level) / 2]))
        wide = f"the interval is {high - low:.2f} wide" if high - low > WIDEST else None
        return Estimate(float(np.median(curve_B)), low, high, "power laws", wide)

    def labels_for(self, auroc: float, level: float = 0.9) -> tuple[Labels, Labels, Labels]:
        """How many labels give this AUROC in the middle of the curves, and the ends of the interval.

        >>> curves = Forecast(100, np.array([0.7, 0.7]), np.array([0.2, 0.2]), np.array([1.0, 1.0]))
        >>> [str(labels) for labels in curves.labels_for(0.8)]
        ['200', '200', '200']
        """
        short_B = auroc - self.value_B
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            factor_B = (1 - short_B / self.gap_B) ** (-1 / self.shape_B)
        count_B = np.where(short_B <= 0, self.labels, np.where(short_B >= self.gap_B, np.inf, self.labels * factor_B))
        ends = np.quantile(count_B, [0.5, (1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        middle, low, high = (self._words(float(end)) for end in ends)
        return middle, low, high

    def _curves(self, labels: float) -> Floats:
        return np.asarray(self.value_B + self.gap_B * (1 - (labels / self.labels) ** -self.shape_B), dtype=np.float64)

    def _words(self, count: float) -> Labels:
        if count <= self.labels:
            return Labels(self.labels, "at most")
        return Labels(count) if count < MOST_LABELS else Labels(MOST_LABELS, "more than")


def forecast(
    sizes_F: ArrayLike, values_F: ArrayLike, covariance_FF: ArrayLike, labels: float, *, spread: float = 0.0,
    draws: int = 2000, seed: int = 0,
) -> Forecast:  # fmt: skip
    """Weigh power laws by how well they meet a learning curve.

    Gaps 0 to 0.5 (half normal about 0, `USUAL_GAP`) and shapes c 0.2 to 1.4 (each alike) are weighed by the likelihood of
    the curve's points under their covariance; the value at `labels` is normal given both, and no plateau lies above 1.

    Args:
        sizes_F: label counts of the points, rising.
        values_F: AUROC at each, the mean over subsets.
        covariance_FF: of the values, over patients.
        labels: how many there are; the curve is written from there.
        spread: standard deviation over single subsets of that size, which a new draw of labels has besides.
        draws, seed: of the curves.

    Raises:
        UndefinedError: fewer than three sizes.

    >>> curves = forecast([25, 50, 75], [0.6, 0.7, 0.74], 1e-6 * np.eye(3), 100, draws=100)
    >>> 0.75 < curves.at(100).value < 0.78
    True
    """
    sizes, values = np.asarray(sizes_F, dtype=np.float64), np.asarray(values_F, dtype=np.float64)
    if sizes.size < FEWEST:
        raise UndefinedError(f"a power law takes {FEWEST} sizes of the learning curve, and this has {sizes.size}")
    precision_FF = np.linalg.inv(np.asarray(covariance_FF, dtype=np.float64) + 1e-8 * np.eye(sizes.size))
    gap, shape = (grid.ravel() for grid in np.meshgrid(GAPS, SHAPES))
    rest_GF = values - gap[:, None] * (1 - (sizes / labels) ** -shape[:, None])  # v, were there no noise
    total = float(precision_FF.sum())
    middle_G = rest_GF @ precision_FF.sum(axis=0) / total
    off_GF = rest_GF - middle_G[:, None]
    log_G = -0.5 * np.einsum("gf,fe,ge->g", off_GF, precision_FF, off_GF) - 0.5 * (gap / USUAL_GAP) ** 2
    log_G += log_ndtr((1 - gap - middle_G) * np.sqrt(total))  # how likely the plateau is one of at most 1
    weight_G = np.exp(log_G - log_G.max())
    rng = np.random.default_rng(seed)
    drawn = rng.choice(gap.size, size=draws, p=weight_G / weight_G.sum())
    value_B = middle_G[drawn] + rng.normal(size=draws) / np.sqrt(total)
    return Forecast(float(labels), np.minimum(value_B, 1 - gap[drawn]), gap[drawn], shape[drawn], spread)


def curve_points(
    scores_FRN: Sequence[ArrayLike], labels: ArrayLike, patients: ArrayLike
) -> tuple[Floats, NDArray[np.float64]]:
    """AUROC of held-out rows at each size, the mean over repeats and pairs, and the covariance over patients.

    A pair counts in the repeats whose head saw neither of the two. What a patient moves the mean by comes from the shares of
    its pairs that are right, as in DeLong, DeLong and Clarke-Pearson (Biometrics 44:837, 1988). Heads of other labels would
    differ, too, which repeats that share their labels do not show (Nadeau and Bengio, Machine Learning 52:239, 2003): the
    variance is doubled, `ROUGH` added to each point, and none is below `FLOOR`, rules that `bench/forecast.py` judges.

    Args:
        scores_FRN: for each size the scores of each repeat, (R, N), NaN for the rows that trained.
        labels: 1 or 0, (N,).
        patients: patient of each row, (N,).

    Raises:
        UndefinedError: one class, or a row that no repeat holds out.

    >>> values, covariance = curve_points([[[0.9, 0.4, 0.1, 0.6]]], [1, 1, 0, 0], [0, 1, 2, 3])
    >>> values.tolist(), covariance.tolist()
    ([0.75], [[0.125025]])
    """
    positive, unit_N = as_labels(labels), numbered(np.asarray(patients))
    values, moved_UF = [], []
    for scores_RN in scores_FRN:
        right, count = np.zeros((positive.sum(), (~positive).sum())), 0
        for scores in np.asarray(scores_RN, dtype=np.float64):
            a, b = scores[positive][:, None], scores[~positive]
            known = ~(np.isnan(a) | np.isnan(b))
            right += np.where(known, (a > b) + 0.5 * (a == b), 0)
            count = count + known
        with np.errstate(invalid="ignore"):
            share = right / count
        if np.isnan(share).all(axis=1).any() or np.isnan(share).all(axis=0).any():
            raise UndefinedError("a labelled image is held out in no repeat")
        value = float(np.nanmean(share))
        moved_N = np.empty(positive.size)
        moved_N[positive] = (np.nanmean(share, axis=1) - value) / positive.sum()
        moved_N[~positive] = (np.nanmean(share, axis=0) - value) / (~positive).sum()
        values.append(value)
        moved_UF.append(np.bincount(unit_N, weights=moved_N))
    moved, trained_F = np.array(moved_UF), [np.isnan(scores_RN).sum(axis=1).mean() for scores_RN in scores_FRN]
    covariance = 2 * moved @ moved.T + ROUGH**2 * np.eye(len(values))
    floor_F = np.array([FLOOR**2 / trained if trained else 0.0 for trained in trained_F])
    return np.array(values), covariance + np.diag(np.maximum(floor_F - np.diag(covariance), 0))


def images_for_width(width: float, auroc: float, share: float, level: float = 0.95) -> int:
    """Test images, one a patient, whose AUROC has an interval of this width, where scores are normal in both classes.

    Args:
        width: of the interval, from end to end.
        auroc: that is expected.
        share: of positives among the images.

    >>> images_for_width(0.1, auroc=0.8, share=0.5)
    290
    """
    # of two positives with one negative, how often both are right: a plane of the normal with correlation 1/2
    both = auroc - 2 * float(owens_t(ndtri(auroc), 1 / np.sqrt(3)))
    variance = (both - auroc**2) * (1 / share + 1 / (1 - share))
    return int(np.ceil(variance * (2 * float(ndtri(0.5 + level / 2)) / width) ** 2))
