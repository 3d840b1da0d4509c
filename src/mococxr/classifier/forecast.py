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
from mococxr.heads.targets import read_target
from mococxr.measure.forecasting import LEVEL, ahead_blocks, ahead_words, curves_of, point_rows, why_not
from mococxr.metrics.forecast import Forecast
from mococxr.metrics.labels_saved import Labels
from mococxr.results import read_results
from mococxr.settings import ForecastSettings, nearest
from mococxr.store import Store


def run_forecast(settings: ForecastSettings) -> dict[str, Any]:
    """The command `forecast`: say the curve, what it comes to, and how many labels a wanted number takes.

    Of a store, labels of training and validation patients that were chosen at random count; test images are never read. Of a
    study, the curves are those of its cells.

    Returns:
        `labels, positives, left_out, curve, ahead`, and `labels_for`, `test_images` where they were asked for; of a study
        `curves`, each with `arm, mode, target` and the same but `positives` and `left_out`.

    Raises:
        InputError: bad settings, or one class only.
    """
    if (settings.store / "study.json").is_file():
        return _of_study(settings)
    if settings.encoder is None or settings.target is None:
        name = "--encoder" if settings.encoder is None else "--target"
        raise InputError(f"{settings.store} is a store, which needs {name}.", f"Give {name}, or name a study folder.")
    facts = _of_store(settings, settings.encoder, settings.target)
    console.result(
        "\n".join(_words(f"{settings.target}: {facts['labels']:,} labels, {facts['positives']:,} positive", facts))
    )
    return facts


def _of_study(settings: ForecastSettings) -> dict[str, Any]:
    """The curves of a study's cells.

    Raises:
        InputError: no such target, or a setting that a study has of its own.
    """
    study = read_results(settings.store)
    if settings.encoder is not None:
        raise InputError("--encoder is for a store: a study has its arms.", "Leave --encoder out.")
    chosen = [curve for curve in study.facts["learning_curves"] if settings.target in (None, curve["target"])]
    if not chosen:
        raise InputError(
            f"--target {settings.target}: the study has no such target.", nearest(str(settings.target), study.targets)
        )
    answers, lines = [], []
    for curve in chosen:
        names = {name: curve[name] for name in ("arm", "mode", "target")}
        facts: dict[str, Any] = {**names, "labels": round(max(curve["labels"], default=0))}
        points = curve["labels"], curve["auroc"], curve["covariance"]
        try:
            if curve["reason"]:
                raise UndefinedError(curve["reason"].rstrip("."))
            curves = curves_of(*points, max(curve["labels"]))
        except UndefinedError as error:
            facts |= {"curve": [], "ahead": [], "reason": why_not(error)}
        else:
            judged = next(row for row in study.rows("cells", **names) if row["positives"])
            share = judged["positives"] / judged["n_units"]
            facts |= {"curve": point_rows(*points), **_answers(settings, curves, share)}
        answers.append(facts)
        lines += _words(f"{curve['target']}, {curve['arm']}, {curve['mode']}: {facts['labels']:,} labels", facts)
    console.result("\n".join(lines))
    return {"curves": answers}


def _of_store(settings: ForecastSettings, encoder: str, name: str) -> dict[str, Any]:
    """The curve of heads of parts of a store's labels."""
    set_threads(settings.jobs)
    check_folder(settings.feature_cache)
    store = Store.open(settings.store, settings.labels_as_of)
    config = read_config(settings, pick_device(settings.device).type)
    target = read_target(store, name, where=settings.where, blank=settings.blank)
    every = np.sort(np.concatenate([target.known("train"), target.val]))
    rows = every[choices(store, target)[0][every]]
    labels = target.labels[rows]
    if len(np.unique(labels)) < 2:
        raise InputError(f"--target {name}: one class only among {len(rows)} labels.", "Label more images.")
    facts: dict[str, Any] = {
        "labels": len(rows),
        "positives": int((labels == 1).sum()),
        "left_out": len(every) - len(rows),
    }
    try:
        curves, curve = _curves(settings, encoder, store, config, rows, labels)
    except UndefinedError as error:
        facts |= {"curve": [], "ahead": [], "reason": why_not(error)}
    else:
        facts |= {"curve": curve, **_answers(settings, curves, facts["positives"] / len(rows))}
    return facts


def _curves(
    settings: ForecastSettings,
    encoder: str,
    store: Store,
    config: TrainConfig,
    rows: NDArray[np.int64],
    labels: NDArray[np.int8],
) -> tuple[Forecast, list[dict[str, float]]]:
    sources = resolve_encoders(encoder, **settings.encoder_options)
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
    return curves_of(sizes, points, covariance, len(rows), config.seed), point_rows(sizes, points, covariance)


def _answers(settings: ForecastSettings, curves: Forecast, share: float) -> dict[str, Any]:
    """The AUROC now and further on, the labels for a wanted one, the test images for a wanted width."""
    answers: dict[str, Any] = {"ahead": ahead_blocks(curves)}
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


def _words(title: str, facts: dict[str, Any]) -> list[str]:
    lines = [title]
    if facts.get("left_out"):
        lines.append(f"left out: {facts['left_out']:,} labels of images that were not chosen at random")
    lines += [f"  {point['labels']:6,.0f} labels  AUROC {point['auroc']:.3f}" for point in facts["curve"]]
    if "reason" in facts:
        way_out = ["Label more images, chosen at random (`mococxr next --by random`)."] if "left_out" in facts else []
        return [*lines, facts["reason"], *way_out]
    lines += map(ahead_words, facts["ahead"])
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
