"""Images of a ledger week by week, beside the images that the model learned from: arrays and tables -> numbers.

A week's scores are compared with the reference scores by the Kolmogorov-Smirnov distance, the largest difference between
the two shares of images at or below a score: 0 where they agree, 1 where they do not overlap. Its p-value is the
asymptotic one for two samples (Smirnov 1948); it is blank for fewer than `FEW` images.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

FEW = 20
"""Images of a week below which its scores are not compared."""
LEVEL = 0.01
"""Chance of a false alarm over all weeks and findings of a page together (Bonferroni)."""
NEW_SHARE = 0.05
"""Share of a week's images from which a view or a device that training never saw is worth an alert."""


@dataclass(frozen=True)
class Week:
    """The scores of one finding in one week.

    Args:
        start: its Monday.
        images: scored images.
        low, median, high: quartiles of the scores.
        present: share of images that are called positive; None without a threshold.
        distance, p: from the reference scores; None where these are not known or the images too few.
        flagged: whether the distance is larger than chance makes it.
    """

    start: datetime.date
    images: int
    low: float
    median: float
    high: float
    present: float | None
    distance: float | None
    p: float | None
    flagged: bool


def monday(texts: pl.Series) -> pl.Series:
    """The Mondays of the weeks of dates that are written as 2026-01-31T12:00:00+01:00."""
    return texts.str.slice(0, 10).str.to_date().dt.truncate("1w")


def weeks_of(scores: pl.DataFrame, reference: Mapping[str, Any] | None, tests: int) -> list[Week]:
    """The weeks of one finding, in order.

    Args:
        scores: `week`, `score`, `decision` (null without a threshold), a row an image.
        reference: `images` and `quantiles` of the reference scores, or None.
        tests: comparisons on the page, among which chance may strike.
    """
    weeks = []
    for (start,), rows in scores.sort("week").group_by("week", maintain_order=True):
        values = rows["score"].to_numpy()
        distance, p = compare(values, reference) if reference and len(values) >= FEW else (None, None)
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        known = rows["decision"].drop_nulls()
        present = float(known.mean()) if len(known) else None  # type: ignore[arg-type]
        flagged = p is not None and p < LEVEL / max(tests, 1)
        weeks.append(Week(start, len(values), low, median, high, present, distance, p, flagged))
    return weeks


def compare(scores: NDArray[np.float64], reference: Mapping[str, Any]) -> tuple[float, float]:
    """(distance, p) of scores (N,) from a reference that is known by its quantiles.

    >>> same = {"images": 1000, "quantiles": [0.0, 0.25, 0.5, 0.75, 1.0]}
    >>> distance, p = compare(np.linspace(0, 1, 200), same)
    >>> distance < 0.01, p > 0.99
    (True, True)
    >>> compare(np.full(50, 0.9), same)[1] < 1e-9
    True
    """
    from scipy.stats import kstwobign

    values, counts = np.unique(scores, return_counts=True)
    upper = counts.cumsum() / len(scores)
    below, at = _reference_shares(np.asarray(reference["quantiles"]), values)
    distance = float(max(np.abs(at - upper).max(), np.abs(below - np.append(0, upper[:-1])).max()))
    size = len(scores) * reference["images"] / (len(scores) + reference["images"])
    return distance, float(kstwobign.sf(distance * np.sqrt(size)))


def _reference_shares(
    quantiles: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of the reference below each value, and at or below it: they differ where many of its scores are one value."""
    shares = np.linspace(0, 1, len(quantiles))
    first, last = np.searchsorted(quantiles, values, "left"), np.searchsorted(quantiles, values, "right")
    between = np.interp(values, quantiles, shares, left=0, right=1)
    tied = last - first > 1
    below = np.where(tied, shares[np.minimum(first, len(shares) - 1)], between)
    return below, np.where(tied, shares[last - 1], between)


def shares_of(images: pl.DataFrame, column: str, reference: Mapping[str, int]) -> pl.DataFrame:
    """Week by week the share of images with each value of a column; `value`, `reference`, and a column a week.

    Args:
        images: `week` and the column; null is `not stated`.
        reference: value -> images among those that the model learned from; empty where nobody kept it.
    """
    stated = images.with_columns(pl.col(column).fill_null(NOT_STATED))
    weeks = sorted(stated["week"].unique())
    total = sum(reference.values())
    values = list(dict.fromkeys([*stated[column].value_counts(sort=True)[column], *reference]))
    rows: list[dict[str, Any]] = []
    for value in values:
        row: dict[str, Any] = {"value": value, "reference": reference.get(value, 0) / total if total else None}
        for week in weeks:
            of_week = stated.filter(pl.col("week") == week)
            row[str(week)] = len(of_week.filter(pl.col(column) == value)) / len(of_week)
        rows.append(row)
    schema = {"value": pl.String, "reference": pl.Float64, **{str(week): pl.Float64 for week in weeks}}
    return pl.DataFrame(rows, schema=schema)


NOT_STATED = "not stated"


def unknown_values(shares: pl.DataFrame) -> list[str]:
    """Values that training never saw and that are frequent in some week; none where nobody kept what training saw."""
    weeks: Sequence[str] = shares.columns[2:]
    rows = shares.filter((pl.col("reference") == 0) & (pl.col("value") != NOT_STATED))
    return [row["value"] for row in rows.iter_rows(named=True) if max(row[week] for week in weeks) >= NEW_SHARE]
