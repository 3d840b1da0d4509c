"""Training on labels by gradient: all layers, or the paper's linear recipe (weights frozen, batch norm not).

Numbers from arXiv 2010.05352: Adam, lr 3e-5, batch 16, binary cross-entropy with logits, frames of the shorter
side with a random crop along the longer one; the final probabilities are the mean over the checkpoints that
validation AUROC chose. Test images are not an argument of anything here.

    N  images    D  length of a feature    K  outputs: 1, or 3 with a class of its own for uncertain labels
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mococxr.augment import uniforms
from mococxr.encoders import Encoder
from mococxr.errors import RunError, UndefinedError
from mococxr.features import features
from mococxr.frames import random_frame
from mococxr.heads.classifier import EnsembleMember, FitResult, Labels, LinearHead, Rows, TrainConfig, TrainData
from mococxr.metrics import auroc
from mococxr.workers import keep_memory

if TYPE_CHECKING:
    from mococxr.store.levels import Level

EVALUATIONS = 20
"""Validation evaluations in a run, evenly spaced."""


def paper_epochs(images: int) -> float:
    """Passes over `images` labelled images: 220 (n/223)^-0.365, through the paper's 220, 95, 41 and 18.

    The paper prints them at 0.1, 1, 10 and 100 % of CheXpert, about 223, 2,244, 22,454 and 223,414 images.
    """
    return 220 * (images / 223) ** -0.365


def batch_sizes(images: int, batch: int) -> list[int]:
    """Images in each update of a pass: ceil(images / batch) of them, as the authors' loop counts; each image comes once.

    A rest of one image takes another from the batch before (15 and 2 of 17), since batch norm needs two; after
    batches of two it joins the last of them.
    """
    whole, rest = divmod(images, batch)
    if rest != 1 or not whole:
        return [batch] * whole + [rest] * bool(rest)
    return [batch] * (whole - 1) + ([batch - 1, 2] if batch > 2 else [batch + 1])


def count_updates(images: int, batch: int, epochs: float | None) -> int:
    """Optimiser updates of so many passes, a part of one rounded up; `epochs` None is `paper_epochs`."""
    passes = paper_epochs(images) if epochs is None else epochs
    return max(1, math.ceil(passes * len(batch_sizes(images, batch)) - 1e-9))  # 1.1 x 10 is 11, not 12


def train_by_gradient(
    data: TrainData, config: TrainConfig, *, frozen: bool = False, start: LinearHead | None = None
) -> FitResult:
    """Train a copy of the encoder with a head; the encoder itself stays as it is.

    Training frames are square crops always; `config.crop_mode` is the crop of evaluation. On a CPU with the same number
    of threads the same seed gives the same bits.

    Args:
        frozen: train the head alone, with batch norm in train mode: batch statistics, and buffers that drift.
            That is the paper's released linear recipe, kept for comparison; `solve_linear` is the clean one.
        start: the head to begin with; None draws one from the seed. The statistics of batch norm then stay those of
            the encoder, since with those of a batch the head would see other features than it was made for.

    Raises:
        UndefinedError: one class only among the training images.
        RunError: the loss is not finite.
    """
    labels = data.labels
    if not {0, 1} <= set(labels.tolist()):
        raise UndefinedError(f"one class only among {len(labels)} training images")
    selector = CheckpointSelector(data, config)
    with torch.random.fork_rng():  # the caller's random numbers go on as if nothing had been drawn
        torch.manual_seed(config.seed)  # of the head's first weights, and of dropout
        if torch.device(config.device).type == "cpu":
            keep_memory()
        model = _Network(copy.deepcopy(data.encoder()), 3 if 2 in labels else 1, start).to(config.device)
        optimizer = _optimizer(model, frozen, config)
        updates = count_updates(len(data.rows), config.batch, config.epochs)
        # the last is the last update; of few updates some fall together
        stops = {math.ceil(updates * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)}
        level = data.store.level(data.size)
        loader = islice(batches(level, data.rows, labels, data.size, config.batch, config.seed), updates)
        for step, (images, targets) in enumerate(loader, start=1):
            model.train()  # validation has left it in eval mode
            loss = criterion(model(images.to(config.device)), targets.to(config.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if step in stops or step == updates:
                # Asked only here, since the answer waits for the device.
                if not torch.isfinite(loss):
                    raise RunError(f"The loss is {loss.item()} at update {step}: lower --lr.")
                selector.offer(model, step)
    # Where nothing chose, the last weights are the classifier.
    return FitResult(selector.best() or [model.member()], updates, selector.images, selector.notes)


def criterion(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with logits; cross-entropy where uncertain is a class of its own."""
    if logits.shape[1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    return nn.functional.cross_entropy(logits, labels)


class _Network(nn.Module):
    """An encoder with a linear layer: images (N, 1, H, W) -> logits (N, K)."""

    def __init__(self, encoder: Encoder, outputs: int, start: LinearHead | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.spec.feature_dim, outputs)
        self.fixed_statistics = start is not None
        if start is not None:
            weight, bias = start.folded()
            self.head.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))

    def train(self, mode: bool = True) -> _Network:
        super().train(mode)
        if self.fixed_statistics:
            for module in self.modules():
                # private, but the base of every kind of batch norm
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def member(self) -> EnsembleMember:
        """A copy of the present state."""
        state = self.encoder.network.state_dict()
        # to the CPU first: a Mac's GPU has no float64
        weight, bias = (t.detach().cpu().double().numpy().copy() for t in (self.head.weight, self.head.bias))
        head = LinearHead(np.zeros(weight.shape[1]), np.ones(weight.shape[1]), weight, bias)  # trained on raw features
        return EnsembleMember(({key: value.detach().cpu().clone() for key, value in state.items()},), (head,))


class CheckpointSelector:
    """Keeps the checkpoints with the best validation AUROC, or says why it keeps none.

    Attributes:
        images: validation images that choose; 0 where nothing is chosen.
        notes: why nothing is chosen, in plain words.
    """

    def __init__(self, data: TrainData, config: TrainConfig) -> None:
        self._data, self._config = data, config
        self._kept: list[tuple[float, int, EnsembleMember]] = []
        self._labels = data.target.labels[data.target.val]
        why = ""
        if config.checkpoints == 0:
            why = "the last weights were kept, as --checkpoints 0 says"
        elif not len(self._labels):
            why = "there are no validation labels: the last weights were kept"
        elif len(set(self._labels.tolist())) < 2:
            why = "the validation labels are of one class: the last weights were kept"
        self.notes: tuple[str, ...] = (why,) if why else ()
        self.images = 0 if why else len(self._labels)

    def offer(self, model: _Network, step: int) -> None:
        """Measure the present state, and keep it if it is among the best so far."""
        if not self.images:
            return
        member, data = model.member(), self._data
        validation = features(
            model.encoder, data.store, data.target.val,
            size=data.size, crop_mode=self._config.crop_mode, device=self._config.device, label=None,
        )  # fmt: skip
        self._kept.append((auroc(self._labels, member.head.scores(validation)), step, member))
        # Of two that are equally good the later one stays.
        self._kept = sorted(self._kept, key=lambda kept: kept[:2], reverse=True)[: self._config.checkpoints]

    def best(self) -> list[EnsembleMember]:
        """What was kept, in the order of training."""
        return [member for _, _, member in sorted(self._kept, key=lambda kept: kept[1])]


def _optimizer(model: _Network, frozen: bool, config: TrainConfig) -> torch.optim.Optimizer:
    model.encoder.requires_grad_(not frozen)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(trained, lr=config.lr, weight_decay=config.weight_decay)


def batches(
    level: Level, rows: Rows, labels: Labels, size: int, batch: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of `batch_sizes` without end, each epoch in its own order."""
    ends = np.cumsum(batch_sizes(len(rows), batch))[:-1]  # np.split wants the cuts between batches, not the end
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))  # by epoch: no order hangs on those before
        for chosen in np.split(order, ends):
            offsets = uniforms(seed, epoch, rows[chosen], 0)[:, 0]  # by row of the store, not by place in the batch
            images = [
                random_frame(level.pixels(int(row)), size, offset)
                for row, offset in zip(rows[chosen], offsets, strict=True)
            ]
            yield (torch.from_numpy(np.stack(images)[:, None]), torch.from_numpy(labels[chosen].astype(np.int64)))
        epoch += 1
