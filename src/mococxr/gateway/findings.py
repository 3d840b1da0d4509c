"""What a model says of one image, and the UIDs under which it is said."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from mococxr.classifier.saved import Model, columns_of, threshold_of
from mococxr.errors import ImageError
from mococxr.files import sha256_file
from mococxr.images import decode_image

NUMBERS = ("score", "calibrated", "decision")
"""Columns of a target that a finding is made of."""


@dataclass(frozen=True)
class Algorithm:
    """A model as reports name it.

    Args:
        name: what it looks for.
        version: the first 12 digits of the SHA-256 of its model.json, which names the hash of its weights.
    """

    name: str
    version: str


@dataclass(frozen=True)
class Finding:
    """One finding of one image.

    Args:
        name: as the model's target is called.
        score: of the classifier.
        calibrated: the probability, where the model has a calibration.
        score_threshold: from which score on the finding counts as present, where the model has a threshold.
        threshold: the same on the scale of `probability`.
        decision: 1 where the score reaches the threshold, else 0.
    """

    name: str
    score: float
    calibrated: float | None
    score_threshold: float | None
    threshold: float | None
    decision: int | None

    @property
    def probability(self) -> float:
        """The calibrated probability; without a calibration the score."""
        return self.score if self.calibrated is None else self.calibrated

    @property
    def in_words(self) -> str:
        """`Effusion 0.83, present (from 0.41)`."""
        verdict = {1: "present", 0: "absent", None: "no decision"}[self.decision]
        ends = "" if self.threshold is None else f" (from {self.threshold:.2f})"
        return f"{self.name} {self.probability:.2f}, {verdict}{ends}"


def algorithm_of(model: Model) -> Algorithm:
    """How a model is named in reports and in the ledger."""
    return Algorithm(f"MoCo-CXR {', '.join(model.targets)}", sha256_file(model.folder / "model.json")[:12])


def reference_of(model: Model) -> dict[str, Any] | None:
    """What a model kept of the images that it learned from: `scores` of a target, `views`, `devices`; None for nothing."""
    if "reference" not in model.record:
        return None
    scores = {block["target"]: block.get("scores") for block in model.record["targets"]}
    return {"scores": scores, **model.record["reference"]}


@dataclass(frozen=True)
class Answer:
    """What a model says of one image.

    Args:
        findings: one a target.
        view: `Frontal` or `Lateral` as the image looks, or None.
        warning: what speaks against judging the image, or None.
    """

    findings: tuple[Finding, ...]
    view: str | None
    warning: str | None


def answer_of(model: Model, data: bytes) -> Answer:
    """What a model says of the file of an image, a finding a target.

    Raises:
        ImageError: the image cannot be read, or the model warns that its scores would mean nothing.
    """
    row = model.predict([decode_image(data, model.reading)], refuse=True).row(0, named=True)
    thresholds = [threshold_of(block) for block in model.record["targets"]]
    on_scale = model.columns(np.array([[threshold or 0.0 for threshold in thresholds]]))
    findings = []
    for target, columns, threshold in zip(model.targets, columns_of(model.targets, *NUMBERS), thresholds, strict=True):
        score, calibrated, decision = (row[column] for column in columns)
        if score is None:
            raise ImageError(f"the model warns: {row['warning']}")
        same = None if threshold is None or calibrated is None else float(on_scale[columns[1]][0])
        findings.append(Finding(target, score, calibrated, threshold, threshold if same is None else same, decision))
    return Answer(tuple(findings), row["view"], row["warning"])


def uid_of(*parts: str) -> str:
    """A UID that is always the same for the same parts: 2.25. and 128 bits of their SHA-256 (PS3.5 B.2).

    >>> uid_of("1.2.3", "MoCo-CXR Effusion", "1a2b3c")
    '2.25.50527212629121223175281194911540419649'
    """
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"2.25.{int(digest[:32], 16)}"
