"""The paper's figures: a measure against the share of labels, measured and printed side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import matplotlib.figure
from matplotlib.axes import Axes

from mococxr.pages import figures as draw
from mococxr.pages.format import percent
from mococxr.reproduction.compare import DONE, Comparison, Group
from mococxr.reproduction.recipe import TASKS, cells_of, task_name
from mococxr.results import Row

NETWORKS = {"resnet18": "ResNet-18", "densenet121": "DenseNet-121"}
MODES = {"linear": "linear", "finetune": "end to end"}
"""How the paper calls the modes."""
MEASURES = {"auroc": "AUROC", "average_precision": "average precision"}


@dataclass(frozen=True)
class Curve:
    """A figure of the page; `ran`: whether any of its points was measured; `main`: of the dataset's main task."""

    figure: draw.Figure
    measure: str
    ran: bool
    main: bool


def group_name(group: Group) -> str:
    """`Pleural Effusion · ResNet-18 · linear`."""
    task, backbone, mode = group
    return " · ".join(part for part in (task, NETWORKS[backbone], MODES.get(mode)) if part)


def draw_curves(compared: Comparison) -> list[Curve]:
    """A figure for each task, network and mode that the paper prints or this run measured; AUROC first."""
    curves = []
    for measure, name in MEASURES.items():
        for group in dict.fromkeys((c.task, c.backbone, c.mode) for c in cells_of(compared.dataset)):
            fractions, arms = compared.fractions(group), ("moco", "imagenet")
            rows = {arm: [compared.row(group, f, arm, measure) for f in fractions] for arm in arms}
            every_row = [row for arm_rows in rows.values() for row in arm_rows]
            if all(row["measured"] is None and row["published"] is None for row in every_row):
                continue
            file = "-".join((name.lower(), task_name(group[0]), *group[1:]))
            shows = f"{name} against the share of labels, measured and printed"

            # bound now: the loop has moved on when it is drawn
            def drawing(rows: dict[str, list[Row]] = rows, name: str = name) -> matplotlib.figure.Figure:
                return _drawing(name, rows)

            figure = draw.make_figure(file, group_name(group), shows, drawing)
            ran = any(row["status"] == DONE for row in every_row)
            curves.append(Curve(figure, measure, ran, group[0] == TASKS[compared.dataset][0]))
    return curves


def _drawing(measure: str, rows: dict[str, list[Row]]) -> matplotlib.figure.Figure:
    figure, axes = draw.one_axes()
    fractions = [row["fraction"] for row in rows["moco"]]
    styles = draw.arm_styles({"moco": "MoCo", "imagenet": "ImageNet"}, "imagenet", draw.axis_width(fractions))
    handles: dict[str, Any] = {}
    for style in styles:
        name = style.label.removesuffix(" (reference)")
        handles |= _draw(axes, rows[style.arm], replace(style, label=name))
    names = ("low", "measured", "high", "published_low", "published", "published_high")
    values = [row[name] for arm_rows in rows.values() for row in arm_rows for name in names]
    draw.set_label_axis(axes, fractions, [percent(f) for f in fractions], "share of the training labels")
    draw.set_value_axis(axes, measure, draw.value_limits(values))
    draw.legend(figure, list(handles.values()), list(handles))
    return figure


def _draw(axes: Axes, rows: list[Row], style: draw.ArmStyle) -> dict[str, Any]:
    """One arm: filled points and a line are measured, hollow points and a thin dashed line are printed."""
    handles = {}
    looks: list[tuple[str, tuple[str, str, str], float, dict[str, Any]]] = [
        ("paper", ("published_low", "published", "published_high"), style.ring_shift, {
            "linestyle": (0, (2, 2)), "linewidth": 0.7, "markerfacecolor": "white", "markersize": 3.4,
            "markeredgecolor": style.colour, "zorder": 3,
        }),
        ("here", ("low", "measured", "high"), style.shift, {"linestyle": "-"}),
    ]  # fmt: skip
    for source, (low, value, high), shift, look in looks:
        known = [row for row in rows if row[value] is not None]
        if not known:
            continue
        for row in known:
            if row[low] is not None and row[high] is not None:
                # a factor: the axis is logarithmic
                x, width = row["fraction"] * shift, 0.6 if source == "paper" else 1.1
                axes.vlines(x, row[low], row[high], color=style.colour, linewidth=width, alpha=0.8)
        xs, ys = [row["fraction"] * shift for row in known], [row[value] for row in known]
        handles[f"{style.label}, {source}"] = draw.line(axes, xs, ys, style, **look)
    return handles
