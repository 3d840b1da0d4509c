from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Barrier, Thread

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mococxr.pretraining import step
from mococxr.pretraining.moco import KeyQueue, Projector, info_nce, key_copy, shuffled_keys
from mococxr.pretraining.step import Learner, make_optimizer, moco_step
from test_moco import Pixels, images, small_net


def make_learner(encoder: nn.Module, queue: int = 16, lr: float = 0.1) -> Learner:
    torch.manual_seed(0)
    query = Projector(encoder, 64, 32).train()
    return Learner(
        query=query,
        wrapped=query,
        key=key_copy(query).train(),
        queue=KeyQueue(queue, 32),
        optimizer=make_optimizer("sgd", query, lr, 0.0),
        shuffle=torch.Generator().manual_seed(0),
        gather=lambda tensor: tensor,
        backward=lambda loss: loss.backward(),
    )


# --- shuffled keys


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("count", [6, 7, 8, 11])
def test_shuffled_keys_come_back_to_their_places(groups, count):
    passes = []

    def key(part: Tensor) -> Tensor:
        passes.append(len(part))
        return part

    numbers = torch.arange(count)[:, None]
    keys = shuffled_keys(key, numbers, groups, torch.Generator().manual_seed(0))
    assert torch.equal(keys, numbers)
    assert len(passes) == groups
    assert max(passes) - min(passes) <= 1  # no image is left to be normalised alone


def in_world_of(world: int, process: Callable[[int, Callable[[Tensor], Tensor]], Tensor]) -> list[Tensor]:
    """Run a function as every rank at once, with a gather that waits for all of them."""
    barrier, desk, results = Barrier(world), [torch.empty(0)] * world, [torch.empty(0)] * world

    def run(rank: int) -> None:
        def gather(tensor: Tensor) -> Tensor:
            desk[rank] = tensor
            barrier.wait(10)
            everything = torch.cat(list(desk))
            barrier.wait(10)
            return everything

        results[rank] = process(rank, gather)

    threads = [Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("world", [2, 3])
def test_every_process_gets_the_keys_of_all_in_order_and_computes_its_share(world, groups):
    count, worked = 6, [0] * world

    def process(rank: int, gather: Callable[[Tensor], Tensor]) -> Tensor:
        def key(part: Tensor) -> Tensor:
            worked[rank] += len(part)
            return part

        own = torch.arange(rank * count, (rank + 1) * count)[:, None]
        generator = torch.Generator().manual_seed(5)
        return shuffled_keys(key, own, groups, generator, gather, rank, world)

    for keys in in_world_of(world, process):
        assert torch.equal(keys[:, 0], torch.arange(world * count))
    assert worked == [count] * world


def test_a_batch_and_its_keys_share_no_batch_statistics_when_keys_are_shuffled():
    net, generator = small_net().train(), torch.Generator().manual_seed(0)
    batch = images(16)
    means: list[Tensor] = []
    net[2].register_forward_pre_hook(lambda _, given: means.append(given[0].mean(dim=0)))
    with torch.no_grad():
        plain = net(batch)
    assert torch.equal(shuffled_keys(net, batch, 1, generator), plain)  # off: the leak is all there
    assert torch.equal(means[1], means[0])
    keys = shuffled_keys(net, batch, 2, generator)
    assert not any(torch.allclose(mean, means[0], atol=1e-3) for mean in means[2:])
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    slow = torch.empty_like(plain)
    for group in (order[:8], order[8:]):  # group by group, by hand
        with torch.no_grad():
            slow[group] = net(batch[group])
    assert torch.equal(keys, slow)


# --- the step


def one_step(learner: Learner, temperature: float = 0.01, m: float = 0.9, groups: int = 1) -> float:
    batch = images(8)
    loss, _ = moco_step(learner, batch, batch, m=m, temperature=temperature, groups=groups)
    return float(loss)


def test_keys_are_enqueued_after_the_loss(monkeypatch):
    assert one_step(make_learner(small_net(norm=False))) < 0.1
    learner = make_learner(small_net(norm=False))

    def too_early(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        learner.queue.enqueue(k)  # the fault: an own key among the negatives
        return info_nce(q, k, queue, temperature)

    monkeypatch.setattr(step, "info_nce", too_early)
    assert one_step(learner) >= math.log(2)


def test_a_step_enqueues_the_keys_of_the_batch_once():
    learner = make_learner(small_net(norm=False))
    before = learner.queue.keys_KC.clone()
    reference = copy.deepcopy(learner.key)
    one_step(learner)
    with torch.no_grad():
        keys = reference(images(8))
    np.testing.assert_allclose(learner.queue.keys_KC[:8], keys, atol=1e-5)
    assert torch.equal(learner.queue.keys_KC[8:], before[8:])
    assert int(learner.queue.enqueued) == 8


def test_gradients_reach_the_query_only_and_the_key_follows_by_momentum():
    learner = make_learner(small_net())
    one_step(learner, temperature=0.2, m=1.0)
    query = {name: p.detach().clone() for name, p in learner.query.named_parameters()}
    key = {name: p.detach().clone() for name, p in learner.key.named_parameters()}
    one_step(learner, temperature=0.2)
    assert all(p.grad is not None for p in learner.query.parameters())
    assert all(p.grad is None for p in learner.key.parameters())
    assert not learner.queue.keys_KC.requires_grad
    for name, p in learner.query.named_parameters():
        if name != "encoder.1.bias":  # batch norm takes a constant out again
            assert not torch.equal(p, query[name]), name
    assert (query["head.2.weight"] - key["head.2.weight"]).abs().max() > 1e-3  # there was something to follow
    for name, p in learner.key.named_parameters():  # from the query as it was before its step
        torch.testing.assert_close(p, 0.9 * key[name] + 0.1 * query[name], rtol=0, atol=1e-6, msg=name)


def test_the_key_encoders_batch_norm_goes_by_its_own_batches():
    learner = make_learner(small_net())
    bn = learner.key.encoder[2]
    moco_step(learner, images(8), images(8, seed=1), m=1.0, temperature=0.2, groups=1)
    expected = 0.1 * learner.key.encoder[1](Pixels()(images(8, seed=1))).mean(dim=0)
    np.testing.assert_allclose(bn.running_mean, expected.detach(), atol=1e-6)
    assert learner.key.training


def test_the_positive_of_each_process_is_its_own_key():
    """Two processes with halves of a batch: losses and queues together are those of one with all of it."""
    whole = make_learner(small_net(norm=False))
    q_images, k_images = images(8), images(8, seed=1)
    loss, all_logits = moco_step(whole, q_images, k_images, m=0.9, temperature=0.2, groups=1)
    learners = [make_learner(small_net(norm=False)) for _ in range(2)]

    def process(rank: int, gather: Callable[[Tensor], Tensor]) -> Tensor:
        learner = learners[rank]
        learner.gather, learner.rank, learner.world = gather, rank, 2
        half = slice(4 * rank, 4 * rank + 4)
        return moco_step(learner, q_images[half], k_images[half], m=0.9, temperature=0.2, groups=2)[1]

    np.testing.assert_allclose(torch.cat(in_world_of(2, process)), all_logits, atol=1e-5)
    assert math.isfinite(float(loss))
    for learner in learners:
        np.testing.assert_allclose(learner.queue.keys_KC, whole.queue.keys_KC, atol=1e-6)
    assert torch.equal(learners[0].queue.keys_KC, learners[1].queue.keys_KC)


# --- a step in parts


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_step_in_parts_is_the_step_but_for_rounding(parts):
    whole, pieces = (make_learner(small_net(norm=False)) for _ in range(2))
    plain = copy.deepcopy(whole.query)
    for round_ in range(3):
        batches = images(8, seed=2 * round_), images(8, seed=2 * round_ + 1)
        how = {"m": 0.9, "temperature": 0.2, "groups": 2}
        expected, expected_logits = moco_step(whole, *batches, **how)
        loss, all_logits = moco_step(pieces, *batches, **how, parts=parts)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(all_logits, expected_logits, rtol=0, atol=1e-5)
        for (name, p), other in zip(whole.query.named_parameters(), pieces.query.parameters(), strict=True):
            torch.testing.assert_close(other.grad, p.grad, rtol=0, atol=1e-6, msg=name)
            torch.testing.assert_close(other, p, rtol=0, atol=1e-6, msg=name)
        torch.testing.assert_close(pieces.queue.keys_KC, whole.queue.keys_KC, rtol=0, atol=1e-6)
        assert torch.equal(pieces.queue.place, whole.queue.place)
    assert not torch.equal(plain.head[0].weight, whole.query.head[0].weight)  # there was something to compare


def test_in_parts_the_keys_are_those_of_the_whole_batch_and_only_query_batch_norm_sees_parts():
    whole, pieces = (make_learner(small_net()) for _ in range(2))
    seen: list[int] = []
    pieces.query.encoder[2].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    pieces.key.encoder[2].register_forward_pre_hook(lambda _, given: seen.append(-len(given[0])))
    how = {"m": 0.9, "temperature": 0.2, "groups": 2}
    moco_step(whole, images(8), images(8, seed=1), **how)
    moco_step(pieces, images(8), images(8, seed=1), **how, parts=2)
    assert seen == [-4, -4, 4, 4]
    assert torch.equal(pieces.queue.keys_KC, whole.queue.keys_KC)
    assert torch.equal(pieces.key.encoder[2].running_mean, whole.key.encoder[2].running_mean)
    assert int(pieces.query.encoder[2].num_batches_tracked) == 2


def test_processes_add_up_their_gradients_in_the_last_part_only():
    learner, told = make_learner(small_net(norm=False)), []

    @contextmanager
    def alone() -> Iterator[None]:
        told.append("alone")
        yield
        told.append("together")

    learner.no_sync = alone
    learner.backward = lambda loss: told.append("backward") or loss.backward()
    moco_step(learner, images(6), images(6, seed=1), m=0.9, temperature=0.2, groups=1, parts=3)
    assert told == ["alone", "backward", "together"] * 2 + ["backward"]


class Waits(TorchDispatchMode):
    """Counts what a program must wait for: numbers read from a tensor, and sizes that depend on what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operation, types, given=(), named=None):
        if str(operation).split(".")[1] in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero"):
            self.found.append(str(operation))
        return operation(*given, **(named or {}))


@pytest.mark.parametrize("parts", [1, 2])
def test_nothing_in_a_step_waits_for_the_device(parts):
    learner = make_learner(small_net())
    with Waits() as waits:
        loss, _ = moco_step(learner, images(8), images(8), m=0.9, temperature=0.2, groups=2, parts=parts)
    assert waits.found == []
    with waits:
        loss.item()
    assert len(waits.found) == 1
