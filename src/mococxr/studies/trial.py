"""One trial: train on its draw, score the test images and the validation images, write predictions and a record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.encoders import Encoder, EncoderSource, open_encoder
from mococxr.errors import UndefinedError
from mococxr.features import features
from mococxr.files import write_json, write_parquet
from mococxr.heads import is_closed_form, train_classifier
from mococxr.heads.classifier import FitResult, TrainConfig, TrainData, member_scores
from mococxr.heads.targets import Target
from mococxr.results import UNDEFINED
from mococxr.store import Store
from mococxr.studies.plan import Draw, Trial


@dataclass(frozen=True)
class Images:
    """Images of one store that a study reads.

    Args:
        targets: what each target makes of the store's labels.
        rows: the rows whose features the study needs, sorted.
    """

    store: Store
    targets: dict[str, Target]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Work:
    """What all trials of a study share; it travels to other processes.

    Args:
        train: the images that train and validate.
        test: those that are judged; the same object where one store holds both.
        sources: encoder of each (arm, run index).
        features: file of the rows' features for each (arm, run index, sha256 of the store); empty where no
            head is solved.
    """

    out: Path
    train: Images
    test: Images
    sources: dict[tuple[str, int], EncoderSource]
    features: dict[tuple[str, int, str], Path]
    config: TrainConfig


Scores = Callable[[Images, NDArray[np.int64]], NDArray[np.float64]]
"""Images and rows of them -> probabilities."""


def record_path(out: Path, trial: str) -> Path:
    """Where the record of a trial lies; it is written last, so that it says that the trial is whole."""
    return out / "trials" / f"{trial}.json"


def predictions_path(out: Path, trial: str) -> Path:
    """Where the test predictions of a trial lie."""
    return out / "predictions" / f"{trial}.parquet"


def validation_path(out: Path, trial: str) -> Path:
    """Where a trial's scores of the validation images lie, in the columns of its predictions."""
    return out / "validation" / f"{trial}.parquet"


def do_trial(work: Work, trial: Trial, draw: Draw) -> dict[str, Any]:
    """Do one trial and write it down: scores first, then the record. `results` measures them.

    `validation_images` counts the validation labels that training looked at; `validation_scored` the images whose
    scores are kept, from which calibration and threshold are chosen afterwards.
    """
    started = time.perf_counter()
    rows = np.array(draw.rows, dtype=np.int64)
    record = {**dataclasses.asdict(trial), **_counts(work.train, trial.target, rows)}
    record.update(status="done", notes=[], validation_images=0, validation_scored=0)
    try:
        if draw.undefined:
            raise UndefinedError(draw.undefined)
        judged = work.test.targets[trial.target]
        _check_test(judged)
        result, scores_of = _train(work, trial, rows)
        record.update(notes=list(result.notes), validation_images=result.validation_images)
        val = work.train.targets[trial.target].val
        if len(val):
            table = _predictions(work.train, trial.target, val, scores_of(work.train, val))
            write_parquet(validation_path(work.out, trial.id), table)
            record["validation_scored"] = len(val)
        table = _predictions(work.test, trial.target, judged.test, scores_of(work.test, judged.test))
        write_parquet(predictions_path(work.out, trial.id), table)
    except UndefinedError as error:
        record["status"] = f"{UNDEFINED}{error}"
    record["seconds"] = round(time.perf_counter() - started, 3)
    write_json(record_path(work.out, trial.id), record)
    return record


def _counts(images: Images, target: str, rows: NDArray[np.int64]) -> dict[str, int]:
    return {
        "train_images": len(rows),
        "train_patients": images.store.index["patient"][rows].n_unique(),
        "train_positives": int((images.targets[target].labels[rows] == 1).sum()),
    }


def _check_test(target: Target) -> None:
    positives = int((target.labels[target.test] == 1).sum())
    for count, word in ((positives, "positive"), (len(target.test) - positives, "negative")):
        if not count:
            raise UndefinedError(f"none of the {len(target.test)} labelled test images is {word}")


def _predictions(
    images: Images, target: str, rows: NDArray[np.int64], scores: NDArray[np.float64]
) -> pl.DataFrame:
    labels = pl.Series(images.targets[target].labels[rows], dtype=pl.Int8)
    about = images.store.index.select("path", "patient", "study")[rows]
    return about.with_columns(label=labels, score=pl.Series(scores, dtype=pl.Float64))


def _train(work: Work, trial: Trial, rows: NDArray[np.int64]) -> tuple[FitResult, Scores]:
    """The trained classifier, and what gives its scores of other images (asked for after all training)."""
    source, size = (
        work.sources[trial.arm, trial.run_index],
        work.sources[trial.arm, trial.run_index].spec.size,
    )
    config = dataclasses.replace(work.config, mode=trial.mode)

    def features_of(images: Images, wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        kept = np.load(work.features[trial.arm, trial.run_index, images.store.sha256], mmap_mode="r")
        return np.asarray(kept[np.searchsorted(images.rows, wanted)])

    data = TrainData(
        work.train.store, work.train.targets[trial.target], rows, size,
        lambda: open_encoder(source, config.seed), partial(features_of, work.train),
    )  # fmt: skip
    result = train_classifier(data, config)

    def scores_of(images: Images, wanted: NDArray[np.int64]) -> NDArray[np.float64]:
        if is_closed_form(trial.mode, config):  # the encoder is as it was: its features are there
            return result.members[0].head.scores(features_of(images, wanted))

        def features_by(member: Encoder) -> NDArray[np.float32]:
            return features(
                member, images.store, wanted, size=size, frame=config.frame, device=config.device, label=None
            )

        return member_scores(open_encoder(source, config.seed), result.members, features_by)

    return result, scores_of
