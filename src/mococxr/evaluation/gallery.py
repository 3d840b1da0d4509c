"""Where a model is wrong, to look at: its most certain misses and false alarms, borderline images, errors by subgroup.

Images go by their row in the store; beside each stand the labelled training images that are nearest to it for the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.classifier.saved import Model
from mococxr.evaluation.looks import draw_looks
from mococxr.evaluation.predictions import Floats
from mococxr.features import pick_device
from mococxr.heads.classifier import load_member
from mococxr.measure.subgroups import as_groups
from mococxr.pages import format as fmt
from mococxr.pages.pictures import picture
from mococxr.store import Store

if TYPE_CHECKING:
    from mococxr.evaluation.models import Judged
    from mococxr.settings import EvaluateSettings

MOST, OF_GROUP = 12, 2
"""Images shown of each kind, and of each kind in each subgroup."""
NEAREST, REFERENCES = 3, 1000
"""Neighbours of an image, and the labelled training images that they are of, at the most."""
BLOCK = 256
SMALL = 72
"""Pixels of a neighbour's height."""
WORDS = {
    "false negative": ("Missed", "with the finding, called negative; the lowest scores first"),
    "false positive": ("False alarms", "without the finding, called positive; the highest scores first"),
    "borderline": ("Borderline", "right or wrong, the scores nearest to the threshold"),
}
LABELS = {1: "positive", 0: "negative"}


@dataclass(frozen=True)
class Neighbour:
    """A labelled training image and its label in words."""

    row: int
    picture: str
    label: str


@dataclass(frozen=True)
class Case:
    """An image with its label, its score and what is near it."""

    row: int
    picture: str
    label: str
    scored: str
    described: str
    neighbours: list[Neighbour]
    looked: str = ""
    """The picture with the map over it, where maps are asked for."""


@dataclass(frozen=True)
class Gallery:
    """The gallery of a model and target.

    Args:
        errors: the table of the images in it; None where there is no gallery.
        words: what its maps are and what they passed; none without maps.
    """

    parts: list[Part]
    errors: pl.DataFrame | None = None
    words: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether it shows an image."""
        return bool(self.parts)


@dataclass(frozen=True)
class Part:
    """The images of one kind."""

    title: str
    words: str
    cases: list[Case]


def make_gallery(judged: Judged, store: Store, settings: EvaluateSettings, read: dict[int, Floats]) -> Gallery:
    """The gallery of a model and target; an empty one without a threshold.

    Args:
        read: features of the model by row of the store, as far as they were read; grows.
    """
    if judged.threshold is None:
        return Gallery([])
    chosen = chosen_images(judged.labels, judged.scores, judged.threshold)
    groups = {
        name: as_groups(values).filter(pl.Series(judged.table.known)) for name, values in judged.table.groups.items()
    }
    listed = [(kind, *WORDS[kind], places) for kind, places in chosen.items()]
    for name, values in groups.items():
        listed += _of_groups(name, values, judged)
    places = np.unique(np.concatenate([part[-1] for part in listed]))
    near = _neighbours(judged, store, places, settings, read)
    cases = {position: _case(position, judged, store, groups, near.get(position, [])) for position in places.tolist()}
    words: list[str] = []
    if settings.maps:
        looks, words = draw_looks(judged, store, [case.row for case in cases.values()], settings)
        cases = {position: replace(case, looked=looks[case.row]) for position, case in cases.items()}
    parts = [Part(title, text, [cases[position] for position in some]) for _, title, text, some in listed if len(some)]
    return Gallery(parts, _table(judged, store, chosen), words)


def chosen_images(
    labels: NDArray[np.int8], scores: Floats, threshold: float, most: int = MOST
) -> dict[str, NDArray[np.intp]]:
    """Kind -> places of at most `most` images (N,): errors farthest from the threshold first, and the images nearest to it.

    >>> chosen = chosen_images(np.array([1, 1, 0, 0]), np.array([0.1, 0.3, 0.9, 0.4]), threshold=0.5, most=1)
    >>> {kind: places.tolist() for kind, places in chosen.items()}
    {'false negative': [0], 'false positive': [2], 'borderline': [3]}
    """
    called, rising = scores >= threshold, np.argsort(scores, kind="stable")
    missed, alarms = (labels == 1) & ~called, (labels == 0) & called
    nearest = np.argsort(np.abs(scores - threshold), kind="stable")
    orders = (rising[missed[rising]], rising[::-1][alarms[rising[::-1]]], nearest)
    return {kind: order[:most] for kind, order in zip(WORDS, orders, strict=True)}


def _of_groups(name: str, values: pl.Series, judged: Judged) -> list[tuple[str, str, str, NDArray[np.intp]]]:
    """The most certain errors of each group of a column, in one part a column."""
    some: list[NDArray[np.intp]] = []
    for group in values.drop_nulls().unique().sort():
        inside = (values == group).fill_null(False).arg_true().to_numpy()
        labels, scores = judged.labels[inside], judged.scores[inside]
        kinds = chosen_images(labels, scores, judged.threshold or 0.0, OF_GROUP)
        some += [inside[kinds[kind]] for kind in ("false negative", "false positive")]
    words = f"the {OF_GROUP} most certain misses and false alarms of each group"
    return [("group", f"Errors by {name}", words, np.concatenate(some) if some else np.empty(0, np.intp))]


def _case(position: int, judged: Judged, store: Store, groups: dict[str, pl.Series], near: list[Neighbour]) -> Case:
    row, p = int(judged.rows[position]), judged.probabilities
    probability = "" if p is None else f", probability {fmt.share(float(p[position]))}"
    described = [f"{name} {values[position]}" for name, values in groups.items() if values[position] is not None]
    scored = f"score {fmt.threshold(float(judged.scores[position]))}{probability}"
    return Case(
        row, picture(store.pixels(row)), LABELS[int(judged.labels[position])], scored, ", ".join(described), near
    )


def _neighbours(
    judged: Judged, store: Store, places: NDArray[np.intp], settings: EvaluateSettings, read: dict[int, Floats]
) -> dict[int, list[Neighbour]]:
    """Place -> the nearest labelled training images of other patients; nothing where the store has none."""
    target = judged.answers.target
    references = target.known("train")
    if not len(references):
        return {}
    if len(references) > REFERENCES:
        references = np.sort(np.random.default_rng(settings.seed).choice(references, REFERENCES, replace=False))
    rows = judged.rows[places]
    head = judged.answers.model.ensemble.members[0].heads[judged.answers.position]
    read_features(judged.answers.model, store, np.concatenate([rows, references]), settings.device, read)
    features = (np.stack([read[row] for row in np.concatenate([rows, references]).tolist()]) - head.mean) / head.scale
    patients = store.columns("patient")["patient"].to_numpy()
    near = nearest(features[: len(rows)], features[len(rows) :], patients[rows], patients[references])
    shown = {
        i: Neighbour(row := int(references[i]), picture(store.pixels(row), SMALL), LABELS[int(target.labels[row])])
        for i in np.unique(np.concatenate(near)).tolist()
    }
    return {position: [shown[i] for i in order.tolist()] for position, order in zip(places.tolist(), near, strict=True)}


def nearest(
    asked: Floats, references: Floats, patients: NDArray, of_references: NDArray, count: int = NEAREST
) -> list[NDArray[np.intp]]:
    """The `count` references (M, D) nearest to each image asked for (N, D), the nearest first, none of the same patient."""
    orders = []
    for feature, patient in zip(asked, patients, strict=True):
        others = np.flatnonzero(of_references != patient)
        distances = ((references[others] - feature) ** 2).sum(axis=1)
        orders.append(others[np.argsort(distances, kind="stable")[:count]])
    return orders


def read_features(model: Model, store: Store, rows: NDArray[np.int64], device: str, read: dict[int, Floats]) -> None:
    """Add to `read` what the heads of the model's first checkpoint are given of these rows and was not read: (D,) each."""
    load_member(model.ensemble.encoders, model.ensemble.members[0])
    missing = [row for row in dict.fromkeys(rows.tolist()) if row not in read]
    used = pick_device(device)
    with console.progress("neighbours", len(missing)) as bar:
        for start in range(0, len(missing), BLOCK):
            some = missing[start : start + BLOCK]
            features = model.ensemble.features([model.frames_of(store.pixels(row)) for row in some], used)
            read.update(zip(some, features.astype(np.float64), strict=True))
            bar.advance(len(some))


def _table(judged: Judged, store: Store, chosen: dict[str, NDArray[np.intp]]) -> pl.DataFrame:
    """`target, kind, rank, row, path, patient, label, score` of the images that are shown of each kind."""
    index = store.columns("path", "patient")
    rows = [
        (judged.answers.target.name, kind, rank + 1, int(judged.rows[position]), *index.row(int(judged.rows[position])),
         int(judged.labels[position]), float(judged.scores[position]))
        for kind, places in chosen.items()
        for rank, position in enumerate(places.tolist())
    ]  # fmt: skip
    names = {"target": pl.String, "kind": pl.String, "rank": pl.Int64, "row": pl.Int64, "path": pl.String}
    names |= {"patient": pl.String, "label": pl.Int8, "score": pl.Float64}
    return pl.DataFrame(rows, schema=names, orient="row")
