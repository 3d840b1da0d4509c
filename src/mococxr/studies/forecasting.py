"""How many more labels: the learning curve of each arm over a study's fractions, continued."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mococxr.errors import UndefinedError
from mococxr.measure.forecasting import AHEAD, ahead_blocks, covariance_of, curves_of, why_not
from mococxr.metrics import too_few
from mococxr.results import Row as Record
from mococxr.studies.cells import Key, Measured
from mococxr.studies.comparisons import images_of


def learning_curve(condition: Key, measured: Measured, fractions: Sequence[float]) -> Record:
    """The points of one arm, mode and target for `study.json`: `labels, auroc, covariance`, a value a fraction.

    Fractions without a number are no points, and of two with as many labels the first is.

    Returns:
        Besides a `reason` where test patients are too few to judge a curve.
    """
    record: Record = dict(zip(("arm", "mode", "target"), condition[:3], strict=True))
    empty = record | {"labels": [], "auroc": [], "covariance": []}
    few = too_few(measured.labels, measured.patients, consequence="no curve is continued")
    points: dict[float, Key] = {}
    for fraction in sorted(fractions):
        key = (*condition[:3], fraction)
        if measured.members(key):
            points.setdefault(images_of(measured, key), key)
    if few is not None or not points:
        return empty | {"reason": few or "no fraction has a number"}
    trials = [measured.trials(key) for key in points.values()]
    values, replicates = zip(*(each.mean() for each in trials), strict=True)
    draws = [len(set(measured.done[i]["draw"] for i in measured.members(key))) for key in points.values()]
    covariance = covariance_of(np.stack(replicates), list(points), draws)
    return record | {
        "labels": list(points), "auroc": [float(value) for value in values], "covariance": covariance.tolist(),
        "reason": None,
    }  # fmt: skip


def forecast_rows(curve: Record) -> list[Record]:
    """The rows of `forecast.csv` of a learning curve."""
    names = {name: curve[name] for name in ("arm", "mode", "target")}
    try:
        if curve["reason"]:
            raise UndefinedError(str(curve["reason"]).rstrip("."))
        curves = curves_of(curve["labels"], curve["auroc"], curve["covariance"], max(curve["labels"]))
    except UndefinedError as error:
        return [names | {"times": times, "reason": why_not(error)} for times in AHEAD]
    return [
        names | {"times": times, "labels": block["labels"], "auroc": block["value"], "low": block["low"],
                 "high": block["high"], "reason": block.get("reason")}
        for times, block in zip(AHEAD, ahead_blocks(curves), strict=True)
    ]  # fmt: skip
