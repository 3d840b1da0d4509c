"""Does the classifier serve every group alike? AUROC by group, and the gaps between groups.

Letters: N rows, B replicates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr.errors import UndefinedError
from mococxr.metrics.area import auroc_interval
from mococxr.metrics.bootstrap import Resamples, interval, patient_resamples, resampled
from mococxr.metrics.checks import Floats, as_labels, as_scores
from mococxr.metrics.paired import TOO_FEW, bootstrap_p, too_few
from mococxr.metrics.proportions import Number
from mococxr.metrics.ranking import auroc_measure
from mococxr.metrics.several import holm


@dataclass(frozen=True)
class Group:
    """One group's size and AUROC, with the default interval, or the reason why there is none."""

    name: str
    rows: int
    patients: int
    positives: int
    auroc: Number


@dataclass(frozen=True)
class Gap:
    """AUROC of a group less that of the `against` group, on the same resamples of the patients.

    `flagged`: the interval excludes 0. With many groups some gap will by chance: `p_holm` is adjusted for all gaps.
    `reason` stands where there is no number.
    """

    group: str
    against: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    flagged: bool
    reason: str | None


@dataclass(frozen=True)
class Subgroups:
    """All groups, by name (`2 to 11` before `12 to 17`), and the gap of each to `against`, which they are held to."""

    groups: tuple[Group, ...]
    against: str | None
    gaps: tuple[Gap, ...]


def subgroups(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    patients: ArrayLike | None = None,
    against: str | None = None,
    minimum: int = TOO_FEW,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Subgroups:
    """AUROC of each group with its interval, and its gap to one of them.

    Groups may share patients (views) or not (sex): all come from the same resamples of all patients, so that either
    way the gap's interval is right. A group with fewer than `minimum` positive or negative patients gets the reason.

    Args:
        labels: 1 or 0, shape (N,).
        scores: finite, shape (N,), or (T, N) for the mean AUROC of T trials.
        groups: group of each row, shape (N,), as text; leave out rows of no group beforehand.
        patients: patient of each row; None where each row is a patient of its own.
        against: the group that the others are held against; None for the one with the most patients of those that have
            an AUROC.
        minimum: patients of each class that a group needs.
        replicates, seed, level: of the gaps' intervals.
    """
    given = np.asarray(scores, dtype=np.float64)
    values = as_scores(given[None] if given.ndim == 1 else given, ndim=2)
    size = values.shape[1]
    positive = as_labels(labels, size)
    ids = np.arange(size) if patients is None else np.asarray(patients)
    own = np.asarray(groups).astype(str)
    if own.shape != (size,) or ids.shape != (size,):
        raise ValueError(f"{own.shape} groups and {ids.shape} patients for {size} rows")
    members = {str(name): own == name for name in sorted(np.unique(own), key=_natural)}
    found = [_group(name, positive[m], values[:, m], ids[m], minimum, level) for name, m in members.items()]
    if against is not None and against not in members:
        raise ValueError(f"no group named {against!r}: {', '.join(members)}")
    measured = [group for group in found if group.auroc.value is not None]
    if against is None and measured:
        against = max(measured, key=lambda group: group.patients).name
    if against is None:
        return Subgroups(tuple(found), None, ())
    drawn = patient_resamples(ids, replicates, seed)
    gaps = _gaps(found, against, _replicates(positive, values, members, measured, drawn), level)
    return Subgroups(tuple(found), against, tuple(gaps))


def _natural(name: str) -> tuple[float, str]:
    """A number at the beginning of a name counts as a number."""
    digits = re.match(r"\d+", name)
    return (float(digits[0]) if digits else np.inf), name


def _group(
    name: str, positive: NDArray[np.bool_], scores: Floats, ids: NDArray, minimum: int, level: float
) -> Group:
    size = (int(positive.size), int(np.unique(ids).size), int(np.unique(ids[positive]).size))
    reason = too_few(positive, ids, minimum, "no AUROC of this group is computed")
    if reason is not None:
        return Group(name, *size, Number(None, reason=reason))
    try:
        area = auroc_interval(positive, scores, ids, level)
    except UndefinedError as error:
        return Group(name, *size, Number(None, reason=str(error)))
    return Group(name, *size, Number(area.value, area.low, area.high, area.method))


def _replicates(
    positive: NDArray[np.bool_],
    scores: Floats,
    members: dict[str, NDArray[np.bool_]],
    measured: list[Group],
    drawn: Resamples,
) -> dict[str, Floats]:
    """AUROC replicates (B,) of each group that has an AUROC."""
    return {
        group.name: resampled(auroc_measure, positive, scores, drawn, members[group.name]).mean(axis=0)
        for group in measured
    }


def _gaps(found: list[Group], against: str, replicates: dict[str, Floats], level: float) -> list[Gap]:
    by_name = {group.name: group for group in found}
    gaps = []
    for name, group in by_name.items():
        if name == against:
            continue
        missing = [by_name[one].auroc.reason for one in (name, against) if one not in replicates]
        if missing:
            gaps.append(Gap(name, against, None, None, None, None, None, False, missing[0]))
            continue
        apart_B = replicates[name] - replicates[against]
        difference = group.auroc.ends()[0] - by_name[against].auroc.ends()[0]
        ends = interval(apart_B, difference, level)
        flagged = ends.low > 0 or ends.high < 0
        gaps.append(
            Gap(name, against, difference, ends.low, ends.high, bootstrap_p(apart_B), None, flagged, None)
        )
    adjusted = holm([np.nan if gap.p is None else gap.p for gap in gaps])
    return [
        gap if gap.p is None else replace(gap, p_holm=float(p)) for gap, p in zip(gaps, adjusted, strict=True)
    ]
