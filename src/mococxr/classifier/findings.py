"""What a model says of each image, a finding a target: for the programs that serve it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from mococxr.classifier.saved import SCORES, Model, columns_of, threshold_of


def _says(help: str) -> Any:
    return field(metadata={"help": help})


@dataclass(frozen=True)
class Finding:
    """What the model says of one finding in one image."""

    target: str = _says("Label that is predicted.")
    score: float = _says("The classifier's own probability.")
    calibrated: float | None = _says("Calibrated probability; null where the model has no calibration.")
    decision: int | None = _says("1 where the score reaches the threshold, else 0; null where the model has none.")
    threshold: float | None = _says("Threshold of the score.")
    calibrated_threshold: float | None = _says("The same threshold as a calibrated probability.")

    @property
    def probability(self) -> float:
        """The calibrated probability; without a calibration the score."""
        return self.score if self.calibrated is None else self.calibrated

    @property
    def probability_threshold(self) -> float | None:
        """The threshold on the scale of `probability`."""
        return self.threshold if self.calibrated is None else self.calibrated_threshold

    @property
    def in_words(self) -> str:
        """`Effusion 0.83, present (from 0.41)`."""
        verdict = {1: "present", 0: "absent", None: "no decision"}[self.decision]
        ends = "" if self.probability_threshold is None else f" (from {self.probability_threshold:.2f})"
        return f"{self.target} {self.probability:.2f}, {verdict}{ends}"


def findings_of(model: Model, table: pl.DataFrame) -> list[tuple[Finding, ...]]:
    """The findings of each image.

    Args:
        table: scores as `Model.predict` and `Model.table` give them, none of them blank.
    """
    thresholds = [threshold_of(block) for block in model.record["targets"]]
    calibrated = model.columns(np.array([[each or 0.0 for each in thresholds]]))
    targets = []
    for target, names, threshold in zip(model.targets, columns_of(model.targets, *SCORES), thresholds, strict=True):
        same = calibrated[names[1]][0]
        same = None if threshold is None or same is None else float(same)
        rows = table.select(names).iter_rows()
        targets.append([Finding(target, score, sure, decision, threshold, same) for score, sure, decision in rows])
    return list(zip(*targets, strict=True))
