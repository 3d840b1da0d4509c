"""One trial: train on its label subset, score test and validation images, write predictions and a record.

Features of frozen encoders are kept in STUDY/features (`feature_cache`), so that a study that goes on, or grows by a mode
or an arm, reads no image twice.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.encoders import Encoder, EncoderSource, Parts, open_encoder
from mococxr.errors import UndefinedError
from mococxr.feature_cache import FeatureCache, counts_words, keys_of, read_features
from mococxr.features import features, state_hash
from mococxr.files import write_json, write_parquet
from mococxr.heads import MODES, train_classifier
from mococxr.heads.classifier import FitResult, TrainConfig, TrainData, member_scores
from mococxr.heads.scaling import Scaling, beside, scaling_of
from mococxr.results import UNDEFINED
from mococxr.studies.design import TargetData, Trial
from mococxr.studies.feature_table import KIND, table_features
from mococxr.studies.label_subsets import Draw

Rows = NDArray[np.int64]
Key = tuple[str, int, int, str]
"""Arm, run index, part and sha256 of the store."""
Scores = Callable[[TargetData, Rows], NDArray[np.float64]]
"""Images and rows of them -> probabilities."""


@dataclass(frozen=True)
class ReadFeatures:
    """The features of one encoder on the images of one store.

    Args:
        file: as `feature_cache` writes it.
        scaling: what trials standardise them by, worked out once; None where each does it by its labelled rows.
    """

    file: Path
    scaling: Scaling | None


@dataclass(frozen=True)
class TrialContext:
    """What all trials of a study share; it travels to other processes.

    Args:
        train: the images that train and validate.
        test: those that are scored; the same object where one store holds both.
        sources: encoders of each (arm, run index): one, or several whose features stand side by side.
        features: the rows' features for each (arm, run index, part, sha256 of the store), `part` counting the encoders
            side by side; empty where no head is solved.
        cache: where they are kept.
        config: how classifiers learn.
        solved: an arm whose head is solved whatever `config` says: the baseline that the study adds.
    """

    out: Path
    train: TargetData
    test: TargetData
    sources: Mapping[tuple[str, int], Parts]
    features: dict[Key, ReadFeatures]
    cache: FeatureCache
    config: TrainConfig
    solved: str | None = None

    def config_of(self, trial: Trial) -> TrainConfig:
        """How the classifier of one trial learns."""
        solver = "lbfgs" if trial.arm == self.solved else self.config.linear_solver
        return dataclasses.replace(self.config, mode=trial.mode, linear_solver=solver)


@dataclass(frozen=True)
class FeatureJob:
    """One pass of a frozen encoder over the images of one store.

    Args:
        source: the encoder.
        encoder: hash of its weights and of how images reach them.
        store: sha256 of the store.
        keys: the arms that it is for, as `TrialContext.features` has them.
    """

    source: EncoderSource
    encoder: str
    store: str
    keys: tuple[Key, ...]

    @property
    def arm(self) -> str:
        """The first arm that it is for."""
        return self.keys[0][0]


def encoder_hashes(sources: Mapping[tuple[str, int], Parts], seed: int) -> dict[str, tuple[str, ...]]:
    """`arm/run index` -> of each part a hash of the weights (of a table: of its file) and of how images reach them."""

    @cache
    def weights(source: EncoderSource) -> str:
        return state_hash(open_encoder(source, seed)) if source.kind != KIND else next(iter(source.hashes().values()))

    return {
        f"{arm}/{i}": tuple(f"{weights(source)} {source.spec}" for source in parts)
        for (arm, i), parts in sources.items()
    }


def feature_jobs(
    context: TrialContext, todo: Sequence[tuple[Trial, Draw]], hashes: Mapping[str, tuple[str, ...]]
) -> list[FeatureJob]:
    """The features that these trials need, each once, whatever arms share an encoder; `hashes` as `encoder_hashes`."""
    jobs: dict[tuple[str, str], FeatureJob] = {}
    for trial, draw in todo:
        if draw.undefined or not MODES[trial.mode].reads_features(context.config_of(trial)):
            continue
        parts = context.sources[trial.arm, trial.run_index]
        for part, (source, encoder) in enumerate(zip(parts, hashes[f"{trial.arm}/{trial.run_index}"], strict=True)):
            for store in (context.train.store.sha256, context.test.store.sha256):
                job = jobs.setdefault((encoder, store), FeatureJob(source, encoder, store, ()))
                key = (trial.arm, trial.run_index, part, store)
                if key not in job.keys:
                    jobs[encoder, store] = dataclasses.replace(job, keys=(*job.keys, key))
    return list(jobs.values())


def reading_words(context: TrialContext, jobs: Sequence[FeatureJob]) -> str:
    """How many images are read and how many come from the cache; an image counts once for each encoder."""
    for job in jobs:
        _cache(context, job).inherit(*_keys(context, job))
    asked = {_key(context, job): (_cache(context, job), _data(context, job).rows) for job in jobs}
    anew = sum(len(cache.missing(key, rows)) for key, (cache, rows) in asked.items())
    kept = sum(len(rows) for _, rows in asked.values()) - anew
    return counts_words(anew, kept)


def extract_features(context: TrialContext, job: FeatureJob, label: str | None = None) -> ReadFeatures:
    """A job's features of `TargetData.rows`; those are computed that are not kept yet.

    Args:
        label: what the progress line is called; None shows none.
    """
    config, source, data = context.config, job.source, _data(context, job)

    def make(rows: Rows) -> NDArray[np.float32]:
        if source.kind == KIND:
            return table_features(source, data.store, rows)
        return features(
            open_encoder(source, config.seed), data.store, rows,
            size=source.spec.size, crop_mode=config.crop_mode, device=config.device, label=label,
        )  # fmt: skip

    file = _cache(context, job).add(_key(context, job), data.rows, make)
    by = data.scaling_rows
    return ReadFeatures(file, scaling_of(read_features(file, by)) if len(by) else None)


def _data(context: TrialContext, job: FeatureJob) -> TargetData:
    return context.train if context.train.store.sha256 == job.store else context.test


def _cache(context: TrialContext, job: FeatureJob) -> FeatureCache:
    """A table of features is as quickly read as a shared file."""
    table = job.source.kind == KIND
    return dataclasses.replace(context.cache, shared=None) if table else context.cache


def _key(context: TrialContext, job: FeatureJob) -> str:
    return _keys(context, job)[0]


def _keys(context: TrialContext, job: FeatureJob) -> tuple[str, list[str]]:
    """The key of a job's features, and those that they had before images were added to the store, the latest first."""
    store, table = _data(context, job).store, job.source.kind == KIND
    # a table knows images by their paths
    states = [store.sha256] if table else [store.images_sha256, *store.images_before]
    return keys_of(job.encoder, states, context.config.crop_mode, context.config.device)


def record_path(out: Path, trial: str) -> Path:
    """Where the record of a trial lies; it is written last, so that it says that the trial is whole."""
    return out / "trials" / f"{trial}.json"


def predictions_path(out: Path, trial: str) -> Path:
    """Where the test predictions of a trial lie."""
    return out / "predictions" / f"{trial}.parquet"


def validation_path(out: Path, trial: str) -> Path:
    """Where a trial's scores of the validation images lie, in the columns of its predictions."""
    return out / "validation" / f"{trial}.parquet"


def do_trial(context: TrialContext, trial: Trial, draw: Draw) -> dict[str, Any]:
    """Do one trial and write it down: scores first, then the record. `results` measures them.

    `validation_images` counts the validation labels that training looked at; `validation_scored` the images whose
    scores are kept, from which calibration and threshold are chosen afterwards.
    """
    started = time.perf_counter()
    rows = np.array(draw.rows, dtype=np.int64)
    record: dict[str, Any] = {
        **dataclasses.asdict(trial),
        "train_images": len(rows),
        "train_patients": context.train.store.index["patient"][rows].n_unique(),
        "train_positives": int((context.train.targets[trial.target].labels[rows] == 1).sum()),
    }
    record.update(status="done", notes=[], validation_images=0, validation_scored=0)
    try:
        if draw.undefined:
            raise UndefinedError(draw.undefined)  # recorded as a trial, so that it is counted and not tried again
        tested = context.test.targets[trial.target]
        positives = int((tested.labels[tested.test] == 1).sum())
        for count, word in ((positives, "positive"), (len(tested.test) - positives, "negative")):
            if not count:  # before training, which would be for nothing
                raise UndefinedError(f"none of the {len(tested.test)} labelled test images is {word}")
        result, scores_of = _train(context, trial, rows)
        record.update(notes=list(result.notes), validation_images=result.validation_images)
        val = context.train.targets[trial.target].val
        if len(val):  # calibration and threshold are chosen from these when the study is measured
            table = _predictions(context.train, trial.target, val, scores_of(context.train, val))
            write_parquet(validation_path(context.out, trial.id), table)
            record["validation_scored"] = len(val)
        table = _predictions(context.test, trial.target, tested.test, scores_of(context.test, tested.test))
        write_parquet(predictions_path(context.out, trial.id), table)
    except UndefinedError as error:
        record["status"] = f"{UNDEFINED}{error}"
    record["seconds"] = round(time.perf_counter() - started, 3)
    write_json(record_path(context.out, trial.id), record)  # last: it says that the trial is whole
    return record


def _predictions(data: TargetData, target: str, rows: Rows, scores: NDArray[np.float64]) -> pl.DataFrame:
    labels = pl.Series(data.targets[target].labels[rows], dtype=pl.Int8)
    columns = data.store.index.select("path", "patient", "study")[rows]
    return columns.with_columns(label=labels, score=pl.Series(scores, dtype=pl.Float64))


def _train(context: TrialContext, trial: Trial, rows: Rows) -> tuple[FitResult, Scores]:
    """The trained classifier, and what gives its scores of other images (asked for after all training)."""
    parts = context.sources[trial.arm, trial.run_index]
    source, config = parts[0], context.config_of(trial)  # by gradient there is but one
    size = source.spec.size  # side of a frame in px

    def kept(data: TargetData) -> list[ReadFeatures]:
        stored = data.store.sha256
        return [context.features[trial.arm, trial.run_index, part, stored] for part in range(len(parts))]

    def features_of(data: TargetData, chosen: Rows) -> NDArray[np.float32]:
        return np.concatenate([read_features(read.file, chosen) for read in kept(data)], axis=1)

    def scaling() -> Scaling:
        # a mode that asks for it has `scaling_rows`
        return beside([read.scaling for read in kept(context.train) if read.scaling is not None])

    train = TrainData(
        context.train.store, context.train.targets[trial.target], rows, size,
        lambda: open_encoder(source, config.seed), partial(features_of, context.train), scaling,
    )  # fmt: skip
    result = train_classifier(train, config)

    def scores_of(data: TargetData, chosen: Rows) -> NDArray[np.float64]:
        if not MODES[trial.mode].by_gradient(config):  # the encoder is as it was: its features are there
            return result.members[0].head.scores(features_of(data, chosen))

        def features_by(member: Encoder) -> NDArray[np.float32]:
            return features(
                member, data.store, chosen, size=size, crop_mode=config.crop_mode, device=config.device, label=None
            )

        return member_scores(open_encoder(source, config.seed), result.members, features_by)

    return result, scores_of
