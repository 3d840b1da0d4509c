"""Figures of all pages and of manuscripts: axes of labels, one style for each arm, one legend.

A figure is drawn once, at the width of a journal's column, as SVG (which the page scales), PDF and PNG: texts, lines and
markers have the sizes that they will have in print.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.figure
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

# Okabe and Ito's colours, told apart in all common forms of colour blindness; markers and dashes differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
REFERENCE, BASELINE = "#595959", "#111111"
MARKERS = ("o", "^", "D", "v", "P", "X")
COLUMN, PAGE = 85.0, 180.0
"""Widths of figures in mm: one column of a journal, and both."""
HEIGHT, PANEL, TALLEST = 68.0, 54.0, 225.0
"""Heights in mm: of a figure of one column, of one of three panels side by side, of a page."""
MM = 25.4
"""An inch, in which matplotlib measures."""
SMALL = 6.5
"""Size of the smallest text, in points: journals ask for 5 to 7 at the least."""
INK, SOFT = "#444444", "#777777"
ARM_STEP, RING_STEP = 0.03, 0.013
"""How far arms stand apart, and rings from their mean, as shares of the axis of labels."""
EDGE = 1.45
"""Room on the axis of labels beyond the first and the last fraction, as a factor."""
TICK_GAP = 0.17
"""Tick labels nearer than this share of the axis run into each other; the left one is then left out."""

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, and no outlines of letters in the page
    "font.family": "sans-serif",
    # Ships with matplotlib: the same bytes on every machine.
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"],
    "text.parse_math": False,  # a dollar sign in an arm's name is no formula
    "axes.unicode_minus": True,
    "pdf.fonttype": 42,  # TrueType inside the file: text that can be searched and edited, and no font is missing
    "font.size": 7.7,
    "axes.linewidth": 0.55,
    "axes.labelpad": 2.7,
    "figure.constrained_layout.w_pad": 0.03,  # inches
    "figure.constrained_layout.h_pad": 0.03,
    "hatch.linewidth": 0.6,
    "xtick.major.width": 0.55,
    "ytick.major.width": 0.55,
    "xtick.major.pad": 2.4,
    "ytick.major.pad": 2.4,
}
_METADATA: dict[str, Any] = {  # no date and no version: the same figure gives the same bytes
    "svg": {"metadata": dict.fromkeys(("Date", "Creator", "Format", "Type")), "transparent": True},
    "pdf": {"metadata": dict.fromkeys(("CreationDate", "Creator", "Producer")), "transparent": True},
    "png": {"metadata": {"Software": None}, "dpi": 300, "facecolor": "white"},
}


@dataclass(frozen=True)
class Figure:
    """A figure of a page.

    Args:
        name: its file name without suffix.
        title: what stands above it.
        shows: what is drawn, for readers who cannot see it.
        svg, pdf, png: the files.
        kind: a word for it in Markdown, and its class in HTML.
    """

    name: str
    title: str
    shows: str
    svg: bytes
    pdf: bytes
    png: bytes
    kind: str = ""

    @property
    def inline(self) -> Markup:
        """The `<svg>` element without XML header and fixed size, so that the page may scale it."""
        text = self.svg.decode()
        head, rest = text[text.index("<svg") :].split(">", 1)
        head = re.sub(r'\s(width|height)="[^"]*"', "", head)  # viewBox stays, by which it scales
        return Markup(f'{head} aria-hidden="true">{rest}')  # matplotlib escapes its texts


@dataclass(frozen=True)
class ArmStyle:
    """How an arm is drawn; `shift` moves its points aside on a logarithmic axis of labels, `ring_shift` its rings."""

    arm: str
    label: str
    colour: str
    marker: str
    dash: str
    shift: float
    ring_shift: float


def arm_styles(
    labels: dict[str, str], reference: str | None, width: float = 1.0, baseline: str | None = None
) -> list[ArmStyle]:
    """One style for each arm; the reference is grey, square and dashed, the baseline black, a cross and dash-dotted.

    Points of arms stand side by side.

    Args:
        labels: arm -> its name in print, in order.
        reference: the arm that the others are compared with.
        width: the width of the axis of labels, as a logarithm.
        baseline: the arm that they are compared with first.
    """
    marked = {reference: ("reference", REFERENCE, "s", "--"), baseline: ("baseline", BASELINE, "X", "-.")}
    styles: list[ArmStyle] = []
    others = 0
    for i, (arm, label) in enumerate(labels.items()):
        shift = math.exp(width * ARM_STEP * (i - (len(labels) - 1) / 2))  # centred: the middle arm stands on the tick
        rings = shift * math.exp(width * RING_STEP)
        if arm in marked:  # counts for none of the colours: those of the others do not depend on it
            word, colour, marker, dash = marked[arm]
            styles.append(ArmStyle(arm, f"{label} ({word})", colour, marker, dash, shift, rings))
            continue
        colour, marker = COLOURS[others % len(COLOURS)], MARKERS[others % len(MARKERS)]
        styles.append(ArmStyle(arm, label, colour, marker, "-", shift, rings))
        others += 1
    return styles


def make_figure(
    name: str, title: str, shows: str, draw: Callable[[], matplotlib.figure.Figure], kind: str = ""
) -> Figure:
    """Draw a figure as SVG, PDF and PNG: the same bytes for the same drawing, and no global state changed."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80]  # a file name on every system
    contents = {}
    # Salt: else ids in an SVG are random.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": slug}), warnings.catch_warnings():
        # Names in scripts that the font lacks: boxes are drawn.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        drawing = draw()
        for form, options in _METADATA.items():
            file = io.BytesIO()
            drawing.savefig(file, format=form, **options)
            contents[form] = file.getvalue()
    return Figure(slug, title, shows, **contents, kind=kind)


def sheet(width: float = COLUMN, height: float = HEIGHT) -> matplotlib.figure.Figure:
    """An empty figure of a width and a height in mm."""
    # Not pyplot, which keeps figures and picks a screen.
    return matplotlib.figure.Figure(figsize=(width / MM, height / MM), layout="constrained")


def one_axes() -> tuple[matplotlib.figure.Figure, Axes]:
    """A figure with one pair of axes, as wide as a column."""
    drawing = sheet()
    return drawing, drawing.add_subplot()


def panels(count: int) -> tuple[matplotlib.figure.Figure, list[Axes]]:
    """A figure of several axes, as wide as a page, each with its letter: a, b, c, ..."""
    columns = min(3, count) if count != 4 else 2
    rows = math.ceil(count / columns)
    drawing = sheet(PAGE, min(TALLEST, 10 + rows * (PANEL if columns == 3 else HEIGHT)))
    every = [drawing.add_subplot(rows, columns, i + 1) for i in range(count)]
    for i, axes in enumerate(every):
        letter = chr(ord("a") + i) if i < 26 else str(i + 1)
        axes.text(-0.02, 1.03, letter, transform=axes.transAxes, ha="right", va="bottom", weight="bold", fontsize=9)
    return drawing, every


def line(axes: Axes, xs: Sequence[float], ys: Sequence[float | None], style: ArmStyle, **more: Any) -> Any:
    """The curve of an arm; None is a gap. Returns its handle for the legend."""
    look: dict[str, Any] = {
        "linewidth": 1.35,
        "markersize": 4.4,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "zorder": 4,
    }
    look |= {"color": style.colour, "linestyle": style.dash, "marker": style.marker}
    (handle,) = axes.plot(xs, gaps(ys), **(look | more))
    return handle


def gaps(values: Sequence[float | None]) -> list[float]:
    """None as NaN, which is not drawn."""
    return [math.nan if value is None else value for value in values]


def legend(drawing: matplotlib.figure.Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """The legend above the axes, in as many columns as fit: at most two, or four where the figure is wide."""
    names = [f" {label}" for label in labels]  # matplotlib leaves out a label that begins with "_"
    how: dict[str, Any] = {"loc": "outside upper left", "frameon": False, "handlelength": 2.4, "columnspacing": 1.4}
    most = 2 if drawing.get_figwidth() * MM < PAGE else 4
    for columns in range(min(most, max(1, len(names))), 0, -1):
        drawn = drawing.legend(handles, names, ncols=columns, **how)
        if columns == 1 or drawn.get_window_extent().width <= drawing.bbox.width:
            break
        drawn.remove()
    for text in drawn.get_texts():
        text.set_color("#222222")


def set_label_axis(axes: Axes, fractions: Sequence[float], ticks: Sequence[str], name: str) -> None:
    """Fractions of the labels on a logarithmic axis, with a tick for each."""
    axes.set_xscale("log")
    axes.set_xlim(min(fractions) / EDGE, max(fractions) * EDGE)
    axes.xaxis.set_major_locator(FixedLocator(list(fractions)))
    axes.xaxis.set_major_formatter(FixedFormatter(_thinned(fractions, ticks)))
    axes.xaxis.set_minor_locator(NullLocator())  # log axes draw ticks at 2..9 of their own
    axes.set_xlabel(name, color=INK)


def set_value_axis(axes: Axes, name: str, limits: tuple[float, float], chance: float | None = None) -> None:
    """A measure within limits, and a dotted line at chance level where that lies between them."""
    axes.set_ylabel(name, color=INK)
    axes.set_ylim(*limits)
    if chance is not None and limits[0] < chance < limits[1]:
        axes.axhline(chance, color="#888888", linewidth=0.7, linestyle=":")
        right = axes.get_xlim()[1] / 1.02  # a factor: the axis is logarithmic
        axes.text(right, chance, "chance", ha="right", va="bottom", color=SOFT, fontsize=SMALL)
    style_axes(axes)


def value_limits(values: Sequence[float | None], margin: float = 0.03) -> tuple[float, float]:
    """A range around all values, within 0 and 1."""
    known = [value for value in values if value is not None]
    if not known:
        return 0.0, 1.0
    room = max(margin, 0.06 * (max(known) - min(known)))
    return max(0.0, min(known) - room), min(1.01, max(known) + room)  # 1.01: a marker at 1 is not cut


def style_axes(axes: Axes) -> None:
    """A frame that steps back behind what is drawn."""
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")


def note(axes: Axes, text: str, x: float = 0.5, y: float = 0.5, **how: Any) -> None:
    """A word on the axes, e.g. `undefined`."""
    axes.text(x, y, text, transform=axes.transAxes, **({"ha": "center", "color": SOFT} | how))


def axis_width(fractions: Sequence[float]) -> float:
    """The width of the axis of labels, as a logarithm."""
    return math.log(max(fractions) / min(fractions) * EDGE**2)


def _thinned(fractions: Sequence[float], ticks: Sequence[str]) -> list[str]:
    """The tick labels, less those that would run into the next one on the right."""
    width = axis_width(fractions)
    kept, right = [""] * len(ticks), math.inf
    for i in reversed(range(len(ticks))):  # from the right: the largest share of labels keeps its tick
        position = math.log(fractions[i]) / width
        if right - position >= TICK_GAP:
            kept[i], right = ticks[i], position
    return kept
