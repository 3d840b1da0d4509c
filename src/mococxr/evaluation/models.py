"""`evaluate MODEL... STORE`: models scored on one split of a store, measured beside each other, with a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.classifier.overlap import HELD, overlap_words
from mococxr.classifier.predict import run_predict, targets_of
from mococxr.classifier.saved import Model, columns_of, load_model, threshold_of
from mococxr.errors import InputError
from mococxr.evaluation.evaluate import label_block
from mococxr.evaluation.gallery import Gallery, make_gallery
from mococxr.evaluation.page import write_page
from mococxr.evaluation.predictions import Floats, PredictionFile, Table
from mococxr.evaluation.summary import summary
from mococxr.files import claim, write_csv, write_json
from mococxr.measure import comparison, operating
from mococxr.measure.measures import Block, Resampling
from mococxr.measure.operating import ThresholdRule
from mococxr.measure.subgroups import MAX_GROUPS, USUAL, as_groups
from mococxr.settings import PredictSettings
from mococxr.settings.fields import flag, nearest
from mococxr.store import Store

if TYPE_CHECKING:
    from mococxr.heads.targets import Target
    from mococxr.settings import EvaluateSettings

PAGE = "evaluation.html"
OF_TABLES = (
    "label", "score", "patient", "study", "key", "unit", "against", "unpaired", "validation", "threshold", "reader",
    "calibration", "calibrate",
)  # fmt: skip
"""Settings that say of a table what a model and a store say themselves."""


@dataclass(frozen=True)
class Answers:
    """A model and one of its targets.

    Args:
        model_name: of the model.
        position: of the target among those of the model.
        target: how the model reads the labels of the store.
        file: its table of scores.
        several: whether any model of the evaluation has several targets.
    """

    model_name: str
    model: Model
    position: int
    target: Target
    file: Path
    several: bool

    @property
    def name(self) -> str:
        """Of the model, and of the target where models have several."""
        return f"{self.model_name}: {self.target.name}" if self.several else self.model_name

    @property
    def record(self) -> Block:
        """What `model.json` says of the target."""
        return dict(self.model.record["targets"][self.position])

    @property
    def columns(self) -> list[str]:
        """Of its table: label, score, calibrated probability."""
        return columns_of(self.model.targets, "label", "score", "calibrated")[self.position]


@dataclass(frozen=True)
class Judged:
    """A model's answers to one target on the labelled images of a split, N of them.

    Args:
        answers: whose they are.
        table: its scores; rows without a label are in it too.
        rows: of the store, (N,).
        labels, scores: 1 or 0, and the model's own, (N,).
        probabilities: calibrated, (N,); None where the model has no calibration of the target.
        block: what was measured.
    """

    answers: Answers
    table: Table
    rows: NDArray[np.int64]
    labels: NDArray[np.int8]
    scores: Floats
    patients: NDArray[np.intp]
    probabilities: Floats | None
    block: Block

    @property
    def name(self) -> str:
        """Of the model, and of the target where models have several."""
        return self.answers.name

    @property
    def threshold(self) -> float | None:
        """Of the score."""
        return threshold_of(self.answers.record)


def run_models(settings: EvaluateSettings) -> Block:
    """Score each model, measure each of its targets, compare it with the first model, and write tables, numbers and page.

    Returns:
        What `evaluation.json` holds.

    Raises:
        InputError: a setting for tables, no model, no store, or a split without both classes; nothing was written.
    """
    folders, store = _models_and_store(settings)
    out = settings.out or folders[0].with_name(f"{folders[0].resolve().name}.evaluation")
    claim(out, PAGE, "an evaluation")
    models = dict(zip(_names(folders), map(load_model, folders), strict=True))
    answers = _answers(models, store, out)
    unjudged = _without_both_classes(answers, store, settings.split)
    columns = _columns(store, settings)
    for folder, name in zip(folders, models, strict=True):
        run_predict(
            PredictSettings(
                model=folder, images=(store.path,), out=_file(out, name), split=settings.split, device=settings.device,
                jobs=settings.jobs,
            )
        )  # fmt: skip
    judged: list[Judged] = []
    for answer in (each for each in answers if each.name not in unjudged):
        alike = (each for each in judged if not answer.several or each.answers.target.name == answer.target.name)
        judged.append(_judged(answer, store, columns, next(alike, None), settings))
    compared = [entry.block["comparison"] for entry in judged if entry.block["comparison"]]
    comparison.adjust(compared)
    result: Block = {
        "store": store.path.resolve().name, "split": settings.split,
        "models": [{"model": entry.answers.model_name, **entry.block} for entry in judged],
        "notes": list(dict.fromkeys([*unjudged.values(), *(note for entry in judged for note in entry.block["notes"])])),
    }  # fmt: skip
    galleries = _galleries(judged, store, settings, out)
    for path in (out / "evaluation.json", settings.json):
        if path is not None:
            write_json(path, result)
    write_page(out / PAGE, judged, galleries, result, store, settings)
    console.result(summary(result))
    for note in result["notes"]:
        console.warn(note)
    console.say(f"{out / PAGE}" + (": it shows images; keep it in the house" if any(galleries) else ""))
    return result


def _models_and_store(settings: EvaluateSettings) -> tuple[list[Path], Store]:
    """The folders by position, sorted out.

    Raises:
        InputError: a setting for tables, not one store, or no model.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    if stray := [name for name in OF_TABLES if getattr(settings, name) != defaults[name]]:
        raise InputError(
            f"{flag(stray[0])} is for a table of predictions; a model and a store say it themselves.", "Leave it out."
        )
    if settings.maps and not settings.gallery:
        raise InputError("--maps is for the images of the gallery.", "Leave --no-gallery out, or --maps.")
    stores = [path for path in settings.predictions if (path / "manifest.json").is_file()]
    folders = [path for path in settings.predictions if path not in stores]
    if len(stores) != 1 or not folders:
        raise InputError(
            f"{len(folders)} models and {len(stores)} stores cannot be evaluated.",
            "Name one model or more (made by `fit`) and one store (made by `prepare`).",
        )
    return folders, Store.open(stores[0])


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path; numbered where two would be the same."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [f"{i + 1}-{name}" for i, name in enumerate(names)]


def _file(out: Path, name: str) -> Path:
    return out / f"{name}.csv"


def _answers(models: dict[str, Model], store: Store, out: Path) -> list[Answers]:
    """Every model with every target of it."""
    several = any(len(model.targets) > 1 for model in models.values())
    return [
        Answers(name, model, position, target, _file(out, name), several)
        for name, model in models.items()
        for position, target in enumerate(targets_of(model, store))
    ]


def _without_both_classes(answers: Sequence[Answers], store: Store, split: str) -> dict[str, str]:
    """Name -> why it cannot be judged.

    Raises:
        InputError: none can.
    """
    reasons = {}
    for answer in answers:
        labels = answer.target.labels[store.rows_in(split)]
        counts = [int((labels == label).sum()) for label in (1, 0)]
        if 0 in counts:
            words = f"the {split} images of {store.path} are {counts[0]} positive and {counts[1]} negative."
            reasons[answer.name] = f"{answer.target.name}: {words}"
    if len(reasons) == len(answers):
        raise InputError(next(iter(reasons.values())), "Both are needed: label more images, or take another --split.")
    return {name: f"{reason} It is not judged." for name, reason in reasons.items()}


def _columns(store: Store, settings: EvaluateSettings) -> dict[str, pl.Series]:
    """Column of subgroups -> its value for each image of the split."""
    index, rows = store.index, store.rows_in(settings.split)
    if unknown := [name for name in settings.subgroup if name not in index.columns]:
        raise InputError(
            f"--subgroup {unknown[0]}: no such column in {store.path}.", nearest(unknown[0], index.columns)
        )
    usual = [name for name in USUAL if name in index.columns]
    values = {name: index[name].gather(rows) for name in settings.subgroup or usual}
    if settings.subgroup:
        return values
    counts = {name: as_groups(series).drop_nulls().n_unique() for name, series in values.items()}
    return {name: series for name, series in values.items() if 2 <= counts[name] <= MAX_GROUPS}


def _judged(
    answers: Answers, store: Store, columns: dict[str, pl.Series], first: Judged | None, settings: EvaluateSettings
) -> Judged:
    """What a model says of a target and what that is worth; beside the first model, where both have the same labels."""
    label, score, calibrated = answers.columns
    table = PredictionFile.read(answers.file).table(label, score, "patient", "path")
    known, threshold = table.known, threshold_of(answers.record)
    groups = {name: values for name, values in columns.items() if as_groups(values.filter(known)).n_unique() > 1}
    table = replace(table, label=answers.target.name, groups=groups)
    alike = first is not None and np.array_equal(table.labels, first.table.labels, equal_nan=True)
    rule = None if threshold is None else ThresholdRule("given", threshold)
    probabilities = None
    if not answers.record["calibration"]["reason"]:
        probabilities = pl.read_csv(answers.file)[calibrated].cast(pl.Float64).to_numpy()[known]
    how = Resampling(settings.replicates, settings.seed, settings.level, settings.bootstrap, settings.stratify)
    stated = replace(settings, patient="patient", key="path")
    second = first.table if first and alike else None
    block = label_block(table, second, None, score, rule, stated, how, probabilities)
    rows = table.rows()
    judged = Judged(
        answers, table, store.rows_in(settings.split)[known], rows.labels.astype(np.int8), rows.scores, rows.patients,
        probabilities, block,
    )  # fmt: skip
    block["notes"] = [
        *_seen_before(answers, settings.split),
        *_seen_unlabelled(answers, store, settings.split),
        *block["notes"],
    ]
    if first and not alike:
        block["notes"].append(f"{answers.name} is not compared with {first.name}: they were judged by other labels.")
    elif first and (point := block["operating_point"]):
        point["difference"] = _at_thresholds(judged, first, settings.level)
    if answers.several:
        block["notes"] = [f"{answers.target.name}: {note}" for note in block["notes"]]
    return judged


def _galleries(judged: Sequence[Judged], store: Store, settings: EvaluateSettings, out: Path) -> list[Gallery]:
    """The images of each, and the tables of them, one a model."""
    galleries: list[Gallery] = []
    errors: dict[str, list[pl.DataFrame]] = {}
    read: dict[str, dict[int, Floats]] = {entry.answers.model_name: {} for entry in judged}
    for entry in judged:
        name = entry.answers.model_name
        gallery = make_gallery(entry, store, settings, read[name]) if settings.gallery else Gallery([])
        galleries.append(gallery)
        errors.setdefault(name, []).extend([] if gallery.errors is None else [gallery.errors])
    for name, tables in errors.items():
        if tables:
            write_csv(out / f"{name}.errors.csv", pl.concat(tables))
    return galleries


def _at_thresholds(judged: Judged, first: Judged, level: float) -> Block | None:
    """Sensitivity and specificity less those of the first model, each at its own threshold."""
    if judged.threshold is None or first.threshold is None:
        return None
    thresholds = judged.threshold, first.threshold
    return dict(
        operating.paired_blocks(judged.labels, (judged.scores, first.scores), thresholds, judged.patients, level)
    )


def _seen_unlabelled(answers: Answers, store: Store, split: str) -> list[str]:
    """Warnings where the model's encoder saw the images that judge it, or may have."""
    return overlap_words(answers.model.record["encoders"], store.source, [split] if split in HELD else [])


def _seen_before(answers: Answers, split: str) -> list[str]:
    """A warning where the model has seen the labels that judge it."""
    if split == "train":
        return [f"{answers.name} may have learned from these images: its numbers are no test."]
    used = answers.record["validation_used_for"] if split == "val" else []
    return [f"{answers.name} has its {' and '.join(used)} from these images: see them on others."] if used else []
