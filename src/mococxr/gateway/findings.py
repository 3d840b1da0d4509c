"""What a model says of one image, and the UIDs under which it is said."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from mococxr.classifier.findings import Finding, findings_of
from mococxr.classifier.saved import Model
from mococxr.errors import ImageError
from mococxr.files import sha256_file
from mococxr.images import decode_image


@dataclass(frozen=True)
class Algorithm:
    """A model as reports name it.

    Args:
        name: what it looks for.
        version: the first 12 digits of the SHA-256 of its model.json, which names the hash of its weights.
    """

    name: str
    version: str


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
    table = model.predict([decode_image(data, model.reading)], refuse=True)
    view, warning = table.row(0)[-2:]
    if table[:, 0].null_count():
        raise ImageError(f"the model warns: {warning}")
    return Answer(findings_of(model, table)[0], view, warning)


def uid_of(*parts: str) -> str:
    """A UID that is always the same for the same parts: 2.25. and 128 bits of their SHA-256 (PS3.5 B.2).

    >>> uid_of("1.2.3", "MoCo-CXR Effusion", "1a2b3c")
    '2.25.50527212629121223175281194911540419649'
    """
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"2.25.{int(digest[:32], 16)}"
