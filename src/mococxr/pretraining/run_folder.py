"""The run folder: begun by one launch, resumed by it or by `--resume`, never written over; what it keeps and reads."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch
from accelerate import Accelerator

from mococxr import console
from mococxr.encoders import SETS, TrainedOn, encoder_folder, trained_on
from mococxr.errors import InputError
from mococxr.files import (
    LOCK,
    atomic,
    atomic_write,
    check_place,
    claim,
    lock,
    read_json,
    write_csv,
    write_json,
    write_parquet,
)
from mococxr.near_duplicates import fingerprints
from mococxr.pretraining.dataset import PretrainSet
from mococxr.pretraining.hardware import broadcast_decision
from mococxr.settings import PretrainSettings, flag, from_yaml, make, to_mapping, to_yaml
from mococxr.settings.pretraining import AUTO
from mococxr.store import Store
from mococxr.workers import cores

FREE_ON_RESUME = {
    "resume", "device", "save_every", "log_every", "tracker", "stores", "out", "workers", "compile",
}  # fmt: skip
"""Settings that may differ between a run and its resumption: they change no number but by rounding."""
LAUNCH = ".launch"
"""The name of the launch that last began or resumed the run: its restarts go on without `--resume`."""
FORMAT = 7
"""Raised when what a checkpoint holds changes, or the views that a run goes on with: one of another format is refused."""
KEPT = 2
"""Checkpoints left on disk: the newest, and one before it in case the newest is damaged."""
SMALLEST = 64
"""Pixels: from images of this shorter side and more, a fingerprint is that of the full image but for 11 of 256 bits (500
real images); from 32 px it may be 22 bits away."""
BLOCK = 2048
"""Images that a thread takes at once."""


def launch_name(environment: Mapping[str, str] = os.environ) -> str | None:
    """A name that the restarts of one launch share and no other launch has; None outside torchrun and its like.

    `torchrun` and `accelerate launch` give `--rdzv-id`, which is to be the job's own. Without one it is empty or
    "none"; then the launcher is known by its machine and process.
    """
    name = environment.get("TORCHELASTIC_RUN_ID")
    return f"{platform.node()} {os.getppid()}" if name in ("", "none") else name


def resolve_resume(settings: PretrainSettings) -> tuple[PretrainSettings, bool]:
    """The settings, with `resume` also where this very launch began the run; and whether the run is finished.

    So processes that torchrun has started again go on, as with `--resume`. Another launch was not asked to. What the
    run has settled by itself (the queue, `--batch auto`, the precision) stays as it is.
    """
    marker, launch = settings.out / LAUNCH, launch_name()
    if launch and marker.is_file() and marker.read_text(encoding="utf-8") == launch:
        settings = dataclasses.replace(settings, resume=True)
    finished = settings.resume and (settings.out / "run.json").is_file()
    if finished:
        console.say(f"{settings.out} is finished; there is nothing to resume.")
    if settings.resume and (settings.out / "settings.yaml").is_file():
        earlier = make(PretrainSettings, from_yaml(settings.out / "settings.yaml"))
        open_ = [name for name in ("queue", "batch", "precision") if getattr(settings, name) in (None, AUTO, "auto")]
        settled = {name: getattr(earlier, name) for name in open_}
        settings = dataclasses.replace(settings, **settled)
    return settings, finished


@contextmanager
def sole_run(out: Path) -> Iterator[None]:
    """While no other process trains in the folder; what was refused before it began leaves nothing there.

    Raises:
        InputError: another process trains in it.
    """
    check_place(out / LOCK)  # before the folder is made: what is refused leaves nothing behind
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    busy = InputError(f"Another process is training in {out}.", "Wait for it, stop it, or name another --out.")
    with lock(out / LOCK, busy) as held:
        if not os.fstat(held.fileno()).st_nlink:  # it was removed by the run that ended just now
            raise busy
        try:
            yield
        finally:
            (out / LOCK).unlink()  # still under the lock, or it could be another run's
            if new and not any(out.iterdir()):
                out.rmdir()


def check_folder(settings: PretrainSettings, stores: Sequence[Store], accelerator: Accelerator) -> None:
    """Refuse to write over a run, to resume one with other settings or images, or to share one among different images.

    Raises:
        InputError: any of these.
    """
    if accelerator.is_main_process:
        if not settings.resume:
            claim(settings.out, way_out="Name another --out, or resume it with --resume.")
        elif (settings.out / "settings.yaml").is_file():
            _check_same(settings, stores)
        else:
            begun = {"inputs.json", "patients.csv"}  # what a run killed in its first moment leaves
            if strange := sorted({path.name for path in settings.out.glob("[!.]*")} - begun):
                raise InputError(
                    f"{settings.out} holds no run to resume: there is {strange[0]} and no settings.yaml.",
                    "Name the folder of a run, or one that is not there yet.",
                )
    if not same_images(broadcast_decision(accelerator, lambda: inputs_of(stores)), inputs_of(stores)):
        raise InputError(
            f"Process {accelerator.process_index} sees other images than process 0 in "
            f"{', '.join(map(str, settings.stores))}.",
            "Give every machine the same stores, on a shared file system or as copies of one.",
        )


def inputs_of(stores: Sequence[Store]) -> list[dict[str, str]]:
    """What names the images of a run: source and hash of each store."""
    return [
        {"store": store.path.name, "source": store.source, "sha256": store.sha256, "images_sha256": store.images_sha256}
        for store in stores
    ]


def same_images(a: Sequence[Mapping[str, str]], b: Sequence[Mapping[str, str]]) -> bool:
    """Whether two lists of `inputs_of` show a run the same; names of folders and labels may differ."""
    return [(x["source"], x["images_sha256"]) for x in a] == [(x["source"], x["images_sha256"]) for x in b]


def _check_same(settings: PretrainSettings, stores: Sequence[Store]) -> None:
    out = settings.out
    earlier = to_mapping(make(PretrainSettings, from_yaml(out / "settings.yaml")))
    now = to_mapping(settings)
    differ = [name for name in now if name not in FREE_ON_RESUME and now[name] != earlier[name]]
    if differ:
        shown = ", ".join(f"{flag(name)} {earlier[name]} -> {now[name]}" for name in differ[:5])
        raise InputError(f"{out} was started with other settings ({shown}).", "Leave them out, or name another --out.")
    inputs = read_json(out / "inputs.json")
    if not same_images(inputs, inputs_of(stores)):
        before = ", ".join(f"{store['store']} ({store['images_sha256'][:8]})" for store in inputs)
        raise InputError(f"{out} was started on other images: {before}.", "Name the same stores, or another --out.")


def open_folder(settings: PretrainSettings, dataset: PretrainSet, stores: Sequence[Store]) -> None:
    """Write what a resumption is checked against; the settings last, since they say that all is there."""
    if launch := launch_name():
        atomic_write(settings.out / LAUNCH, launch)
    write_json(settings.out / "inputs.json", inputs_of(stores))
    write_patients(settings.out, dataset, settings.init)
    atomic_write(settings.out / "settings.yaml", to_yaml(dataclasses.replace(settings, resume=False)))


def world_sizes(state: Mapping[str, Any] | None, start: int, processes: int) -> list[list[int]]:
    """How many processes made which steps: [first step, processes] each, with those that begin at `start`."""
    before: list[list[int]] = [list(pair) for pair in (state or {}).get("worlds", []) if pair[0] < start]
    return before if before and before[-1][1] == processes else [*before, [start, processes]]


# --- checkpoints


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `step-00000123.pt` (tensors, numbers, text) and drop all but the last `KEPT`."""
    path = folder / f"step-{step:08d}.pt"
    with atomic(path) as temporary:
        torch.save({**state, "format": FORMAT}, temporary)
    for old in checkpoints(folder)[:-KEPT]:  # only now that the new one is whole and in its place
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step-*.pt"))  # eight digits: by name is by step


def latest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, on the CPU; None without any.

    Raises:
        InputError: there are checkpoints and none can be read.
    """
    reasons = []
    for path in reversed(checkpoints(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)  # runs no code of a file
        except Exception as error:  # a damaged archive raises many kinds
            reasons.append(f"{path.name}: {type(error).__name__}")
            continue
        if state.get("format") != FORMAT:
            raise InputError(
                f"{path} was written by another version of mococxr (format {state.get('format')}, not {FORMAT}).",
                "Continue with that version, or start the run again in another --out.",
            )
        return state
    if reasons:
        raise InputError(f"No checkpoint in {folder} can be read ({', '.join(reasons)}).", "Start the run again.")
    return None


# --- what the run has seen


def write_patients(out: Path, dataset: PretrainSet, init: str) -> None:
    """Write `patients.csv` (source, patient), with those of the run that this one starts from."""
    patients, earlier = dataset.patients, Path(init) / "patients.csv"
    if earlier.is_file():
        before = pl.read_csv(earlier, infer_schema=False)
        patients = pl.concat([patients, before.select(patients.columns)]).unique().sort("source", "patient")
    write_csv(out / "patients.csv", patients)


def write_images(out: Path, dataset: PretrainSet, stores: Sequence[Store], init: str, size: int) -> None:
    """Write `images.parquet` (sha256 of the file, fingerprint of 32 bytes), unless it is there already.

    Neither paths nor patients stand in it, and it is in the order of the hashes. What the run that this one starts
    from saw is in it too. At the end of a run: it takes a minute or two for 224,000 images.

    Args:
        init: the encoder that the run starts from.
        size: side of its views, px; images come from that level, or from a larger one where it is too small to mark.
    """
    earlier = encoder_folder(init) / "images.parquet"
    if (out / "images.parquet").is_file():
        return
    images = _images(dataset, stores, size)
    if earlier.is_file():
        images = pl.concat([images, pl.read_parquet(earlier)])
    write_parquet(out / "images.parquet", images.unique("sha256").sort("sha256"))


def _images(dataset: PretrainSet, stores: Sequence[Store], size: int) -> pl.DataFrame:
    # smaller ones give other fingerprints
    levels = dataset.levels[size] if size >= SMALLEST else tuple(store.level(SMALLEST) for store in stores)
    blocks = [range(start, min(start + BLOCK, len(dataset))) for start in range(0, len(dataset), BLOCK)]

    def marks(block: range) -> pl.Series:
        part = slice(block.start, block.stop)
        images = zip(dataset.store_N[part].tolist(), dataset.row_N[part].tolist(), strict=True)
        prints = fingerprints(levels[i].pixels(row) for i, row in images)
        return pl.Series("fingerprint", [mark.tobytes() for mark in prints], dtype=pl.Binary)

    threads = min(len(blocks), cores())
    with console.progress("fingerprints", len(dataset)) as bar, ThreadPoolExecutor(threads) as workers:
        parts = []
        for block, part in zip(blocks, workers.map(marks, blocks), strict=True):
            parts.append(part)
            bar.advance(len(block))
    sha256 = pl.concat(
        store.columns("sha256")["sha256"].gather(dataset.row_N[dataset.store_N == i]) for i, store in enumerate(stores)
    )
    return pl.DataFrame([sha256, pl.concat(parts)])


def started_from(init: str) -> dict[str, Any]:
    """What is known of the images behind the weights that a run starts from, but for those in its own tables."""
    record = Path(init) / "run.json"
    if record.is_file():
        origin = read_json(record).get("started_from")
        listed = (Path(init) / "images.parquet").is_file()
        if isinstance(origin, dict) and listed:
            return origin
        known = TrainedOn(False)
    else:
        known = trained_on(init)
    return {"known": known.known, "sets": [name for name in known.sets if name in SETS], "labels": known.labels}


def pretrained_before(init: str) -> bool:
    """Whether the weights that a run starts from are a run's, and that run was not too easy: its way of telling images apart
    is then no shortcut.
    """
    record = encoder_folder(init) / "run.json"
    return record.is_file() and read_json(record).get("verdict") != "too easy"
