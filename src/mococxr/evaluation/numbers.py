"""The blocks of numbers that `evaluate` writes; None stands where the data define no number.

Letters: N rows, K tables (one or two), B replicates, U patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import UndefinedError

Floats = NDArray[np.float64]
Block = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """The rows of a table that are judged: labels 1 or 0, both present, finite scores, patients; all (N,)."""

    name: str
    labels: Floats
    scores: Floats
    patients: NDArray

    @property
    def count(self) -> int:
        """Patients."""
        return int(np.unique(self.patients).size)

    @property
    def clustered(self) -> bool:
        """Whether a patient has several rows."""
        return self.count < self.labels.size

    @property
    def too_few(self) -> str | None:
        """The sentence where a class has too few patients."""
        return metrics.too_few(self.labels, self.patients)


@dataclass(frozen=True)
class Bootstrap:
    """How patients are resampled, and how replicates become an interval (`percentile` or `bca`)."""

    replicates: int
    seed: int
    level: float
    method: str
    stratified: bool

    def drawn(self, rows: Rows) -> tuple[Any, ...]:
        """The arguments of `metrics.bootstrap_auroc` for the rows."""
        strata = np.isin(rows.patients, rows.patients[rows.labels == 1]) if self.stratified else None
        return rows.labels, rows.scores[None], rows.patients, self.replicates, self.seed, strata


@dataclass(frozen=True)
class Replicates:
    """AUROC of one table on the resamples (B,), and without each patient in turn (U,), where BCa needs it."""

    value: float
    found_B: Floats
    left_out_U: Floats | None


def measure(rows: Rows, how: Bootstrap) -> tuple[Block, Replicates]:
    """What is computed from one table, and what its comparison with another needs."""
    areas = _replicates(rows, how)
    precision = _average_precision(rows, how)
    block = {
        "predictions": rows.name,
        "n": int(rows.labels.size),
        "patients": rows.count,
        "positives": int((rows.labels == 1).sum()),
        "auroc": _area(rows, areas, how),
        "interval": quoted(rows, how.level),
        "average_precision": {
            "value": precision.value,
            **bootstrap_ends(precision, how),
            "method": "bootstrap",
        },
    }
    return block, areas


def quoted(rows: Rows, level: float) -> Block:
    """The interval to quote (`metrics.auroc_interval`), with its warning in words where the rows are few."""
    try:
        found = metrics.auroc_interval(rows.labels, rows.scores, rows.patients, level)
    except UndefinedError as error:
        value = metrics.auroc(rows.labels, rows.scores)
        return {"value": value, "low": None, "high": None, "method": None, "reason": str(error)}
    names = ("value", "low", "high", "method", "warning", "variance")
    return {name: getattr(found, name) for name in names}


def _replicates(rows: Rows, how: Bootstrap) -> Replicates:
    left_out = None
    if how.method == "bca":
        left_out = metrics.jackknife_auroc(rows.labels, rows.scores[None], rows.patients)[0]
    value = metrics.auroc(rows.labels, rows.scores)
    return Replicates(value, metrics.bootstrap_auroc(*how.drawn(rows))[0], left_out)


def _average_precision(rows: Rows, how: Bootstrap) -> Replicates:
    left_out = None
    if how.method == "bca":
        left_out = metrics.jackknife_average_precision(rows.labels, rows.scores[None], rows.patients)[0]
    value = metrics.average_precision(rows.labels, rows.scores)
    return Replicates(value, metrics.bootstrap_average_precision(*how.drawn(rows))[0], left_out)


def _area(rows: Rows, areas: Replicates, how: Bootstrap) -> Block:
    delong: Block
    try:
        found = metrics.delong_interval(rows.labels, rows.scores, how.level)
        delong = {"variance": found.variance, "low": found.low, "high": found.high}
    except UndefinedError as error:
        delong = {"variance": None, "low": None, "high": None, "reason": str(error)}
    return chosen(areas.value, delong, bootstrap_ends(areas, how), rows.clustered)


def chosen(value: float, delong: Block, bootstrap: Block, clustered: bool) -> Block:
    """DeLong for one row a patient; otherwise the bootstrap, with DeLong beside it."""
    if clustered:
        return {"value": value, **bootstrap, "method": "bootstrap", "delong": delong}
    return {"value": value, **delong, "method": "delong"}


def bootstrap_ends(found: Replicates, how: Bootstrap) -> Block:
    """Variance of the defined replicates, and the ends of the interval."""
    defined = found.found_B[~np.isnan(found.found_B)]
    variance = float(defined.var(ddof=1)) if defined.size > 1 else None
    try:
        ends = metrics.interval(found.found_B, found.value, how.level, how.method, found.left_out_U)
    except UndefinedError as error:
        return {"variance": None, "low": None, "high": None, "reason": str(error)}
    return {"variance": variance, "low": ends.low, "high": ends.high}
