"""The run folder: begun by one launch, gone on with by it or by `--resume`, never written over."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from mococxr import console
from mococxr.errors import InputError
from mococxr.files import atomic_write, claim, read_json, write_json
from mococxr.pretraining.dataset import Pool
from mococxr.pretraining.seen import write_patients
from mococxr.settings import PretrainSettings, flag, from_yaml, make, to_mapping, to_yaml
from mococxr.settings.pretraining import AUTO
from mococxr.store import Store

FREE_ON_RESUME = {
    "resume", "device", "save_every", "log_every", "tracker", "stores", "out", "workers", "compile",
}  # fmt: skip
"""Settings that may differ between a run and its resumption: they change no number but by rounding."""
LAUNCH = ".launch"
"""The name of the launch that last began or resumed the run: its restarts go on without `--resume`."""
T = TypeVar("T")


def agreed(accelerator: Accelerator, decide: Callable[[], T]) -> T:
    """What the first process decides, on every process; the others may see the folder late, or not at all."""
    told = [decide() if accelerator.is_main_process else None]
    broadcast_object_list(told)
    return told[0]  # type: ignore[return-value]


def launch_name(environment: Mapping[str, str] = os.environ) -> str | None:
    """A name that the restarts of one launch share and no other launch has; None outside torchrun and its like.

    `torchrun` and `accelerate launch` give `--rdzv-id`, which is to be the job's own. Without one it is empty or
    "none"; then the launcher is known by its machine and process.
    """
    name = environment.get("TORCHELASTIC_RUN_ID")
    return f"{platform.node()} {os.getppid()}" if name in ("", "none") else name


def going_on(settings: PretrainSettings) -> tuple[PretrainSettings, bool]:
    """The settings, with `resume` also where this very launch began the run; and whether the run is finished.

    So processes that torchrun has started again go on, as with `--resume`. Another launch was not asked to. What the
    run has settled by itself (the queue, `--batch auto`, the precision) stays as it is.
    """
    mark, launch = settings.out / LAUNCH, launch_name()
    if launch and mark.is_file() and mark.read_text(encoding="utf-8") == launch:
        settings = dataclasses.replace(settings, resume=True)
    finished = settings.resume and (settings.out / "run.json").is_file()
    if finished:
        console.say(f"{settings.out} is finished; there is nothing to resume.")
    if settings.resume and (settings.out / "settings.yaml").is_file():
        earlier = make(PretrainSettings, from_yaml(settings.out / "settings.yaml"))
        open_ = [
            name
            for name in ("queue", "batch", "precision")
            if getattr(settings, name) in (None, AUTO, "auto")
        ]
        settled = {name: getattr(earlier, name) for name in open_}
        settings = dataclasses.replace(settings, **settled)
    return settings, finished


def check_folder(settings: PretrainSettings, stores: Sequence[Store], accelerator: Accelerator) -> None:
    """Refuse to write over a run, to resume one with other settings or images, or to share one among different images.

    Raises:
        InputError: any of these.
    """
    if accelerator.is_main_process:
        _check_out(settings, stores)
    if agreed(accelerator, lambda: inputs_of(stores)) != inputs_of(stores):
        raise InputError(
            f"Process {accelerator.process_index} sees other images than process 0 in {_listed(settings.stores)}.",
            "Give every machine the same stores, on a shared file system or as copies of one.",
        )


def inputs_of(stores: Sequence[Store]) -> list[dict[str, str]]:
    """What names the images of a run: source and hash of each store."""
    return [{"store": store.path.name, "source": store.source, "sha256": store.sha256} for store in stores]


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _check_out(settings: PretrainSettings, stores: Sequence[Store]) -> None:
    out = settings.out
    if not settings.resume:
        return claim(out, way_out="Name another --out, or resume it with --resume.")
    if not (out / "settings.yaml").is_file():
        begun = {"inputs.json", "patients.csv"}  # what a run killed in its first moment leaves
        if strange := sorted({path.name for path in out.glob("[!.]*")} - begun):
            raise InputError(
                f"{out} holds no run to resume: there is {strange[0]} and no settings.yaml.",
                "Name the folder of a run, or one that is not there yet.",
            )
        return
    _check_same(settings, stores)


def _check_same(settings: PretrainSettings, stores: Sequence[Store]) -> None:
    out = settings.out
    earlier = to_mapping(make(PretrainSettings, from_yaml(out / "settings.yaml")))
    now = to_mapping(settings)
    differ = [name for name in now if name not in FREE_ON_RESUME and now[name] != earlier[name]]
    if differ:
        shown = ", ".join(f"{flag(name)} {earlier[name]} -> {now[name]}" for name in differ[:5])
        raise InputError(
            f"{out} was begun with other settings ({shown}).", "Leave them out, or name another --out."
        )
    inputs = read_json(out / "inputs.json")
    if inputs != inputs_of(stores):
        raise InputError(
            f"{out} was begun on other images: {inputs}.", "Name the same stores, or another --out."
        )


def open_folder(settings: PretrainSettings, pool: Pool, stores: Sequence[Store]) -> None:
    """Write what a resumption is checked against; the settings last, since they say that all is there."""
    if launch := launch_name():
        atomic_write(settings.out / LAUNCH, launch)
    write_json(settings.out / "inputs.json", inputs_of(stores))
    write_patients(settings.out, pool, settings.init)
    atomic_write(settings.out / "settings.yaml", to_yaml(dataclasses.replace(settings, resume=False)))


def worlds(state: Mapping[str, Any] | None, start: int, processes: int) -> list[list[int]]:
    """How many processes made which steps: [first step, processes] each, with those that begin at `start`."""
    before: list[list[int]] = [list(pair) for pair in (state or {}).get("worlds", []) if pair[0] < start]
    return before if before and before[-1][1] == processes else [*before, [start, processes]]
