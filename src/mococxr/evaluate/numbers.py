"""The blocks of numbers that `evaluate` writes; None stands where the data define no number.

Letters: N rows, K tables (one or two), B replicates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mococxr import metrics
from mococxr.errors import UndefinedError

Floats = NDArray[np.float64]
Block = dict[str, Any]


def measure(
    names: list[str], labels: Floats, patients: NDArray, scores_KN: Floats, settings: dict[str, Any]
) -> Block:
    """Everything that is computed from one table, or from two on the same rows.

    Args:
        names: of the tables.
        labels: 1 or 0, both present, shape (N,).
        patients: shape (N,).
        scores_KN: finite.
        settings: replicates, seed and level of the bootstrap, and its method.
    """
    level = settings["level"]
    drawn = (labels, scores_KN, patients, settings["replicates"], settings["seed"])
    areas_KB = metrics.bootstrap_auroc(*drawn)
    precisions_KB = metrics.bootstrap_average_precision(*drawn)
    count = int(np.unique(patients).size)
    clustered = count < labels.size
    blocks: list[Block] = [
        {
            "predictions": name,
            "n": int(labels.size),
            "patients": count,
            "positives": int((labels == 1).sum()),
            "auroc": _area(labels, scores_N, areas_B, level, clustered),
            "average_precision": _precision(labels, scores_N, precisions_B, level),
        }
        for name, scores_N, areas_B, precisions_B in zip(
            names, scores_KN, areas_KB, precisions_KB, strict=True
        )
    ]
    bootstrap = {
        **settings,
        "undefined": int(np.isnan(areas_KB[0]).sum()),
        "auroc": _bootstrap(blocks[0]["auroc"]["value"], areas_KB[0], level),
    }
    if len(blocks) == 1:
        return {**blocks[0], "against": None, "difference": None, "bootstrap": bootstrap}
    value = blocks[0]["auroc"]["value"] - blocks[1]["auroc"]["value"]
    bootstrap["difference"] = _bootstrap_difference(value, areas_KB, level)
    delong = _delong_difference(labels, scores_KN, level)
    difference = _chosen(value, delong, bootstrap["difference"], clustered)
    return {**blocks[0], "against": blocks[1], "difference": difference, "bootstrap": bootstrap}


def _chosen(value: float, delong: Block, bootstrap: Block, clustered: bool) -> Block:
    """DeLong for one row a patient; otherwise the bootstrap, with DeLong beside it."""
    if clustered:
        return {"value": value, **bootstrap, "method": "bootstrap", "delong": delong}
    return {"value": value, **delong, "method": "delong"}


def _area(labels: Floats, scores: Floats, areas_B: Floats, level: float, clustered: bool) -> Block:
    value = metrics.auroc(labels, scores)
    delong: Block
    try:
        found = metrics.delong_interval(labels, scores, level)
        delong = {"variance": found.variance, "low": found.low, "high": found.high}
    except UndefinedError as error:
        delong = {"variance": None, "low": None, "high": None, "reason": str(error)}
    return _chosen(value, delong, _bootstrap(value, areas_B, level), clustered)


def _precision(labels: Floats, scores: Floats, precisions_B: Floats, level: float) -> Block:
    value = metrics.average_precision(labels, scores)
    return {"value": value, **_bootstrap(value, precisions_B, level), "method": "bootstrap"}


def _bootstrap(value: float, replicates_B: Floats, level: float) -> Block:
    """Variance of the defined replicates and percentile ends."""
    defined = replicates_B[~np.isnan(replicates_B)]
    variance = float(defined.var(ddof=1)) if defined.size > 1 else None
    try:
        found = metrics.interval(replicates_B, value, level)
    except UndefinedError as error:
        return {"variance": None, "low": None, "high": None, "reason": str(error)}
    return {"variance": variance, "low": found.low, "high": found.high}


def _bootstrap_difference(value: float, areas_KB: Floats, level: float) -> Block:
    """Percentile ends, p by counting, and z = difference / standard deviation of its replicates."""
    differences_B = areas_KB[0] - areas_KB[1]
    ends = _bootstrap(value, differences_B, level)
    z = value / float(np.sqrt(ends["variance"])) if ends["variance"] else None
    p = metrics.bootstrap_p(differences_B) if ends["low"] is not None else None
    return {"value": value, **ends, "z": z, "p": p}


def _delong_difference(labels: Floats, scores_KN: Floats, level: float) -> Block:
    try:
        found = metrics.delong_paired(labels, scores_KN[0], scores_KN[1], level)
    except UndefinedError as error:
        return {"low": None, "high": None, "z": None, "p": None, "reason": str(error)}
    names = ("low", "high", "z", "p", "variance", "covariance")
    return {name: getattr(found, name) for name in names}
