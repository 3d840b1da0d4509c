"""Every place of the paper's tables: measured beside printed, or the reason why it was not measured.

Reads `reproduce.json` and the studies' tables. The only arithmetic is measured less printed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.errors import InputError
from mococxr.files import read_json
from mococxr.reproduction.recipe import BACKBONES, MODES, TASKS, VARIANTS, Cell, cell_id, cells_of, task_name
from mococxr.results import Row, StudyResults, read_results

DONE, NOT_RUN, UNDEFINED = "done", "not run", "undefined"
DIFFERENCE, ACROSS = "difference", "difference-from-imagenet-finetune"
"""Arms that are MoCo less ImageNet: in the same mode, or linear MoCo less fine-tuned ImageNet."""
KEYS = ("task", "backbone", "mode", "fraction", "arm", "measure")
SCHEMA = {
    **dict.fromkeys(("task", "backbone", "mode"), pl.String), "fraction": pl.Float64,
    **dict.fromkeys(("arm", "measure", "status", "reason"), pl.String),
    **dict.fromkeys(("measured", "low", "high", "published", "published_low", "published_high"), pl.Float64),
    "difference": pl.Float64, "intervals_overlap": pl.Boolean, "published_note": pl.String,
    "low_total": pl.Float64, "high_total": pl.Float64, "n_units": pl.Int64, "positives": pl.Int64,
    "draws": pl.Int64, "draw_sd": pl.Float64,
}  # fmt: skip
"""Columns of `tables/*.csv`; `difference` is measured less published."""
_COLUMNS = {  # of cells.csv, and of differences.csv: the number and the paper's percentile interval
    ("auroc", False): ("auroc", "low_bootstrap", "high_bootstrap"),
    ("auroc", True): ("difference", "low_bootstrap", "high_bootstrap"),
    ("average_precision", False): ("average_precision", "ap_low", "ap_high"),
    ("average_precision", True): ("ap_difference", "ap_low", "ap_high"),
}
Group = tuple[str, str, str]
"""Task, network, mode."""


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper: its file, title, groups of rows and the arms in each; `fractions`: only these."""

    name: str
    title: str
    groups: tuple[Group, ...]
    arms: tuple[str, ...] = ("moco", "imagenet", DIFFERENCE)
    measure: str = "auroc"
    fractions: tuple[float, ...] = ()


def _groups(tasks: tuple[str, ...], backbones: tuple[str, ...], modes: tuple[str, ...]) -> tuple[Group, ...]:
    return tuple((task, backbone, mode) for task in tasks for backbone in backbones for mode in modes)


_MAIN = (TASKS["chexpert"][0], *TASKS["shenzhen"])
_OTHERS = _groups(TASKS["chexpert"][1:], BACKBONES[:1], MODES)
TABLES = (
    PaperTable("table1", "Table 1: pleural effusion, linear", _groups(_MAIN[:1], BACKBONES, MODES[:1])),
    PaperTable("table2", "Table 2: pleural effusion, end to end", _groups(_MAIN[:1], BACKBONES, MODES[1:])),
    PaperTable(
        "table3", "Table 3: linear on MoCo less end to end on ImageNet", _groups(_MAIN, BACKBONES, MODES[:1]), (ACROSS,)
    ),
    PaperTable("table4", "Table 4: tuberculosis on Shenzhen", _groups(_MAIN[1:], BACKBONES, MODES)),
    PaperTable("table5", "Table 5: the four other tasks", _OTHERS),
    PaperTable(
        "precision", "Average precision", _groups(_MAIN, BACKBONES, MODES) + _OTHERS, measure="average_precision"
    ),
    PaperTable(
        "learning_rate",
        "Learning rate of pretraining",
        _groups(_MAIN[1:], BACKBONES[:1], MODES[:1]),
        ("moco-lr0.01", "moco-lr0.001", "moco", "moco-lr1e-05"),
        fractions=(1.0,),
    ),
)


@cache
def published() -> dict[tuple[Any, ...], Row]:
    """What the paper prints: (task, network, mode, fraction, arm, measure) -> value, low, high, note."""
    text = (files("mococxr.reproduction") / "published.csv").read_bytes()
    table = pl.read_csv(io.BytesIO(text), schema_overrides={"note": pl.String, "fraction": pl.Float64})
    return {tuple(row[key] for key in KEYS): row for row in table.iter_rows(named=True)}


@dataclass(frozen=True)
class Comparison:
    """A folder of `reproduce`, read.

    Args:
        record: the content of reproduce.json.
        studies: folder name under `studies/` -> its results, for those that are finished.
    """

    out: Path
    record: dict[str, Any]
    studies: dict[str, StudyResults]

    @property
    def dataset(self) -> str:
        """`chexpert` or `shenzhen`."""
        return str(self.record["dataset"])

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell of the paper on this dataset, then those that this run has besides."""
        cells = cells_of(self.dataset)
        known = {cell.id for cell in cells}
        tasks = {task_name(task): task for task in TASKS[self.dataset]}
        for name in (record["id"] for record in self.record["cells"] if record["id"] not in known):
            task, backbone, mode, fraction, arm = name.split("/")
            cells.append(Cell(self.dataset, tasks[task], backbone, mode, float(fraction), arm, 0, None))  # 0: no draws
        return cells

    @cached_property
    def _records(self) -> dict[str, Row]:
        return {record["id"]: record for record in self.record["cells"]}

    def fractions(self, group: Group) -> list[float]:
        """Label fractions of a group, ascending; the paper's where the group is not of this dataset."""
        cells = self.cells if group[0] in TASKS[self.dataset] else cells_of(_other(self.dataset))
        return sorted({cell.fraction for cell in cells if (cell.task, cell.backbone, cell.mode) == group})

    def rows(self, table: PaperTable) -> Iterator[Row]:
        """Every place of a table, in its order, with the columns of `SCHEMA`."""
        for group in table.groups:
            for arm in table.arms:
                for fraction in table.fractions or self.fractions(group):
                    yield self.row(group, fraction, arm, table.measure)

    def frame(self, table: PaperTable) -> pl.DataFrame:
        """The table as its CSV file holds it."""
        return pl.DataFrame(list(self.rows(table)), schema=SCHEMA)

    def row(self, group: Group, fraction: float, arm: str, measure: str = "auroc", variant: str = "") -> Row:
        """One place: what was measured, what is printed, and how they differ.

        Raises:
            InputError: a cell that is called done and has no study.
        """
        row = dict.fromkeys(SCHEMA) | dict(zip(KEYS, (*group, fraction, arm, measure), strict=True))
        if printed := published().get((*group, fraction, arm, measure)):
            row |= {"published": printed["value"], "published_low": printed["low"]}
            row |= {"published_high": printed["high"], "published_note": printed["note"]}
        row["status"], row["reason"], source = self._measured(group, fraction, arm, measure, variant)
        if source is None:
            return row
        value, low, high = (source[column] for column in _COLUMNS[measure, arm in (DIFFERENCE, ACROSS)])
        row |= {"measured": value, "low": low, "high": high}
        further = ("low_total", "high_total", "n_units", "positives", "draws", "draw_sd")
        row |= {name: source.get(name) for name in further}
        if row["published"] is not None:
            row["difference"] = value - row["published"]
            ends = (low, high, row["published_low"], row["published_high"])
            if None not in ends:  # printed average precision has no interval
                row["intervals_overlap"] = low <= row["published_high"] and row["published_low"] <= high
        return row

    def _measured(
        self, group: Group, fraction: float, arm: str, measure: str, variant: str
    ) -> tuple[str, str | None, Row | None]:
        """Status, reason, and the row of the study's table where it holds a number."""
        task, backbone, mode = group
        if task not in TASKS[self.dataset]:
            return NOT_RUN, f"not part of this run: reproduce {_other(self.dataset)}", None
        is_difference = arm in (DIFFERENCE, ACROSS)
        against_mode = "finetune" if arm == ACROSS else mode
        sides = [("moco", mode), ("imagenet", against_mode)] if is_difference else [(arm, mode)]
        for side_arm, side_mode in sides:
            record = self._records.get(cell_id(task, backbone, side_mode, fraction, side_arm))
            if record is None:
                return NOT_RUN, "not in this run's plan", None
            if record["status"] != DONE and not variant:  # a sounder way may be run where the paper's was not
                return record["status"], record["reason"], None
        record = self._records[cell_id(task, backbone, mode, fraction, sides[0][0])]
        study = self._study(record, variant)
        if study is None:
            return NOT_RUN, f"not run: --variant {variant}", None
        keys: Row = {"target": task, "fraction": fraction, "mode": mode, "arm": sides[0][0]}
        table = "cells"
        if is_difference:
            table, keys = ("across_modes" if arm == ACROSS else "differences"), keys | {"against": "imagenet"}
            keys |= {"against_mode": against_mode} if arm == ACROSS else {}
        rows = study.rows(table, **keys)
        if rows and rows[0][_COLUMNS[measure, is_difference][0]] is not None:
            return DONE, None, rows[0]
        reasons = [row["reason"] for row in rows if row["reason"]]
        for side_arm, side_mode in sides:
            cell = study.cell(side_arm, side_mode, task, fraction)
            if cell is not None and cell["auroc"] is None:
                reasons.append(study.reason(side_arm, side_mode, task, fraction))
        return UNDEFINED, next(iter(reasons), f"{measure} is undefined"), None

    def _study(self, record: Row, variant: str) -> StudyResults | None:
        name = f"{record['study']}-{variant}" if variant else record["study"]
        if name not in self.studies and not variant:
            raise InputError(
                f"{self.out / 'reproduce.json'} calls {record['id']} done, but {self.out / 'studies' / name} is not "
                "a finished study.",
                "Run `mococxr reproduce` again with the same --out: what is done is skipped.",
            )
        return self.studies.get(name)

    def variants(self) -> list[tuple[str, Row, Row]]:
        """Every place that was measured in a sounder way too: its name, the paper's way, the sounder way."""
        pairs = []
        for name in VARIANTS:
            for cell in self.cells:
                if f"{cell.study}-{name}" not in self.studies:
                    continue
                for arm in (cell.arm, *([DIFFERENCE] if cell.arm == "moco" else [])):
                    key = ((cell.task, cell.backbone, cell.mode), cell.fraction, arm)
                    sounder = self.row(*key, variant=name)
                    if sounder["measured"] is not None:
                        pairs.append((name, self.row(*key), sounder))
        return pairs


def _other(dataset: str) -> str:
    return "shenzhen" if dataset == "chexpert" else "chexpert"


def read_comparison(out: Path) -> Comparison:
    """Read a folder of `reproduce`.

    Raises:
        InputError: `reproduce.json` or a study's table is missing or damaged.
    """
    path = Path(out) / "reproduce.json"
    record = read_json(path)
    if not isinstance(record, dict) or record.get("dataset") not in TASKS:
        raise InputError(f"{path} is not about CheXpert or Shenzhen.", "Name the --out of `reproduce`.")
    finished = sorted((Path(out) / "studies").glob("*/study.json"))  # written after the tables
    return Comparison(Path(out), record, {file.parent.name: read_results(file.parent) for file in finished})
