"""Does the classifier serve every group alike? AUROC, sensitivity, specificity and O/E by group, and the gaps between
groups; bands of age.

Letters: N rows, T trials, U patients.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from mococxr.errors import UndefinedError
from mococxr.metrics.auroc import Area, area, influence
from mococxr.metrics.checks import (
    TOO_FEW,
    Floats,
    as_columns,
    as_labels,
    as_patients,
    as_scores,
    count_patients,
    numbered,
    too_few,
)
from mococxr.metrics.differences import holm
from mococxr.metrics.intervals import Estimate
from mococxr.metrics.observed_expected import moved_by, ratio_of
from mococxr.metrics.proportions import Number, correlation_over, mover, share_moved, share_of, tail_at

AGE_EDGES = (0, 2, 12, 18, 40, 60, 80, 200)
"""Edges of the bands of age in years; a band holds its lower edge, and nothing from the last one on."""


RATES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "observed_expected": "ratio of observed to expected positives",
}
"""What is measured of a group at a threshold and of probabilities, and its words."""


@dataclass(frozen=True)
class Group:
    """One group's size, AUROC and `rates` (those of `RATES` that were asked for), each with its interval, or the reason why
    there is none.
    """

    name: str
    rows: int
    patients: int
    positives: int
    auroc: Estimate
    rates: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Gap:
    """A number of a group less that of the `against` group.

    `flagged`: the interval excludes 0. With many groups some gap will by chance: `p_holm` is adjusted for all gaps.
    `reason` is given where there is no number.
    """

    group: str
    against: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    flagged: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Subgroups:
    """All groups, by name (`2 to 11` before `12 to 17`), and the gap of each to `against`, the reference group.

    `gaps` are of the AUROC, `rate_gaps` of the rates.
    """

    groups: tuple[Group, ...]
    against: str | None
    gaps: tuple[Gap, ...]
    rate_gaps: dict[str, tuple[Gap, ...]] = field(default_factory=dict)


def age_bands(ages: pl.Series) -> pl.Series:
    """The band of each age in years as text; null where the age is not known or in no band.

    >>> age_bands(pl.Series([1.5, 40, 80, None])).to_list()
    ['0 to 1', '40 to 59', '80 and over', None]
    """
    years = ages.cast(pl.Float64, strict=False).to_numpy()
    names = [f"{low} to {high - 1}" for low, high in pairwise(AGE_EDGES[:-1])]
    bands_of = [None, *names, f"{AGE_EDGES[-2]} and over", None]
    index = np.searchsorted(AGE_EDGES, years, side="right")  # NaN sorts behind the last edge
    return pl.Series([bands_of[i] for i in index], dtype=pl.String)


def subgroups(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike | pl.Series,
    patients: ArrayLike | None = None,
    against: str | None = None,
    minimum: int = TOO_FEW,
    level: float = 0.95,
    called: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
) -> Subgroups:
    """AUROC and rates of each group with their intervals, and the gaps to one of the groups.

    A gap's interval joins those of the two groups (`mover`), so that a small group is not flagged for being small; where
    groups share patients (views), by the correlation of their numbers over the patients. A group with fewer than
    `minimum` positive or negative patients gets the reason.

    Args:
        labels: 1 or 0, shape (N,).
        scores: finite, shape (N,), or (T, N) for the mean AUROC of T trials.
        groups: group of each row, shape (N,), as text; leave out rows of no group beforehand.
        patients: patient of each row; None where each row is a patient of its own.
        against: the group that the others are compared with; None for the one with the most patients of those that have
            an AUROC.
        minimum: patients of each class that a group needs.
        level: of the intervals.
        called: whether a classifier calls each row positive, shape (N,): adds sensitivity and specificity.
        probabilities: 0 to 1, shape (N,): adds observed by expected positives.

    >>> result = subgroups([1, 0] * 4, [3, 1, 2, 2, 4, 0, 1, 3], ["f"] * 4 + ["m"] * 4, minimum=2)
    >>> result.against, [(group.name, group.auroc.value) for group in result.groups]
    ('f', [('f', 0.875), ('m', 0.75)])
    """
    columns = as_columns(scores)
    size = columns.shape[1]
    positive = as_labels(labels, size)
    ids = as_patients(patients, size)
    # Text of 200,000 rows is compared ten times faster by polars.
    group_N = groups.cast(pl.String) if isinstance(groups, pl.Series) else pl.Series(np.asarray(groups).astype(str))
    if len(group_N) != size:
        raise ValueError(f"{len(group_N)} groups for {size} rows")
    names = sorted(group_N.unique().to_list(), key=_natural)
    if against is not None and against not in names:
        raise ValueError(f"no group named {against!r}: {', '.join(names)}")
    unit_N = numbered(ids)
    calls = None if called is None else np.asarray(called, dtype=bool)
    p = None if probabilities is None else as_scores(probabilities)
    rows = _Rows(positive, columns, unit_N, int(unit_N.max()) + 1, calls, p)
    members = {name: rows.some((group_N == name).to_numpy()) for name in names}
    measured = {name: _measured(members[name], minimum) for name in names}
    results = [_group(name, members[name], numbers, level) for name, numbers in measured.items()]
    if against is None:
        having = [group for group in results if group.auroc.value is not None]
        against = max(having, key=lambda group: group.patients).name if having else None
    if against is None:
        return Subgroups(tuple(results), None, (), dict.fromkeys(rows.rates, ()))
    gaps = {name: _gaps(name, members, measured, against, level) for name in ("auroc", *rows.rates)}
    return Subgroups(tuple(results), against, gaps.pop("auroc"), gaps)


@dataclass(frozen=True)
class _Rows:
    """Rows with what is measured on them; `called` and `probabilities` may be None. Patients are numbers below `size`."""

    positive: NDArray[np.bool_]
    scores_TN: Floats
    unit_N: NDArray[np.intp]
    size: int
    called: NDArray | None
    probabilities: NDArray | None

    @property
    def rates(self) -> list[str]:
        """Those of `RATES` that are measured."""
        needed = {"observed_expected": self.probabilities}
        return [name for name in RATES if needed.get(name, self.called) is not None]

    def some(self, rows: NDArray[np.bool_]) -> _Rows:
        """Some of the rows."""
        called, p = (None if values is None else values[rows] for values in (self.called, self.probabilities))
        return _Rows(self.positive[rows], self.scores_TN[:, rows], self.unit_N[rows], self.size, called, p)

    def number(self, name: str) -> Number:
        """A number of the rows; errors as the function that measures it."""
        if name == "auroc":
            return area(self.positive, self.scores_TN, self.unit_N)
        if name == "observed_expected":
            return ratio_of(self.positive.astype(np.float64), np.asarray(self.probabilities), self.unit_N)
        return share_of(*self.right(name))

    def right(self, name: str) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Whether the rows that a rate is about are called right, and their patients."""
        rows = self.positive == (name == "sensitivity")
        return np.asarray(self.called)[rows] == (name == "sensitivity"), self.unit_N[rows]

    def moved(self, name: str) -> Floats:
        """What each patient moves a number by (U,)."""
        if name == "auroc":
            _, sides_KU, _ = influence(self.positive, self.scores_TN, self.unit_N, self.size)
            return (sides_KU[0] + sides_KU[1]).mean(axis=0)  # what moves the mean over trials
        if name == "observed_expected":
            y, p = self.positive.astype(np.float64), np.asarray(self.probabilities)
            return moved_by(y, p, self.unit_N, self.size)
        return share_moved(*self.right(name), self.size)


Measured = dict[str, Number | str]
"""The numbers of one group by name, or in the place of one the reason."""


def _measured(rows: _Rows, minimum: int) -> Measured:
    numbers: Measured = {}
    few = too_few(rows.positive, rows.unit_N, minimum, "no {} of this group is computed")
    for name in ("auroc", *rows.rates):
        try:
            # No rate either: a group is too small for all or none.
            numbers[name] = few.format(RATES.get(name, "AUROC")) if few else rows.number(name)
        except UndefinedError as error:
            numbers[name] = str(error)
    return numbers


def _group(name: str, rows: _Rows, numbers: Measured, level: float) -> Group:
    size = (rows.unit_N.size, count_patients(rows.unit_N), count_patients(rows.unit_N[rows.positive]))
    estimates = {rate: _estimate(number, level) for rate, number in numbers.items()}
    return Group(name, *size, estimates.pop("auroc"), estimates)


def _estimate(number: Number | str, level: float) -> Estimate:
    if isinstance(number, str):
        return Estimate(None, reason=number)
    if isinstance(number, Area):
        return number.estimate(level)
    return Estimate(number.value, *number.ends((1 - level) / 2), number.method)


def _natural(name: str) -> tuple[float, str]:
    """A number at the beginning of a name counts as a number."""
    digits = re.match(r"\d+", name)
    return (float(digits[0]) if digits else np.inf), name  # groups without a number behind those that have one


def _gaps(
    number: str, members: dict[str, _Rows], measured: dict[str, Measured], against: str, level: float
) -> tuple[Gap, ...]:
    """The gaps of all groups to one of them in one of the numbers."""
    reference, gaps = measured[against][number], []
    for name in members:
        if name == against:
            continue
        of_group = measured[name][number]
        if isinstance(of_group, str) or isinstance(reference, str):
            gaps.append(Gap(name, against, reason=str(of_group if isinstance(of_group, str) else reference)))
            continue
        correlation = 0.0  # exact for groups without a patient in common, and the ranks are spared
        if _share_patients(members[name], members[against]):
            correlation = correlation_over(*(members[side].moved(number) for side in (name, against)))
        ends = partial(mover, of_group, reference, correlation)
        low, high = ends((1 - level) / 2)
        difference = of_group.value - reference.value
        flagged = low > 0 or high < 0  # by the interval, which p_holm then tempers
        gaps.append(Gap(name, against, difference, low, high, 2 * tail_at(ends, difference, 0.0), flagged=flagged))
    # Over the groups of one column; measure.subgroups: over all columns.
    adjusted = holm([np.nan if gap.p is None else gap.p for gap in gaps])
    return tuple(gap if gap.p is None else replace(gap, p_holm=float(p)) for gap, p in zip(gaps, adjusted, strict=True))


def _share_patients(rows: _Rows, others: _Rows) -> bool:
    seen = np.zeros(rows.size, dtype=bool)
    seen[rows.unit_N] = True
    return bool(seen[others.unit_N].any())
