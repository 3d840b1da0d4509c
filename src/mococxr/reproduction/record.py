"""`reproduce.json`: what was asked for, what differs from the paper, what the data are, and how far it is."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mococxr.errors import InputError
from mococxr.files import read_json, write_json
from mococxr.pretraining.dataset import largest_queue
from mococxr.reproduction.cells import FRACTIONS, STUDY, Cell
from mococxr.reproduction.data import PAPERS, PAPERS_TEST
from mococxr.reproduction.timing import Pace
from mococxr.reproduction.work import Run
from mococxr.settings import PRESETS, QUEUES, ReproduceSettings, flag, to_mapping
from mococxr.version import VERSION

RECORD = "reproduce.json"
FIXED = (
    "dataset", "size", "epochs", "train_epochs", "queue", "batch", "init", "draws", "split", "split_file",
    "pretrained", "seed",
)  # fmt: skip
"""Settings that a folder keeps once something was trained in it."""
BEGUN = ("stores", "runs", "studies")
PAPER: dict[str, Any] = {
    name: getattr(PRESETS["paper"], name) for name in ("size", "epochs", "batch", "init")
}
PAPER |= {"queue": QUEUES["paper"], "replicates": STUDY["replicates"], "train_epochs": None, "draws": None}
Record = dict[str, Any]


def claim(settings: ReproduceSettings) -> None:
    """Refuse a folder that holds something else, or that was begun with other settings.

    Raises:
        InputError: it does; a folder that holds a plan only takes other settings.
    """
    out = settings.out
    if not (out / RECORD).is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} is there already and holds no reproduction.", "Name another --out.")
        return
    if not any((out / name).exists() for name in BEGUN):
        return
    before, now = read_json(out / RECORD)["settings"], to_mapping(settings)
    differ = [f"{flag(name)} {before.get(name)}" for name in FIXED if before.get(name) != now[name]]
    if differ:
        raise InputError(
            f"{out} was begun with {', '.join(differ)}.", "Repeat those settings, or name another --out."
        )


def departures(settings: ReproduceSettings, table_is_papers: bool | None, rows: int) -> list[Record]:
    """Where this run differs from the paper's by what the user asked for or gave."""
    found = [
        _departure(name, paper, getattr(settings, name))
        for name, paper in PAPER.items()
        if getattr(settings, name) not in (paper, None)
    ]
    if settings.queue is None and _shorter_queue(settings, rows):
        found.append(_departure("queue", QUEUES["paper"], "the most that the images allow"))
    if settings.fraction and set(settings.fraction) != set(FRACTIONS[settings.dataset]):
        found.append(_departure("fraction", FRACTIONS[settings.dataset], settings.fraction))
    if table_is_papers is False:
        found.append(_departure("training images", f"{PAPERS['rows']:,}", f"{rows:,}"))
    if settings.dataset == "shenzhen":
        split = settings.split_file or "seeded shares " + " ".join(f"{share:g}" for share in settings.split)
        found.append(_departure("split", "65/15/20 without a seed, not published", split))
    return found


def _shorter_queue(settings: ReproduceSettings, rows: int) -> bool:
    """Whether the paper's queue is too long for so few images."""
    return settings.dataset == "chexpert" and largest_queue(rows, settings.batch) < QUEUES["paper"]


def _departure(name: str, paper: Any, here: Any) -> Record:
    def words(value: Any) -> Any:
        if isinstance(value, tuple):
            return " ".join(f"{one:g}" for one in value)
        return value if isinstance(value, int | float) else str(value) if value is not None else "as printed"

    return {"setting": name, "paper": words(paper), "here": words(here)}


def notes(settings: ReproduceSettings, data: Mapping[str, Any], assumed: Sequence[str]) -> list[str]:
    """What a reader should know besides: assumptions, other test images, missing images."""
    found = list(assumed)
    if settings.dataset == "chexpert":
        found.append(
            "Validation AUROC, which chooses checkpoints, counts images; the test counts studies, one vote each."
        )
    test = data["test"]
    if settings.dataset == "chexpert" and test["kind"] == "official":
        if test["studies"] != 500:
            found.append(f"The test set has {test['studies']:,} studies; the paper's has 500.")
        off = [
            f"{task} {count} (paper {PAPERS_TEST[task]})"
            for task, count in test["positives"].items()
            if count != PAPERS_TEST[task]
        ]
        if off:
            found.append(f"Positive test studies differ from the paper's: {', '.join(off)}.")
    if settings.dataset == "shenzhen":
        found.append(
            "The paper prints no epochs for Shenzhen: 220 (n/223)^-0.365 for n images, fitted to CheXpert's, are taken. "
            "Its draws of labels are not known: these are seeded, by patient."
        )
    if data.get("missing_images"):
        found.append(f"{data['missing_images']:,} images could not be read (stores/*/quarantine.csv).")
    return found


def cell_states(
    out: Path,
    cells: Sequence[Cell],
    chosen: Sequence[Cell],
    blocked: Mapping[str, str],
) -> list[Record]:
    """Every cell: done, undefined or not run, with the reason.

    Args:
        chosen: cells that were asked for.
        blocked: id of a cell that was asked for and cannot be run -> why.
    """
    asked = {cell.id for cell in chosen}
    measured = {cell.study: _measured(out / "studies" / cell.study) for cell in cells}
    states = []
    for cell in cells:
        row = measured[cell.study].get((cell.arm, cell.mode, cell.task, cell.fraction))
        if row is not None:
            done = row["auroc"] != ""
            status, reason = (
                ("done", "") if done else ("undefined", row.get("reason") or "no draw has both classes")
            )
        else:
            left = "not reached yet" if cell.id in asked else "not among --cells or --fraction"
            status, reason = "not run", blocked.get(cell.id, left)
        place = {"id": cell.id, "study": cell.study, "mode": cell.mode, "arm": cell.arm}
        states.append(place | {"status": status, "reason": reason})
    return states


def _measured(folder: Path) -> dict[tuple[str, str, str, float], dict[str, str]]:
    path = folder / "cells.csv"
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["arm"], row["mode"], row["target"], float(row["fraction"])): row for row in rows}


def run_states(out: Path, runs: Sequence[Run], chosen: Sequence[Run]) -> list[Record]:
    """Every pretraining run: done, begun or not run."""
    states = []
    for run in runs:
        done = (out / "runs" / run.name / "run.json").is_file()
        reason = "" if done else "not reached yet" if run in chosen else "not needed by the cells chosen"
        states.append(
            {"id": run.id, "run": run.name, "status": "done" if done else "not run", "reason": reason}
        )
    return states


def machine(device: str, paces: Mapping[str, Pace]) -> Record:
    """What the times were measured on."""
    facts: Record = {"system": platform.platform(), "device": device, "cores": os.cpu_count()}
    for backbone, pace in paces.items():
        facts[f"{backbone}: seconds a step"] = (
            f"pretraining {pace.pretrain:.3g}, linear {pace.linear:.3g}, end-to-end {pace.finetune:.3g}; "
            f"{pace.image:.3g} an image read"
        )
    return facts


def write(settings: ReproduceSettings, content: Mapping[str, Any]) -> None:
    """Write reproduce.json."""
    head = {"version": VERSION, "dataset": settings.dataset, "settings": to_mapping(settings)}
    write_json(settings.out / RECORD, head | dict(content))
