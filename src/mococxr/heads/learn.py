"""One way to train a classifier on the labels of some rows, whatever the mode: for `fit` and for `study`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mococxr.encoders import Encoder
from mococxr.heads.finetune import Member, Trained, train_by_gradient
from mococxr.heads.linear import parse_strength, solve_linear
from mococxr.heads.targets import Target

if TYPE_CHECKING:
    from mococxr.settings.classifiers import TrainingSettings
    from mococxr.store import Store


@dataclass(frozen=True)
class Method:
    """How a classifier learns: the settings of the same names, checked (`mococxr.settings.classifiers`)."""

    frame: str = "centre"
    strength: float | str = 0.01
    linear: str = "solved"
    lr: float = 3e-5
    optimizer: str = "adam"
    weight_decay: float = 0.0
    batch: int = 16
    epochs: float | None = None
    checkpoints: int = 10
    seed: int = 0
    device: str = "cpu"

    def solves(self, mode: str) -> bool:
        """True where the head is solved on cached features, False where training is by gradient."""
        return mode == "linear" and self.linear == "solved"


def read_method(settings: TrainingSettings, device: str) -> Method:
    """Take the method out of a command's settings.

    Raises:
        InputError: a --strength that is neither a number nor cv.
    """
    names = {field.name for field in dataclasses.fields(Method)} - {"strength", "device"}
    values: dict[str, Any] = {name: getattr(settings, name) for name in names}
    return Method(strength=parse_strength(settings.strength), device=device, **values)


def learn(
    encoder: Encoder,
    store: Store,
    target: Target,
    rows: NDArray[np.int64],
    *,
    mode: str,
    method: Method,
    size: int,
    features_of: Callable[[NDArray[np.int64]], NDArray[np.float32]],
) -> Trained:
    """Train on `rows`; validation rows choose checkpoints by gradient, test rows are never read.

    Args:
        mode: `linear` or `finetune`.
        size: side of a frame, px.
        features_of: rows -> features of the frozen encoder, (N, D); used where the head is solved.

    Raises:
        UndefinedError: one class only among the rows.
    """
    labels = target.labels[rows]
    if method.solves(mode):
        patients = store.index["patient"].to_numpy()[rows]
        head = solve_linear(
            features_of(rows), labels, strength=method.strength, patients=patients, seed=method.seed
        )
        return Trained([Member(dict(encoder.network.state_dict()), head)], 0, 0, head.notes)
    return train_by_gradient(
        encoder, store, rows, labels,
        size=size, frame=method.frame, frozen=mode == "linear", lr=method.lr, optimizer=method.optimizer,
        weight_decay=method.weight_decay, batch=method.batch, epochs=method.epochs,
        checkpoints=method.checkpoints, validation=(target.val, target.labels[target.val]),
        seed=method.seed, device=method.device,
    )  # fmt: skip
