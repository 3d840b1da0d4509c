"""Settings that were left to the machine, settled before anything is written: precision and batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from accelerate import Accelerator
from torch import nn

from mococxr import console, encoders
from mococxr.pretraining.hardware import dense, fits_on_gpu, knows_bf16, largest_that_fits
from mococxr.pretraining.moco import KeyQueue, Projector, key_copy
from mococxr.pretraining.run_folder import agreed
from mococxr.pretraining.step import Learner, make_optimizer, moco_step
from mococxr.settings import AUTO, PRESETS, QUEUES, PretrainSettings

FEWEST_STEPS = 8
"""Steps that an epoch keeps where the batch is searched."""


def settle(settings: PretrainSettings, images: int, accelerator: Accelerator) -> PretrainSettings:
    """The settings with a precision and a batch, the same on all processes; they stand so in `settings.yaml`.

    Args:
        images: in the pool.

    Raises:
        InputError: no batch fits.
    """
    s = settings
    if s.precision == "auto":
        device = accelerator.device
        chosen = agreed(accelerator, lambda: choose_precision(device, lambda: _encoder(s)))
        s = dataclasses.replace(s, precision=chosen)
    if s.batch == AUTO:
        s = dataclasses.replace(s, batch=_batch(s, images, accelerator))
    return s


def choose_precision(device: torch.device, network: Callable[[], nn.Module]) -> Literal["bf16", "no"]:
    """`bf16` where the device is fast in it, on a CPU if the network is too.

    Args:
        network: makes the encoder; asked for only where it matters.
    """
    known = knows_bf16(device)
    if known is None:
        known = dense(network())
        if known:
            console.say("precision bf16: this processor is fast in it; --precision no has float32")
    return "bf16" if known else "no"


def _encoder(s: PretrainSettings) -> encoders.Encoder:
    spec = encoders.EncoderSpec(s.backbone, s.size, s.channels, s.mean, s.std)
    return encoders.initial_encoder(s.init, spec, s.seed)[0]


def _batch(s: PretrainSettings, images: int, accelerator: Accelerator) -> int:
    """The largest power of two of images a process that its GPU holds, times the processes; else the preset's.

    An epoch keeps `FEWEST_STEPS` steps.
    """
    device, world = accelerator.device, accelerator.num_processes
    if device.type != "cuda":
        return PRESETS[s.preset].batch
    most = max(2, images // FEWEST_STEPS // world)
    found = largest_that_fits(fits_on_gpu(lambda batch: one_step(s, batch, accelerator), device), most)
    torch.cuda.empty_cache()
    smallest = int(accelerator.gather(torch.tensor([found], device=device)).min())
    console.say(f"batch {smallest * world}: {smallest} images a GPU, the largest power of two that fits")
    return smallest * world


def one_step(s: PretrainSettings, batch: int, accelerator: Accelerator) -> None:
    """One step of this process alone on black images with networks of its own, which nothing keeps."""
    device, encoder = accelerator.device, _encoder(s)
    query = Projector(encoder, encoder.spec.feature_dim, s.dim, mlp=s.head == "mlp").train().to(device)

    def wrapped(images: torch.Tensor) -> torch.Tensor:
        with accelerator.autocast():
            return query(images)

    learner = Learner(
        query=query,
        wrapped=wrapped,
        key=key_copy(query),
        queue=KeyQueue(s.queue or QUEUES[s.preset], s.dim).to(device),
        optimizer=make_optimizer(s.optimizer, query, s.lr, s.weight_decay),
        shuffle=torch.Generator().manual_seed(s.seed),
        gather=lambda tensor: tensor,
        backward=lambda loss: loss.backward(),
        autocast=accelerator.autocast,
    )
    black = torch.zeros(batch, 1, s.size, s.size, dtype=torch.uint8, device=device)
    groups, parts = min(s.key_groups, batch // 2), min(s.accumulate, batch // 2)
    moco_step(learner, black, black, m=s.momentum, temperature=s.temperature, groups=groups, parts=parts)
