from __future__ import annotations

import copy
import math
from collections import deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.utils import update_momentum
from torch import Tensor, nn

from mococxr.pretraining.method import Projector
from mococxr.pretraining.moco import KeyQueue, info_nce, key_copy, momentum_update


def unit(rows: int, columns: int = 16, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)), dim=1)


class Pixels(nn.Module):
    """An encoder without batch norm: the centred pixels themselves."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().flatten(1) / 255 - 0.5


def small_net(norm: bool = True) -> nn.Module:
    """Images (N, 1, 8, 8) -> (N, 64), with or without batch norm; the same weights each time."""
    torch.manual_seed(0)
    return nn.Sequential(Pixels(), nn.Linear(64, 64), nn.BatchNorm1d(64) if norm else nn.Identity())


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)


# --- the loss


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("count", [1, 6, 32])
def test_info_nce_is_lightlys_with_the_bank_before_its_update(temperature, count):
    with torch.random.fork_rng():
        torch.manual_seed(1000)  # lightly draws its bank from the global generator
        oracle = NTXentLoss(temperature, memory_bank_size=(24, 16))
    for round_ in range(6):  # the bank of 24 wraps on the way
        q, k = unit(count, seed=2 * round_).requires_grad_(), unit(count, seed=2 * round_ + 1)
        bank = oracle.memory_bank.bank.clone()
        loss, _ = info_nce(q, k, bank, temperature)
        assert loss.item() == pytest.approx(oracle(q, k).item(), rel=1e-6, abs=1e-6)
        assert not torch.equal(bank, oracle.memory_bank.bank)


def test_the_positive_stands_in_the_first_column():
    q, k, queue = unit(5), unit(5, seed=1), unit(9, seed=2)
    slow = [[float(q[i] @ other) / 0.2 for other in (k[i], *queue)] for i in range(5)]  # row by row, product by product
    np.testing.assert_allclose(info_nce(q, k, queue, 0.2)[1], slow, atol=1e-5)
    slow_loss = np.mean([-row[0] + math.log(sum(math.exp(v) for v in row)) for row in slow])
    assert info_nce(q, k, queue, 0.2)[0].item() == pytest.approx(slow_loss, abs=1e-5)


def test_guessing_costs_the_logarithm_of_one_and_the_queue():
    same = unit(1).expand(8, -1)
    assert info_nce(same, same, same[:1].expand(50, -1), 0.2)[0].item() == pytest.approx(math.log(51), abs=1e-5)


# --- the momentum encoder


def test_the_momentum_update_is_lightlys_and_leaves_batch_norm_buffers_alone():
    torch.manual_seed(0)
    query = Projector(small_net(), 64, 32).double()
    key = Projector(small_net(), 64, 32).double()
    query.encoder[2](torch.randn(8, 64).double())
    key.encoder[2](torch.randn(8, 64).double() + 1)
    oracle, buffers = copy.deepcopy(key), {n: b.clone() for n, b in key.named_buffers()}
    for _ in range(3):
        update_momentum(query, oracle, 0.99)
        momentum_update(query, key, 0.99)
    for (name, ours), theirs in zip(key.named_parameters(), oracle.parameters(), strict=True):
        assert (ours - theirs).abs().max() < 1e-8, name
    assert len(buffers) == 3
    for name, buffer in key.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


@pytest.mark.parametrize("mlp", [True, False])
def test_the_key_encoder_starts_as_a_copy_of_encoder_and_head(mlp):
    query = Projector(small_net(), 64, 32, mlp=mlp)
    key = key_copy(query)
    for (name, ours), other in zip(query.state_dict().items(), key.state_dict().values(), strict=True):
        assert torch.equal(ours, other), name
        assert ours.data_ptr() != other.data_ptr(), name
    assert len(list(key.head.parameters())) == (4 if mlp else 2)
    assert not any(p.requires_grad for p in key.parameters())


def test_features_lie_on_the_unit_sphere_in_single_precision():
    query = Projector(small_net(), 64, 32).bfloat16()
    query.encoder[0] = nn.Sequential(Pixels(), nn.Identity())
    query.encoder[0].register_forward_hook(lambda *a: a[2].bfloat16())
    z = query(images(8))
    assert z.dtype == torch.float32
    np.testing.assert_allclose(z.detach().norm(dim=1), 1, atol=1e-6)


# --- the queue


@pytest.mark.parametrize("length", [1, 5, 16, 24])
@pytest.mark.parametrize("batches", [[4] * 9, [3, 7, 1, 16, 2, 5], [40, 3, 25, 1], [24, 24, 1]])
def test_a_queue_of_any_length_takes_batches_of_any_size_and_loses_nothing(length, batches):
    queue = KeyQueue(length, 16)
    slow = deque(queue.keys_KC.tolist(), maxlen=length)
    slow_numbers = deque([-1] * length, maxlen=length)
    for number, count in enumerate(batches):
        keys, numbers = unit(count, seed=number), torch.arange(count) + 100 * number
        queue.enqueue(keys, numbers)
        slow.extend(keys.tolist())
        slow_numbers.extend(numbers.tolist())
        assert queue.keys_KC.roll(-int(queue.next_row), 0).tolist() == list(slow)
        assert queue.numbers_K.roll(-int(queue.next_row), 0).tolist() == list(slow_numbers)


def test_the_queue_travels_with_the_state_and_starts_from_its_seed():
    queue = KeyQueue(7, 16, seed=3)
    assert torch.equal(queue.keys_KC, KeyQueue(7, 16, seed=3).keys_KC)
    assert not torch.equal(queue.keys_KC, KeyQueue(7, 16, seed=4).keys_KC)
    np.testing.assert_allclose(queue.keys_KC.norm(dim=1), 1, atol=1e-6)
    queue.enqueue(unit(5), torch.arange(5))
    other = KeyQueue(7, 16)
    other.load_state_dict(queue.state_dict())
    for one in (queue, other):
        one.enqueue(unit(4, seed=9), torch.arange(4))
    assert torch.equal(queue.keys_KC, other.keys_KC)
    assert torch.equal(queue.numbers_K, other.numbers_K)
    assert int(other.next_row) == 2
