"""Training on labels by gradient: all layers, or the paper's linear recipe (weights frozen, batch norm not).

Numbers from arXiv 2010.05352: Adam, lr 3e-5, batch 16, binary cross-entropy with logits, frames of the shorter
side with a random crop along the longer one; the final probabilities are the mean over the checkpoints that
validation AUROC chose. Test images are not an argument of anything here.

    N  images    D  length of a feature    K  outputs: 1, or 3 with a class of its own for uncertain labels
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mococxr.augment import uniforms
from mococxr.encoders import Encoder
from mococxr.errors import RunError, UndefinedError
from mococxr.features import features, random_frame
from mococxr.heads.linear import LinearHead
from mococxr.metrics import auroc
from mococxr.workers import keep_memory

if TYPE_CHECKING:
    from mococxr.store import Store
    from mococxr.store.levels import Level

EVALUATIONS = 20
"""Validation evaluations in a run, evenly spaced."""
Rows = NDArray[np.int64]
Labels = NDArray[np.int8]


@dataclass(frozen=True)
class Member:
    """One checkpoint of a classifier: weights of the encoder's network, and the head upon it."""

    weights: dict[str, Tensor]
    head: LinearHead


@dataclass(frozen=True)
class Trained:
    """What training by gradient leaves.

    Args:
        members: the checkpoints whose probabilities are averaged.
        updates: optimiser updates made.
        validation_images: validation labels that chose the checkpoints; 0 where the last weights were kept.
        notes: what had to be decided on the way, in plain words.
    """

    members: list[Member]
    updates: int
    validation_images: int
    notes: tuple[str, ...]


def paper_epochs(images: int) -> float:
    """Passes over `images` labelled images: 220 (n/223)^-0.365, through the paper's 220, 95, 41 and 18.

    The paper prints them at 0.1, 1, 10 and 100 % of CheXpert, about 223, 2,244, 22,454 and 223,414 images.
    """
    return 220 * (images / 223) ** -0.365


def count_updates(images: int, batch: int, epochs: float | None) -> int:
    """Optimiser updates: images x epochs / batch, rounded up; `epochs` None is `paper_epochs`."""
    return max(1, math.ceil(images * (paper_epochs(images) if epochs is None else epochs) / batch))


def train_by_gradient(
    encoder: Encoder,
    store: Store,
    rows: Rows,
    labels: Labels,
    *,
    size: int,
    frame: str = "centre",
    frozen: bool = False,
    lr: float = 3e-5,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    batch: int = 16,
    epochs: float | None = None,
    checkpoints: int = 10,
    validation: tuple[Rows, Labels] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Trained:
    """Train a copy of the encoder with a new head; the encoder given stays as it is.

    Args:
        rows, labels: the drawn training images, 1, 0 or 2 (uncertain as a class), (N,).
        size: side of a frame, px. Training frames are square crops always; `frame` rules evaluation.
        frozen: train the head alone, with batch norm in train mode: batch statistics, and buffers that drift.
            That is the paper's released linear recipe, kept for comparison; `probe` is the clean one.
        epochs: passes over the images; None is `paper_epochs`.
        checkpoints: how many of the best by validation AUROC are averaged; 0 keeps the last weights.
        validation: rows and labels (1 or 0) that choose checkpoints.
        seed: of the head, the order of images, their crops and dropout. On a CPU with the same number of
            threads the same seed gives the same bits.

    Raises:
        UndefinedError: one class only among the training images.
        RunError: the loss is not finite.
    """
    if not {0, 1} <= set(labels.tolist()):
        raise UndefinedError(f"one class only among {len(labels)} training images")
    judge = _judge(store, validation, checkpoints, size, frame)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if torch.device(device).type == "cpu":
            keep_memory()
        model = _Classifier(copy.deepcopy(encoder), 3 if 2 in labels else 1).to(device)
        return _train(
            model,
            _batches(store.level(size), rows, labels, size, batch, seed),
            _optimizer(model, frozen, optimizer, lr, weight_decay),
            count_updates(len(rows), batch, epochs),
            checkpoints,
            judge,
        )


class _Classifier(nn.Module):
    """An encoder with a linear layer: images (N, 1, H, W) -> logits (N, K)."""

    def __init__(self, encoder: Encoder, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.spec.feature_dim, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))

    def member(self) -> Member:
        """A copy of the present state."""
        state = self.encoder.network.state_dict()
        weight, bias = (t.detach().double().cpu().numpy().copy() for t in (self.head.weight, self.head.bias))
        width = weight.shape[1]
        head = LinearHead(np.zeros(width), np.ones(width), weight, bias, strength=0.0)
        return Member({key: value.detach().cpu().clone() for key, value in state.items()}, head)


@dataclass(frozen=True)
class _Judge:
    """How checkpoints are chosen, or why they are not."""

    auroc: Callable[[Encoder, Member], float] | None
    images: int
    notes: tuple[str, ...] = ()


def _judge(
    store: Store, validation: tuple[Rows, Labels] | None, checkpoints: int, size: int, frame: str
) -> _Judge:
    if checkpoints == 0:
        return _Judge(None, 0, ("the last weights were kept, as --checkpoints 0 says",))
    if validation is None or not len(validation[0]):
        return _Judge(None, 0, ("there are no validation labels: the last weights were kept",))
    rows, labels = validation
    if len(set(labels.tolist())) < 2:
        return _Judge(None, 0, ("the validation labels are of one class: the last weights were kept",))

    def judged(encoder: Encoder, member: Member) -> float:
        place = next(encoder.parameters()).device
        found = features(encoder, store, rows, size=size, frame=frame, device=place, label=None)
        return auroc(labels, member.head.scores(found))

    return _Judge(judged, len(rows))


def _optimizer(
    model: _Classifier, frozen: bool, name: str, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    model.encoder.requires_grad_(not frozen)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return kind(trained, lr=lr, weight_decay=weight_decay)


def _batches(
    level: Level, rows: Rows, labels: Labels, size: int, batch: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, each epoch in its own order; a last batch of one image is left out (batch norm)."""
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        for start in range(0, len(rows), batch):
            chosen = order[start : start + batch]
            if len(chosen) == 1 and len(rows) > 1 and batch > 1:
                continue
            places = uniforms(seed, epoch, rows[chosen], 0)[:, 0]
            images = [
                random_frame(level.pixels(int(row)), size, place)
                for row, place in zip(rows[chosen], places, strict=True)
            ]
            yield (
                torch.from_numpy(np.stack(images)[:, None]),
                torch.from_numpy(labels[chosen].astype(np.int64)),
            )
        epoch += 1


def _train(
    model: _Classifier,
    batches: Iterator[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    updates: int,
    checkpoints: int,
    judge: _Judge,
) -> Trained:
    stops = {math.ceil(updates * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)}
    kept: list[tuple[float, int, Member]] = []
    place = model.head.weight.device
    for update in range(1, updates + 1):
        model.train()
        images, labels = next(batches)
        loss = _loss(model(images.to(place)), labels.to(place))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if judge.auroc is not None and update in stops:
            _finite(loss, update)
            member = model.member()
            kept.append((judge.auroc(model.encoder, member), update, member))
            kept = sorted(kept, key=lambda one: one[:2], reverse=True)[:checkpoints]
    _finite(loss, updates)
    members = [member for _, _, member in sorted(kept, key=lambda one: one[1])] or [model.member()]
    return Trained(members, updates, judge.images, judge.notes)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    return nn.functional.cross_entropy(logits, labels)


def _finite(loss: Tensor, update: int) -> None:
    if not torch.isfinite(loss):
        raise RunError(f"The loss is {loss.item()} at update {update}: lower --lr.")


def member_scores(
    encoder: Encoder, members: list[Member], scored: Callable[[Encoder], NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Mean probability over the members, (N,).

    Args:
        encoder: whose network takes each member's weights in turn.
        scored: an encoder -> features (N, D).
    """
    total: NDArray[np.float64] | float = 0.0
    for member in members:
        encoder.network.load_state_dict(member.weights, strict=True)
        total = total + member.head.scores(scored(encoder))
    return np.asarray(total / len(members))
