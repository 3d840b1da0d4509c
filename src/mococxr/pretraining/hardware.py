"""What the machine at hand is good for: bfloat16 or not, how many threads make views, how large a batch fits."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import nn

from mococxr.errors import InputError
from mococxr.workers import cores

FULLEST = 0.9
"""Share of a GPU's memory that a step may fill when the batch is searched: the rest is for what grows later."""
MOST_THREADS = 16


def knows_bf16(device: torch.device) -> bool | None:
    """Whether a device is fast in bfloat16: yes, no, or it depends on the network (`dense`).

    Yes on a GPU of NVIDIA from compute capability 8.0 on, whose matrix units know the format. No on MPS, where no
    figure is known, and on a CPU without AMX or AVX-512 BF16. With them it depends: beside float32, ResNet-18 made 2.0
    times the steps and `tf_efficientnet_lite0`, whose convolutions take one channel each, 0.6 (docs/benchmarks.md).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return None
    return False


def dense(encoder: nn.Module) -> bool:
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
        others = total - free - torch.cuda.memory_reserved(device)
        return others + torch.cuda.max_memory_reserved(device) <= FULLEST * total

    return fits
