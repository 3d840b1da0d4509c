"""Small figures below the first screen: reliability curves, and what a pretraining run measured on its way."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mococxr.reporting.calibration import shown_cells
from mococxr.reporting.figures import COLOURS, SIZE, Look, Picture, drawn, inline, looks, quiet
from mococxr.reporting.pretraining import guessing, log_of, run_name, runs_of
from mococxr.reporting.words import mode_name
from mococxr.results import Row
from mococxr.results import StudyResults as Study

WIDE = (5.6, 4.4)
MEASURES = {
    "loss": "loss",
    "contrast_accuracy": "finds its own view",
    "effective_rank": "effective rank",
    "knn_auroc": "kNN AUROC",
}


def draw_panels(study: Study) -> list[Picture]:
    """Reliability of the cells of each verdict, then one picture a pretraining run."""
    return [*_reliability(study), *_runs(study)]


def _picture(metric: str, number: int, target: str, title: str, panel: Callable[[], Figure]) -> Picture:
    slug = re.sub(r"[^a-z0-9]+", "-", f"{metric}-{number:02d}-{target or title}".lower()).strip("-")[:80]
    svg, png = drawn(slug, panel, ("svg", "png"))
    return Picture(slug, metric, target, title, svg, png, inline(svg))


def _reliability(study: Study) -> list[Picture]:
    found = []
    for i, target in enumerate(study.targets):
        rows = [
            row
            for row in shown_cells(study, "reliability", target)
            if row.get("mean_probability") is not None
        ]
        if rows:
            title = f"{target} · {mode_name(rows[0]['mode'])}"
            found.append(_picture("reliability", i + 1, target, title, partial(_curve, study, rows)))
    return found


def _curve(study: Study, rows: list[Row]) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle=":")
    axes.text(0.98, 0.02, "dotted: right", ha="right", va="bottom", color="#777777", fontsize=9)
    handles, labels = [], []
    for look in looks(study, 1.0):
        own = sorted((row for row in rows if row["arm"] == look.arm), key=lambda row: row["mean_probability"])
        if own:
            handles.append(_draw_curve(axes, look, own))
            labels.append(f" {look.label}")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("probability said", color="#444444")
    axes.set_ylabel("share that has the finding", color="#444444")
    quiet(axes)
    legend = figure.legend(
        handles, labels, loc="outside upper left", ncols=2, frameon=False, handlelength=2.6
    )
    for text in legend.get_texts():
        text.set_color("#222222")
    return figure


def _draw_curve(axes: Axes, look: Look, rows: list[Row]) -> Any:
    nan = float("nan")
    xs = [row["mean_probability"] for row in rows]
    ends = [[nan if row.get(name) is None else row[name] for row in rows] for name in ("low", "high")]
    axes.vlines(xs, ends[0], ends[1], color=look.colour, linewidth=1.2, alpha=0.7)
    ys = [nan if row.get("share") is None else row["share"] for row in rows]
    (line,) = axes.plot(
        xs, ys, color=look.colour, linestyle=look.dash, linewidth=1.8, marker=look.marker, markersize=6,
        markeredgecolor="white", markeredgewidth=0.8, zorder=4,
    )  # fmt: skip
    return line


def _runs(study: Study) -> list[Picture]:
    runs = [(run_name(study, arm, i), run) for arm in study.arms for i, run in enumerate(runs_of(study, arm))]
    logged = [(name, run) for name, run in runs if log_of(run)]
    return [
        _picture("pretraining", i + 1, "", name, partial(_run_panel, run))
        for i, (name, run) in enumerate(logged)
    ]


def _run_panel(run: Row) -> Figure:
    figure = Figure(figsize=WIDE, layout="constrained")
    log = log_of(run)
    for place, (name, title) in enumerate(MEASURES.items()):
        axes = figure.add_subplot(2, 2, place + 1)
        points: list[tuple[Any, Any]] = [(e.get("step"), e.get(name)) for e in log]
        known = [(x, y) for x, y in points if _number(x) and _number(y)]
        axes.plot([x for x, _ in known], [y for _, y in known], color=COLOURS[0], linewidth=1.6)
        axes.set_title(title, fontsize=10.5, color="#222222", loc="left")
        axes.set_xlabel("step", color="#444444", fontsize=9.5)
        quiet(axes)
        axes.tick_params(labelsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if not known:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#777777")
            axes.set_xticks([])
            axes.set_yticks([])
        elif name == "loss":
            _loss_levels(axes, run)
        elif name == "contrast_accuracy":
            axes.set_ylim(-0.03, 1.03)
    return figure


def _loss_levels(axes: Axes, run: Row) -> None:
    """Lines at the loss of guessing and at that of one's own copy among the keys."""
    for value, text in ((guessing(run), "ln(K+1): guessing"), (math.log(2), "log 2: own copy")):
        if value is not None:
            axes.axhline(value, color="#888888", linewidth=1, linestyle=":")
            axes.annotate(
                text, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8.5,
                color="#666666",
            )  # fmt: skip
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.08)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
