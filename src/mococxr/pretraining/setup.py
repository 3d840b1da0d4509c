"""What a run is made of before its first step: device and precision, encoders, queue, optimiser, feed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from mococxr import console, encoders
from mococxr.augment import Recipe
from mococxr.errors import InputError
from mococxr.features import pick_device
from mococxr.pretraining.dataset import Orders, Pool
from mococxr.pretraining.hardware import generators_of, knows_bf16, processes_here, view_threads
from mococxr.pretraining.loader import Feed
from mococxr.pretraining.moco import KeyQueue, Projector, key_copy
from mococxr.pretraining.step import Learner, make_optimizer
from mococxr.settings import PretrainSettings


def make_accelerator(
    device: str, precision: str, tracker: str = "none", out: Path | None = None
) -> Accelerator:
    """Where and how precisely to compute.

    Raises:
        InputError: no such device, or one that cannot compute so.
    """
    place = pick_device(device)
    on_cpu = place.type == "cpu"
    if precision == "auto":
        precision = "bf16" if knows_bf16(place) else "no"
    if precision == "fp16" and on_cpu:
        raise InputError("--precision fp16 takes a GPU.", "Give bf16 or no, or leave it out.")
    _meet("gloo" if on_cpu else "nccl")
    options: dict[str, Any] = {} if tracker == "none" else {"log_with": tracker, "project_dir": str(out)}
    # Accelerate keeps device and precision for the whole process; a second run in it may want others.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    return Accelerator(cpu=on_cpu, mixed_precision=precision, **options)


def _meet(backend: str) -> None:
    """Let the processes that torchrun has started on this machine find each other, each start by itself.

    torchrun keeps one store for all its restarts. By itself torch would look there for the addresses of its peers under
    the names that the dead processes used; a process that comes first would find theirs, and wait for nobody. On
    several machines, whose counts of restarts differ, a store for each start is asked for at launch (docs/scaling.md).
    """
    told = os.environ
    here = (
        told.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and told["LOCAL_WORLD_SIZE"] == told["WORLD_SIZE"]
    )
    world = int(told.get("WORLD_SIZE", 1))
    if not here or world == 1 or torch.distributed.is_initialized():
        return
    store = torch.distributed.TCPStore(told["MASTER_ADDR"], int(told["MASTER_PORT"]), world, is_master=False)
    own = torch.distributed.PrefixStore(f"start {told['TORCHELASTIC_RESTART_COUNT']}", store)
    torch.distributed.init_process_group(backend, store=own, rank=int(told["RANK"]), world_size=world)


def build_learner(
    settings: PretrainSettings, pool: Pool, accelerator: Accelerator
) -> tuple[Learner, Feed, str]:
    """Encoders, queue, optimiser and feed, and where the weights came from.

    Raises:
        InputError: settings that do not fit each other, the weights or the machine.
    """
    s = settings
    world = accelerator.num_processes
    check_shares(s.batch, world, s.key_groups, s.accumulate)
    spec = encoders.EncoderSpec(s.backbone, s.size, s.channels, s.mean, s.std)
    encoder, origin = encoders.initial_encoder(s.init, spec, s.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        query = Projector(encoder, encoder.spec.feature_dim, s.dim, mlp=s.head == "mlp").train()
    key = key_copy(query).to(accelerator.device).train()
    queue = KeyQueue(s.queue, s.dim, seed=s.seed).to(accelerator.device)
    query = query.to(accelerator.device)
    if s.compile:
        # In place: the names of the weights, and so the checkpoints, are those of a run without.
        query.encoder.compile()
        key.encoder.compile()
    optimizer = make_optimizer(s.optimizer, query, s.lr, s.weight_decay)
    if world > 1:
        leave_out_unused(query, s.size)
    wrapped, optimizer = accelerator.prepare(query, optimizer)
    learner = Learner(
        query=query,
        wrapped=wrapped,
        key=key,
        queue=queue,
        optimizer=optimizer,
        shuffle=torch.Generator().manual_seed(s.seed),
        gather=_gather(accelerator),
        backward=accelerator.backward,
        autocast=accelerator.autocast,
        no_sync=lambda: accelerator.no_sync(wrapped),
        scaler=accelerator.scaler,
        rank=accelerator.process_index,
        world=world,
    )
    if s.compile:
        compile_now(learner, s.batch // world, s.size, s.key_groups, s.accumulate)
    return learner, make_feed(s, pool, accelerator), origin


def check_shares(batch: int, world: int, groups: int, parts: int) -> None:
    """Refuse what cannot be shared evenly: every process takes as many images, and none passes alone.

    Raises:
        InputError: with the nearest numbers of processes and images that fit.
    """
    if batch % world:
        fewer = max(n for n in range(1, world) if batch % n == 0)
        fits = max(batch // world, 2) * world
        raise InputError(
            f"--batch {batch} cannot be shared evenly by {world} processes.",
            f"Start {fewer} instead, which goes on with any run, or begin one with --batch {fits}.",
        )
    for name, asked in (("key-groups", groups), ("accumulate", parts)):
        if batch // world // asked < 2:
            raise InputError(
                f"--{name} {asked} leaves less than two images a pass where {world} processes share a batch of {batch}.",
                "Start fewer processes, or begin a run with a larger --batch.",
            )


def compile_now(learner: Learner, images: int, size: int, groups: int, parts: int) -> None:
    """Have both encoders compiled by a forward and a backward pass over black images of the run's sizes.

    Weights, buffers and random numbers are as before afterwards.

    Args:
        images: of this process in a step.
        size: side of a view, px.
        groups: of `shuffled_keys`.
        parts: of `moco_step`.

    Raises:
        InputError: they cannot be compiled here.
    """
    console.say("compiling the encoders: some minutes for a large one")
    device = learner.queue.keys_KC.device
    sides = (learner.query, learner.key)
    before = [{name: buffer.clone() for name, buffer in side.named_buffers()} for side in sides]
    black = torch.zeros(images, 1, size, size, dtype=torch.uint8, device=device)
    try:
        with torch.random.fork_rng(generators_of(device)):
            for part in sorted({len(part) for part in black.tensor_split(parts)}):
                learner.backward(learner.wrapped(black[:part]).sum())
            for part in sorted({len(part) for part in black.tensor_split(groups)}):
                with torch.no_grad(), learner.autocast():
                    learner.key(black[:part])
    except Exception as error:  # tracer, code generator and compiler raise many kinds
        raise InputError(
            f"--compile cannot work here ({type(error).__name__}: {str(error).strip().splitlines()[0][:200]}).",
            "Leave it out; it needs a C++ compiler on a CPU, and Triton on a GPU.",
        ) from error
    learner.optimizer.zero_grad(set_to_none=True)
    for side, kept in zip(sides, before, strict=True):
        for name, buffer in side.named_buffers():
            buffer.copy_(kept[name])


def leave_out_unused(query: Projector, size: int) -> None:
    """Tell DistributedDataParallel of the weights that no image reaches, such as a mask token: it waits for all others.

    They stay with the optimiser, which leaves weights without gradient alone, so checkpoints fit any number of
    processes.

    Args:
        query: in train mode, as it is afterwards; no gradient, buffer or random number is changed.
        size: side of a view, px.
    """
    named = {name: weight for name, weight in query.named_parameters() if weight.requires_grad}
    device = next(query.parameters()).device
    query.eval()
    features = query(torch.zeros(2, 1, size, size, dtype=torch.uint8, device=device))
    gradients = torch.autograd.grad(features.sum(), list(named.values()), allow_unused=True)
    query.train()
    unused = [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(query, unused)


def _gather(accelerator: Accelerator) -> Callable[[Tensor], Tensor]:
    if accelerator.num_processes == 1:
        return lambda tensor: tensor
    return lambda tensor: accelerator.gather(tensor.contiguous())


def make_feed(s: PretrainSettings, pool: Pool, accelerator: Accelerator) -> Feed:
    """The batches of this process."""
    used = len(pool) // s.batch * s.batch
    return Feed(
        pool,
        Recipe.of(vars(s)),
        # A batch more than K: the first image of a batch meets the keys of all batches before its own.
        Orders(len(pool), used, apart=s.queue + s.batch - 1, seed=s.seed),
        batch=s.batch,
        seed=s.seed,
        positives=s.positives,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=view_threads(accelerator.device, processes_here(accelerator.num_processes), s.workers),
        pinned=accelerator.device.type == "cuda",
        views_on=s.views_on,
    )
