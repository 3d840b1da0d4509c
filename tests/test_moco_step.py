from __future__ import annotations

import copy
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from method_parts import Net, alone
from mococxr.pretraining import moco
from mococxr.pretraining.dataset import gather_images, study_partners
from mococxr.pretraining.hardware import make_accelerator
from mococxr.pretraining.loader import make_loader
from mococxr.pretraining.method import StepResult
from mococxr.pretraining.moco import MoCo, info_nce, shuffled_keys
from mococxr.settings import PretrainSettings
from mococxr.store import Store
from small_run import tiny
from test_moco import Pixels, images, small_net


def make_moco(encoder: nn.Module, queue: int = 16, **others: Any) -> MoCo:
    defaults = {"method": "moco", "dim": 32, "batch": 8, "queue": queue, "optimizer": "sgd", "lr": 0.1}
    settings = PretrainSettings(
        stores=(), out=Path("-"), **{**defaults, "weight_decay": 0.0, "momentum": 0.9, "key_groups": 1, **others}
    )
    return MoCo(Net(encoder, 64), settings, alone())


def step(method: MoCo, images_q: Tensor, images_k: Tensor, groups: Tensor | None = None) -> StepResult:
    return method.step(torch.stack([images_q, images_k]), method.settings.lr, groups)


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


def one_step(method: MoCo) -> float:
    return float(step(method, images(8), images(8)).loss)


def test_keys_are_enqueued_after_the_loss(monkeypatch):
    assert one_step(make_moco(small_net(norm=False), temperature=0.01)) < 0.1
    method = make_moco(small_net(norm=False), temperature=0.01)

    def too_early(q: Tensor, k: Tensor, queue: Tensor, temperature: float, same: Tensor) -> tuple[Tensor, Tensor]:
        method.queue.enqueue(k, torch.arange(8))  # the fault: an own key among the negatives
        return info_nce(q, k, queue, temperature, same)

    monkeypatch.setattr(moco, "info_nce", too_early)
    assert one_step(method) >= math.log(2)


def test_a_step_enqueues_the_keys_of_the_batch_once():
    method = make_moco(small_net(norm=False))
    before = method.queue.keys_KC.clone()
    reference = copy.deepcopy(method.key)
    one_step(method)
    with torch.no_grad():
        keys = reference(images(8))
    np.testing.assert_allclose(method.queue.keys_KC[:8], keys, atol=1e-5)
    assert torch.equal(method.queue.keys_KC[8:], before[8:])


def test_gradients_reach_the_query_only_and_the_key_follows_by_momentum():
    method = make_moco(small_net(), momentum=1.0)
    one_step(method)
    query = {name: p.detach().clone() for name, p in method.network.named_parameters()}
    key = {name: p.detach().clone() for name, p in method.key.named_parameters()}
    method.settings = dataclasses.replace(method.settings, momentum=0.9)
    one_step(method)
    assert all(p.grad is not None for p in method.network.parameters())
    assert all(p.grad is None for p in method.key.parameters())
    assert not method.queue.keys_KC.requires_grad
    for name, p in method.network.named_parameters():
        if name != "encoder.net.1.bias":  # batch norm takes a constant out again
            assert not torch.equal(p, query[name]), name
    assert (query["head.2.weight"] - key["head.2.weight"]).abs().max() > 1e-3  # there was something to follow
    for name, p in method.key.named_parameters():  # from the query as it was before its step
        torch.testing.assert_close(p, 0.9 * key[name] + 0.1 * query[name], rtol=0, atol=1e-6, msg=name)


def test_the_key_encoders_batch_norm_goes_by_its_own_batches():
    method = make_moco(small_net(), momentum=1.0)
    net = method.key.encoder.net
    step(method, images(8), images(8, seed=1))
    expected = 0.1 * net[1](Pixels()(images(8, seed=1))).mean(dim=0)
    np.testing.assert_allclose(net[2].running_mean, expected.detach(), atol=1e-6)
    assert method.key.training


def test_the_positive_of_each_process_is_its_own_key():
    """Two processes with halves of a batch: losses and queues together are those of one with all of it."""
    whole = make_moco(small_net(norm=False))
    q_images, k_images = images(8), images(8, seed=1)
    result = step(whole, q_images, k_images)
    methods = [make_moco(small_net(norm=False), key_groups=2) for _ in range(2)]

    def process(rank: int, gather: Callable[[Tensor], Tensor]) -> Tensor:
        method = methods[rank]
        method.gather, method.rank, method.world = gather, rank, 2
        half = slice(4 * rank, 4 * rank + 4)
        return step(method, q_images[half], k_images[half]).logits

    np.testing.assert_allclose(torch.cat(in_world_of(2, process)), result.logits, atol=1e-5)
    assert math.isfinite(float(result.loss))
    for method in methods:
        np.testing.assert_allclose(method.queue.keys_KC, whole.queue.keys_KC, atol=1e-6)
    assert torch.equal(methods[0].queue.keys_KC, methods[1].queue.keys_KC)


# --- keys that are no negatives


def masked(numbers_q: list[int], queue: deque[int]) -> np.ndarray:
    """The rule, pair by pair: a key of the query's own group is no negative."""
    return np.array([[number == other for other in queue] for number in numbers_q])


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("queue", [5, 16, 30])
def test_keys_of_the_same_group_are_no_negatives_whatever_their_age(queue, parts):
    method, chance = make_moco(small_net(norm=False), queue=queue, accumulate=parts), np.random.default_rng(0)
    slow = deque([-1] * queue, maxlen=queue)
    seen = 0
    for round_ in range(8):
        numbers = chance.integers(0, 12, 8).tolist()
        place = int(method.queue.next_row)
        result = step(method, images(8, seed=round_), images(8, seed=round_ + 50), torch.tensor(numbers))
        out = masked(numbers, slow)
        seen += out.sum()
        assert np.array_equal((result.logits[:, 1:] == -math.inf).numpy(), np.roll(out, place, axis=1))
        assert torch.isfinite(result.loss)
        slow.extend(numbers)
    assert seen >= 20


def test_the_loss_is_that_of_a_slow_loop_over_the_negatives_that_are_left():
    q, k, queue = (torch.nn.functional.normalize(images(n, seed=n).float().flatten(1), dim=1) for n in (6, 6, 9))
    same = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    same[2] = True  # nothing but its positive is left
    q = q.requires_grad_()
    loss, _ = info_nce(q, k[:6], queue, 0.2, same)
    terms = []
    for i in range(6):
        positive = torch.exp(q[i] @ k[i] / 0.2)
        others = [torch.exp(q[i] @ queue[j] / 0.2) for j in range(9) if not same[i, j]]
        terms.append(-torch.log(positive / (positive + sum(others))))
    slow = torch.stack(terms).mean()
    assert float(loss.detach()) == pytest.approx(float(slow.detach()), abs=1e-5)
    (expected,) = torch.autograd.grad(slow, q, retain_graph=True)
    (gradient,) = torch.autograd.grad(loss, q)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("world", [1, 2])
def test_with_positives_of_a_study_no_key_of_the_study_is_a_negative(synthetic_store, tmp_path, world):
    """Three epochs of the orders and partners that a run takes; the images shown on the key side in a slow queue."""
    settings = tiny(synthetic_store, tmp_path, positives="study", queue=24, backbone="test_vit")
    dataset = gather_images([Store.open(synthetic_store)], (32,), "train")
    loaders = [dataclasses.replace(make_loader(settings, dataset, make_accelerator("cpu", "no")), rank=rank, world=world)
               for rank in range(world)]  # fmt: skip
    methods = [make_moco(small_net(norm=False), queue=24, positives="study") for _ in range(world)]
    slow: deque[int] = deque([-1] * 24, maxlen=24)
    own = strangers = 0
    for number in range(3 * loaders[0].steps_per_epoch):
        epoch, _ = loaders[0].images(number)
        shown = np.concatenate([loader.images(number)[1] for loader in loaders])
        place = int(methods[0].queue.next_row)

        def process(rank: int, gather: Callable[[Tensor], Tensor], number: int = number) -> Tensor:
            method, share = methods[rank], 8 // world
            method.gather, method.rank, method.world = gather, rank, world
            part = slice(share * rank, share * (rank + 1))
            views = images(8, seed=number)[part], images(8, seed=number + 99)[part]
            return step(method, *views, loaders[rank].groups(number)).logits

        logits = torch.cat(in_world_of(world, process))
        studies = dataset.study_N[shown].tolist()
        out = masked(studies, deque(dataset.study_N[key] if key >= 0 else -1 for key in slow))
        assert np.array_equal((logits[:, 1:] == -math.inf).numpy(), np.roll(out, place, axis=1))
        own += sum(image in slow for image in shown.tolist())
        strangers += (~out).sum()
        slow.extend(study_partners(dataset, shown, settings.seed, epoch).tolist())
    assert own > 5  # images whose very own key is in the queue: the order alone does not keep it out
    assert strangers > 0


def test_negatives_never_come_from_less_than_the_positives_do(synthetic_store, tmp_path):
    dataset = gather_images([Store.open(synthetic_store)], (32,), "train")

    def kind(**settings: Any) -> str:
        return make_loader(
            tiny(synthetic_store, tmp_path, **settings), dataset, make_accelerator("cpu", "no")
        ).negatives_from

    assert kind() == "image"
    assert kind(positives="study") == "study"
    assert kind(negatives_from="study") == "study"
    assert kind(positives="study", negatives_from="patient") == "patient"


# --- a step in parts


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_a_step_in_parts_is_the_step_but_for_rounding(parts):
    whole = make_moco(small_net(norm=False), key_groups=2)
    pieces = make_moco(small_net(norm=False), key_groups=2, accumulate=parts)
    plain = copy.deepcopy(whole.network)
    for round_ in range(3):
        batches = images(8, seed=2 * round_), images(8, seed=2 * round_ + 1)
        expected, result = step(whole, *batches), step(pieces, *batches)
        torch.testing.assert_close(result.loss, expected.loss, rtol=0, atol=1e-6)
        torch.testing.assert_close(result.logits, expected.logits, rtol=0, atol=1e-5)
        for (name, p), other in zip(whole.network.named_parameters(), pieces.network.parameters(), strict=True):
            torch.testing.assert_close(other.grad, p.grad, rtol=0, atol=1e-6, msg=name)
            torch.testing.assert_close(other, p, rtol=0, atol=1e-6, msg=name)
        torch.testing.assert_close(pieces.queue.keys_KC, whole.queue.keys_KC, rtol=0, atol=1e-6)
        assert torch.equal(pieces.queue.next_row, whole.queue.next_row)
    assert not torch.equal(plain.head[0].weight, whole.network.head[0].weight)  # there was something to compare


def test_in_parts_the_keys_are_those_of_the_whole_batch_and_only_query_batch_norm_sees_parts():
    whole = make_moco(small_net(), key_groups=2)
    pieces = make_moco(small_net(), key_groups=2, accumulate=2)
    sizes: list[int] = []
    query_norm, key_norm = pieces.network.encoder.net[2], pieces.key.encoder.net[2]
    query_norm.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    key_norm.register_forward_pre_hook(lambda _, inputs: sizes.append(-len(inputs[0])))
    for method in (whole, pieces):
        step(method, images(8), images(8, seed=1))
    assert sizes == [-4, -4, 4, 4]
    assert torch.equal(pieces.queue.keys_KC, whole.queue.keys_KC)
    assert torch.equal(key_norm.running_mean, whole.key.encoder.net[2].running_mean)
    assert int(query_norm.num_batches_tracked) == 2


def test_processes_add_up_their_gradients_in_the_last_part_only():
    method, order = make_moco(small_net(norm=False), accumulate=3), []

    @contextmanager
    def unshared() -> Iterator[None]:
        order.append("alone")
        yield
        order.append("together")

    method.no_sync = unshared
    method.backward = lambda loss: order.append("backward") or loss.backward()
    step(method, images(6), images(6, seed=1))
    assert order == ["alone", "backward", "together"] * 2 + ["backward"]
