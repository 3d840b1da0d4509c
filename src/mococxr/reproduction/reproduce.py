"""The command `reproduce`, top to bottom: tables, label subsets, plan, stores, pretraining, studies, page."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import console
from mococxr.errors import InputError
from mococxr.features import pick_device
from mococxr.files import read_json, write_json
from mococxr.pretraining.dataset import free_queue
from mococxr.reproduction import data as tables
from mococxr.reproduction import plan, runner
from mococxr.reproduction.data import PAPERS, PAPERS_TEST, Data, Rows
from mococxr.reproduction.page import write_page
from mococxr.reproduction.plan import Pace, as_record, measure
from mococxr.reproduction.recipe import (
    STUDY,
    SUBSETS,
    TASKS,
    Cell,
    Run,
    Study,
    every_cell,
    every_run,
    select,
    studies_of,
)
from mococxr.settings import PRESETS, QUEUES, ReproduceSettings, flag, to_mapping
from mococxr.store import Store
from mococxr.studies.design import check_fractions
from mococxr.studies.executors import joined
from mococxr.version import VERSION
from mococxr.workers import cores

RECORD = "reproduce.json"
PAGE_SECONDS = 60.0
"""A page is written again after a study when the last is older than this."""
FIXED = (
    "dataset", "size", "epochs", "train_epochs", "queue", "batch", "init", "draws", "split", "split_file",
    "pretrained", "seed",
)  # fmt: skip
"""Settings that a folder keeps once something was trained in it."""
PAPER: dict[str, Any] = {name: getattr(PRESETS["paper"], name) for name in ("size", "epochs", "batch", "init")}
PAPER |= {"queue": QUEUES["paper"], "replicates": STUDY["replicates"], "train_epochs": None, "draws": None}
Record = dict[str, Any]


@dataclass
class Reproduction:
    """A reproduction on its way: what was asked for, what is known, and what stands in the way of cells."""

    settings: ReproduceSettings
    cells: list[Cell]
    runs: list[Run]
    selected_cells: list[Cell]
    selected_runs: list[Run]
    data: Data
    blocked: dict[str, str]
    paces: dict[str, Pace] = field(default_factory=dict)
    stores: dict[str, Store] = field(default_factory=dict)

    def save(self) -> None:
        """Write reproduce.json as things stand."""
        s, facts = self.settings, self._data()
        content = {
            "version": VERSION,
            "dataset": s.dataset,
            "settings": to_mapping(s),
            "departures": departures(s, facts.get("table_is_papers"), len(self.data.images)),
            "synthetic": self.data.synthetic,
            "data": facts,
            "cells": runner.cell_states(s.out, self.cells, self.selected_cells, self.blocked),
            "pretraining": runner.run_states(s.out, self.runs, self.selected_runs),
            "machine": _machine(pick_device(s.device).type, self.paces),
            "pace": _pace_settings(s) | {"seconds": as_record(self.paces)},
            "notes": notes(s, facts, self.data.assumed),
        }
        write_json(s.out / RECORD, content)

    def _data(self) -> Record:
        facts = self.data.facts()
        if self.settings.dataset == "shenzhen":
            facts.pop("table_is_papers")
            facts.pop("studies")
        if self.stores:
            unreadable = (int(store.quarantine["unreadable"].sum()) for store in self.stores.values())
            facts["missing_images"] = sum(unreadable)
        facts["test"] = tables.test_counts(self.stores.get("tested"), TASKS[self.settings.dataset])
        if not self.stores and (self.settings.test_root or self.settings.dataset == "shenzhen"):
            facts["test"]["kind"] = "not read yet"
        return facts


def run(settings: ReproduceSettings) -> Path:
    """Plan, and unless `dry_run` do, what the paper did; what is done is skipped.

    Returns:
        The path of the page.

    Raises:
        InputError: bad settings or inputs, or a folder with another reproduction; nothing was trained.
        RunError: the run stopped on the way; the same command goes on from there.
    """
    _check(settings)
    if not settings.dry_run:
        with joined(settings.executor, settings.device, settings.gpus):
            pass  # a cluster that is not there is said now, not after days of pretraining
    _check_folder(settings)
    work = _open(settings)
    counts = {cell.fraction: cell.draws for cell in work.selected_cells}
    make_draws = tables.chexpert_draws if settings.dataset == "chexpert" else tables.patient_draws
    draws = make_draws(work.data, counts, settings.seed)
    # before anything is trained: `study` takes them from there
    tables.write_draws(settings.out / "draws", work.data, draws)
    _plan(work, studies_of(work.selected_cells, settings.variant), draws)
    work.save()
    if not settings.dry_run:
        if work.data.missing:
            raise InputError(work.data.missing, "Complete the release, or plan only: --dry-run.")
        _do(work)
    return _finish(work)


def _check(s: ReproduceSettings) -> None:
    check_fractions(s.fraction or (1.0,))
    other, names = (
        ("chexpert", ["test_root"]) if s.dataset == "shenzhen" else ("shenzhen", ["pretrained", "split_file"])
    )
    for name in names:
        if getattr(s, name):
            raise InputError(f"{flag(name)} is for {other}, not for {s.dataset}.", "Leave it out.")


def _check_folder(s: ReproduceSettings) -> None:
    """Refuse a folder that holds something else, or that was begun with other settings; a plan alone takes others."""
    record = s.out / RECORD
    if not record.is_file():
        if s.out.exists() and (not s.out.is_dir() or any(s.out.iterdir())):
            raise InputError(f"{s.out} exists and holds no reproduction.", "Name another --out.")
        return
    if not any((s.out / name).exists() for name in ("stores", "runs", "studies")):
        return
    before, now = read_json(record)["settings"], to_mapping(s)
    changed = [f"{flag(name)} {before[name]}" for name in FIXED if before[name] != now[name]]
    if changed:
        raise InputError(
            f"{s.out} was begun with {', '.join(changed)}.", "Repeat those settings, or name another --out."
        )


def _open(s: ReproduceSettings) -> Reproduction:
    """The cells and runs that were asked for, the label tables, and what cannot be run."""
    cells, runs = every_cell(s.dataset, s.fraction, s.draws), every_run(s.dataset, s.variant)
    selected_cells, selected_runs = select(cells, runs, s.cells, s.fraction)
    blocked: dict[str, str] = {}
    if s.dataset == "chexpert":
        data = tables.read_chexpert(s)
        if s.test_root is None:
            why = "needs the official test set: give its folder by --test-root"
            blocked = {cell.id: why for cell in selected_cells}
    else:
        data = tables.read_shenzhen(s)
        encoders = runner.encoders_of(s.pretrained)
        blocked = {
            cell.id: f"no encoder {cell.run}: give --pretrained OUT of `reproduce chexpert` or {cell.run}=ENCODER"
            for cell in selected_cells
            if cell.run is not None and cell.run not in encoders
        }
    for text in data.assumed:
        console.say(f"{text}.")
    return Reproduction(s, cells, runs, selected_cells, selected_runs, data, blocked)


def _plan(work: Reproduction, studies: list[Study], draws: Mapping[float, list[Rows]]) -> None:
    """Time some steps, write plan.csv and say what it comes to."""
    s = work.settings
    backbones = [run.backbone for run in work.selected_runs] + [cell.backbone for cell in work.selected_cells]
    work.paces = _paces(s, tuple(dict.fromkeys(backbones)))
    rows = plan.plan_rows(s, work.data, work.selected_runs, studies, draws, work.paces)
    table = plan.write_plan(s.out / "plan.csv", rows)
    local = cores() if s.executor == "local" else 1  # nobody knows what a cluster will have
    jobs = (s.jobs or local) if pick_device(s.device).type == "cpu" else 1
    console.result(plan.summary(table, plan.disk_bytes(s, work.data, work.selected_runs), jobs))
    console.say(f"plan: {s.out / 'plan.csv'}, label subsets: {s.out / 'draws'}")


def _pace_settings(s: ReproduceSettings) -> Record:
    """What the time of a step depends on, besides the machine and the network."""
    return {"size": s.size, "batch": s.batch, "queue": s.queue, "device": pick_device(s.device).type}


def _paces(s: ReproduceSettings, backbones: tuple[str, ...]) -> dict[str, Pace]:
    """Seconds a step of each network: as an earlier call with these settings timed them, or timed now."""
    record = s.out / RECORD
    before = dict(read_json(record)["pace"]) if record.is_file() and not s.dry_run else {}  # a plan is timed anew
    seconds = before.pop("seconds", {})
    if before == _pace_settings(s) and set(backbones) <= set(seconds):
        return {name: Pace(**seconds[name]) for name in backbones}
    preset = PRESETS["paper"]
    console.say(f"timing a few steps of {' and '.join(backbones)} at {s.size} px")
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > cores():
        console.warn(f"{load:.1f} processes share {cores()} cores: timings will be pessimistic.")
    return measure(
        backbones, size=s.size, batch=s.batch, queue=s.queue or QUEUES["paper"], mean=preset.mean,
        std=preset.std, device=s.device,
    )  # fmt: skip


def _do(work: Reproduction) -> None:
    """Stores, pretraining and studies."""
    s = work.settings
    runnable = [cell for cell in work.selected_cells if cell.id not in work.blocked]
    studies = studies_of(runnable, s.variant)
    runner.make_starts(s, work.selected_runs, studies)
    work.stores = runner.prepare_stores(s)
    work.save()
    if s.dataset == "shenzhen":
        runner.write_patient_draws(s, {cell.fraction: cell.draws for cell in runnable})
    for pretraining_run in work.selected_runs:
        runner.pretrain(s, pretraining_run)
        work.save()
    paged = 0.0  # long ago: there is a page after the first study
    for number, study in enumerate(studies, 1):
        console.say(f"\nstudy {number} of {len(studies)}: {study.name}")
        runner.run_study(s, study)
        work.save()
        if time.monotonic() - paged > PAGE_SECONDS:
            write_page(s.out)
            paged = time.monotonic()


def _finish(work: Reproduction) -> Path:
    s = work.settings
    page = write_page(s.out)
    states = pl.DataFrame(runner.cell_states(s.out, work.cells, work.selected_cells, work.blocked))
    counts = dict(states.group_by("status").len().iter_rows())
    parts = [f"{counts[word]} {word}" for word in ("done", "undefined", "not run") if word in counts]
    console.result(f"{len(states)} cells: {', '.join(parts)}")
    reasons = states.filter(pl.col("status") == "not run").group_by("reason").len().sort("reason")
    for reason, count in reasons.iter_rows():
        console.say(f"  not run, {count}: {reason}")
    console.say(f"page: {page}")
    return page


def departures(s: ReproduceSettings, table_is_papers: bool | None, rows: int) -> list[Record]:
    """Where this run differs from the paper's by what the user asked for or gave."""
    changed: list[tuple[str, Any, Any]] = [
        (name, paper, getattr(s, name)) for name, paper in PAPER.items() if getattr(s, name) not in (paper, None)
    ]
    if s.queue is None and s.dataset == "chexpert" and free_queue(rows, s.batch) < PAPER["queue"]:
        changed.append(("queue", PAPER["queue"], "the most that leave the order of the images free"))
    fractions = tuple(SUBSETS[s.dataset])
    if s.fraction and set(s.fraction) != set(fractions):
        changed.append(("fraction", fractions, s.fraction))
    if table_is_papers is False:
        changed.append(("training images", f"{PAPERS['rows']:,}", f"{rows:,}"))
    if s.dataset == "shenzhen":
        split = s.split_file or "seeded shares " + " ".join(f"{share:g}" for share in s.split)
        changed.append(("split", "65/15/20 without a seed, not published", split))
    return [{"setting": name, "paper": _plain(paper), "here": _plain(value)} for name, paper, value in changed]


def _plain(value: Any) -> Any:
    """A setting as JSON and the page have it."""
    if isinstance(value, tuple):
        return " ".join(f"{item:g}" for item in value)
    return value if isinstance(value, int | float) else "as printed" if value is None else str(value)


def notes(s: ReproduceSettings, data: Mapping[str, Any], assumed: Sequence[str]) -> list[str]:
    """What a reader should know besides: assumptions, other test images, missing images."""
    lines = list(assumed)
    if s.dataset == "chexpert":
        lines.append("Validation AUROC, which chooses checkpoints, counts images; the test counts studies.")
        test = data["test"]
        if test["kind"] == "official" and test["studies"] != 500:
            lines.append(f"The test set has {test['studies']:,} studies; the paper's has 500.")
        positives = test["positives"] if test["kind"] == "official" else {}
        other = [
            f"{task} {count} (paper {PAPERS_TEST[task]})"
            for task, count in positives.items()
            if count != PAPERS_TEST[task]
        ]
        if other:
            lines.append(f"Positive test studies differ from the paper's: {', '.join(other)}.")
    else:
        lines.append(
            "The paper prints no epochs for Shenzhen: 220 (n/223)^-0.365 for n images, fitted to CheXpert's, are "
            "used. Its label subsets cannot be drawn again, since their seed is not known: these are seeded, by patient."
        )
    if data.get("missing_images"):
        lines.append(f"{data['missing_images']:,} images could not be read (stores/*/quarantine.csv).")
    return lines


def _machine(device: str, paces: Mapping[str, Pace]) -> Record:
    """What the times were measured on."""
    facts: Record = {"system": platform.platform(), "device": device, "cores": os.cpu_count()}
    for backbone, pace in paces.items():
        facts[f"{backbone}: seconds per step"] = (
            f"pretraining {pace.pretrain:.3g}, linear {pace.linear:.3g}, end-to-end {pace.finetune:.3g}; "
            f"{pace.image:.3g} per image read"
        )
    return facts
