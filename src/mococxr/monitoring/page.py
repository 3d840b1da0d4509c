"""The page of `drift`: figures and tables of each model's weeks."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.figure
import polars as pl

from mococxr.monitoring.weeks import FEW, LEVEL, NOT_STATED, Week
from mococxr.pages import figures as drawing
from mococxr.pages import format as fmt
from mococxr.pages.figures import COLOURS, REFERENCE, Figure
from mococxr.pages.render import Alert, Column, Table, render, tabulate

if TYPE_CHECKING:
    from mococxr.monitoring.drift import Drift

MOST = 12
"""Rows of a table of shares, and weeks of it: the last ones."""
TITLES = {"view": "Views", "device": "Devices", "warning": "Warnings", "reason": "Why images were declined"}
METHODS = [
    f"Distance: Kolmogorov-Smirnov, the largest difference between the shares of images at or below a score, this week and among the reference images; p by its asymptotic distribution for two samples, for {FEW} images or more.",  # noqa: E501
    f"Marked weeks: p below {LEVEL:g} divided by the number of comparisons on this page, so that a page without drift has a mark once in {1 / LEVEL:.0f} times.",  # noqa: E501
    "Reference scores: of the images of training that gave threshold and calibration, which the classifier had not learned from; views and devices: of all its training images.",  # noqa: E501
    "Several images of a patient count each; they make p smaller than it should be where there are many.",
    "A distance says that images or patients differ from those of training, not that the model is wrong on them: that needs labels (`mococxr evaluate`, `mococxr recalibrate`).",  # noqa: E501
]


def to_html(models: Sequence[Drift], ledger: str) -> str:
    """The page as one HTML file."""
    images = sum(sum(model.states.values()) for model in models)
    return render(
        "monitoring/drift.html.j2",
        title=f"Drift in {ledger}",
        heading="Scores, views and devices by week",
        eyebrow="MoCo-CXR · a model at work",
        lead=f"{ledger}: {images:,} images, {len(models)} model" + ("s" if len(models) > 1 else ""),
        alerts=[alert for model in models for alert in _alerts(model)],
        models=[_section(number, model) for number, model in enumerate(models)],
        methods=METHODS,
    )


def _alerts(model: Drift) -> list[Alert]:
    alerts = [
        Alert(
            "Scores differ from training", f"{name}: {len(weeks)} of {len(model.findings[name])} weeks ({model.name})."
        )
        for name, weeks in model.flagged.items()
    ]
    if model.unknown:
        alerts.append(Alert("Never seen in training", f"{', '.join(model.unknown)} ({model.name})."))
    missing = [name for name, reference in model.references.items() if reference is None]
    if missing:
        text = f"{', '.join(missing)}: the model has no scores of its training images. Fit it again with this version."
        alerts.append(Alert("Nothing to compare with", text))
    return alerts


def _section(number: int, model: Drift) -> dict[str, Any]:
    """What the template shows of one model."""
    findings = [
        {"name": name, "figures": _figures(f"{number}-{order}", weeks, model.references[name]), "table": _weeks(weeks)}
        for order, (name, weeks) in enumerate(model.findings.items())
    ]
    shares = [(TITLES[name], _shares(table)) for name, table in model.shares.items() if _worth(name, table)]
    facts = [(state, f"{count:,}") for state, count in model.states.items()]
    return {"name": model.name, "version": model.version, "facts": facts, "findings": findings, "shares": shares}


def _worth(name: str, table: pl.DataFrame) -> bool:
    """Whether a table of shares says anything: not where no image has a warning."""
    return len(table) > 0 and not (name == "warning" and table["value"].to_list() == [NOT_STATED])


def _weeks(weeks: Sequence[Week]) -> Table:
    columns = {
        "Week of": lambda week: f"{week.start}" + (" *" if week.flagged else ""),
        "Images": lambda week: fmt.count(week.images),
        "Median score": lambda week: fmt.number(week.median),
        "Called present": lambda week: fmt.dash(week.present, fmt.share),
        "Distance": lambda week: fmt.dash(week.distance),
        "p": lambda week: fmt.dash(week.p, fmt.p_value),
    }
    return tabulate(weeks, columns, note="* further from training than chance makes it")


def _shares(table: pl.DataFrame) -> Table:
    """The last weeks, the most frequent values first; the others together."""
    weeks = table.columns[2:][-MOST:]
    shown, rest = table.head(MOST), table[MOST:]
    rows = list(shown.iter_rows(named=True))
    if len(rest):
        sums: dict[str, Any] = {name: float(rest[name].sum()) for name in weeks}
        reference = None if rest["reference"].null_count() else float(rest["reference"].sum())
        rows.append({"value": f"{len(rest)} others", "reference": reference, **sums})
    head: dict[str, Column] = {"": "value", "training": ("reference", fmt.share)}
    head.update({_short(week): (week, fmt.share) for week in weeks})
    if table["reference"].null_count() == len(table):
        head.pop("training")
    return tabulate(rows, head)


def _short(week: str) -> str:
    """`2026-09-07` -> `07 Sep`."""
    return f"{datetime.date.fromisoformat(week):%d %b}"


def _figures(name: str, weeks: Sequence[Week], reference: dict[str, Any] | None) -> list[Figure]:
    shows = "median and quartiles of the scores by week, beside those of training"
    figures = [drawing.make_figure(f"scores-{name}", "Scores", shows, partial(_draw_scores, weeks, reference))]
    if any(week.present is not None for week in weeks):
        shows = "share of the images that are called positive, by week"
        figures.append(drawing.make_figure(f"present-{name}", "Called present", shows, partial(_draw_present, weeks)))
    return figures


def _draw_scores(weeks: Sequence[Week], reference: dict[str, Any] | None) -> matplotlib.figure.Figure:
    figure, axes = drawing.one_axes()
    at = [_day(week.start) for week in weeks]
    bars = axes.vlines(at, [w.low for w in weeks], [w.high for w in weeks], color=COLOURS[0], linewidth=3, alpha=0.45)
    (medians,) = axes.plot(at, [week.median for week in weeks], "o-", color=COLOURS[0], markeredgecolor="white")
    handles, labels = [medians, bars], ["median", "quartiles"]
    marked = [week for week in weeks if week.flagged]
    if marked:
        look: dict[str, Any] = {"color": COLOURS[1], "linestyle": "", "marker": "D", "markersize": 8, "zorder": 5}
        (marks,) = axes.plot([_day(week.start) for week in marked], [week.median for week in marked], **look)
        handles, labels = [*handles, marks], [*labels, "unlike training"]
    if reference:
        low, median, high = (_quantile(reference["quantiles"], share) for share in (0.25, 0.5, 0.75))
        axes.axhspan(low, high, color=REFERENCE, alpha=0.12, linewidth=0)
        handles.append(axes.axhline(median, color=REFERENCE, linestyle="--", linewidth=1.4))
        labels.append("training")
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("score", color=drawing.INK)
    _time_axis(axes, weeks)
    drawing.legend(figure, handles, labels)
    return figure


def _draw_present(weeks: Sequence[Week]) -> matplotlib.figure.Figure:
    figure, axes = drawing.one_axes()
    known = [week for week in weeks if week.present is not None]
    axes.plot(
        [_day(w.start) for w in known],
        drawing.gaps([w.present for w in known]),
        "o-",
        color=COLOURS[2],
        markeredgecolor="white",
    )
    axes.set_ylim(*drawing.value_limits([week.present for week in known]))
    axes.set_ylabel("share of the images", color=drawing.INK)
    _time_axis(axes, weeks)
    return figure


def _time_axis(axes: Any, weeks: Sequence[Week]) -> None:
    """A tick at the Mondays of at most five weeks."""
    step = -(-len(weeks) // 5)
    shown = [week.start for week in weeks[::step]]
    axes.set_xticks([_day(start) for start in shown], [f"{start:%d %b}" for start in shown])
    axes.margins(x=0.08)
    drawing.style_axes(axes)


def _day(start: datetime.date) -> int:
    return start.toordinal()


def _quantile(quantiles: Sequence[float], share: float) -> float:
    return quantiles[round(share * (len(quantiles) - 1))]
