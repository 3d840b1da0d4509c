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
from mococxr.classifier.predict import run_predict, target_of
from mococxr.classifier.saved import Model, load_model, threshold_of
from mococxr.errors import InputError
from mococxr.evaluation.evaluate import label_block
from mococxr.evaluation.gallery import Part, make_gallery
from mococxr.evaluation.page import to_html
from mococxr.evaluation.predictions import Floats, PredictionFile, Table
from mococxr.evaluation.summary import summary
from mococxr.files import atomic_write, claim, write_csv, write_json
from mococxr.measure import comparison, operating
from mococxr.measure.measures import Block, Resampling
from mococxr.measure.operating import ThresholdRule
from mococxr.measure.subgroups import MAX_GROUPS, USUAL, as_groups
from mococxr.settings import PredictSettings
from mococxr.settings.fields import flag, nearest
from mococxr.store import Store

if TYPE_CHECKING:
    from mococxr.settings import EvaluateSettings

PAGE = "evaluation.html"
OF_TABLES = (
    "label", "score", "patient", "study", "key", "unit", "against", "unpaired", "validation", "threshold", "reader",
    "calibration", "calibrate",
)  # fmt: skip
"""Settings that say of a table what a model and a store say themselves."""


@dataclass(frozen=True)
class Judged:
    """A model's answers on the labelled images of a split, N of them.

    Args:
        name: of the model.
        table: its scores; rows without a label are in it too.
        rows: of the store, (N,).
        labels, scores: 1 or 0, and the model's own, (N,).
        probabilities: calibrated, (N,); None where the model has no calibration.
        block: what was measured.
    """

    name: str
    model: Model
    table: Table
    rows: NDArray[np.int64]
    labels: NDArray[np.int8]
    scores: Floats
    patients: NDArray[np.intp]
    probabilities: Floats | None
    block: Block

    @property
    def threshold(self) -> float | None:
        """Of the score."""
        return threshold_of(self.model.record)


def run_models(settings: EvaluateSettings) -> Block:
    """Score each model, measure it, compare it with the first, and write tables, numbers and page.

    Returns:
        What `evaluation.json` holds.

    Raises:
        InputError: a setting for tables, no model, no store, or a split without both classes; nothing was written.
    """
    folders, store = _models_and_store(settings)
    out = settings.out or folders[0].with_name(f"{folders[0].resolve().name}.evaluation")
    claim(out, PAGE, "an evaluation")
    models = dict(zip(_names(folders), map(load_model, folders), strict=True))
    for model in models.values():
        _check_labels(store, model, settings.split)
    columns = _columns(store, settings)
    judged: list[Judged] = []
    for folder, (name, model) in zip(folders, models.items(), strict=True):
        file = out / f"{name}.csv"
        run_predict(
            PredictSettings(
                model=folder, images=(store.path,), out=file, split=settings.split, device=settings.device,
                jobs=settings.jobs,
            )
        )  # fmt: skip
        judged.append(_judged(name, model, file, store, columns, judged[0] if judged else None, settings))
    compared = [one.block["comparison"] for one in judged if one.block["comparison"]]
    comparison.adjust(compared)
    result: Block = {
        "store": store.path.resolve().name, "split": settings.split,
        "models": [{"model": one.name, **one.block} for one in judged],
        "notes": list(dict.fromkeys(note for one in judged for note in one.block["notes"])),
    }  # fmt: skip
    galleries: list[list[Part]] = []
    for one in judged:
        parts, errors = make_gallery(one, store, settings) if settings.gallery else ([], None)
        galleries.append(parts)
        if errors is not None:
            write_csv(out / f"{one.name}.errors.csv", errors)
    for path in (out / "evaluation.json", settings.json):
        if path is not None:
            write_json(path, result)
    atomic_write(out / PAGE, to_html(judged, galleries, result, store, settings))
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


def _check_labels(store: Store, model: Model, split: str) -> None:
    target = target_of(model, store)
    labels = target.labels[store.rows_in(split)]
    counts = [int((labels == label).sum()) for label in (1, 0)]
    if 0 in counts:
        raise InputError(
            f"{target.name}: the {split} images of {store.path} are {counts[0]} positive and {counts[1]} negative.",
            "Both are needed: label more images, or take another --split.",
        )


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
    name: str, model: Model, file: Path, store: Store, columns: dict[str, pl.Series], first: Judged | None,
    settings: EvaluateSettings,
) -> Judged:  # fmt: skip
    """What one model says and what that is worth; beside the first, where both have the same labels."""
    table = PredictionFile.read(file).table("label", "score", "patient", "path")
    known, target, threshold = table.known, model.record["target"], threshold_of(model.record)
    groups = {name: values for name, values in columns.items() if as_groups(values.filter(known)).n_unique() > 1}
    table = replace(table, label=target, groups=groups)
    alike = first is not None and np.array_equal(table.labels, first.table.labels, equal_nan=True)
    rule = None if threshold is None else ThresholdRule("given", threshold)
    calibrated = pl.read_csv(file)["calibrated"].cast(pl.Float64).to_numpy()[known]
    probabilities = None if model.record["calibration"]["reason"] else calibrated
    how = Resampling(settings.replicates, settings.seed, settings.level, settings.bootstrap, settings.stratify)
    stated = replace(settings, patient="patient", key="path")
    second = first.table if first and alike else None
    block = label_block(table, second, None, "score", rule, stated, how, probabilities)
    rows = table.rows()
    judged = Judged(
        name, model, table, store.rows_in(settings.split)[known], rows.labels.astype(np.int8), rows.scores,
        rows.patients, probabilities, block,
    )  # fmt: skip
    block["notes"] = [*_seen_before(judged, settings.split), *block["notes"]]
    if first and not alike:
        block["notes"].append(f"{name} is not compared with {first.name}: they were judged by other labels.")
    elif first and (point := block["operating_point"]):
        point["difference"] = _at_thresholds(judged, first, settings.level)
    return judged


def _at_thresholds(judged: Judged, first: Judged, level: float) -> Block | None:
    """Sensitivity and specificity less those of the first model, each at its own threshold."""
    if judged.threshold is None or first.threshold is None:
        return None
    thresholds = judged.threshold, first.threshold
    return dict(
        operating.paired_blocks(judged.labels, (judged.scores, first.scores), thresholds, judged.patients, level)
    )


def _seen_before(judged: Judged, split: str) -> list[str]:
    """A warning where the model has seen the labels that judge it."""
    record = judged.model.record
    if split == "train":
        return [f"{judged.name} may have learned from these images: its numbers are no test."]
    used = record["validation_used_for"] if split == "val" else []
    return [f"{judged.name} has its {' and '.join(used)} from these images: see them on others."] if used else []
