"""`forecast`: what more labels of a store would give, from the learning curve inside those there are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mococxr import console, metrics
from mococxr.classifier.encoding import feature_reader
from mococxr.classifier.operating_point import choices
from mococxr.encoders import open_encoder, resolve_encoders
from mococxr.errors import InputError, UndefinedError
from mococxr.feature_cache import check_folder
from mococxr.features import pick_device, set_threads
from mococxr.heads.classifier import TrainConfig, read_config
from mococxr.heads.learning_curve import SHARES, learning_curve
from mococxr.heads.scaling import scaling_of, scaling_rows
from mococxr.heads.targets import Target, read_target
from mococxr.metrics.forecast import SPREAD, WIDEST, Forecast
from mococxr.metrics.labels_saved import Labels
from mococxr.settings import ForecastSettings
from mococxr.store import Store

AHEAD = (2, 4)
"""Multiples of the labels there are for which the AUROC is forecast."""
LEVEL = 0.9


def run_forecast(settings: ForecastSettings) -> dict[str, Any]:
    """The command `forecast`: say the curve, what it comes to, and how many labels a wanted number takes.

    Labels of training and validation patients that were chosen at random count; test images are never read.

    Returns:
        `labels, positives, left_out, curve, ahead`, and `labels_for`, `test_images` where they were asked for.

    Raises:
        InputError: bad settings, or one class only.
    """
    set_threads(settings.jobs)
    check_folder(settings.feature_cache)
    store = Store.open(settings.store, settings.labels_as_of)
    config = read_config(settings, pick_device(settings.device).type)
    target = read_target(store, settings.target, where=settings.where, blank=settings.blank)
    every = np.sort(np.concatenate([target.known("train"), target.val]))
    rows = every[choices(store, target)[0][every]]
    labels = target.labels[rows]
    if len(np.unique(labels)) < 2:
        raise InputError(f"--target {settings.target}: one class only among {len(rows)} labels.", "Label more images.")
    facts: dict[str, Any] = {
        "labels": len(rows),
        "positives": int((labels == 1).sum()),
        "left_out": len(every) - len(rows),
    }
    try:
        curves, curve = _curves(settings, store, config, rows, labels)
    except UndefinedError as error:
        facts |= {"curve": [], "ahead": [], "reason": f"It cannot be said yet: {error}."}
    else:
        facts |= {"curve": curve, **_answers(settings, curves, facts["positives"] / len(rows))}
    console.result("\n".join(_words(target, facts)))
    return facts


def _curves(
    settings: ForecastSettings, store: Store, config: TrainConfig, rows: NDArray[np.int64], labels: NDArray[np.int8]
) -> tuple[Forecast, list[dict[str, float]]]:
    sources = resolve_encoders(settings.encoder, **settings.encoder_options)
    encoders = [open_encoder(source, settings.seed) for source in sources]
    scaled = scaling_rows(store) if config.standardize == "unlabelled" else rows
    every = np.unique(np.concatenate([rows, scaled]))
    values = feature_reader(settings, sources, encoders, store, config)(every)
    scaling = scaling_of(values[np.searchsorted(every, scaled)])
    features, patients = values[np.searchsorted(every, rows)], store.index["patient"].to_numpy()[rows]
    with console.progress("forecast", len(SHARES)) as bar:
        sizes, scores = learning_curve(
            features, labels, patients, scaling, C=config.C, seed=config.seed, advance=bar.advance
        )
    points, covariance = metrics.curve_points(scores, labels, patients) if sizes else (np.empty(0), np.empty((0, 0)))
    curve = [
        {"labels": size, "auroc": float(value), "error": float(np.sqrt(variance))}
        for size, value, variance in zip(sizes, points, np.diag(covariance), strict=True)
    ]
    spread = SPREAD / len(rows) ** 0.5
    return metrics.forecast(sizes, points, covariance, len(rows), spread=spread, seed=config.seed), curve


def _answers(settings: ForecastSettings, curves: Forecast, share: float) -> dict[str, Any]:
    """The AUROC now and further on, the labels for a wanted one, the test images for a wanted width."""
    counts = [round(times * curves.labels) for times in (1, *AHEAD)]
    answers: dict[str, Any] = {"ahead": [{"labels": n, **curves.at(n, LEVEL).block()} for n in counts]}
    if settings.auroc is not None:
        ends = zip(("value", "low", "high"), curves.labels_for(settings.auroc, LEVEL), strict=True)
        reached = float((curves.value_B + curves.gap_B >= settings.auroc).mean())
        numbers = {name: dataclasses.asdict(end) for name, end in ends}
        answers["labels_for"] = {**numbers, "auroc": settings.auroc, "plateau_above": reached}
    if settings.width is not None:
        auroc = answers["ahead"][0]["value"]
        answers["test_images"] = {
            "width": settings.width,
            "images": metrics.images_for_width(settings.width, auroc, share),
        }
    return answers


def _words(target: Target, facts: dict[str, Any]) -> list[str]:
    lines = [f"{target.name}: {facts['labels']:,} labels, {facts['positives']:,} positive"]
    if facts["left_out"]:
        lines.append(f"left out: {facts['left_out']:,} labels of images that were not chosen at random")
    lines += [f"  {point['labels']:6,.0f} labels  AUROC {point['auroc']:.3f}" for point in facts["curve"]]
    if "reason" in facts:
        return [*lines, facts["reason"], "Label more images, chosen at random (`mococxr next --by random`)."]
    for row in facts["ahead"]:
        number = f"AUROC {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f}, 90 %)"
        if "reason" in row:
            number = f"cannot be said yet: 90 % from {row['low']:.2f} to {row['high']:.2f}, wider than {WIDEST:g}"
        lines.append(f"with {row['labels']:,} labels: {number}")
    if "labels_for" in facts:
        lines.append(_labels_words(facts["labels_for"], facts["labels"]))
    if "test_images" in facts:
        width = facts["test_images"]
        lines.append(f"an interval {width['width']:g} wide takes about {width['images']:,} test images, one a patient")
    return lines


def _labels_words(asked: dict[str, Any], labels: int) -> str:
    """`AUROC 0.85: about 140 more labels, 90 to 260 (90 %); the plateau may lie below 0.85`."""
    middle, low, high = (Labels(**asked[name]) for name in ("value", "low", "high"))
    more = {end: Labels(end.count - labels, end.side) for end in (middle, low, high)}
    if middle.side == "more than":
        return f"AUROC {asked['auroc']:g}: the plateau lies below it in {1 - asked['plateau_above']:.0%} of the curves"
    if middle.side == "at most":
        words = "reached already"
    else:
        few = "0" if low.side == "at most" else str(more[low])
        many = "no end in sight" if high.side == "more than" else str(more[high])
        words = f"about {more[middle]} more labels, {few} to {many} (90 %)"
    below = "" if asked["plateau_above"] > 1 - (1 - LEVEL) / 2 else f"; the plateau may lie below {asked['auroc']:g}"
    return f"AUROC {asked['auroc']:g}: {words}{below}"
