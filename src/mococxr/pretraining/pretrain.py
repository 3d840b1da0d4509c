"""Pretraining without labels: the command `pretrain`, from stores to a run folder.

Which method learns is one line of `METHODS`; everything else here is the same for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from mococxr import console, encoders
from mococxr.files import write_json
from mococxr.pretraining.auxiliary import Metadata, read_metadata
from mococxr.pretraining.dataset import PretrainSet, count_by_store, gather_images
from mococxr.pretraining.hardware import (
    broadcast_decision,
    check_shares,
    check_sizes,
    compile_now,
    device_name,
    make_accelerator,
    resolve_auto,
)
from mococxr.pretraining.loader import BatchLoader, make_loader
from mococxr.pretraining.method import Method, OneProcess, refuse_unused
from mococxr.pretraining.moco import MoCo
from mococxr.pretraining.run_folder import (
    check_folder,
    inputs_of,
    open_folder,
    pretrained_before,
    resolve_resume,
    sole_run,
    started_from,
    write_images,
)
from mococxr.pretraining.selection import NOT_EVALUATED, Selection, make_selection
from mococxr.pretraining.simclr import SimCLR
from mococxr.pretraining.simsiam import SimSiam
from mococxr.pretraining.trainer import RunLog, train
from mococxr.settings import PretrainSettings, to_mapping
from mococxr.store import Store
from mococxr.trackers import check_tracker, open_tracker
from mococxr.version import VERSION
from mococxr.workers import keep_memory, opencv_on_one_thread

METHODS: dict[str, type[Any]] = {"moco": MoCo, "simclr": SimCLR, "simsiam": SimSiam}
"""`--method` -> its class."""
NOT_HEALTH = {"epoch", "size", "lr", "images_per_s", "seconds", "verdict"}
"""Fields of a log line that are kept elsewhere in `run.json`."""
LIBRARIES = ("torch", "timm", "accelerate", "numpy", "opencv-python-headless")


def run(settings: PretrainSettings) -> Path:
    """The command `pretrain`: opens, settles, builds, trains, finishes; returns the run folder.

    Raises:
        InputError: settings or stores that do not fit; nothing was written.
        RunError: the run stopped on the way; what was saved is named.
    """
    out = settings.out
    check_tracker(settings.tracker)
    accelerator = make_accelerator(settings.device, settings.precision)
    settings, finished = broadcast_decision(accelerator, lambda: resolve_resume(settings))
    if finished:
        accelerator.end_training()
        return out
    with sole_run(out) if accelerator.is_main_process else nullcontext():
        _pretrain(settings, accelerator)
    return out


def _pretrain(settings: PretrainSettings, accelerator: Accelerator) -> None:
    stores, out = [Store.open(path) for path in settings.stores], settings.out
    check_folder(settings, stores, accelerator)
    images = gather_images(stores, sizes_of(settings), settings.pretrain_on, settings.exclude_patients)
    # from here on batch, queue and precision are what `settings.yaml` keeps
    settings = settle(settings, len(images), accelerator)
    if settings.precision != accelerator.mixed_precision:  # `auto` is settled by the network, after its first choice
        accelerator = make_accelerator(settings.device, settings.precision)
    selection = make_selection(settings.select, settings.knn, stores, images, settings.size, settings.exclude_patients)
    method, origin = build_method(settings, accelerator)
    selection.read(settings.features, method.encoder)
    method.trained = pretrained_before(settings.init)
    loader = make_loader(settings, images, accelerator)
    metadata = read_metadata(stores, images, settings.auxiliary) if settings.auxiliary else None
    if metadata:
        method.predict(metadata.words, accelerator)
        loader.metadata_NA = metadata.values_NA
    if accelerator.is_main_process:
        _announce(settings, images, method, origin, accelerator, loader)
        # all that may be refused was by now: from here on there is a run to resume
        open_folder(settings, images, stores)
    accelerator.wait_for_everyone()
    tracker = open_tracker(settings.tracker if accelerator.is_main_process else "none", out, to_mapping(settings))
    if accelerator.device.type == "cpu":
        keep_memory()
    # its threads stay awake after a view, on cores that steps want: docs/benchmarks.md, Feeding
    with opencv_on_one_thread():
        try:
            log = train(settings, method, loader, accelerator, selection, tracker)
        finally:  # a run that stops on the way goes on in the same log
            where = tracker.close()
    if log:
        _finish(settings, method, images, stores, log, selection, origin, accelerator, metadata)
    if where:
        console.say(where)
    accelerator.end_training()


def settle(settings: PretrainSettings, images: int, accelerator: Accelerator) -> PretrainSettings:
    """The settings with all that depends on the machine and on the number of images filled in.

    Raises:
        InputError: they do not fit each other, the images or the machine.
    """
    refuse_unused(settings, METHODS[settings.method].UNUSED)

    def trial(changed: PretrainSettings, alone: OneProcess) -> Method:
        return build_method(changed, alone)[0]

    settings = resolve_auto(settings, images, accelerator, lambda: start_encoder(settings)[0], trial)
    return METHODS[settings.method].settle(settings, images, accelerator.num_processes)


def start_encoder(s: PretrainSettings) -> tuple[encoders.Encoder, str]:
    """The encoder before its first step, and where its weights came from."""
    return encoders.initial_encoder(s.init, encoders.EncoderSpec(s.backbone, s.size, s.channels, s.mean, s.std), s.seed)


def build_method(settings: PretrainSettings, accelerator: Accelerator | OneProcess) -> tuple[Method, str]:
    """The method before its first step, and where the encoder's weights came from.

    Raises:
        InputError: settings that do not fit each other, the weights or the machine.
    """
    s, kind = settings, METHODS[settings.method]
    groups, parts = (1 if name in kind.UNUSED else getattr(s, name) for name in ("key_groups", "accumulate"))
    check_shares(s.batch, accelerator.num_processes, groups, parts)
    encoder, origin = start_encoder(s)
    if len(sizes_of(s)) > 1:
        check_sizes(encoder, sizes_of(s))
    method: Method = kind(encoder, s, accelerator)
    if s.compile:
        compile_now(method, s.batch // accelerator.num_processes, sizes_of(s))
    return method, origin


def sizes_of(s: PretrainSettings) -> list[int]:
    """The sides of a run's views, each once."""
    return list(dict.fromkeys(phase.size for phase in s.phases))


def _announce(
    s: PretrainSettings, images: PretrainSet, method: Method, origin: str, accelerator: Accelerator, loader: BatchLoader
) -> None:
    spec, steps_per_epoch = method.encoder.spec, loader.steps_per_epoch
    phases = [f"{phase.size} px, {phase.epochs} epochs" for phase in s.phases]
    console.say(
        f"pretraining {spec.architecture} by {method.words.name} from {origin} on {len(images):,} images of "
        f"{len(images.patients):,} patients ({s.pretrain_on} split), {', then '.join(phases)} of "
        f"{steps_per_epoch:,} steps = {steps_per_epoch * s.epochs:,}, on {accelerator.num_processes} x "
        f"{accelerator.device.type}"
    )
    if (spec.architecture, spec.channels, spec.mean, spec.std) != (s.backbone, s.channels, s.mean, s.std):
        grey = f"{spec.channels} channels, mean {spec.mean}, std {spec.std}"
        console.say(f"network and grey scale are those of {s.init}, not of the settings: {spec.architecture}, {grey}")
    if len(s.stores) > 1:
        counts = [f"{path.name} {len(rows):,}" for path, rows in zip(s.stores, images.by_store, strict=True)]
        console.say(f"images by store: {', '.join(counts)}")
    for sentence in (*method.remarks(), *([f"chance-level loss {method.chance:.2f}"] if method.chance else [])):
        console.say(sentence)
    for sentence in (*images.warnings, *loader.warnings):
        console.warn(sentence)


def _finish(
    s: PretrainSettings,
    method: Method,
    images: PretrainSet,
    stores: Sequence[Store],
    log: RunLog,
    selection: Selection,
    origin: str,
    accelerator: Accelerator,
    metadata: Metadata | None,
) -> None:
    """Write the encoder and the facts of the run; `run.json` last, since it says that all is there."""
    write_images(s.out, images, stores, s.init, s.size)
    pretrained_on = {
        "source": sorted({store.source for store in stores}),
        "images": len(images),
        "patients": len(images.patients),
        "splits": s.pretrain_on,
        "stores": count_by_store(images, stores),
    }
    last, encoder = log.entries[-1], method.kept
    if selection.best:
        encoder.load_state_dict(selection.best["weights"])
    encoders.save_encoder(encoder, s.out, {"init": s.init, "pretrained_on": pretrained_on})
    facts = {
        "version": VERSION,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **log.verdict.facts(),
        "method": {"id": s.method, **method.words._asdict(), "unused": list(METHODS[s.method].UNUSED)},
        "backbone": encoder.spec.architecture,
        "init": s.init,
        "weights": origin,
        "started_from": started_from(s.init),
        "pretrained_on": pretrained_on,
        "synthetic": all(bool(store.manifest.get("synthetic")) for store in stores),
        "inputs": inputs_of(stores),
        "labels": [store.label_state for store in stores] if s.knn else None,  # the method itself sees none
        "steps": last["step"],
        "ema": s.ema,
        "auxiliary": metadata.facts() if metadata else [],
        "phases": [phase._asdict() for phase in s.phases],
        "queue": s.queue,
        "loss": last["loss"],
        "contrast_accuracy": last.get("contrast_accuracy"),
        "effective_rank": last["effective_rank"],
        "health": _health(s, method, log, selection),
        "images_per_s": last["images_per_s"],
        "seconds": last["seconds"],
        "device": device_name(accelerator),
        "processes": accelerator.num_processes,
        "processes_from_step": log.worlds,
        "precision": accelerator.mixed_precision,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    write_json(s.out / "run.json", facts)
    console.say(str(log.verdict))
    console.say(f"encoder: {s.out}")


def _health(s: PretrainSettings, method: Method, log: RunLog, selection: Selection) -> dict[str, Any]:
    """The run's last measures, what the method says of them, and which state the encoder is of."""
    last = {name: value for name, value in log.entries[-1].items() if name not in NOT_HEALTH}
    columns = ("step", *NOT_EVALUATED)
    return {
        **last,
        **method.facts(),
        "batch": s.batch,
        "dim": s.dim,
        "selected": selection.facts(last["step"]),
        "knn": selection.labelled.facts(s.knn) if s.knn and selection.labelled else None,
        "looks": [
            {name: entry[name] for name in columns} for entry in log.entries if entry["encoder_rank"] is not None
        ],
    }
