"""The figures of an evaluation: ROC and precision-recall curves of all models, scores by class and reliability of each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes

from mococxr import metrics
from mococxr.measure.measures import Resampling
from mococxr.pages import figures as drawing
from mococxr.pages.figures import ArmStyle, Figure

if TYPE_CHECKING:
    from mococxr.evaluation.models import Judged

CURVES = {
    "roc": ("ROC curve", "false positives, share of the negatives", "sensitivity", metrics.roc_curve),
    "precision-recall": (
        "Precision and recall", "recall (sensitivity)", "precision (PPV)", metrics.precision_recall_curve,
    ),
}  # fmt: skip
"""Figure -> title, axes and the curve."""
BINS = 30
Curves = dict[str, list[metrics.BandedCurve]]
"""Figure -> the curve of each model."""


def measure_curves(judged: Sequence[Judged], how: Resampling) -> Curves:
    """ROC and precision-recall curve of every model, with its band."""
    curves: Curves = {name: [] for name in CURVES}
    for entry in judged:
        some = how.on(entry.labels.size)
        for name, (*_, curve_of) in CURVES.items():
            curve = curve_of(entry.labels, entry.scores, entry.patients, some.replicates, some.seed, some.level)
            curves[name].append(curve)
    return curves


def draw_panels(groups: Sequence[tuple[Sequence[Judged], Curves]]) -> list[Figure]:
    """Both curves side by side; of several targets one figure of each curve, with a panel for each target."""
    if len(groups) == 1:
        title = " and ".join(title for title, *_ in CURVES.values())
        shown = [(*groups[0], name, "") for name in CURVES]
        return [drawing.make_figure("curves-panels", title, "both curves", partial(_draw_panels, shown))]
    figures = []
    for name, (title, xs, ys, _) in CURVES.items():
        shown = [(judged, curves, name, str(judged[0].block["label"])) for judged, curves in groups]
        draw = partial(_draw_panels, shown)
        figures.append(drawing.make_figure(f"{name}-panels", f"{title}, all targets", f"{ys} against {xs}", draw))
    return figures


def _draw_panels(shown: Sequence[tuple[Sequence[Judged], Curves, str, str]]) -> matplotlib.figure.Figure:
    figure, every = drawing.panels(len(shown))
    named: dict[str, Any] = {}
    for (judged, curves, name, title), axes in zip(shown, every, strict=True):
        handles = _draw_axes(axes, judged, curves, name)
        named |= dict(zip((entry.answers.model_name for entry in judged), handles, strict=True))
        axes.set_title(title, fontsize=7.7, color="#222222", loc="left")
    drawing.legend(figure, list(named.values()), list(named))
    return figure


def draw_curves(judged: Sequence[Judged], curves: Curves) -> list[Figure]:
    """ROC and precision-recall curve, each with the band of every model and its point at the threshold."""
    of = f" of {judged[0].block['label']}" if judged[0].answers.several else ""
    return [
        drawing.make_figure(
            name + of, title + of, f"{ys} against {xs}", partial(_draw_curve, judged, curves, name), "curves"
        )
        for name, (title, xs, ys, _) in CURVES.items()
    ]


def _draw_curve(judged: Sequence[Judged], curves: Curves, name: str) -> matplotlib.figure.Figure:
    figure, axes = drawing.one_axes()
    handles = _draw_axes(axes, judged, curves, name)
    drawing.legend(figure, handles, [style.label for style in _styles(judged)])
    return figure


def _draw_axes(axes: Axes, judged: Sequence[Judged], curves: Curves, name: str) -> list[Any]:
    """One curve of every model; returns what stands in the legend."""
    _, xs, ys, _ = CURVES[name]
    handles = []
    for entry, curve, style in zip(judged, curves[name], _styles(judged), strict=True):
        axes.fill_between(curve.at, curve.low, curve.high, color=style.colour, alpha=0.13, linewidth=0)
        # precision holds back to the recall before: it is not interpolated
        look: dict[str, Any] = {"marker": "", "drawstyle": "default" if name == "roc" else "steps-pre"}
        handles.append(drawing.line(axes, curve.x.tolist(), curve.y.tolist(), style, linewidth=1.2, **look))
        if point := entry.block["operating_point"]:
            shares = point["sensitivity"]["value"], point["specificity"]["value"], point["ppv"]["value"]
            at = (1 - shares[1], shares[0]) if name == "roc" else (shares[0], shares[2])
            drawing.line(axes, at[:1], at[1:], style, markersize=5.3)
    prevalence = float(judged[0].labels.mean())
    chance = ([0, 1], [0, 1]) if name == "roc" else ([0, 1], [prevalence, prevalence])
    axes.plot(*chance, color="#888888", linewidth=0.7, linestyle=":")
    _square(axes, xs, ys)
    return handles


def _styles(judged: Sequence[Judged]) -> list[ArmStyle]:
    return drawing.arm_styles({entry.name: entry.name for entry in judged}, None)


def _square(axes: Axes, xs: str, ys: str) -> None:
    """Both axes from 0 to 1, a little more, where markers would be cut."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xlabel(xs, color=drawing.INK)
    axes.set_ylabel(ys, color=drawing.INK)
    drawing.style_axes(axes)


def draw_model(number: int, entry: Judged) -> list[Figure]:
    """The histogram of its scores by class, and the reliability curve where its probabilities were judged."""
    histogram = partial(_draw_histogram, entry)
    figures = [drawing.make_figure(f"scores-{number}", "Scores", "share of each class by score", histogram, "scores")]
    calibration = entry.block["calibration"]
    if calibration and calibration.get("curve"):
        shows = "observed frequency against the predicted probability"
        reliability = partial(_draw_reliability, calibration)
        figures.append(drawing.make_figure(f"reliability-{number}", "Calibration", shows, reliability, "reliability"))
    return figures


def _draw_histogram(entry: Judged) -> matplotlib.figure.Figure:
    figure, axes = drawing.one_axes()
    edges = np.linspace(entry.scores.min(), entry.scores.max(), BINS + 1)
    handles: list[Any] = []
    labels = []
    for label, words, colour, hatch in (
        (0, "negative", drawing.COLOURS[0], ""),
        (1, "positive", drawing.COLOURS[1], "///"),
    ):
        scores = entry.scores[entry.labels == label]
        heights = np.histogram(scores, edges)[0] / scores.size
        look: dict[str, Any] = {"color": colour, "alpha": 0.35, "hatch": hatch, "edgecolor": colour}
        handles.append(axes.stairs(heights, edges, fill=True, **look))
        labels.append(f"{scores.size:,} {words}")
    if entry.threshold is not None:
        handles.append(axes.axvline(entry.threshold, color="#111111", linewidth=0.8, linestyle="--"))
        labels.append("threshold")
    axes.set_xlabel("score", color=drawing.INK)
    axes.set_ylabel("share of the class", color=drawing.INK)
    drawing.style_axes(axes)
    drawing.legend(figure, handles, labels)
    return figure


def _draw_reliability(calibration: dict[str, Any]) -> matplotlib.figure.Figure:
    figure, axes = drawing.one_axes()
    colour = drawing.COLOURS[0]
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.7, linestyle=":")
    drawing.note(axes, "dotted: perfect calibration", 0.98, 0.02, ha="right", va="bottom", fontsize=drawing.SMALL)
    bins = [point for point in calibration["curve"] if point["mean_probability"] is not None]
    xs, ys, lows, highs = (
        drawing.gaps([point[name] for point in bins]) for name in ("mean_probability", "value", "low", "high")
    )
    axes.vlines(xs, lows, highs, color=colour, linewidth=0.8, alpha=0.7)
    axes.plot(xs, ys, color=colour, marker="o", linestyle="none", markersize=4, markeredgecolor="white")
    if smooth := calibration["smooth"]["curve"]:
        at, low, middle, high = (
            [point[name] for point in smooth] for name in ("probability", "low", "observed", "high")
        )
        axes.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(at, middle, color=colour, linewidth=1.2)
    _square(axes, "predicted probability", "observed frequency")
    return figure
