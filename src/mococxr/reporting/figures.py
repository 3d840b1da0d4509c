"""AUROC (and average precision) against the number of labels: one panel a target and mode, as SVG and PNG."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from mococxr.reporting.words import display, mode_name, percent, span
from mococxr.results import Row
from mococxr.results import StudyResults as Study

METRICS = {"auroc": ("AUROC", "low", "high"), "average_precision": ("average precision", "ap_low", "ap_high")}

# Okabe and Ito's colours, told apart in all common forms of colour blindness; markers and dashes differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
REFERENCE = "#595959"
MARKERS = ("o", "^", "D", "v", "P", "X")
SIZE = (5.0, 4.0)
ARM_STEP, RING_STEP = 0.03, 0.013
"""How far arms stand apart, and rings from their mean, as shares of the axis of labels."""
EDGE = 1.45
"""Room on the axis of labels beyond the first and the last fraction, as a factor."""
TICK_GAP = 0.17
"""Tick labels nearer than this share of the axis run into each other; the left one is then left out."""

STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"],
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.size": 11.5,
}


@dataclass(frozen=True)
class Picture:
    """One panel. `name` is its file name without suffix; `inline` the bare `<svg>` element for the page."""

    name: str
    metric: str
    target: str
    title: str
    svg: bytes
    png: bytes
    inline: str


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    arm: str
    label: str
    colour: str
    marker: str
    dash: str
    shift: float
    ring_shift: float


def looks(study: Study, width: float) -> list[Look]:
    """One look an arm; the reference is grey, square and dashed. Points of arms stand side by side.

    Args:
        study: the study.
        width: the width of the axis of labels, as a logarithm.
    """
    found, others = [], 0
    for i, arm in enumerate(study.arms):
        shift = math.exp(width * ARM_STEP * (i - (len(study.arms) - 1) / 2))
        rings = shift * math.exp(width * RING_STEP)
        label = display(study, arm)
        if arm == study.reference:
            found.append(Look(arm, f"{label} (reference)", REFERENCE, "s", "--", shift, rings))
            continue
        colour, marker = COLOURS[others % len(COLOURS)], MARKERS[others % len(MARKERS)]
        found.append(Look(arm, label, colour, marker, "-", shift, rings))
        others += 1
    return found


def draw_figures(study: Study) -> list[Picture]:
    """All panels: those of AUROC, then, where it was measured, those of average precision."""
    pictures = []
    for metric in METRICS:
        if metric != "auroc" and not any(row.get(metric) is not None for row in study.cells):
            continue
        for i, target in enumerate(study.targets):
            for mode in study.modes:
                if any(row["target"] == target and row["mode"] == mode for row in study.cells):
                    pictures.append(_picture(study, metric, i + 1, target, mode))
    return pictures


def _picture(study: Study, metric: str, number: int, target: str, mode: str) -> Picture:
    slug = re.sub(r"[^a-z0-9]+", "-", f"{metric}-{number:02d}-{target}-{mode}".lower()).strip("-")[:80]
    title = f"{target} · {mode_name(mode)}"
    svg, png = drawn(slug, lambda: _panel(study, metric, target, mode), ("svg", "png"))
    return Picture(slug, metric, target, title, svg, png, inline(svg))


def drawn(slug: str, panel: Callable[[], Figure], formats: Sequence[str]) -> list[bytes]:
    """A figure in each format (`svg`, `png`), the same bytes for the same figure."""
    about: dict[str, Any] = {
        "svg": {
            "metadata": {"Date": None, "Creator": None, "Format": None, "Type": None},
            "transparent": True,
        },
        "png": {"metadata": {"Software": None}, "dpi": 160, "facecolor": "white"},
    }
    files = []
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": slug}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = panel()
        for name in formats:
            file = io.BytesIO()
            figure.savefig(file, format=name, **about[name])
            files.append(file.getvalue())
    return files


def inline(svg: bytes) -> str:
    """The `<svg>` element without XML header and fixed size, so that the page may scale it."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} aria-hidden="true">{rest}'


def _panel(study: Study, metric: str, target: str, mode: str) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    handles, labels = [], []
    for look in looks(study, axis_width(study.fractions(target))):
        rows = sorted(
            (r for r in study.cells if r["target"] == target and r["mode"] == mode and r["arm"] == look.arm),
            key=lambda row: row["fraction"],
        )
        if rows:
            handles.append(_draw_arm(axes, look, rows, metric))
            labels.append(f" {look.label}")  # a label that begins with "_" would be left out
            _draw_draws(axes, look, study.rows("trials", arm=look.arm, mode=mode, target=target), metric)
    _label_axes(axes, study, metric, target, mode)
    legend = figure.legend(
        handles, labels, loc="outside upper left", ncols=2, frameon=False, handlelength=2.6, columnspacing=1.6
    )
    for text in legend.get_texts():
        text.set_color("#222222")
    return figure


def _draw_arm(axes: Axes, look: Look, rows: list[Row], metric: str) -> Any:
    _, low_name, high_name = METRICS[metric]
    known = [row for row in rows if row.get(low_name) is not None and row.get(high_name) is not None]
    nan = float("nan")
    xs = [row["fraction"] * look.shift for row in rows]
    ys = [nan if row.get(metric) is None else row[metric] for row in rows]
    lows = [row[low_name] if row in known else nan for row in rows]
    highs = [row[high_name] if row in known else nan for row in rows]
    axes.fill_between(xs, lows, highs, color=look.colour, alpha=0.13, linewidth=0)
    axes.vlines(xs, lows, highs, color=look.colour, linewidth=1.3, alpha=0.8)
    (line,) = axes.plot(
        xs,
        ys,
        color=look.colour,
        linestyle=look.dash,
        linewidth=2.0,
        marker=look.marker,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.9,
        zorder=4,
    )
    return line


def _draw_draws(axes: Axes, look: Look, trials: list[Row], metric: str) -> None:
    """Each draw as a small ring beside its mean: the spread that the interval does not hold."""
    points = [(row["fraction"] * look.ring_shift, row.get(metric)) for row in trials]
    known = [(x, y) for x, y in points if isinstance(y, float)]
    axes.plot(
        [x for x, _ in known],
        [y for _, y in known],
        linestyle="none",
        marker="o",
        markersize=3.4,
        markerfacecolor="none",
        markeredgecolor=look.colour,
        markeredgewidth=0.8,
        alpha=0.75,
        zorder=3,
    )


def value_range(study: Study, metric: str, target: str) -> tuple[float, float]:
    """The range of all panels of a target, so that its modes can be compared by eye."""
    _, low_name, high_name = METRICS[metric]
    rows = [row for row in study.cells if row["target"] == target]
    values = [row.get(name) for row in rows for name in (metric, low_name, high_name)]
    values += [row.get(metric) for row in study.rows("trials", target=target)]
    known = [value for value in values if isinstance(value, float)]
    if not known:
        return 0.0, 1.0
    room = max(0.03, 0.06 * (max(known) - min(known)))
    return max(0.0, min(known) - room), min(1.01, max(known) + room)


def _label_axes(axes: Axes, study: Study, metric: str, target: str, mode: str) -> None:
    fractions = study.fractions(target)
    labels = []
    for fraction in fractions:
        images = [row["train_images"] for row in study.rows("trials", target=target, fraction=fraction)]
        count = span(images, "–")
        labels.append(f"{percent(fraction)}\n{count if images else '?'}")
    axes.set_xlabel("share of the training labels, and images", color="#444444")
    set_axes(axes, metric, fractions, labels, value_range(study, metric, target))
    if all(row.get(metric) is None for row in study.cells if row["target"] == target and row["mode"] == mode):
        axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", color="#777777")


def set_axes(
    axes: Axes, metric: str, fractions: list[float], labels: list[str], limits: tuple[float, float]
) -> None:
    """Shares of labels on a logarithmic axis with a tick each, the metric within limits, chance, a quiet frame."""
    axes.set_xscale("log")
    low, high = min(fractions) / EDGE, max(fractions) * EDGE
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(fractions))
    axes.xaxis.set_major_formatter(FixedFormatter(_thinned(fractions, labels)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(METRICS[metric][0], color="#444444")
    axes.set_ylim(*limits)
    if metric == "auroc" and limits[0] < 0.5 < limits[1]:
        axes.axhline(0.5, color="#888888", linewidth=1, linestyle=":")
        axes.text(high / 1.02, 0.5, "chance", ha="right", va="bottom", color="#777777", fontsize=9)
    quiet(axes)


def quiet(axes: Axes) -> None:
    """A frame that steps back behind what is drawn."""
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors="#444444", length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")


def axis_width(fractions: list[float]) -> float:
    """The width of the axis of labels, as a logarithm."""
    return math.log(max(fractions) / min(fractions) * EDGE**2)


def _thinned(fractions: list[float], labels: list[str]) -> list[str]:
    """The labels, less those that would run into the next one on the right."""
    width = axis_width(fractions)
    kept, right = [""] * len(labels), math.inf
    for i in reversed(range(len(labels))):
        place = math.log(fractions[i]) / width
        if right - place >= TICK_GAP:
            kept[i], right = labels[i], place
    return kept
