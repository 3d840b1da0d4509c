"""What `model.json` keeps of the images that a model learned from, for `drift` to compare others with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.store import Store

POINTS = 101
"""Quantiles that are kept of scores: too few to tell any one image."""
FEWEST = 5
"""Training images that a view or device needs to be named: rarer ones might tell who was there."""
COLUMNS = {"views": "view", "devices": "device"}


def score_facts(scores: NDArray[np.float64]) -> dict[str, Any] | None:
    """How scores (N,) are spread; None where there are none.

    >>> score_facts(np.linspace(0, 1, 1001))["quantiles"][:3]
    [0.0, 0.01, 0.02]
    """
    if not len(scores):
        return None
    quantiles = np.quantile(scores, np.linspace(0, 1, POINTS)).round(6)
    return {"images": len(scores), "quantiles": quantiles.tolist()}


def image_facts(store: Store, rows: NDArray[np.int64]) -> Mapping[str, Any]:
    """How many of these images have which view and come from which device; a column that the store lacks is left out."""
    index = store.index[rows]
    facts: dict[str, Any] = {"images": len(rows)}
    for name, column in COLUMNS.items():
        if column in index.columns and index[column].null_count() < len(index):
            counts = index[column].cast(pl.String).drop_nulls().value_counts(sort=True, name="images")
            facts[name] = dict(counts.filter(pl.col("images") >= FEWEST).iter_rows())
    return facts
