"""Momentum contrast (MoCo), in the papers' letters: algorithm, step, state, measures, and its words of health.

Sources: MoCo v1 (He et al. 2020, arXiv 1911.05722, algorithm 1), MoCo v2 (Chen et al. 2020, arXiv 2003.04297: MLP
head), MoCo-CXR (arXiv 2010.05352).

    N  images in a batch     C  length of an embedding     K  keys in the queue     D  length of an encoder's feature
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from mococxr.encoders import Encoder
from mococxr.errors import InputError
from mococxr.pretraining import diagnostics
from mococxr.pretraining.dataset import free_queue, largest_queue
from mococxr.pretraining.diagnostics import DIVERGING, Log, Run, Verdict
from mococxr.pretraining.method import (
    Method,
    OneProcess,
    Projector,
    StepResult,
    Words,
    compile_for,
    refuse_too_few,
    seeded,
    sent,
)
from mococxr.settings import QUEUES, PretrainSettings

RUNAWAY, RUNAWAY_A_STEP = 0.8, 0.008
"""Lag, and lag a step of the key encoder's memory: the query encoder has left its own average of the last steps behind.
With Adam a sound rate moves weights by 0.1 to 0.2 % a step, 0.1 as rate by 3 to 10 %."""
FOLLOWED = 0.05
"""Share of the query encoder's way that the key encoder is to go by the end of the run. In a straight line it goes
T (1 - m) / 2 of it, so that this is a memory 1 / (1 - m) of ten times the run."""
OLD = 25.0
"""Queue age in memories of the key encoder. MoCo v1, table in section 4.1: queue of 256 steps, accuracy 59.0 at 0.3
memories, 57.8 at 2.6, 55.2 at 26, no convergence at 256."""


class MoCo(Method):
    """Query encoder, its momentum copy, and the queue of keys.

    Keys come before queries, so that they are computed while no graph of the queries is held. Nothing in a step waits
    for the device.

    Raises:
        InputError: settings that do not fit the weights or the machine.
    """

    words = Words("momentum contrast (MoCo v2)", "Chen et al. 2020, arXiv 2003.04297")
    RUNNING = ("loss", "contrast_accuracy", "positive_auroc", "alignment")
    MEASURES = (
        "feature_std", "effective_rank", "uniformity", "key_std", "duplicate_negatives", "left_out_negatives",
        "query_key_distance", "key_progress", "queue_filled", "queue_age",
    )  # fmt: skip

    def __init__(self, encoder: Encoder, settings: PretrainSettings, accelerator: Accelerator | OneProcess) -> None:
        s = settings
        with seeded(s.seed):
            # drawn before the copy: key and query start equal
            query = Projector(encoder, encoder.spec.feature_dim, s.dim, mlp=s.head == "mlp").train()
        self.key = key_copy(query).to(accelerator.device).train()
        # With --batch auto the batch is searched before the queue is known to fit the images.
        length = s.queue or QUEUES[s.preset]
        self.queue = KeyQueue(length, s.dim, seed=s.seed).to(accelerator.device)
        if s.compile:
            compile_for(s, self.key.encoder)
        super().__init__(query, s, accelerator)
        self.networks.append(self.key)  # so that its buffers, too, are put back after compiling
        # In the same state on every process: all permute the images of all alike.
        self.shuffle = torch.Generator().manual_seed(s.seed % 2**63)
        self.steps = 0
        # before a checkpoint is restored: the start of the run, also when resumed
        self.start = diagnostics.weight_sample(query)
        self.chance = math.log(length + 1)  # cross entropy of equal logits, K negatives and the positive

    @classmethod
    def settle(cls, settings: PretrainSettings, images: int, world: int = 1) -> PretrainSettings:
        """Settle K: the one asked for if the images allow it, else the preset's or what leaves their order free."""
        refuse_too_few(settings, images, 2, world)  # one batch an epoch would leave a queue of 0 keys (`largest_queue`)
        if settings.queue is None:
            longest = free_queue(images, settings.batch)
            return dataclasses.replace(settings, queue=min(QUEUES[settings.preset], longest))
        most = largest_queue(images, settings.batch)
        if settings.queue > most:
            raise InputError(
                f"--queue {settings.queue:,} is too long for {images:,} images in batches of {settings.batch}: an image "
                "would meet its own last key among the negatives.",
                f"Give --queue {most:,} or less, or leave it out.",
            )
        return settings

    def step(
        self, views: Tensor, lr: float, groups: Tensor | None = None, metadata_2nA: Tensor | None = None
    ) -> StepResult:
        """MoCo, algorithm 1: momentum update, keys, queries, loss, descent, and enqueue last.

        Keys in the queue that share a number of `groups` with the query are no negatives of it.

        With `--accumulate` the queries pass in parts, each backward before the next, and the gradients add up; the
        memory for activations falls with the parts. All else is done once a step; all parts meet the same queue. A
        part's loss counts by its share of the images, so that loss and gradients are those of the whole batch but for
        rounding, where the query encoder treats each image by itself. Batch norm does not: it takes the statistics of
        a part, and its running averages move once a part.
        """
        s, (views_q, views_k) = self.settings, views
        numbers = self._numbers(groups, len(views_q) * self.world)
        parts = min(s.accumulate, len(views_q) // 2)  # batch norm needs two images in each
        self.set_rate(lr)
        # before the keys, as in the authors' code; in algorithm 1 it follows the descent
        momentum_update(self.network, self.key, s.momentum)
        # No graph is held yet: keys and queries need not share the memory.
        with self.autocast():
            passes = min(s.key_groups, len(views_k) // 2)
            keys = shuffled_keys(self.key, views_k, passes, self.shuffle, self.gather, self.rank, self.world)
        share = slice(self.rank * len(views_q), (self.rank + 1) * len(views_q))  # keys are of all processes, by rank
        self.optimizer.zero_grad(set_to_none=True)
        losses, all_logits, auxiliaries = [], [], []
        values = views.new_zeros(len(views_q), 0) if metadata_2nA is None else metadata_2nA[0]
        sides = zip(*(of.tensor_split(parts) for of in (views_q, keys[share], numbers[share], values)), strict=True)
        for part, (images, k, numbers_q, values_q) in enumerate(sides):
            # Processes add up their gradients once, in the last part.
            with nullcontext() if part == parts - 1 else self.no_sync():
                same_NK = numbers_q[:, None] == self.queue.numbers_K
                loss, part_logits = info_nce(self.wrapped(images), k, self.queue.keys_KC, s.temperature, same_NK)
                loss = loss * (len(images) / len(views_q))
                auxiliary = self.auxiliary_loss(values_q) * (len(images) / len(views_q))
                self.backward(loss + s.auxiliary_weight * auxiliary)
            auxiliaries.append(auxiliary.detach())
            losses.append(loss.detach())
            all_logits.append(part_logits.detach())
        self.optimizer.step()
        self.update_average()
        self.queue.enqueue(keys, numbers)  # after the loss: a queue that held these keys would keep it above log 2
        self.steps += 1
        return StepResult(torch.stack(losses).sum(), torch.cat(all_logits), auxiliary=torch.stack(auxiliaries).sum())

    def _numbers(self, groups: Tensor | None, images: int) -> Tensor:
        """The groups on the device; without, numbers that nobody else has, now or in the queue."""
        if groups is None:
            groups = torch.arange(images) + self.steps * images
        return sent(groups, self.device)

    def pass_once(self, images: Tensor) -> None:
        """Queries in their parts, keys in their groups."""
        for size in sorted({len(part) for part in images.tensor_split(self.settings.accumulate)}):
            self.backward(self.wrapped(images[:size]).sum())
        for size in sorted({len(part) for part in images.tensor_split(self.settings.key_groups)}):
            with torch.no_grad(), self.autocast():
                self.key(images[:size])

    # --- what is measured

    def running(self, result: StepResult) -> Tensor:
        """Loss, contrast accuracy, AUROC of pairs and alignment of a step, (4,)."""
        newest = self._newest(self.steps - 1)  # the logits are from before this step's keys entered
        return diagnostics.contrast_measures(result.loss, result.logits, newest, self.settings.temperature)

    def _newest(self, steps: int) -> Tensor:
        """Places in the queue of the keys of the last of so many steps."""
        length, entered = len(self.queue.keys_KC), steps * self.settings.batch
        first = entered - min(length, self.settings.batch)  # of a batch longer than K the last K stay
        return torch.arange(first, entered, device=self.device) % length

    def measures(self, result: StepResult) -> dict[str, float | None]:
        """Spread of the keys, ties, and where the key encoder and its queue stand."""
        length, batch = len(self.queue.keys_KC), self.settings.batch
        filled = min(length, self.steps * batch)  # the rest is still random vectors, which would look evenly spread
        newest = self.queue.keys_KC[self._newest(self.steps)]
        query, key = (diagnostics.weight_sample(network) for network in (self.network, self.key))
        moved = float((query - self.start).norm())
        return {
            **diagnostics.spread(self.queue.keys_KC[:filled]),
            "key_std": diagnostics.feature_std(newest) if len(newest) > 1 else None,
            "duplicate_negatives": self.shared_mean(diagnostics.duplicate_negatives(result.logits)),
            "left_out_negatives": self.shared_mean(left_out_negatives(result.logits)),
            "query_key_distance": diagnostics.relative_distance(self.network, self.key),
            # weights at rest are stuck, not stale
            "key_progress": float((key - self.start).norm()) / moved if moved else 1.0,
            "queue_filled": filled / length,
            "queue_age": math.ceil(filled / batch),
        }

    def judge(self, log: Log, steps: int) -> Verdict:
        """One word on the run."""
        s = self.settings
        return judge(log, Run(steps, s.batch, len(self.queue.keys_KC), s.dim, s.momentum, self.trained))

    def remarks(self) -> list[str]:
        """The length of the queue, which may be less than the preset's."""
        length, preset = len(self.queue.keys_KC), QUEUES[self.settings.preset]
        return [f"queue K {length:,}" + ("" if length == preset else f" (the preset's is {preset:,})")]

    def facts(self) -> dict[str, Any]:
        """The queue, the momentum, and what guessing and an own key would give."""
        s = self.settings
        return {"guessing": self.chance, "own_key_floor": math.log(2), "queue": s.queue, "momentum": s.momentum}

    def parts(self) -> dict[str, Any]:
        """Query, key, queue, optimiser."""
        parts = super().parts()
        return {"query": parts.pop("network"), **parts, "key": self.key, "queue": self.queue}

    def state_dict(self) -> dict[str, Any]:
        """The parts, the generator that shuffles, and the steps that the queue has seen."""
        return {**super().state_dict(), "shuffle": self.shuffle.get_state(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state)
        self.shuffle.set_state(state["shuffle"])
        self.steps = int(state["steps"])


# --- the algorithm


def key_copy(query: Projector) -> Projector:
    """The key encoder at the start: encoder, head and buffers as the query's, moved by no gradient."""
    key = copy.deepcopy(query)
    key.requires_grad_(False)  # it follows by averaging alone
    return key


@torch.no_grad()
def momentum_update(query: nn.Module, key: nn.Module, m: float) -> None:
    """theta_k <- m theta_k + (1 - m) theta_q, parameters only.

    Batch-norm buffers are not averaged: the key encoder's come from its own forward passes.
    """
    # lerp(k, q, w) = k + w (q - k); one call for all
    torch._foreach_lerp_(list(key.parameters()), list(query.parameters()), 1.0 - m)


class KeyQueue(nn.Module):
    """The last K keys, as negatives: a ring that takes batches of any size, oldest out first.

    Args:
        length: K.
        dim: C.
        seed: of the random unit vectors that stand in it before keys do.
    """

    keys_KC: Tensor
    numbers_K: Tensor
    next_row: Tensor

    def __init__(self, length: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed % 2**63)
        self.register_buffer("keys_KC", F.normalize(torch.randn(length, dim, generator=generator), dim=1))
        self.register_buffer("numbers_K", torch.full((length,), -1))  # before keys stand there: nobody's
        # a tensor: no step waits for the device to read it
        self.register_buffer("next_row", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, k_NC: Tensor, numbers_N: Tensor) -> None:
        """Put a batch of keys and their groups' numbers in, wrapping around; of a batch longer than K the last K stay."""
        length, count = len(self.keys_KC), len(k_NC)
        kept = k_NC[-length:]
        # the rows of the last K, had all been put in turn
        steps = torch.arange(count - len(kept), count, device=k_NC.device)
        rows = (self.next_row + steps) % length
        self.keys_KC[rows], self.numbers_K[rows] = kept.to(self.keys_KC.dtype), numbers_N[-length:]
        self.next_row.copy_((self.next_row + count) % length)


def info_nce(
    q_NC: Tensor, k_NC: Tensor, queue_KC: Tensor, temperature: float, same_NK: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """InfoNCE, mean over the batch, with the logits (N, 1 + K) it came from; the positive is column 0.

    The queue must not hold these keys yet: an own key among the negatives keeps the loss above log 2.

    Args:
        same_NK: True where a key of the queue is no negative of a query: its logit is -inf.
    """
    positive = (q_NC * k_NC).sum(dim=1, keepdim=True)  # unit vectors: cosines
    negatives = q_NC @ queue_KC.T
    if same_NK is not None:
        negatives = negatives.masked_fill(same_NK, -math.inf)
    all_logits = torch.cat([positive, negatives], dim=1) / temperature
    target = torch.zeros(len(q_NC), dtype=torch.long, device=q_NC.device)
    return F.cross_entropy(all_logits, target), all_logits


@torch.no_grad()
def shuffled_keys(
    key: Callable[[Tensor], Tensor],
    images: Tensor,
    groups: int,
    generator: torch.Generator,
    gather: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    rank: int = 0,
    world: int = 1,
) -> Tensor:
    """Keys of the images of all processes, each batch-normalised with strangers.

    With plain batch norm a query and its key share their batch statistics, a short cut that solves the task without
    looking (MoCo v1, section 3.3). Here the images of all processes are permuted alike everywhere, each process takes
    its share in `groups` forward passes, and the keys go back to their places.

    Args:
        images: (N, ...) of this process.
        groups: forward passes a process makes, of sizes that differ by one at most; 1 on one process is no
            shuffling at all.
        generator: in the same state on every process.
        gather: tensor of this process -> tensors of all, concatenated by rank.

    Returns:
        (N x world, C): keys by rank, then by place.
    """
    everyone = gather(images)
    if groups == 1 and world == 1:  # one pass over all: a permutation would change nothing
        return key(everyone)
    # drawn on the CPU: alike on all devices
    order = sent(torch.randperm(len(everyone), generator=generator), images.device)
    share = order.chunk(world)[rank]
    keys = gather(torch.cat([key(everyone[part]) for part in share.tensor_split(groups)]))
    return keys[torch.argsort(order)]  # the inverse permutation


def left_out_negatives(all_logits: Tensor) -> float:
    """Share of images that met a key of their own group in the queue, whose logit is -inf, so that it is no negative."""
    return float((all_logits[:, 1:] == -math.inf).any(dim=1).float().mean())


# --- words of health


def judge(log: Log, run: Run) -> Verdict:
    """One of collapsed, dimensional collapse, diverging, learning, self-negative, stale keys,
    stuck, too easy, warming up; with reason and remedy.
    """
    d = diagnostics
    certain = (d.growing, _running_away, _stale, d.same_picture)  # in order: the first fault found is the verdict
    # collapsed before tied: keys at one point are tied, too
    return d.judge(log, run, certain, (d.collapsed, _tied, d.flat, d.stuck, d.easy_at_once))


def _running_away(log: Log, _: Log, run: Run) -> Verdict | None:
    for entry in log:
        lag = entry["query_key_distance"]
        # the average is over the steps so far at most
        if lag > RUNAWAY and lag / min(entry["step"], run.memory) > RUNAWAY_A_STEP:
            why = f"In {entry['step']:,} steps the weights moved {lag:.0%} of their length from their average."
            return Verdict("diverging", why, DIVERGING)
    return None


def _stale(log: Log, _: Log, run: Run) -> Verdict | None:
    last, age = log[-1], run.queue / run.batch  # in steps
    # `FOLLOWED` is due at the end of the run, before that in proportion
    if last["key_progress"] < FOLLOWED * last["step"] / run.steps:
        return Verdict(
            "stale keys",
            f"After {last['step']:,} steps the momentum encoder has gone {last['key_progress']:.1%} of the way that the "
            f"query encoder went (--momentum {run.momentum:g}).",
            # a memory of a tenth of the run
            f"Lower --momentum: for {run.steps:,} steps to {max(0.9, 1 - 10 / run.steps):.3g} or less.",
        )
    if age / run.memory > OLD:
        return Verdict(
            "stale keys",
            f"The oldest keys are {age:,.0f} steps old, and the momentum encoder forgets in {run.memory:,.0f}.",
            "Raise --momentum, or shorten --queue.",
        )
    return None


def _tied(_: Log, window: Log, __: Run) -> Verdict | None:
    share = diagnostics.mean_of(window, "duplicate_negatives")
    if share <= 0.5:  # about 0 in sound runs, 1 with the fault (`duplicate_negatives`)
        return None
    return Verdict(
        "self-negative",
        f"{share:.0%} of images have a negative equal to their own key, so the loss cannot fall below log 2 = "
        f"{math.log(2):.2f}.",
        "Shorten --queue, or fix the order of the images.",
    )
