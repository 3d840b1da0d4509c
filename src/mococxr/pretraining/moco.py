"""Momentum contrast (MoCo), in the papers' letters: the algorithm and nothing else.

Sources: MoCo v1 (He et al. 2020, arXiv 1911.05722, algorithm 1), MoCo v2 (Chen et al. 2020, arXiv 2003.04297: MLP
head), MoCo-CXR (arXiv 2010.05352).

    N  images in a batch      C  length of a projected feature      K  keys in the queue      D  length of a feature
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Module):
    """An encoder with its projection head: images (N, ...) -> unit features (N, C).

    Args:
        encoder: images -> (N, D).
        width: D.
        dim: C.
        mlp: head D-D-C with ReLU (MoCo v2) or one linear layer (v1).
    """

    def __init__(self, encoder: nn.Module, width: int, dim: int, mlp: bool = True) -> None:
        super().__init__()
        self.encoder = encoder
        hidden = [nn.Linear(width, width), nn.ReLU()] if mlp else []
        self.head = nn.Sequential(*hidden, nn.Linear(width, dim))

    def forward(self, images: Tensor) -> Tensor:
        """Project and put on the unit sphere, in float32 whatever the precision of the encoder."""
        return F.normalize(self.head(self.encoder(images)).float(), dim=1)


def key_copy(query: Projector) -> Projector:
    """The key encoder at the start: encoder, head and buffers as the query's, moved by no gradient."""
    key = copy.deepcopy(query)
    key.requires_grad_(False)
    return key


@torch.no_grad()
def momentum_update(query: nn.Module, key: nn.Module, m: float) -> None:
    """theta_k <- m theta_k + (1 - m) theta_q, parameters only.

    Batch-norm buffers are not averaged: the key encoder's come from its own forward passes.
    """
    torch._foreach_lerp_(list(key.parameters()), list(query.parameters()), 1.0 - m)


class KeyQueue(nn.Module):
    """The last K keys, as negatives: a ring that takes batches of any size, oldest out first.

    Args:
        length: K.
        dim: C.
        seed: of the random unit vectors that stand in it before keys do.
    """

    keys_KC: Tensor
    place: Tensor
    enqueued: Tensor

    def __init__(self, length: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("keys_KC", F.normalize(torch.randn(length, dim, generator=generator), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, k_NC: Tensor) -> None:
        """Put a batch of keys in, wrapping around; of a batch longer than K the last K stay."""
        length, count = len(self.keys_KC), len(k_NC)
        kept = k_NC[-length:]
        steps = torch.arange(count - len(kept), count, device=k_NC.device)
        self.keys_KC[(self.place + steps) % length] = kept.to(self.keys_KC.dtype)
        self.place.copy_((self.place + count) % length)
        self.enqueued.add_(count)


def logits(q_NC: Tensor, k_NC: Tensor, queue_KC: Tensor, temperature: float) -> Tensor:
    """(N, 1 + K): the positive first, then the queue, over T."""
    positive = (q_NC * k_NC).sum(dim=1, keepdim=True)
    negative = q_NC @ queue_KC.T
    return torch.cat([positive, negative], dim=1) / temperature


def info_nce(q_NC: Tensor, k_NC: Tensor, queue_KC: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE, mean over the batch, with the logits it came from; the positive is column 0.

    The queue must not hold these keys yet: an own key among the negatives keeps the loss above log 2.
    """
    all_logits = logits(q_NC, k_NC, queue_KC, temperature)
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
    if groups == 1 and world == 1:
        return key(everyone)
    order = _sent(torch.randperm(len(everyone), generator=generator), images.device)
    mine = order.chunk(world)[rank]
    keys = gather(torch.cat([key(everyone[part]) for part in mine.tensor_split(groups)]))
    return keys[torch.argsort(order)]


def _sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers on a device; the program does not wait for a GPU that is still at work on earlier steps."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)
