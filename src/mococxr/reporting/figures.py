"""The figures of a study: measures against labels, reliability curves, what each pretraining run measured."""

from __future__ import annotations

from functools import partial
from typing import Any

import matplotlib.figure
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mococxr.measure.measures import MEASURES
from mococxr.pages import figures as drawing
from mococxr.pages import format as fmt
from mococxr.pages.figures import ArmStyle, Figure
from mococxr.reporting.headline import MODES, arm_label, baseline_of, headline_cells
from mococxr.reporting.provenance import chance_loss, runs_with_health
from mococxr.reporting.rows import measured
from mococxr.results import CELL_KEYS, Row, StudyResults

LOG = {  # four, as many as the figure has panels
    "loss": "loss",
    "contrast_accuracy": "contrastive accuracy",
    "effective_rank": "effective rank",
    "knn_auroc": "kNN AUROC",
}
"""What the figure of a run shows: measure of its log -> title."""


def draw_curves(study: StudyResults) -> dict[str, dict[str, list[Figure]]]:
    """Measure -> target -> a figure for each mode: the measure against the share of labels."""
    return {
        name: {
            target: [
                drawing.make_figure(
                    f"{name}-{number + 1:02d}-{target}-{mode}",
                    f"{target} · {MODES[mode].name}",
                    f"{MEASURES[name].name} against the share of training labels",
                    partial(_draw_curve, study, name, ends, target, mode),
                    MEASURES[name].name,
                )
                for mode in study.modes
                if study.rows("cells", target=target, mode=mode)
            ]
            for number, target in enumerate(study.targets)
        }
        for name, ends in measured(study).items()
    }


def draw_panels(study: StudyResults) -> list[Figure]:
    """AUROC of several targets side by side, a figure for each mode; none where there is one target."""
    figures = []
    for mode in study.modes:
        targets = [target for target in study.targets if study.rows("cells", target=target, mode=mode)]
        if len(targets) > 1:
            title = f"{fmt.join_words(targets)} · {MODES[mode].name}"
            shows = "AUROC against the share of training labels, a panel for each target"
            figures.append(
                drawing.make_figure(f"auroc-panels-{mode}", title, shows, partial(_draw_panels, study, targets, mode))
            )
    return figures


def _draw_panels(study: StudyResults, targets: list[str], mode: str) -> matplotlib.figure.Figure:
    figure, every = drawing.panels(len(targets))
    named: dict[str, Any] = {}
    for target, axes in zip(targets, every, strict=True):
        named |= _draw_axes(axes, study, "auroc", measured(study)["auroc"], target, mode)
        axes.set_title(target, fontsize=7.7, color="#222222", loc="left")
        axes.set_xlabel("labelled fraction (images)", color=drawing.INK)
    drawing.legend(figure, list(named.values()), list(named))
    return figure


def _draw_curve(
    study: StudyResults, measure: str, ends: tuple[str, str], target: str, mode: str
) -> matplotlib.figure.Figure:
    figure, axes = drawing.one_axes()
    named = _draw_axes(axes, study, measure, ends, target, mode)
    drawing.legend(figure, list(named.values()), list(named))
    return figure


def _draw_axes(
    axes: Axes, study: StudyResults, measure: str, ends: tuple[str, str], target: str, mode: str
) -> dict[str, Any]:
    """The curves of one target and mode; what stands in the legend."""
    fractions = study.fractions(target)
    named: dict[str, Any] = {}
    for style in _styles(study, drawing.axis_width(fractions)):
        # A baseline that was added has one mode, and is what to beat in every other.
        of_arm = {"target": target, "arm": style.arm} | ({"mode": mode} if style.arm != study.added else {})
        # A line joins points in this order.
        rows = sorted(study.rows("cells", **of_arm), key=lambda row: row["fraction"])
        if rows:
            other = f", {MODES[rows[0]['mode']].name.lower()}" if rows[0]["mode"] != mode else ""
            named[style.label + other] = _draw_arm(axes, style, rows, measure, ends)
            _draw_repeats(axes, style, study.rows("trials", **of_arm), measure)
    counts = [
        fmt.span((row["train_images"] for row in study.rows("trials", target=target, fraction=fraction)), "–")
        for fraction in fractions
    ]
    ticks = [f"{fmt.percent(fraction)}\n{count}" for fraction, count in zip(fractions, counts, strict=True)]
    drawing.set_label_axis(axes, fractions, ticks, "labelled fraction of the training set (images)")
    values = [row[name] for row in study.rows("cells", target=target) for name in (measure, *ends)]
    values += [row[measure] for row in study.rows("trials", target=target)]
    limits = drawing.value_limits(values)  # those of all modes, so that they can be compared by eye
    drawing.set_value_axis(axes, MEASURES[measure].name, limits, MEASURES[measure].chance)
    if all(row[measure] is None for row in study.rows("cells", target=target, mode=mode)):
        drawing.note(axes, "undefined")
    return named


def _styles(study: StudyResults, width: float = 1.0) -> list[ArmStyle]:
    labels = {arm: arm_label(study, arm) for arm in study.values("arm")}
    return drawing.arm_styles(labels, study.facts["reference"], width, baseline_of(study))


def _draw_arm(axes: Axes, style: ArmStyle, rows: list[Row], measure: str, ends: tuple[str, str]) -> Any:
    xs = [row["fraction"] * style.shift for row in rows]  # a factor, since the axis is logarithmic
    lows, highs = (drawing.gaps([row[end] for row in rows]) for end in ends)
    axes.fill_between(xs, lows, highs, color=style.colour, alpha=0.13, linewidth=0)
    # A band alone hides single points between undefined ones.
    axes.vlines(xs, lows, highs, color=style.colour, linewidth=0.9, alpha=0.8)
    return drawing.line(axes, xs, [row[measure] for row in rows], style)


def _draw_repeats(axes: Axes, style: ArmStyle, trials: list[Row], measure: str) -> None:
    """Each draw as a small ring beside its mean: the spread that the interval does not hold."""
    xs = [row["fraction"] * style.ring_shift for row in trials]
    ys = drawing.gaps([row[measure] for row in trials])
    look: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2.3, "markerfacecolor": "none"}
    axes.plot(xs, ys, markeredgecolor=style.colour, markeredgewidth=0.55, alpha=0.75, zorder=3, **look)


def draw_reliability(study: StudyResults) -> list[Figure]:
    """The reliability curves of the cells of each verdict."""
    figures = []
    for number, target in enumerate(study.targets):
        rows = [row for row in headline_cells(study, "reliability", target) if row["mean_probability"] is not None]
        if rows:
            figure = drawing.make_figure(
                f"reliability-{number + 1:02d}-{target}",
                f"{target} · {MODES[rows[0]['mode']].name}",
                "observed frequency against the predicted probability",
                partial(_draw_reliability, study, rows),
                "reliability",
            )
            figures.append(figure)
    return figures


def _draw_reliability(study: StudyResults, rows: list[Row]) -> matplotlib.figure.Figure:
    figure, axes = drawing.one_axes()
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.7, linestyle=":")
    drawing.note(axes, "dotted: perfect calibration", 0.98, 0.02, ha="right", va="bottom", fontsize=drawing.SMALL)
    handles, labels = [], []
    for style in _styles(study):
        points = sorted((row for row in rows if row["arm"] == style.arm), key=lambda row: row["mean_probability"])
        if points:
            xs = [row["mean_probability"] for row in points]
            lows, highs = (drawing.gaps([row[end] for row in points]) for end in ("low", "high"))
            axes.vlines(xs, lows, highs, color=style.colour, linewidth=0.8, alpha=0.7)
            look: dict[str, Any] = {"linewidth": 1.2, "markersize": 4, "markeredgewidth": 0.55}
            if _draw_smooth(axes, style, study.rows("smooth_calibration", **{k: points[0][k] for k in CELL_KEYS})):
                look["linestyle"] = "none"  # the smooth curve is the line; bins stay as points
            handles.append(drawing.line(axes, xs, [row["observed"] for row in points], style, **look))
            labels.append(style.label)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))  # a little beyond 0 and 1, where markers would be cut
    axes.set_xlabel("predicted probability", color=drawing.INK)
    axes.set_ylabel("observed frequency", color=drawing.INK)
    drawing.style_axes(axes)
    drawing.legend(figure, handles, labels)
    return figure


def _draw_smooth(axes: Axes, style: ArmStyle, points: list[Row]) -> bool:
    """The curve without bins and its band; whether there is one."""
    if points:
        xs, lows, ys, highs = ([row[name] for row in points] for name in ("probability", "low", "observed", "high"))
        axes.fill_between(xs, lows, highs, color=style.colour, alpha=0.13, linewidth=0)
        axes.plot(xs, ys, color=style.colour, linestyle=style.dash, linewidth=1.2)
    return bool(points)


def draw_decisions(study: StudyResults) -> list[Figure]:
    """The decision curves of the cells of each verdict."""
    return [
        drawing.make_figure(
            f"net-benefit-{number + 1:02d}-{target}",
            f"{target} · {MODES[rows[0]['mode']].name}",
            "net benefit against the threshold of the probability",
            partial(_draw_decisions, study, rows),
            "decisions",
        )
        for number, target in enumerate(study.targets)
        if (rows := headline_cells(study, "decision_curve", target))
    ]


def _draw_decisions(study: StudyResults, rows: list[Row]) -> matplotlib.figure.Figure:
    figure, axes = drawing.one_axes()
    axes.axhline(0, color="#888888", linewidth=0.7)
    handles, labels = [], []
    # The same for all arms: it depends on the labels alone.
    everyone = {row["threshold"]: row["all_positive"] for row in rows}
    handles += axes.plot(*zip(*sorted(everyone.items()), strict=True), color="#888888", linewidth=1, linestyle=":")
    labels.append("all called positive")
    for style in _styles(study):
        points = sorted((row for row in rows if row["arm"] == style.arm), key=lambda row: row["threshold"])
        if points:
            xs = [row["threshold"] for row in points]
            lows, highs = ([row[f"model_{end}"] for row in points] for end in ("low", "high"))
            axes.fill_between(xs, lows, highs, color=style.colour, alpha=0.13, linewidth=0)
            handles.append(
                drawing.line(axes, xs, [row["model"] for row in points], style, linewidth=1.2, markersize=3.4)
            )
            labels.append(style.label)
    top = max(max(row["model_high"], row["all_positive"]) for row in rows)
    axes.set(xlim=(0, 0.92), ylim=(-0.35 * top, 1.05 * top))  # below 0 no model is of use
    axes.set_xlabel("threshold of the probability", color=drawing.INK)
    axes.set_ylabel("net benefit", color=drawing.INK)
    drawing.style_axes(axes)
    drawing.legend(figure, handles, labels)
    return figure


def draw_runs(study: StudyResults) -> list[Figure]:
    """One figure for each pretraining run that kept its log."""
    logs = [(name, health) for name, health in runs_with_health(study) if health["log"]]
    return [
        drawing.make_figure(
            f"pretraining-{number + 1:02d}-{name}", name, "what the run measured against its steps",
            partial(_draw_run, health), "pretraining",
        )
        for number, (name, health) in enumerate(logs)
    ]  # fmt: skip


def _draw_run(health: Row) -> matplotlib.figure.Figure:
    figure = drawing.sheet(height=74)
    for number, (name, title) in enumerate(LOG.items()):
        axes = figure.add_subplot(2, 2, number + 1)
        entries = [entry for entry in health["log"] if entry[name] is not None]  # kNN is measured at some steps only
        steps, values = [entry["step"] for entry in entries], [entry[name] for entry in entries]
        axes.plot(steps, values, color=drawing.COLOURS[0], linewidth=1.1)
        axes.set_title(title, fontsize=7.2, color="#222222", loc="left")
        axes.set_xlabel("step", color=drawing.INK, fontsize=drawing.SMALL)
        drawing.style_axes(axes)
        axes.tick_params(labelsize=drawing.SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if not entries:
            drawing.note(axes, "not measured")
            axes.set(xticks=[], yticks=[])
        elif name == "loss":
            _draw_loss_levels(axes, health)
        elif name == "contrast_accuracy":
            axes.set_ylim(-0.03, 1.03)  # an accuracy, 0 to 1
    return figure


def _draw_loss_levels(axes: Axes, health: Row) -> None:
    """Lines at the loss of guessing and at that of an image's own key among the negatives."""
    levels = ((chance_loss(health), "chance"), (health.get("own_key_floor"), "log 2: own key in queue"))
    for value, text in levels:
        if value is not None:
            axes.axhline(value, color="#888888", linewidth=0.7, linestyle=":")
            corner: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
            axes.annotate(text, (1, value), **corner, fontsize=drawing.SMALL, color="#666666")
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(0, bottom), max(0, top) * 1.08)  # a cosine loss lies below 0
