"""What the service answers, as typed data; `/openapi.json` is made from these classes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from mococxr.classifier.findings import Finding
from mococxr.classifier.saved import Model, threshold_of
from mococxr.version import VERSION

USE = "Research use only: no medical device, and no diagnosis."


def says(help: str) -> Any:
    """Declare a field of an answer, with what it means."""
    return field(metadata={"help": help})


@dataclass(frozen=True)
class ImageAnswer:
    """One image of a request."""

    image: int = says("Its number in the request, from 1.")
    findings: tuple[Finding, ...] = says("One for each target of the model; none where the image could not be read.")
    view: str | None = says("View that the image shows, where the model can tell.")
    warning: str | None = says("What to know before the findings are read, as `predict` warns.")
    problem: str | None = says("Why the image could not be read.")


@dataclass(frozen=True)
class ModelName:
    """Which model answered."""

    name: str = says("Name of its folder.")
    sha256: str = says("Hash of its weights.")
    version: str = says("Version of mococxr that serves it.")


@dataclass(frozen=True)
class Prediction:
    """Answer of `/predict`: status 200 where an image was scored, 422 where none could be read."""

    request: str = says("Number of the request, as in the log of the service.")
    model: ModelName = says("Which model answered.")
    images: tuple[ImageAnswer, ...] = says("The images, in the order of the request.")
    use: str = says("What the answer is for.")


@dataclass(frozen=True)
class Target:
    """A finding that the model predicts."""

    target: str = says("Label that is predicted.")
    threshold: float | None = says("Threshold of the score.")
    calibration: str | None = says("How scores become probabilities.")
    prevalence: float | None = says("Share of positives among the images that calibrated it.")


@dataclass(frozen=True)
class ModelFacts:
    """Answer of `/model`."""

    model: ModelName = says("Which model is served.")
    targets: tuple[Target, ...] = says("What it predicts.")
    encoders: tuple[str, ...] = says("Networks of its encoders.")
    sizes: tuple[int, ...] = says("Shorter side of what each encoder is shown, px.")
    use: str = says("What its answers are for.")


@dataclass(frozen=True)
class Health:
    """Answer of `/health`."""

    status: str = says("`ok`: the service answers.")


@dataclass(frozen=True)
class Problem:
    """Answer to a request that is refused."""

    problem: str = says("What is wrong.")
    way_out: str = says("What to do.")


def plain(answer: Any) -> dict[str, Any]:
    """An answer as JSON takes it."""
    return dataclasses.asdict(answer)


def name_of(model: Model) -> ModelName:
    """Which model this is."""
    return ModelName(model.folder.resolve().name, model.record["weights_sha256"], VERSION)


def facts_of(model: Model) -> ModelFacts:
    """What is served."""
    targets = tuple(_target(block) for block in model.record["targets"])
    encoders = tuple(encoder["architecture"] for encoder in model.record["encoders"])
    return ModelFacts(name_of(model), targets, encoders, model.sizes, USE)


def _target(block: dict[str, Any]) -> Target:
    calibration = block.get("calibration") or {}
    return Target(block["target"], threshold_of(block), calibration.get("method"), calibration.get("prevalence"))
