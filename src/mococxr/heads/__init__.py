"""Labels -> a classifier on an encoder. `MODES` is all that knows which ways there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass

from mococxr.errors import InputError
from mococxr.heads.classifier import FitResult, TrainConfig, TrainData
from mococxr.heads.finetune import train_by_gradient
from mococxr.heads.linear import train_linear
from mococxr.heads.lpft import train_lpft


@dataclass(frozen=True)
class Mode:
    """One way to train a classifier.

    Args:
        train: trains it.
        by_gradient: whether it trains by gradient, and so takes a GPU and changes the encoder; else the head is solved.
        reads_features: whether it reads features of the frozen encoder, which `study` then computes once.
    """

    train: Callable[[TrainData, TrainConfig], FitResult]
    by_gradient: Callable[[TrainConfig], bool]
    reads_features: Callable[[TrainConfig], bool]


MODES = {
    "linear": Mode(train_linear, lambda c: c.linear_solver == "gradient", lambda c: c.linear_solver != "gradient"),
    "finetune": Mode(train_by_gradient, lambda _: True, lambda _: False),
    "lpft": Mode(train_lpft, lambda _: True, lambda _: True),
}
"""`--mode` -> what it does. `settings.classifiers.Mode` lists the same names, which a test compares."""


def check_one(encoders: Sized, trained: Sequence[str], whose: str) -> None:
    """Refuse several encoders side by side in modes that train by gradient (`trained`)."""
    if trained and len(encoders) > 1:
        raise InputError(
            f"--mode {' '.join(trained)} trains one encoder; {whose} has {len(encoders)}.",
            "Take --mode linear with --linear-solver lbfgs, or one encoder.",
        )


def train_classifier(data: TrainData, config: TrainConfig) -> FitResult:
    """Train on the labelled rows; validation rows choose checkpoints by gradient, test rows are never read.

    Raises:
        UndefinedError: one class only among the rows.
        RunError: the loss is not finite.
    """
    return MODES[config.mode].train(data, config)
