"""What is known of candidates: their features by an encoder, and their scores by the labels so far or by a model."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mococxr import console
from mococxr.choosing.strategies import Situation
from mococxr.classifier.encoding import frozen_features
from mococxr.classifier.saved import load_model
from mococxr.errors import InputError
from mococxr.features import set_threads
from mococxr.heads.linear import solve_linear
from mococxr.heads.scaling import Scaling, scaling_of, scaling_rows
from mococxr.metrics import as_logits
from mococxr.settings import NextSettings
from mococxr.store import Store

BLOCK = 256
"""Images that a model scores together."""
Rows = NDArray[np.int64]
Values = NDArray[np.float32]


def situation_of(settings: NextSettings, store: Store, rows: Rows, order: Rows, known: Rows) -> Situation:
    """What strategies go by; nothing is read before it is asked for.

    Args:
        rows: the candidates, (N,).
        order: rank of each in random order, (N,).
        known: training and validation images that are labelled already, or drawn, (M,).
    """
    set_threads(settings.jobs)
    labelled = [labels_of(store, name, "train", "val")[0] for name in settings.target]

    @cache
    def encoded() -> tuple[Scaling, Values, Values, list[Values]]:
        parts = (scaling_rows(store), rows, known, *labelled)
        read = frozen_features(settings, str(settings.encoder), store, *parts)
        values = [read(part) for part in parts]
        return scaling_of(values[0]), values[1], values[2], values[3:]

    def cosines() -> tuple[Values, Values]:
        scaling, candidates, others, _ = encoded()
        vectors = unit(candidates, scaling)
        return vectors @ vectors.T, vectors @ unit(others, scaling).T

    def logits() -> NDArray[np.float64]:
        if settings.model is not None:
            return _model_logits(settings.model, settings, store, rows)
        scaling, candidates, _, features = encoded()
        columns = []
        for name, values in zip(settings.target, features, strict=True):
            where, labels = labels_of(store, name, "train", "val")
            head = solve_linear(values, labels, scaling, patients=store.index["patient"].to_numpy()[where])
            columns.append(head.logits(candidates))
        return np.stack(columns, axis=1)

    return Situation(order, cosines, logits)


def unit(features: Values, scaling: Scaling) -> Values:
    """Features (N, D), standardised and of length 1."""
    x = ((features - scaling.mean) / scaling.scale).astype(np.float32)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def labels_of(store: Store, name: str, *splits: str) -> tuple[Rows, NDArray[np.int8]]:
    """The rows of these splits that have a label of 1 or 0, and the labels."""
    rows = store.rows_in(*splits)
    if name not in store.labels:
        return rows[:0], np.empty(0, np.int8)
    labels = store.index[name].fill_null(-1).to_numpy()[rows].astype(np.int8)
    return rows[labels >= 0], labels[labels >= 0]


def _model_logits(folder: Path, settings: NextSettings, store: Store, rows: Rows) -> NDArray[np.float64]:
    """Log odds of each image and finding, (N, T)."""
    model = load_model(folder, settings.jobs)
    alone = len(model.targets) == len(settings.target) == 1  # whatever each calls it
    if unknown := [name for name in settings.target if name not in model.targets and not alone]:
        raise InputError(
            f"--target {unknown[0]}: the model {folder} was not fitted to it.", f"It tells {', '.join(model.targets)}."
        )
    columns = [0] if alone else [model.targets.index(name) for name in settings.target]
    scores: list[NDArray[np.float64]] = []
    with console.progress("score", len(rows)) as bar:
        for start in range(0, len(rows), BLOCK):
            frames = [model.frames_of(store.pixels(int(row))) for row in rows[start : start + BLOCK]]
            scores.append(model.scores(frames, settings.device)[:, columns])
            bar.advance(len(frames))
    return as_logits(np.concatenate(scores))
