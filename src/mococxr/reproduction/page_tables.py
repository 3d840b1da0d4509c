"""The paper's tables: which place stands where, as CSV and as the page shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from mococxr.reporting.words import percent, plain, signed
from mococxr.reproduction.cells import CHEXPERT_TASKS, SHENZHEN_TASK, cells_of
from mococxr.reproduction.page_results import ACROSS, DIFFERENCE, DONE, Entry, Place, Results

EFFUSION, OTHERS = CHEXPERT_TASKS[0], CHEXPERT_TASKS[1:]
BOTH = ("resnet18", "densenet121")
BACKBONES = {"resnet18": "ResNet-18", "densenet121": "DenseNet-121"}
WAYS = {"linear": "linear", "finetune": "end to end"}
"""How the paper calls the modes."""
Group = tuple[str, str, str]
"""Task, backbone, mode."""

SCHEMA = {
    **dict.fromkeys(("task", "backbone", "mode"), pl.String), "fraction": pl.Float64,
    **dict.fromkeys(("arm", "measure", "status", "reason"), pl.String),
    **dict.fromkeys(("measured", "low", "high", "published", "published_low", "published_high"), pl.Float64),
    "difference": pl.Float64, "intervals_overlap": pl.Boolean, "published_note": pl.String,
    "low_draws": pl.Float64, "high_draws": pl.Float64, "n_test": pl.Int64, "positives": pl.Int64,
    "draws": pl.Int64, "draw_sd": pl.Float64,
}  # fmt: skip
"""Columns of `tables/*.csv`; `difference` is measured less published."""


@dataclass(frozen=True)
class Spec:
    """One table of the paper: its file, title, groups of rows and the arms in each."""

    name: str
    title: str
    groups: tuple[Group, ...]
    arms: tuple[str, ...] = ("moco", "imagenet", DIFFERENCE)
    measure: str = "auroc"
    fractions: tuple[float, ...] = ()
    """Only these; none means all of the group."""


def _groups(tasks: tuple[str, ...], backbones: tuple[str, ...], modes: tuple[str, ...]) -> tuple[Group, ...]:
    return tuple((t, b, m) for t in tasks for b in backbones for m in modes)


TABLES = (
    Spec("table1", "Table 1: pleural effusion, linear", _groups((EFFUSION,), BOTH, ("linear",))),
    Spec("table2", "Table 2: pleural effusion, end to end", _groups((EFFUSION,), BOTH, ("finetune",))),
    Spec(
        "table3",
        "Table 3: linear on MoCo less end to end on ImageNet",
        _groups((EFFUSION, SHENZHEN_TASK), BOTH, ("linear",)),
        (ACROSS,),
    ),
    Spec("table4", "Table 4: tuberculosis on Shenzhen", _groups((SHENZHEN_TASK,), BOTH, tuple(WAYS))),
    Spec("table5", "Table 5: the four other tasks", _groups(OTHERS, ("resnet18",), tuple(WAYS))),
    Spec(
        "precision",
        "Average precision",
        _groups((EFFUSION, SHENZHEN_TASK), BOTH, tuple(WAYS)) + _groups(OTHERS, ("resnet18",), tuple(WAYS)),
        measure="average_precision",
    ),
    Spec(
        "learning_rate",
        "Learning rate of pretraining",
        ((SHENZHEN_TASK, "resnet18", "linear"),),
        ("moco-lr0.01", "moco-lr0.001", "moco", "moco-lr1e-05"),
        fractions=(1.0,),
    ),
)


def group_name(group: Group) -> str:
    """`Pleural Effusion · ResNet-18 · linear`."""
    task, backbone, mode = group
    return " · ".join(
        part for part in (task, BACKBONES.get(backbone, backbone), WAYS.get(mode, mode)) if part
    )


def places(results: Results, spec: Spec) -> Iterator[Place]:
    """Every place of a table, in its order."""
    for group in spec.groups:
        for arm in spec.arms:
            for fraction in fractions(results, spec, group):
                yield Place(*group, fraction, arm, spec.measure)


def fractions(results: Results, spec: Spec, group: Group) -> list[float]:
    """The columns of a group: the paper's shares of labels and those that this run has besides."""
    if spec.fractions:
        return list(spec.fractions)
    own = results.fractions(group)
    other = "chexpert" if group[0] in CHEXPERT_TASKS else "shenzhen"
    return own or sorted({c.fraction for c in cells_of(other) if (c.task, c.backbone, c.mode) == group})


def frame(results: Results, spec: Spec) -> pl.DataFrame:
    """The table as its CSV file holds it: a row a place, whether it was run or not."""
    rows = [_record(results.entry(place)) for place in places(results, spec)]
    return pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in rows], schema=SCHEMA)


def _record(entry: Entry) -> dict[str, object]:
    place, here, there = entry.place, entry.here, entry.there
    row = {"task": place.task, "backbone": place.backbone, "mode": place.mode, "fraction": place.fraction}
    row |= {
        "arm": place.arm,
        "measure": place.measure,
        "status": entry.status,
        "reason": entry.reason or None,
    }
    if there is not None:
        row |= {"published": there.value, "published_low": there.low, "published_high": there.high}
        row["published_note"] = there.note or None
    if here is None:
        return row
    source = here.row or {}
    row |= {"measured": here.value, "low": here.low, "high": here.high, "low_draws": here.low_draws}
    row |= {"high_draws": here.high_draws, "difference": entry.gap, "intervals_overlap": entry.overlap}
    for name in ("n_test", "positives", "draws"):
        row[name] = int(source[name]) if source.get(name) is not None else None
    return row | {"draw_sd": source.get("draw_sd")}


@dataclass(frozen=True)
class Bars:
    """Two intervals on one scale, in per cent of its width: here above, the paper's below."""

    here: tuple[float, float, float]
    there: tuple[float, float, float] | None
    zero: float | None


@dataclass(frozen=True)
class View:
    """One place as the page shows it; `mark` refers to a reason in the notes of the table."""

    here: str = ""
    there: str = ""
    gap: str = ""
    state: str = ""
    off: str = ""
    mark: str = ""
    draws: str = ""
    bars: Bars | None = None


@dataclass(frozen=True)
class Block:
    """A group of a table: a heading, its columns, and a row an arm."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[View]]]
    scale: str


@dataclass(frozen=True)
class Sheet:
    """A table of the page: its blocks, the reasons that its marks refer to, whether any place was run."""

    name: str
    title: str
    blocks: list[Block]
    notes: list[tuple[str, str]] = field(default_factory=list)
    ran: bool = False
    here: bool = True


ARMS = {
    "moco": "MoCo",
    "imagenet": "ImageNet",
    DIFFERENCE: "Difference",
    ACROSS: "Difference",
}


def sheet(results: Results, spec: Spec) -> Sheet:
    """A table as the page shows it: the groups of this run's data set."""
    tasks = {cell.task for cell in results.cells}
    groups = [group for group in spec.groups if group[0] in tasks]
    entries = {place: results.entry(place) for place in places(results, spec)}
    reasons = dict.fromkeys(e.reason for p, e in entries.items() if p.task in tasks and e.status != DONE)
    marks = {reason: _letter(i) for i, reason in enumerate(reasons)}
    blocks = [_block(results, spec, group, entries, marks) for group in groups]
    ran = any(entry.status == DONE for entry in entries.values())
    return Sheet(spec.name, spec.title, blocks, [(m, r) for r, m in marks.items()], ran, bool(groups))


def _letter(number: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    head, tail = divmod(number, 26)
    return (_letter(head - 1) if head else "") + chr(97 + tail)


def _block(
    results: Results, spec: Spec, group: Group, entries: dict[Place, Entry], marks: dict[str, str]
) -> Block:
    columns = fractions(results, spec, group)
    task, backbone, mode = group
    mine = [entry for place, entry in entries.items() if place.group == group]
    levels = _span([e for e in mine if e.place.arm not in (DIFFERENCE, ACROSS)])
    gaps = max(
        (abs(end) for e in mine if e.place.arm in (DIFFERENCE, ACROSS) for end in _ends(e)), default=0.1
    )
    rows = []
    for arm in spec.arms:
        scale = (-1.05 * gaps, 1.05 * gaps) if arm in (DIFFERENCE, ACROSS) else levels
        cells = [entries[Place(*group, fraction, arm, spec.measure)] for fraction in columns]
        rows.append((_arm(arm), [_view(entry, scale, marks) for entry in cells]))
    scale_text = f"Bars: {plain(levels[0], 2)} to {plain(levels[1], 2)}" if len(spec.arms) > 1 else "Bars: 0"
    if spec.arms[-1] in (DIFFERENCE, ACROSS):
        scale_text += f"; differences ±{plain(1.05 * gaps, 2)}"
    title = group_name((task, backbone, mode) if ACROSS not in spec.arms else (task, backbone, ""))
    return Block(title, [percent(fraction) for fraction in columns], rows, scale_text)


def _arm(arm: str) -> str:
    return ARMS.get(arm) or f"MoCo, learning rate {arm.removeprefix('moco-lr')}"


def _ends(entry: Entry) -> list[float]:
    ends = [
        number for part in (entry.here, entry.there) if part for number in (part.value, part.low, part.high)
    ]
    return [float(end) for end in ends if end is not None]


def _span(entries: list[Entry]) -> tuple[float, float]:
    ends = [end for entry in entries for end in _ends(entry)]
    return (max(0.0, min(ends) - 0.01), min(1.0, max(ends) + 0.01)) if ends else (0.0, 1.0)


def _view(entry: Entry, scale: tuple[float, float], marks: dict[str, str]) -> View:
    difference = entry.place.arm in (DIFFERENCE, ACROSS)
    number = signed if difference else plain
    there = ""
    if entry.there is not None:
        about = "about " if entry.there.note else ""
        there = about + number(entry.there.value) + _within(entry.there.low, entry.there.high)
    if entry.here is None:
        return View(there=there, off=entry.status, mark=marks[entry.reason])
    here, overlap = entry.here, entry.overlap
    state = "" if overlap is None else "overlap" if overlap else "apart"
    draws = _within(here.low_draws, here.high_draws).strip() if difference else ""
    return View(
        here=number(here.value) + _within(here.low, here.high),
        there=there,
        gap="" if entry.gap is None else signed(entry.gap),
        state=state,
        draws=draws,
        bars=_bars(entry, scale, difference),
    )


def _within(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({plain(low)}, {plain(high)})"


def _bars(entry: Entry, scale: tuple[float, float], difference: bool) -> Bars | None:
    low, high = scale

    def place(number: float) -> float:
        return round(100 * min(1.0, max(0.0, (number - low) / (high - low))), 2)

    def bar(value: float, first: float | None, last: float | None) -> tuple[float, float, float] | None:
        return None if first is None or last is None else (place(first), place(value), place(last))

    here = bar(entry.here.value, entry.here.low, entry.here.high) if entry.here else None
    there = bar(entry.there.value, entry.there.low, entry.there.high) if entry.there else None
    return None if here is None else Bars(here, there, place(0) if difference else None)
