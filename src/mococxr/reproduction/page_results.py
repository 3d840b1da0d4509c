"""What the folder of a reproduction holds, every number beside the printed one.

Reads `reproduce.json` and the studies' tables. The only arithmetic is measured less printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mococxr.errors import InputError
from mococxr.files import read_json
from mococxr.reporting.study_folder import Row, Study, read_study
from mococxr.reproduction.cells import (
    CHEXPERT_TASKS,
    SHENZHEN_TASK,
    Cell,
    Published,
    cells_of,
    published,
    task_name,
)

DONE, NOT_RUN, UNDEFINED = "done", "not run", "undefined"
DIFFERENCE, ACROSS = "difference", "difference-from-imagenet-finetune"
VARIANTS = ("solved", "std")
"""Endings of the folders that hold a sounder way beside the paper's."""
MEASURES = ("auroc", "average_precision")
_COLUMNS = {
    "auroc": ("auroc", "low_bootstrap", "high_bootstrap"),
    "average_precision": ("average_precision", "ap_low", "ap_high"),
}
_GAPS = {
    "auroc": ("difference", "low_bootstrap", "high_bootstrap"),
    "average_precision": ("ap_difference", "ap_low", "ap_high"),
}
_TASKS = {task_name(task): task for task in (*CHEXPERT_TASKS, SHENZHEN_TASK)}


@dataclass(frozen=True)
class Place:
    """Where a number stands: `arm` is `moco`, `imagenet`, `moco-lrX`, `difference` or `ACROSS`."""

    task: str
    backbone: str
    mode: str
    fraction: float
    arm: str
    measure: str = "auroc"

    @property
    def group(self) -> tuple[str, str, str]:
        """Task, backbone, mode."""
        return self.task, self.backbone, self.mode

    @property
    def printed(self) -> Published | None:
        """What the paper prints here."""
        return published(*self.group, self.fraction, self.arm, self.measure)


@dataclass(frozen=True)
class Number:
    """A measured number with its interval; `low_draws`, `high_draws`: the interval that holds the draws too."""

    value: float
    low: float | None
    high: float | None
    low_draws: float | None = None
    high_draws: float | None = None
    row: Row | None = None
    """The row that it stands in."""


@dataclass(frozen=True)
class Entry:
    """One place of the tables: measured beside printed, or why it was not measured."""

    place: Place
    status: str
    reason: str
    here: Number | None
    there: Published | None

    @property
    def gap(self) -> float | None:
        """Measured less printed."""
        return None if self.here is None or self.there is None else self.here.value - self.there.value

    @property
    def overlap(self) -> bool | None:
        """Whether the two intervals have a point in common; None where one of them is not there."""
        if self.here is None or self.there is None:
            return None
        ends = (self.here.low, self.here.high, self.there.low, self.there.high)
        if None in ends:
            return None
        low, high, printed_low, printed_high = (float(end) for end in ends if end is not None)
        return low <= printed_high and printed_low <= high


@dataclass(frozen=True)
class Variant:
    """One place measured in a sounder way (`name` is one of `VARIANTS`), beside the paper's way."""

    name: str
    paper: Entry
    here: Number


@dataclass(frozen=True)
class Results:
    """A folder of `reproduce`, read."""

    out: Path
    record: dict[str, Any]
    studies: dict[str, Study]
    """Folder name under `studies/` -> its content, for those that have their numbers."""

    @property
    def dataset(self) -> str:
        """`chexpert` or `shenzhen`."""
        return str(self.record["dataset"])

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell of the paper on this data set, then those that this run has besides."""
        known = cells_of(self.dataset)
        names = {cell.id for cell in known}
        others = [cell["id"] for cell in self.record["cells"] if cell["id"] not in names]
        return known + [_cell(self.dataset, name) for name in others if name.count("/") == 4]

    @cached_property
    def said(self) -> dict[str, Row]:
        """Cell id -> what reproduce.json says of it."""
        return {cell["id"]: cell for cell in self.record["cells"]}

    def fractions(self, group: tuple[str, str, str]) -> list[float]:
        """Shares of labels of a group, ascending."""
        return sorted({c.fraction for c in self.cells if (c.task, c.backbone, c.mode) == group})

    @property
    def phantom(self) -> bool:
        """Whether images of this run were drawn by a program."""
        return self.record.get("phantom") is True

    def entry(self, place: Place) -> Entry:
        """What is known of one place."""
        if place.task not in {cell.task for cell in cells_of(self.dataset)}:
            other = "shenzhen" if self.dataset == "chexpert" else "chexpert"
            return self._off(place, NOT_RUN, f"not part of this run: reproduce {other}")
        if place.arm in (DIFFERENCE, ACROSS):
            return self._difference(place)
        status, reason = self._status(place)
        if status != DONE:
            return self._off(place, status, reason)
        study = self._study(place)
        row = study.cell(place.arm, place.mode, place.task, place.fraction)
        number = _number(row, _COLUMNS[place.measure]) if row else None
        if number is None:
            why = study.reason(place.arm, place.mode, place.task, place.fraction)
            return self._off(place, UNDEFINED, (row or {}).get("reason") or why)
        return Entry(place, DONE, "", number, place.printed)

    def variants(self) -> list[Variant]:
        """Every place that was measured in another way too, in the order of the cells."""
        found = []
        for name in VARIANTS:
            for cell in self.cells:
                study = self.studies.get(f"{cell.study}-{name}")
                if study is None:
                    continue
                arms = [cell.arm, *([DIFFERENCE] if cell.arm == "moco" else [])]
                for arm in arms:
                    place = Place(cell.task, cell.backbone, cell.mode, cell.fraction, arm)
                    number = _number(_row(study, place), (_GAPS if arm == DIFFERENCE else _COLUMNS)["auroc"])
                    if number is not None:
                        found.append(Variant(name, self.entry(place), number))
        return found

    def _status(self, place: Place) -> tuple[str, str]:
        cell = self.said.get(_id(place))
        if cell is None:
            return NOT_RUN, "not in this run's plan"
        return str(cell["status"]), str(cell.get("reason") or "")

    def _study(self, place: Place) -> Study:
        name = self.said[_id(place)]["study"]
        if name not in self.studies:
            raise InputError(
                f"{self.out / 'reproduce.json'} calls {_id(place)} done, but {self.out / 'studies' / name} has no "
                "cells.csv.",
                "Run `mococxr reproduce` again with the same --out: what is done is skipped.",
            )
        return self.studies[name]

    def _difference(self, place: Place) -> Entry:
        mode = "finetune" if place.arm == ACROSS else place.mode
        pair = [("moco", place.mode), ("imagenet", mode)]
        for arm, its_mode in pair:
            side = Place(place.task, place.backbone, its_mode, place.fraction, arm)
            status, reason = self._status(side)
            if status != DONE:
                return self._off(place, status, reason)
        study = self._study(Place(place.task, place.backbone, place.mode, place.fraction, "moco"))
        row = _row(study, place)
        number = _number(row, _GAPS[place.measure]) if row else None
        if number is None:
            sides = [study.reason(arm, m, place.task, place.fraction) for arm, m in pair]
            known = [text for text in sides if text != "reason not recorded"] or sides
            return self._off(place, UNDEFINED, (row or {}).get("reason") or known[0])
        return Entry(place, DONE, "", number, place.printed)

    def _off(self, place: Place, status: str, reason: str) -> Entry:
        return Entry(place, status, reason or "reason not recorded", None, place.printed)


def read_results(out: Path) -> Results:
    """Read a folder of `reproduce`.

    Raises:
        InputError: `reproduce.json` or a study's table is missing or damaged.
    """
    path = Path(out) / "reproduce.json"
    record = read_json(path)
    if not isinstance(record, dict) or record.get("dataset") not in ("chexpert", "shenzhen"):
        raise InputError(f"{path} is not about CheXpert or Shenzhen.", "Name the --out of `reproduce`.")
    if not isinstance(record.get("cells"), list):
        raise InputError(f"{path} lists no cells.", "Run `mococxr reproduce` again with the same --out.")
    folders = [table.parent for table in sorted((Path(out) / "studies").glob("*/cells.csv"))]
    return Results(Path(out), record, {folder.name: read_study(folder) for folder in folders})


def _cell(dataset: str, name: str) -> Cell:
    """A cell that the paper has not, from its id."""
    task, backbone, mode, fraction, arm = name.split("/")
    return Cell(dataset, _TASKS.get(task, task), backbone, mode, float(fraction), arm, 0, None)


def _id(place: Place) -> str:
    return f"{task_name(place.task)}/{place.backbone}/{place.mode}/{place.fraction:g}/{place.arm}"


def _row(study: Study, place: Place) -> Row | None:
    where = (place.mode, place.task, place.fraction)
    if place.arm == DIFFERENCE:
        return study.difference("moco", "imagenet", *where)
    if place.arm != ACROSS:
        return study.cell(place.arm, *where)
    wanted = {"arm": "moco", "against": "imagenet", "mode": "linear", "against_mode": "finetune"}
    wanted |= {"target": place.task, "fraction": place.fraction}  # type: ignore[dict-item]
    return next((row for row in study.across if all(row[k] == v for k, v in wanted.items())), None)


def _number(row: Row | None, columns: tuple[str, str, str]) -> Number | None:
    value, low, high = (row.get(name) for name in columns) if row is not None else (None, None, None)
    if row is None or value is None:
        return None
    return Number(value, low, high, row.get("low_draws"), row.get("high_draws"), row)
