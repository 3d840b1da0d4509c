"""What the machine at hand is good for: accelerator, precision, threads that make views, how large a batch fits."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import nn

from mococxr import console
from mococxr.encoders import Encoder
from mococxr.errors import InputError
from mococxr.features import pick_device
from mococxr.pretraining.method import Method, OneProcess
from mococxr.settings import AUTO, PRESETS, PretrainSettings
from mococxr.workers import cores

T = TypeVar("T")
Build: TypeAlias = Callable[[PretrainSettings, OneProcess], Method]
FEWEST_STEPS = 8
"""Steps that an epoch keeps where the batch is searched."""
FULLEST = 0.9
"""Share of a GPU's memory that a step may fill when the batch is searched: the rest is for what grows later."""
MOST_THREADS = 16


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Where and how precisely to compute.

    Raises:
        InputError: no such device, or one that cannot compute so.
    """
    target = pick_device(device)
    on_cpu = target.type == "cpu"
    if precision == "auto":
        precision = "bf16" if bf16_support(target) else "no"
    if precision == "fp16" and on_cpu:
        raise InputError("--precision fp16 takes a GPU.", "Give bf16 or no, or leave it out.")
    _init_processes("gloo" if on_cpu else "nccl")  # NCCL serves GPUs alone
    # Accelerate keeps device and precision for the whole process; a second run in it may want others.
    # But not the connection between processes, which is made once.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    return Accelerator(cpu=on_cpu, mixed_precision=precision)


def _init_processes(backend: str) -> None:
    """Let the processes that torchrun has started on this machine find each other, each start by itself.

    torchrun keeps one store for all its restarts. By itself torch would look there for the addresses of its peers under
    the names that the dead processes used; a process that comes first would find theirs, and wait for nobody. On
    several machines, whose counts of restarts differ, a store for each start is asked for at launch (docs/scaling.md).
    """
    environment = os.environ
    one_machine = (
        environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        and environment["LOCAL_WORLD_SIZE"] == environment["WORLD_SIZE"]
    )
    world = int(environment.get("WORLD_SIZE", 1))
    if not one_machine or world == 1 or torch.distributed.is_initialized():
        return
    # not the master: the launcher's agent serves the store
    store = torch.distributed.TCPStore(
        environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), world, is_master=False
    )
    fresh_store = torch.distributed.PrefixStore(f"start {environment['TORCHELASTIC_RESTART_COUNT']}", store)
    torch.distributed.init_process_group(backend, store=fresh_store, rank=int(environment["RANK"]), world_size=world)


def broadcast_decision(accelerator: Accelerator, decide: Callable[[], T]) -> T:
    """What the first process decides, on every process; the others may see the folder late, or not at all."""
    decision = [decide() if accelerator.is_main_process else None]
    broadcast_object_list(decision)
    return decision[0]  # type: ignore[return-value]


def resolve_auto(
    settings: PretrainSettings, images: int, accelerator: Accelerator, network: Callable[[], nn.Module], build: Build
) -> PretrainSettings:
    """The settings with a precision and a batch, the same on all processes; `settings.yaml` keeps them so.

    Args:
        images: in the run.
        network: makes the encoder; called only where the precision depends on it.
        build: makes the method; called only where the batch is searched.

    Raises:
        InputError: no batch fits.
    """
    s, device = settings, accelerator.device
    if s.precision == "auto":
        chosen = broadcast_decision(accelerator, lambda: choose_precision(device, network))
        s = dataclasses.replace(s, precision=chosen)
    if s.batch == AUTO:
        s = dataclasses.replace(s, batch=_largest_batch(s, images, accelerator, build))
    return s


def choose_precision(device: torch.device, network: Callable[[], nn.Module]) -> Literal["bf16", "no"]:
    """`bf16` where the device is fast in it, on a CPU if the network is too.

    Args:
        network: makes the encoder; asked for only where it matters.
    """
    fast = bf16_support(device)
    if fast is None:
        fast = has_no_grouped_conv(network())
        if fast:
            console.say("precision bf16: this processor is fast in it; --precision no has float32")
    return "bf16" if fast else "no"


def _largest_batch(s: PretrainSettings, images: int, accelerator: Accelerator, build: Build) -> int:
    """The largest power of two of images a process that its GPU holds, times the processes; else the preset's."""
    device, world = accelerator.device, accelerator.num_processes
    if device.type != "cuda":
        return PRESETS[s.preset].batch
    most = max(2, images // FEWEST_STEPS // world)  # images a process
    fits = fits_on_gpu(lambda batch: trial_step(s, batch, OneProcess(accelerator), build), device)
    largest = largest_that_fits(fits, most)
    torch.cuda.empty_cache()  # what the trials held is free for the run
    # Shares are equal: the GPU with the least memory decides.
    smallest = int(accelerator.gather(torch.tensor([largest], device=device)).min())
    console.say(f"batch {smallest * world}: {smallest} images a GPU, the largest power of two that fits")
    return smallest * world


def trial_step(s: PretrainSettings, batch: int, alone: OneProcess, build: Build) -> None:
    """One step of this process alone on black images with networks of its own, which nothing keeps."""
    # batch norm needs two images a pass
    parts = {name: min(getattr(s, name), batch // 2) for name in ("key_groups", "accumulate")}
    # Not compiled: that takes minutes, and this is one step.
    method = build(dataclasses.replace(s, batch=batch, compile=False, **parts), alone)
    size = max(phase.size for phase in s.phases)
    black = torch.zeros(2, batch, 1, size, size, dtype=torch.uint8, device=alone.device)
    method.step(black, s.lr)  # what a step holds does not depend on what images show


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
            f"Start {fewer} instead, which can resume any run, or start one with --batch {fits}.",
        )
    for name, asked in (("key-groups", groups), ("accumulate", parts)):
        if batch // world // asked < 2:
            raise InputError(
                f"--{name} {asked} leaves less than two images a pass where {world} processes share a batch of {batch}.",
                "Start fewer processes, or start a run with a larger --batch.",
            )


def check_sizes(encoder: Encoder, sizes: Iterable[int]) -> None:
    """Refuse sizes of views that a network does not take, by passes over black images that change nothing.

    Raises:
        InputError: the first such size.
    """
    encoder.eval()
    for size in sizes:
        try:
            with torch.no_grad():
                encoder(torch.zeros(1, 1, size, size, dtype=torch.uint8))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{encoder.spec.architecture} does not take views of {size} px in a run of {encoder.spec.size} px "
                f"({str(error).strip().splitlines()[0][:200]}).",
                "Give one --size, or another --backbone.",
            ) from error
    encoder.train()


def compile_now(method: Method, images: int, sizes: Iterable[int]) -> None:
    """Have the networks compiled by passes over black images of the run's sizes.

    Weights, buffers and random numbers are as before afterwards.

    Args:
        images: of this process in a step.
        sizes: sides of the views, px.

    Raises:
        InputError: they cannot be compiled here.
    """
    console.say("compiling the encoders: some minutes for a large one")
    before = [{name: buffer.clone() for name, buffer in net.named_buffers()} for net in method.networks]
    try:
        with torch.random.fork_rng(generators_of(method.device)):
            for size in sizes:
                method.pass_once(torch.zeros(images, 1, size, size, dtype=torch.uint8, device=method.device))
    except Exception as error:  # tracer, code generator and compiler raise many kinds
        raise InputError(
            f"--compile cannot work here ({type(error).__name__}: {str(error).strip().splitlines()[0][:200]}).",
            "Leave it out; it needs a C++ compiler on a CPU, and Triton on a GPU.",
        ) from error
    method.network.zero_grad(set_to_none=True)
    for network, buffers in zip(method.networks, before, strict=True):
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])  # black images have moved batch norm's averages


def device_name(accelerator: Accelerator) -> str:
    """The GPU, or the processor with its threads."""
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    return f"{platform.processor() or platform.machine()} ({torch.get_num_threads()} threads)"


def bf16_support(device: torch.device) -> bool | None:
    """Whether a device is fast in bfloat16: yes, no, or it depends on the network (`has_no_grouped_conv`).

    Yes on a GPU of NVIDIA from compute capability 8.0 on, whose matrix units know the format. No on MPS, where no
    figure is known, and on a CPU without AMX or AVX-512 BF16. With them it depends: beside float32, ResNet-18 made 2.0
    times the steps and `tf_efficientnet_lite0`, whose convolutions take one channel each, 0.6 (docs/benchmarks.md).
    """
    if device.type == "cuda":
        # torch counts slow emulation on older GPUs as support
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return None
    return False


def has_no_grouped_conv(encoder: nn.Module) -> bool:
    """Whether no convolution of a network is grouped: such a network gains from bfloat16 on a CPU that knows it.

    A rule and no trial: a trial under load could choose otherwise, and the same command would give other numbers.
    """
    return all(getattr(module, "groups", 1) == 1 for module in encoder.modules())


def generators_of(device: torch.device) -> list[torch.device]:
    """For `torch.random.fork_rng`: this device's generator beside the CPU's, and no other GPU's of the machine."""
    return [device] if device.type == "cuda" else []


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the generators of the CPU and of this device, where networks draw.

    `torch.manual_seed` does it for every kind of device, and where one is not in use it first writes down the whole
    call stack for it, at every step.
    """
    seed %= 1 << 63  # what 64 bits hold: a run multiplies its seed
    torch.random.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def view_threads(device: torch.device, processes: int, asked: int = 0) -> tuple[int, int]:
    """Threads that make the views of a process: at first, and at most.

    On a CPU the steps want the cores: one thread to begin with, and more only while steps wait for views. Beside a
    GPU the cores have nothing else to do.

    Args:
        processes: on this machine, which share its cores.
        asked: that many, or 0 for the choice.
    """
    if asked:
        return asked, asked
    most = max(1, min(MOST_THREADS, cores() // processes))
    return (1, most) if device.type == "cpu" else (most, most)


def processes_here(processes: int) -> int:
    """Of so many processes those on this machine, as the launcher says; without its word, all."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", processes))


def largest_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """The largest power of two, from 2 to `most`, that fits, each tried in turn.

    Raises:
        InputError: not even 2.
    """
    batch = 1
    while 2 * batch <= most and fits(2 * batch):
        batch *= 2
    if batch == 1:
        raise InputError(
            "--batch auto found no batch: the GPU holds not even two images.",
            "Give a smaller --size or --backbone, or --accumulate.",
        )
    return batch


def fits_on_gpu(step: Callable[[int], object], device: torch.device) -> Callable[[int], bool]:
    """Whether a step of so many images fits into a GPU's memory, by making one.

    Args:
        step: makes one, whatever it leaves behind.
    """

    def fits(batch: int) -> bool:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        try:
            step(batch)
            torch.cuda.synchronize(device)
        except torch.OutOfMemoryError:
            return False
        free, total = torch.cuda.mem_get_info(device)
        others = total - free - torch.cuda.memory_reserved(device)  # what other programs on this GPU hold
        # reserved: what the allocator keeps in pieces is of no use to others either
        return others + torch.cuda.max_memory_reserved(device) <= FULLEST * total

    return fits
