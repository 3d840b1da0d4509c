"""Pretraining without labels: the command `pretrain`, from stores to a run folder."""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator

from mococxr import console, encoders
from mococxr.errors import InputError
from mococxr.files import write_json
from mococxr.pretraining.dataset import Pool, gather_pool, largest_queue
from mococxr.pretraining.loader import Feed
from mococxr.pretraining.run_folder import agreed, check_folder, going_on, inputs_of, open_folder
from mococxr.pretraining.seen import started_from, write_images
from mococxr.pretraining.selection import NOBODY_LOOKS, Choice, make_choice
from mococxr.pretraining.settling import settle
from mococxr.pretraining.setup import build_learner, make_accelerator
from mococxr.pretraining.step import Learner
from mococxr.pretraining.trainer import Log, pretrain_loop
from mococxr.settings import QUEUES, PretrainSettings, to_mapping
from mococxr.store import Store
from mococxr.version import VERSION
from mococxr.workers import keep_memory, opencv_on_one_thread

HARDLY_HEALTH = {"epoch", "lr", "images_per_s", "seconds", "verdict"}
"""Fields of a log line that are kept elsewhere in `run.json`."""


def run(settings: PretrainSettings) -> Path:
    """The command `pretrain`: returns the run folder.

    Raises:
        InputError: settings or stores that do not fit; nothing was written.
        RunError: the run stopped on the way; what was saved is named.
    """
    out = settings.out
    accelerator = make_accelerator(settings.device, settings.precision, settings.tracker, out)
    settings, finished = agreed(accelerator, lambda: going_on(settings))
    if finished:
        accelerator.end_training()
        return out
    stores = [Store.open(path) for path in settings.stores]
    check_folder(settings, stores, accelerator)
    pool = gather_pool(stores, settings.size, settings.pretrain_on, settings.exclude_patients)
    settings = _with_queue(settle(settings, len(pool), accelerator), len(pool))
    if settings.precision != accelerator.mixed_precision:
        accelerator = make_accelerator(settings.device, settings.precision, settings.tracker, out)
    choice = make_choice(settings.select, settings.knn, stores, pool, settings.exclude_patients)
    learner, feed, origin = build_learner(settings, pool, accelerator)
    if accelerator.is_main_process:
        _announce(
            settings, pool, cast("encoders.Encoder", learner.query.encoder).spec, origin, accelerator, feed
        )
        open_folder(settings, pool, stores)
    accelerator.wait_for_everyone()
    _start_tracker(accelerator, settings)
    if accelerator.device.type == "cpu":
        keep_memory()
    with opencv_on_one_thread():
        log = pretrain_loop(settings, learner, feed, accelerator, choice)
    if log:
        _finish(settings, learner, pool, stores, log, choice, origin, accelerator)
    accelerator.end_training()
    return out


def _start_tracker(accelerator: Accelerator, settings: PretrainSettings) -> None:
    if settings.tracker == "none":
        return
    plain = {
        k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in to_mapping(settings).items()
    }
    accelerator.init_trackers("mococxr", config=plain)


def _with_queue(settings: PretrainSettings, images: int) -> PretrainSettings:
    """Settle K: the one asked for if the images allow it, else the preset's or the most that they allow."""
    most = largest_queue(images, settings.batch)
    if most < 1:
        raise InputError(
            f"{images} images are too few for batches of {settings.batch}: a queue needs a second batch.",
            f"Give --batch {max(2, images // 4)} or less, or more images.",
        )
    if settings.queue is None:
        return dataclasses.replace(settings, queue=min(QUEUES[settings.preset], most))
    if settings.queue > most:
        raise InputError(
            f"--queue {settings.queue:,} is too long for {images:,} images in batches of {settings.batch}: an image would "
            "meet its own last key among the negatives.",
            f"Give --queue {most:,} or less, or leave it out.",
        )
    return settings


def _announce(
    s: PretrainSettings,
    pool: Pool,
    spec: encoders.EncoderSpec,
    origin: str,
    accelerator: Accelerator,
    feed: Feed,
) -> None:
    steps = feed.steps_per_epoch * s.epochs
    console.say(
        f"pretraining {spec.architecture} from {origin} on {len(pool):,} images of {len(pool.patients):,} patients "
        f"({s.pretrain_on} split), {s.size} px, {s.epochs} epochs of {feed.steps_per_epoch:,} steps "
        f"= {steps:,}, on {accelerator.num_processes} x {accelerator.device.type}"
    )
    if (spec.architecture, spec.channels, spec.mean, spec.std) != (s.backbone, s.channels, s.mean, s.std):
        grey = f"{spec.channels} channels, mean {spec.mean}, std {spec.std}"
        console.say(
            f"network and grey scale are those of {s.init}, not of the settings: {spec.architecture}, {grey}"
        )
    preset = QUEUES[s.preset]
    why = "" if s.queue == preset else f" (the preset's is {preset:,})"
    console.say(f"queue K {s.queue:,}{why}; guessing has loss ln(K+1) = {math.log(1 + s.queue):.2f}")
    for doubt in pool.doubts:
        console.warn(doubt)


def _finish(
    s: PretrainSettings,
    learner: Learner,
    pool: Pool,
    stores: list[Store],
    log: Log,
    choice: Choice,
    origin: str,
    accelerator: Accelerator,
) -> None:
    """Write the encoder and the facts of the run; `run.json` last, since it says that all is there."""
    write_images(s.out, pool, stores, s.init, s.size)
    pretrained_on = {
        "source": sorted({store.source for store in stores}),
        "images": len(pool),
        "patients": len(pool.patients),
        "splits": s.pretrain_on,
    }
    last: Mapping[str, Any] = log.entries[-1]
    encoder = cast("encoders.Encoder", learner.query.encoder)
    if choice.best:
        encoder.load_state_dict(choice.best["weights"])
    encoders.save_encoder(encoder, s.out, {"init": s.init, "pretrained_on": pretrained_on})
    spec = encoder.spec
    facts = {
        "version": VERSION,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **log.verdict.facts(),
        "backbone": spec.architecture,
        "init": s.init,
        "weights": origin,
        "started_from": started_from(s.init),
        "pretrained_on": pretrained_on,
        "phantom": all(bool(store.manifest.get("phantom")) for store in stores),
        "inputs": inputs_of(stores),
        "steps": last["step"],
        "queue": s.queue,
        "loss": last["loss"],
        "contrast_accuracy": last["contrast_accuracy"],
        "effective_rank": last["effective_rank"],
        "health": _health(s, log, choice),
        "images_per_s": last["images_per_s"],
        "seconds": last["seconds"],
        "device": _device_name(accelerator),
        "processes": accelerator.num_processes,
        "processes_from_step": log.worlds,
        "precision": accelerator.mixed_precision,
        "libraries": _libraries(),
    }
    write_json(s.out / "run.json", facts)
    console.say(str(log.verdict))
    console.say(f"encoder: {s.out}")


def _health(s: PretrainSettings, log: Log, choice: Choice) -> dict[str, Any]:
    """The run's last measures, what guessing and an own key would give, and which state the encoder is of."""
    last = {name: value for name, value in log.entries[-1].items() if name not in HARDLY_HEALTH}
    looks = ("step", *NOBODY_LOOKS)
    return {
        **last,
        "guessing": log.run.chance,
        "own_key_floor": math.log(2),
        "queue": s.queue,
        "batch": s.batch,
        "momentum": s.momentum,
        "dim": s.dim,
        "selected": choice.facts(last["step"]),
        "knn": choice.labelled.facts(s.knn) if s.knn and choice.labelled else None,
        "looks": [
            {name: entry[name] for name in looks}
            for entry in log.entries
            if entry["encoder_rank"] is not None
        ],
    }


def _device_name(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    return f"{platform.processor() or platform.machine()} ({torch.get_num_threads()} threads)"


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    return {
        name: version(name) for name in ("torch", "timm", "accelerate", "numpy", "opencv-python-headless")
    }
