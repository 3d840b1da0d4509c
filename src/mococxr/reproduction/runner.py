"""What a reproduction does, each step an ordinary command that a user could type, and what of it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import commands, console
from mococxr.encoders import EncoderSpec, encoder_folder, initial_encoder, quoted, save_encoder
from mococxr.errors import InputError
from mococxr.files import atomic_write, write_csv, write_json, write_parquet
from mococxr.heads.targets import read_target
from mococxr.pretraining.run_folder import started_from
from mococxr.reproduction.compare import DONE, NOT_RUN, UNDEFINED
from mococxr.reproduction.plan import PRECISION
from mococxr.reproduction.recipe import HONEST_STD, STUDY, TASKS, Cell, Run, Study
from mococxr.results import read_table
from mococxr.settings import PRESETS, ReproduceSettings, StudySettings, from_yaml, make, to_mapping
from mococxr.store import Store
from mococxr.studies.folder import is_finished
from mococxr.studies.label_subsets import draw_table, make_draws


def encoders_of(texts: Sequence[str]) -> dict[str, str]:
    """Pretraining run -> encoder, from `--pretrained`: an OUT of `reproduce chexpert`, or RUN=ENCODER.

    Raises:
        InputError: a folder without finished runs.
    """
    encoders: dict[str, str] = {}
    for text in texts:
        name, equals, encoder = text.partition("=")
        if equals:
            encoders[name] = encoder
            continue
        runs = finished_runs(Path(text))
        if not runs:
            raise InputError(
                f"--pretrained {text}: there is no finished run in {Path(text) / 'runs'}.",
                "Name the --out of `reproduce chexpert`, or RUN=ENCODER, e.g. resnet18=DIR.",
            )
        encoders |= runs
    return encoders


def finished_runs(out: Path) -> dict[str, str]:
    """Name -> folder of the pretraining runs of a reproduction that are finished."""
    return {file.parent.name: str(file.parent) for file in sorted(out.glob("runs/*/run.json"))}


def store_path(s: ReproduceSettings) -> Path:
    """Where the store of the release lies."""
    return s.out / "stores" / s.dataset


def prepare_stores(s: ReproduceSettings) -> dict[str, Store]:
    """The store, and under `tested` the one that holds the test images, where there are any."""
    shared: dict[str, Any] = {"size": s.size, "jobs": s.jobs, "executor": s.executor}
    source: dict[str, Any] = {"source": s.root, "out": store_path(s), "format": s.dataset}
    if s.dataset == "shenzhen":
        source |= {"split": s.split, "split_seed": s.seed, "split_file": s.split_file}
        source["stratify"] = s.split_file is None  # the two exclude each other
    stores: dict[str, Store] = {"store": commands.say_and_run("prepare", **source, **shared)}
    if s.dataset == "shenzhen" or (s.test_root and s.test_root.resolve() == s.root.resolve()):
        stores["tested"] = stores["store"]
    elif s.test_root is not None:
        test = {"source": s.test_root, "out": s.out / "stores" / "test", "format": "chexpert"}
        stores["tested"] = commands.say_and_run("prepare", **test, **shared)
    if "tested" in stores and not len(stores["tested"].rows_in("test")):
        raise InputError(f"{s.test_root} holds no test image.", "Give the official test set by --test-root.")
    return stores


def write_patient_draws(s: ReproduceSettings, counts: Mapping[float, int]) -> None:
    """Shenzhen's label subsets of the images that could be read, by patient, as `study` would make them."""
    store = Store.open(store_path(s))
    target = read_target(store, TASKS["shenzhen"][0])
    for fraction, draws in counts.items():
        for draw in make_draws(store, [target], [fraction], draws, s.seed):
            if draw.undefined:
                raise InputError(f"{store_path(s)}: {draw.undefined}.", "Give the set as released.")
            write_csv(s.out / "draws" / f"{fraction:g}-{draw.draw}.csv", draw_table(store, draw))


def make_starts(s: ReproduceSettings, runs: Sequence[Run], studies: Sequence[Study]) -> None:
    """Make what the arms start from, before anything that takes long: the weights may not be here."""
    starts = {(run.backbone, run.std is not None) for run in runs}
    starts |= {(study.first.backbone, study.variant == "std") for study in studies}
    for backbone, unsquared in sorted(starts):
        make_start(s, backbone, HONEST_STD if unsquared else None)


def make_start(s: ReproduceSettings, backbone: str, std: float | None) -> Path:
    """The start as pretraining has it, as an encoder of its own: the arm `imagenet`.

    Raises:
        InputError: weights that are not there, of another network, or with a grey scale of their own.
    """
    folder = s.out / "starts" / (backbone if std is None else f"{backbone}-std")
    if (folder / "encoder.json").is_file():
        return folder
    preset = PRESETS["paper"]
    spec = EncoderSpec(backbone, s.size, mean=preset.mean, std=std or preset.std)
    encoder, origin = initial_encoder(s.init, spec, s.seed)
    network = encoder.spec.architecture.partition(".")[0]
    if network != backbone:
        raise InputError(
            f"--init {s.init} is a {encoder.spec.architecture}, and cells of {backbone} were asked for.",
            f"Choose others by --cells, e.g. '*/{network}/*', or another start.",
        )
    if std is not None and encoder.spec.std != spec.std:
        raise InputError(
            f"--init {s.init} brings its own grey scale, so that --variant std changes nothing.",
            "Leave --variant std out.",
        )
    _copy_seen(folder, s.init)  # so that `study` finds test images that the start has seen
    facts = {"init": s.init, "weights": origin}
    write_json(folder / "run.json", facts | {"started_from": started_from(s.init)})
    save_encoder(encoder, folder, facts)  # last: encoder.json says that the start is whole
    return folder


def _copy_seen(folder: Path, init: str) -> None:
    """Whose images the start has seen, as a run keeps it: nobody's where weights are random or ImageNet's."""
    if init in ("imagenet", "random"):
        write_csv(folder / "patients.csv", pl.DataFrame(schema={"source": pl.String, "patient": pl.String}))
        images = pl.DataFrame(schema={"sha256": pl.String, "fingerprint": pl.Binary})
        write_parquet(folder / "images.parquet", images)
        return
    for name in ("patients.csv", "images.parquet"):
        if (seen := encoder_folder(init) / name).is_file():
            atomic_write(folder / name, seen.read_bytes())


def pretrain(s: ReproduceSettings, run: Run) -> None:
    """One pretraining run with the preset `paper`."""
    folder = s.out / "runs" / run.name
    if (folder / "run.json").is_file():
        console.say(f"{folder}: pretrained already.")
        return
    commands.say_and_run(
        "pretrain", stores=[store_path(s)], out=folder, preset="paper", backbone=run.backbone, init=s.init,
        size=s.size, epochs=s.epochs, batch=s.batch, queue=s.queue, lr=run.lr, std=run.std, seed=s.seed,
        device=s.device, precision=PRECISION, resume=(folder / "settings.yaml").is_file() or None,
    )  # fmt: skip


def run_study(s: ReproduceSettings, study: Study) -> None:
    """One study; with the arms and modes that its folder has from an earlier call."""
    cell, folder = study.first, s.out / "studies" / study.name
    encoders = finished_runs(s.out) | encoders_of(s.pretrained)  # what is given comes before what was pretrained here
    start_folder = make_start(s, cell.backbone, HONEST_STD if study.variant == "std" else None)
    pairs = {arm: encoders.get(run) if run else str(start_folder) for arm, run in study.runs.items()}
    arms = {arm: encoder and quoted(encoder) for arm, encoder in pairs.items()}
    modes = set(study.modes)
    if (folder / "settings.yaml").is_file():
        before = from_yaml(folder / "settings.yaml")
        arms |= dict(arm.split("=", 1) for arm in before["arm"])  # a study grows, and loses no arm that it has
        modes |= set(before["mode"])
    for arm in sorted(arm for arm, encoder in arms.items() if encoder is None):
        console.warn(f"{study.name}: no encoder {study.runs[arm]} was pretrained or given: no arm {arm}.")
    # imagenet first: the reference arm
    named = [f"{arm}={encoder}" for arm, encoder in sorted(arms.items()) if encoder is not None]
    if not named:
        return
    settings = STUDY | {
        "store": store_path(s), "out": folder, "target": [cell.task], "arm": named,
        "mode": [mode for mode in STUDY["mode"] if mode in modes], "fraction": [cell.fraction],
        "draws_from": s.out / "draws", "test_on": _separate_test_store(s), "size": s.size, "batch": s.batch,
        "epochs": s.train_epochs or cell.epochs, "replicates": s.replicates,
        "seed": s.seed, "device": s.device, "jobs": s.jobs, "executor": s.executor, "gpus": s.gpus,
    }  # fmt: skip
    settings |= {"linear_solver": "lbfgs"} if study.variant == "lbfgs" else {}
    settings |= {"unit": "image"} if s.dataset == "shenzhen" else {}  # a patient has one image there
    # with defaults filled in, as the folder keeps them
    if is_finished(folder, to_mapping(make(StudySettings, settings))):
        console.say(f"{folder}: done already.")
        return
    commands.say_and_run("study", **settings)


def _separate_test_store(s: ReproduceSettings) -> Path | None:
    path = s.out / "stores" / "test"
    return path if s.test_root and s.test_root.resolve() != s.root.resolve() else None


def cell_states(
    out: Path, cells: Sequence[Cell], selected: Sequence[Cell], blocked: Mapping[str, str]
) -> list[dict[str, str]]:
    """Every cell: done, undefined or not run, with the reason.

    Args:
        selected: cells that were asked for.
        blocked: id of a cell that was asked for and cannot be run -> why.
    """
    ids = {cell.id for cell in selected}
    measured = {study: _measured(out / "studies" / study) for study in {cell.study for cell in cells}}
    states = []
    for cell in cells:
        row = measured[cell.study].get((cell.arm, cell.mode, cell.task, cell.fraction))
        if row is None:
            left = "not reached yet" if cell.id in ids else "not among --cells or --fraction"
            status, reason = NOT_RUN, blocked.get(cell.id, left)
        elif row["auroc"] is None:
            status, reason = UNDEFINED, row["reason"] or "no label subset has both classes"
        else:
            status, reason = DONE, ""
        names = {"id": cell.id, "study": cell.study, "mode": cell.mode, "arm": cell.arm}
        states.append(names | {"status": status, "reason": reason})
    return states


def _measured(folder: Path) -> dict[tuple[str, str, str, float], dict[str, Any]]:
    if not (folder / "study.json").is_file():  # written last
        return {}
    table = read_table(folder / "cells.csv", "cells")
    return {(row["arm"], row["mode"], row["target"], row["fraction"]): row for row in table.iter_rows(named=True)}


def run_states(out: Path, runs: Sequence[Run], selected: Sequence[Run]) -> list[dict[str, str]]:
    """Every pretraining run: done or not run, with the reason."""
    finished = finished_runs(out)
    states = []
    for run in runs:
        reason = "not reached yet" if run in selected else "not needed by the cells chosen"
        status = (DONE, "") if run.name in finished else (NOT_RUN, reason)
        states.append({"id": run.id, "run": run.name, "status": status[0], "reason": status[1]})
    return states
