"""Does the classifier serve every group alike? AUROC by group, and the gaps between groups; bands of age.

Letters: N rows, T trials, U patients.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from mococxr.errors import UndefinedError
from mococxr.metrics.auroc import Area, area, influence
from mococxr.metrics.auroc_difference import mover, tail_at
from mococxr.metrics.checks import TOO_FEW, Floats, as_columns, as_labels, as_patients, count_patients, too_few
from mococxr.metrics.differences import holm
from mococxr.metrics.intervals import Estimate, correlation_over

AGE_EDGES = (0, 2, 12, 18, 40, 60, 80, 200)
"""Edges of the bands of age in years; a band holds its lower edge, and nothing from the last one on."""


@dataclass(frozen=True)
class Group:
    """One group's size and AUROC, with the interval to quote, or the reason why there is none."""

    name: str
    rows: int
    patients: int
    positives: int
    auroc: Estimate


@dataclass(frozen=True)
class Gap:
    """AUROC of a group less that of the `against` group.

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
    """All groups, by name (`2 to 11` before `12 to 17`), and the gap of each to `against`, the reference group."""

    groups: tuple[Group, ...]
    against: str | None
    gaps: tuple[Gap, ...]


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
    groups: ArrayLike,
    patients: ArrayLike | None = None,
    against: str | None = None,
    minimum: int = TOO_FEW,
    level: float = 0.95,
) -> Subgroups:
    """AUROC of each group with its interval, and its gap to one of them.

    A gap's interval joins those of the two groups (`mover`), so that a small group is not flagged for being small; where
    groups share patients (views), by the correlation of their AUROC over the patients (DeLong's). A group with fewer than
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

    >>> result = subgroups([1, 0] * 4, [3, 1, 2, 2, 4, 0, 1, 3], ["f"] * 4 + ["m"] * 4, minimum=2)
    >>> result.against, [(group.name, group.auroc.value) for group in result.groups]
    ('f', [('f', 0.875), ('m', 0.75)])
    """
    columns = as_columns(scores)
    size = columns.shape[1]
    positive = as_labels(labels, size)
    ids = as_patients(patients, size)
    group_N = np.asarray(groups).astype(str)
    if group_N.shape != (size,):
        raise ValueError(f"{group_N.size} groups for {size} rows")
    members = {str(name): group_N == name for name in sorted(np.unique(group_N), key=_natural)}
    measured = {name: _group(name, positive[m], columns[:, m], ids[m], minimum, level) for name, m in members.items()}
    results = [group for group, _ in measured.values()]
    areas = {name: result for name, (_, result) in measured.items() if result is not None}
    if against is not None and against not in members:
        raise ValueError(f"no group named {against!r}: {', '.join(members)}")
    if against is None and areas:
        against = max((group for group in results if group.name in areas), key=lambda group: group.patients).name
    if against is None:
        return Subgroups(tuple(results), None, ())
    correlations = dict.fromkeys(areas, 0.0)
    unit_N = np.unique(ids, return_inverse=True)[1]
    shared = [name for name in areas if against in areas and _share_patients(unit_N, members[name], members[against])]
    if shared != [against]:
        moved = {name: _moved(positive, columns, unit_N, members[name]) for name in shared}
        correlations |= {name: correlation_over(moved[name], moved[against]) for name in shared}
    return Subgroups(tuple(results), against, tuple(_gaps(results, against, areas, correlations, level)))


def _share_patients(unit_N: NDArray[np.intp], rows: NDArray[np.bool_], others: NDArray[np.bool_]) -> bool:
    size = int(unit_N.max()) + 1
    return bool((np.bincount(unit_N[rows], minlength=size) * np.bincount(unit_N[others], minlength=size)).any())


def _moved(positive: NDArray[np.bool_], columns: Floats, unit_N: NDArray[np.intp], rows: NDArray[np.bool_]) -> Floats:
    """What each patient moves the mean AUROC of some rows by (U,)."""
    _, sides_KU, _ = influence(positive[rows], columns[:, rows], unit_N[rows], int(unit_N.max()) + 1)
    return (sides_KU[0] + sides_KU[1]).mean(axis=0)


def _natural(name: str) -> tuple[float, str]:
    """A number at the beginning of a name counts as a number."""
    digits = re.match(r"\d+", name)
    return (float(digits[0]) if digits else np.inf), name


def _group(
    name: str, positive: NDArray[np.bool_], scores: Floats, ids: NDArray, minimum: int, level: float
) -> tuple[Group, Area | None]:
    size = (int(positive.size), count_patients(ids), count_patients(ids[positive]))
    reason = too_few(positive, ids, minimum, "no AUROC of this group is computed")
    if reason is None:
        try:
            measured = area(positive, scores, ids)
            return Group(name, *size, measured.estimate(level)), measured
        except UndefinedError as error:
            reason = str(error)
    return Group(name, *size, Estimate(None, reason=reason)), None


def _gaps(
    results: list[Group], against: str, areas: dict[str, Area], correlations: dict[str, float], level: float
) -> list[Gap]:
    by_name = {group.name: group for group in results}
    gaps = []
    for name in by_name:
        if name == against:
            continue
        missing = [by_name[side].auroc.reason for side in (name, against) if side not in areas]
        if missing:
            gaps.append(Gap(name, against, reason=missing[0]))
            continue
        ends = partial(mover, areas[name], areas[against], correlations[name])
        low, high = ends((1 - level) / 2)
        difference = areas[name].value - areas[against].value
        flagged = low > 0 or high < 0  # by the interval, which p_holm then tempers
        gaps.append(Gap(name, against, difference, low, high, 2 * tail_at(ends, difference, 0.0), flagged=flagged))
    adjusted = holm([np.nan if gap.p is None else gap.p for gap in gaps])
    return [gap if gap.p is None else replace(gap, p_holm=float(p)) for gap, p in zip(gaps, adjusted, strict=True)]
