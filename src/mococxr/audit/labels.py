"""Counts of a store: who is in it, what the labels come to under each policy, and what goes with a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mococxr.errors import UndefinedError
from mococxr.metrics import age_bands, auroc
from mococxr.store import Store

FEW = 12
"""Values of a column up to which they are counted one by one."""
WARN, LEAST = 0.60, 20
"""AUROC of a label by a column alone from which it is called a shortcut, and images of each class that it takes."""
POLICIES = tuple((uncertain, blank) for blank in ("unknown", "negative") for uncertain in ("ignore", "zeros", "ones"))
"""What -1 and what a blank count as."""

_UNKNOWN = "not known"
_ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class Shortcut:
    """How well a column alone tells a label.

    Args:
        label: the label.
        column: the column.
        auroc: of the column's rates of the label, on the same images.
        rates: value, share of positive images, images.
        enough: 20 images of each class at least, and more than three standard errors from 0.5.
    """

    label: str
    column: str
    auroc: float
    rates: list[tuple[str, float, int]]
    enough: bool

    @property
    def warns(self) -> bool:
        """It is strong, and there are images enough to say so."""
        return self.enough and self.auroc >= WARN


def split_of(store: Store) -> pl.Series:
    """The split of each image: train, val, test, several joined by +, or none."""
    together = store.splits.group_by("patient").agg(pl.col("split").unique().sort().str.join("+"))
    joined = store.index.select("patient").join(together, on="patient", how="left", maintain_order="left")
    return joined["split"].fill_null("none")


def columns(store: Store, words: pl.Series | None = None) -> pl.DataFrame:
    """Columns of few values, as text, a row an image: split, view, sex, age band, metadata, burned-in words.

    Args:
        store: the store.
        words: whether each image carries burned-in words; null where that is not known.
    """
    table = {"split": split_of(store), **{name: store.index[name].cast(pl.String) for name in ("view", "sex")}}
    table["age"] = age_bands(store.index["age"])
    for name in store.manifest["metadata"]:
        values = store.index[name]
        if 1 <= values.drop_nulls().n_unique() <= FEW:
            table[name] = values.cast(pl.String)
    if words is not None:
        table["burned-in words"] = words.cast(pl.String).replace({"true": "yes", "false": "no"})
    return pl.DataFrame(table)


def count(table: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Column -> value -> images, columns without any value left out; null as `not known`, and last."""
    counts = {}
    for name in table.columns:
        values = table[name].fill_null(_UNKNOWN).value_counts(name="images")
        pairs = sorted(values.iter_rows(), key=lambda pair: (pair[0] == _UNKNOWN, _natural(pair[0])))
        if [value for value, _ in pairs] != [_UNKNOWN]:
            counts[name] = dict(pairs)
    return counts


def _natural(text: str) -> tuple[float, str]:
    first = text.split(" ")[0]
    if text in _ORDER:
        return (float(_ORDER.index(text)), text)
    return (float(first) if first.isdecimal() else -1.0, text)


def label_table(store: Store) -> dict[str, dict[str, Any]]:
    """Label -> positive, negative, uncertain, blank, and under each policy (`ignore, unknown`) how many are known
    and which share of those is positive (None where none is known).
    """
    table: dict[str, dict[str, Any]] = {}
    for name in store.labels:
        values = store.index[name]
        stored = {
            "positive": int((values == 1).sum()),
            "negative": int((values == 0).sum()),
            "uncertain": int((values == -1).sum()),
            "blank": values.null_count(),
        }
        # what was taken back is unknown, whatever a blank is
        blanks = stored["blank"] - int(store.taken_back(name).sum())
        policies = {}
        for uncertain, blank in POLICIES:
            ones = stored["positive"] + (stored["uncertain"] if uncertain == "ones" else 0)
            zeros = stored["negative"] + (stored["uncertain"] if uncertain == "zeros" else 0)
            zeros += blanks if blank == "negative" else 0
            share = ones / (ones + zeros) if ones + zeros else None
            policies[f"{uncertain}, {blank}"] = {"known": ones + zeros, "positive": ones, "share": share}
        table[name] = {**stored, "policies": policies}
    return table


def together(store: Store) -> dict[str, dict[str, int]]:
    """Label -> label -> images positive for both; on the diagonal the images positive for the one."""
    positive = {name: (store.index[name] == 1).fill_null(False) for name in store.labels}
    return {row: {column: int((positive[row] & positive[column]).sum()) for column in positive} for row in positive}


def shortcuts(store: Store, table: pl.DataFrame) -> list[Shortcut]:
    """How well each column of few values tells each label, the best first; the split is no such column.

    The number is the AUROC of the column's own rates on the same images: 0.5 says that it tells nothing.
    Uncertain and blank labels, and images whose value is not known, are left out. It warns from 0.60, with 20
    images of each class at least and three standard errors of chance between it and 0.5.
    """
    defined = []
    for label in store.labels:
        values = store.index[label].cast(pl.Float64).fill_null(-1).to_numpy()  # blank is left out as uncertain is
        for column in table.columns:
            if column != "split" and (shortcut := _shortcut(label, values, column, table[column])) is not None:
                defined.append(shortcut)
    return sorted(defined, key=lambda item: (not item.enough, -item.auroc, item.label, item.column))


def _shortcut(label: str, values: npt.NDArray[np.float64], column: str, kinds: pl.Series) -> Shortcut | None:
    known = np.isin(values, (0, 1)) & kinds.is_not_null().to_numpy()
    labels, names = values[known].astype(np.int64), kinds.filter(known).to_numpy()
    groups, inverse = np.unique(names.astype(str), return_inverse=True)
    if len(groups) < 2:
        return None
    images = np.bincount(inverse)
    rates = np.bincount(inverse, weights=labels) / images
    try:
        number = auroc(labels, rates[inverse])
    except UndefinedError:
        return None
    positive, negative = int(labels.sum()), int((1 - labels).sum())
    chance = (len(labels) + 1) / (12 * positive * negative)  # variance of an AUROC of guesses (Mann and Whitney)
    enough = min(positive, negative) >= LEAST and number - 0.5 > 3 * chance**0.5
    shown = [(str(name), float(rate), int(n)) for name, rate, n in zip(groups, rates, images, strict=True)]
    shown.sort(key=lambda item: _natural(item[0]))
    return Shortcut(label, column, float(number), shown, bool(enough))


def pixel_table(statistics: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Statistic -> its least, 1 %, 25 %, 50 %, 75 %, 99 % and largest value over the images."""
    shares = {"least": 0.0, "1 %": 0.01, "25 %": 0.25, "50 %": 0.5, "75 %": 0.75, "99 %": 0.99, "most": 1.0}
    return {
        name: {at: float(statistics[name].quantile(q, "linear") or 0.0) for at, q in shares.items()}
        for name in statistics.columns
    }
