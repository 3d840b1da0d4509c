"""The paper's figures: a measure against the share of labels, measured and printed side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mococxr.reporting.figures import ARM_STEP, COLOURS, REFERENCE, SIZE, axis_width, drawn, inline, set_axes
from mococxr.reporting.words import percent
from mococxr.reproduction.cells import cells_of, task_name
from mococxr.reproduction.page_results import DONE, Entry, Place, Results
from mococxr.reproduction.page_tables import Group, group_name

LOOKS = {"moco": ("MoCo", COLOURS[0], "o", -0.5), "imagenet": ("ImageNet", REFERENCE, "s", 0.5)}
"""Arm -> name, colour, marker, side on which its points stand."""
NAMES = {"auroc": "AUROC", "average_precision": "average precision"}


@dataclass(frozen=True)
class Panel:
    """One picture: `name` is its file name without suffix; `ran`: whether any of its points was measured."""

    name: str
    measure: str
    title: str
    svg: bytes
    ran: bool
    main: bool

    @property
    def inline(self) -> str:
        """The bare `<svg>` element for the page."""
        return inline(self.svg)


def draw_panels(results: Results) -> list[Panel]:
    """A panel for each task, backbone and mode that the paper prints or this run measured; AUROC first."""
    groups = dict.fromkeys((c.task, c.backbone, c.mode) for c in cells_of(results.dataset))
    main = next(iter(groups))[0]
    found = []
    for measure in NAMES:
        for group in groups:
            entries = [
                results.entry(Place(*group, fraction, arm, measure))
                for arm in LOOKS
                for fraction in results.fractions(group)
            ]
            if any(entry.here or entry.there for entry in entries):
                found.append(_panel(measure, group, entries, group[0] == main))
    return found


def _panel(measure: str, group: Group, entries: list[Entry], main: bool) -> Panel:
    task, backbone, mode = group
    name = f"{NAMES[measure].replace(' ', '-').lower()}-{task_name(task)}-{backbone}-{mode}"
    (svg,) = drawn(name, lambda: _figure(measure, entries), ("svg",))
    ran = any(entry.status == DONE for entry in entries)
    return Panel(name, measure, group_name(group), svg, ran, main)


def _figure(measure: str, entries: list[Entry]) -> Figure:
    figure = Figure(figsize=SIZE)
    axes = figure.add_axes((0.135, 0.14, 0.845, 0.68))
    shares = sorted({entry.place.fraction for entry in entries})
    handles: list[Any] = []
    for arm, (name, colour, marker, side) in LOOKS.items():
        mine = sorted((e for e in entries if e.place.arm == arm), key=lambda entry: entry.place.fraction)
        handles += _draw(axes, mine, axis_width(shares), (name, colour, marker, side))
    axes.set_xlabel("share of the training labels", color="#444444")
    set_axes(axes, measure, shares, [percent(share) for share in shares], _limits(entries))
    legend = figure.legend(
        handles=handles,
        loc="upper left",
        ncols=2,
        frameon=False,
        handlelength=2.6,
        columnspacing=1.6,
        fontsize=10.5,
    )
    for text in legend.get_texts():
        text.set_color("#222222")
    return figure


def _draw(axes: Axes, entries: list[Entry], width: float, look: tuple[str, str, str, float]) -> list[Line2D]:
    """One arm: filled points and a line are measured, hollow points and a thin dashed line are printed."""
    name, colour, marker, side = look
    handles = []
    for printed in (False, True):
        numbers = [entry.there if printed else entry.here for entry in entries]
        shift = math.exp(width * ARM_STEP * (side + (0.35 if printed else -0.05)))
        xs = [entry.place.fraction * shift for entry in entries]
        known = [(x, n) for x, n in zip(xs, numbers, strict=True) if n is not None]
        if not known:
            continue
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 6.5, "markeredgewidth": 0.9}
        style |= {"linestyle": "-", "linewidth": 2.0, "markeredgecolor": "white", "zorder": 4}
        if printed:
            style |= {"linestyle": (0, (2, 2)), "linewidth": 1.0, "markerfacecolor": "white", "markersize": 5}
            style |= {"markeredgecolor": colour, "zorder": 3}
        for x, number in known:
            if number.low is not None and number.high is not None:
                axes.vlines(
                    x, number.low, number.high, color=colour, linewidth=0.9 if printed else 1.6, alpha=0.8
                )
        axes.plot([x for x, _ in known], [number.value for _, number in known], **style)
        handles.append(Line2D([], [], label=f"{name}, {'paper' if printed else 'here'}", **style))
    return handles


def _limits(entries: list[Entry]) -> tuple[float, float]:
    parts = [part for entry in entries for part in (entry.here, entry.there) if part is not None]
    ends = [end for part in parts for end in (part.value, part.low, part.high) if end is not None]
    return max(0.0, min(ends) - 0.03), min(1.01, max(ends) + 0.03)
