"""The command `reproduce`, top to bottom: tables, draws, plan, stores, pretraining, studies, page."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import console
from mococxr.errors import InputError
from mococxr.features import pick_device
from mococxr.files import read_json
from mococxr.reproduction import data as tables
from mococxr.reproduction import plan, record
from mococxr.reproduction.cells import CHEXPERT_TASKS, SHENZHEN_TASK, Cell
from mococxr.reproduction.data import Data, Rows
from mococxr.reproduction.page import write_page
from mococxr.reproduction.runner import Stages, encoders_of
from mococxr.reproduction.timing import Pace, as_record, measure
from mococxr.reproduction.work import Run, Study, chosen, every_cell, every_run, studies_of
from mococxr.settings import PRESETS, QUEUES, ReproduceSettings, flag
from mococxr.store import Store
from mococxr.studies.executors import joined
from mococxr.studies.plan import check_fractions
from mococxr.workers import cores

PAGE_SECONDS = 60.0
"""A page is written again after a study when the last is older than this."""


@dataclass
class Reproduction:
    """A reproduction on its way: what was asked for, what is known, and what stands in the way of cells."""

    settings: ReproduceSettings
    cells: list[Cell]
    runs: list[Run]
    asked: list[Cell]
    wanted_runs: list[Run]
    data: Data
    blocked: dict[str, str]
    paces: dict[str, Pace] = field(default_factory=dict)
    stores: dict[str, Store] = field(default_factory=dict)
    paged: float = 0.0

    @property
    def tasks(self) -> tuple[str, ...]:
        """The labels of the data set's cells."""
        return CHEXPERT_TASKS if self.settings.dataset == "chexpert" else (SHENZHEN_TASK,)

    def save(self) -> None:
        """Write reproduce.json as things stand."""
        s, facts = self.settings, self._data()
        papers = facts.get("table_is_papers")
        record.write(
            s,
            {
                "departures": record.departures(s, papers, len(self.data.images)),
                "phantom": self.data.phantom,
                "data": facts,
                "cells": record.cell_states(s.out, self.cells, self.asked, self.blocked),
                "pretraining": record.run_states(s.out, self.runs, self.wanted_runs),
                "machine": record.machine(pick_device(s.device).type, self.paces),
                "pace": _pace_of(s) | {"seconds": as_record(self.paces)},
                "notes": record.notes(s, facts, self.data.assumed),
            },
        )

    def _data(self) -> dict[str, Any]:
        facts = self.data.facts()
        if self.settings.dataset == "shenzhen":
            facts.pop("table_is_papers")
            facts.pop("studies")
        if self.stores:
            facts["missing_images"] = sum(
                int(store.quarantine["unreadable"].sum()) for store in self.stores.values()
            )
        facts["test"] = tables.test_counts(self.stores.get("tested"), self.tasks)
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
    record.claim(settings)
    work, studies = _ask(settings)
    draws = _draws(work)
    tables.write_draws(settings.out / "draws", work.data, draws)
    _plan(work, studies, draws)
    work.save()
    if settings.dry_run:
        return _finish(work)
    if work.data.missing:
        raise InputError(work.data.missing, "Complete the release, or plan only: --dry-run.")
    _do(work, settings.variant)
    return _finish(work)


def _check(s: ReproduceSettings) -> None:
    check_fractions(s.fraction or (1.0,))
    other = "shenzhen" if s.dataset == "chexpert" else "chexpert"
    given = (
        {"test_root": s.test_root}
        if s.dataset == "shenzhen"
        else {"pretrained": s.pretrained, "split_file": s.split_file}
    )
    for name, value in given.items():
        if value:
            raise InputError(f"{flag(name)} is for {other}, not for {s.dataset}.", "Leave it out.")


def _ask(s: ReproduceSettings) -> tuple[Reproduction, list[Study]]:
    """The cells and runs that were asked for, the tables, and what cannot be run."""
    cells, runs = every_cell(s.dataset, s.fraction, s.draws), every_run(s.dataset, s.variant)
    asked, wanted = chosen(cells, runs, s.cells, s.fraction)
    if s.dataset == "chexpert":
        data, blocked = tables.read_chexpert(s, CHEXPERT_TASKS), {}
        if s.test_root is None:
            why = "needs the official test set: give its folder by --test-root"
            blocked = {cell.id: why for cell in asked}
    else:
        data = tables.read_shenzhen(s)
        known = encoders_of(s.pretrained)
        blocked = {
            cell.id: f"no encoder {cell.run}: give --pretrained OUT of `reproduce chexpert` or {cell.run}=ENCODER"
            for cell in asked
            if cell.run is not None and cell.run not in known
        }
    for text in data.assumed:
        console.say(f"{text}.")
    return Reproduction(s, cells, runs, asked, wanted, data, blocked), studies_of(asked, s.variant)


def _draws(work: Reproduction) -> dict[float, list[Rows]]:
    counts = {cell.fraction: cell.draws for cell in work.asked}
    make = tables.chexpert_draws if work.settings.dataset == "chexpert" else tables.patient_draws
    return make(work.data, counts, work.settings.seed)


def _plan(work: Reproduction, studies: list[Study], draws: Mapping[float, list[Rows]]) -> None:
    """Measure some steps, write plan.csv and say what it comes to."""
    s = work.settings
    needed = tuple(
        dict.fromkeys([run.backbone for run in work.wanted_runs] + [c.backbone for c in work.asked])
    )
    work.paces = _kept_paces(s, needed) or _measure(s, needed)
    rows = plan.plan_rows(s, work.data, work.wanted_runs, studies, draws, work.paces)
    table = plan.write_plan(s.out / "plan.csv", rows)
    here = cores() if s.executor == "local" else 1  # nobody knows what a cluster will have
    jobs = (s.jobs or here) if pick_device(s.device).type == "cpu" else 1
    console.result(plan.summary(table, plan.disk_bytes(s, work.data, work.wanted_runs), jobs))
    console.say(f"plan: {s.out / 'plan.csv'}, draws of labels: {s.out / 'draws'}")


def _pace_of(s: ReproduceSettings) -> dict[str, Any]:
    """What the time of a step depends on, besides the machine and the backbone."""
    return {"size": s.size, "batch": s.batch, "queue": s.queue, "device": pick_device(s.device).type}


def _kept_paces(s: ReproduceSettings, needed: tuple[str, ...]) -> dict[str, Pace]:
    """What an earlier call of the same settings has measured; nothing where it lacks a backbone."""
    path = s.out / record.RECORD
    kept = read_json(path).get("pace", {}) if path.is_file() else {}
    if s.dry_run or {k: v for k, v in kept.items() if k != "seconds"} != _pace_of(s):
        return {}
    known = kept["seconds"]
    return {name: Pace(**known[name]) for name in needed} if set(needed) <= set(known) else {}


def _measure(s: ReproduceSettings, needed: tuple[str, ...]) -> dict[str, Pace]:
    preset = PRESETS["paper"]
    console.say(f"measuring some steps of {' and '.join(needed)} at {s.size} px")
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > cores():
        console.warn(f"{load:.1f} processes share {cores()} cores: what is measured now is too slow.")
    return measure(
        needed, size=s.size, batch=s.batch, queue=s.queue or QUEUES["paper"], mean=preset.mean, std=preset.std,
        device=s.device,
    )  # fmt: skip


def _do(work: Reproduction, variants: tuple[str, ...]) -> None:
    """Stores, pretraining and studies."""
    s, stages = work.settings, Stages(work.settings)
    runnable = [cell for cell in work.asked if cell.id not in work.blocked]
    studies = studies_of(runnable, variants)
    stages.check_start(work.wanted_runs, studies)
    work.stores = stages.prepare()
    work.save()
    if s.dataset == "shenzhen":
        stages.write_patient_draws({cell.fraction: cell.draws for cell in runnable})
    for one in work.wanted_runs:
        stages.pretrain(one)
        work.save()
    for number, study in enumerate(studies, 1):
        console.say(f"\nstudy {number} of {len(studies)}: {study.name}")
        stages.study(study)
        work.save()
        if time.monotonic() - work.paged > PAGE_SECONDS:
            write_page(s.out)
            work.paged = time.monotonic()


def _finish(work: Reproduction) -> Path:
    page = write_page(work.settings.out)
    states = pl.DataFrame(record.cell_states(work.settings.out, work.cells, work.asked, work.blocked))
    counts = dict(states.group_by("status").len().iter_rows())
    said = ", ".join(f"{counts[word]} {word}" for word in ("done", "undefined", "not run") if word in counts)
    console.result(f"{len(states)} cells: {said}")
    for reason, count in (
        states.filter(pl.col("status") == "not run").group_by("reason").len().sort("reason").iter_rows()
    ):
        console.say(f"  not run, {count}: {reason}")
    console.say(f"page: {page}")
    return page
