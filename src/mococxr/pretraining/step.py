"""One step of pretraining, and the learning rate at each: the only place where weights and queue change."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mococxr.pretraining.moco import KeyQueue, Projector, info_nce, momentum_update, shuffled_keys


@dataclass
class Learner:
    """What pretraining state there is.

    Args:
        query: the query encoder with its head, as the optimiser knows it.
        wrapped: the same, as the processes call it (DistributedDataParallel, mixed precision).
        key: its momentum copy.
        queue: the last K keys.
        shuffle: in the same state on every process.
        gather: tensor of this process -> tensors of all, by rank.
        backward: loss -> gradients.
        autocast: the precision of a forward pass, for the key side; the query's is part of `wrapped`.
        no_sync: a part of a step in which the processes do not yet add up their gradients.
        scaler: of fp16, whose scale follows the run; None in other precisions.
    """

    query: Projector
    wrapped: Callable[[Tensor], Tensor]
    key: Projector
    queue: KeyQueue
    optimizer: Optimizer
    shuffle: torch.Generator
    gather: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor], None]
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext
    scaler: torch.amp.GradScaler | None = None
    rank: int = 0
    world: int = 1


def moco_step(
    learner: Learner,
    images_q: Tensor,
    images_k: Tensor,
    *,
    m: float,
    temperature: float,
    groups: int,
    parts: int = 1,
) -> tuple[Tensor, Tensor]:
    """MoCo, algorithm 1: momentum update, keys, queries, loss, descent, and enqueue last.

    Keys come before queries, so that they are made while no graph of the queries is held. Nothing here waits for the
    device.

    With `parts` above 1 the queries pass in that many parts, one after the other, each backward before the next, and
    the gradients add up; the memory for activations falls with the parts. All else is done once a step, as without
    parts: the momentum update, the keys of the whole batch in their `groups`, one descent, one enqueueing; all parts
    meet the same queue. A part's loss counts by its share of the images, so that loss and gradients are those of the
    whole batch but for rounding, where the query encoder treats each image by itself. Batch norm does not: it takes
    the statistics of a part, and its running averages move once a part.

    Args:
        images_q, images_k: (n, 1, S, S) uint8, two views of this process's images.
        m: momentum of the key encoder.
        temperature: T.
        groups: forward passes that the keys are made in, as in `shuffled_keys`.
        parts: of sizes that differ by one at most, 1..n.

    Returns:
        loss (scalar) and logits (n, 1 + K), both detached.
    """
    momentum_update(learner.query, learner.key, m)
    with learner.autocast():
        keys = shuffled_keys(
            learner.key, images_k, groups, learner.shuffle, learner.gather, learner.rank, learner.world
        )
    own = keys[learner.rank * len(images_q) : (learner.rank + 1) * len(images_q)]
    learner.optimizer.zero_grad(set_to_none=True)
    losses, all_logits = [], []
    for part, (images, k) in enumerate(
        zip(images_q.tensor_split(parts), own.tensor_split(parts), strict=True)
    ):
        with nullcontext() if part == parts - 1 else learner.no_sync():
            loss, logits = info_nce(learner.wrapped(images), k, learner.queue.keys_KC, temperature)
            loss = loss * (len(images) / len(images_q))
            learner.backward(loss)
        losses.append(loss.detach())
        all_logits.append(logits.detach())
    learner.optimizer.step()
    learner.queue.enqueue(keys)
    return torch.stack(losses).sum(), torch.cat(all_logits)


def learning_rate(
    step: int, steps: int, lr: float, schedule: str, milestones: Sequence[float] = (), warmup: float = 0.0
) -> float:
    """The learning rate of a step: constant, falling to a tenth at each milestone, or along half a cosine to 0.

    Args:
        step: from 0.
        milestones: shares of the run, for the schedule `step`.
        warmup: share of the run in which the rate rises from 0 in a line.
    """
    share = step / steps
    factor = 1.0
    if schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * share))
    elif schedule == "step":
        factor = 0.1 ** sum(share >= milestone for milestone in milestones)
    rise = warmup * steps
    return lr * factor * min(1.0, (step + 1) / rise if rise else 1.0)


def make_optimizer(name: str, query: Projector, lr: float, weight_decay: float) -> Optimizer:
    """Adam and SGD with L2 weight decay, AdamW with decoupled; betas 0.9 and 0.999, SGD momentum 0.9."""
    parameters = [p for p in query.parameters() if p.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay, fused=True)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return kind(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay, fused=True)
