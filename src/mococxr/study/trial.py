"""One trial: train on its draw, score the test films, write predictions and a record."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from mococxr.backbone import Encoder
from mococxr.encode import EncoderSource, features, open_encoder
from mococxr.errors import UndefinedError
from mococxr.files import write_json, write_parquet
from mococxr.finetune import Trained, member_scores
from mococxr.learn import Method, learn
from mococxr.store import Store
from mococxr.study.plan import Draw, Trial
from mococxr.targets import Target


@dataclass(frozen=True)
class Films:
    """Films of one store that a study reads.

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
        train: the films that train and validate.
        test: those that are judged; the same object where one store holds both.
        sources: encoder of each (arm, run index).
        features: file of the rows' features for each (arm, run index, sha256 of the store); empty where no
            head is solved.
    """

    out: Path
    train: Films
    test: Films
    sources: dict[tuple[str, int], EncoderSource]
    features: dict[tuple[str, int, str], Path]
    method: Method


def record_path(out: Path, trial: str) -> Path:
    """Where the record of a trial lies; it is written last, so that it says that the trial is whole."""
    return out / "trials" / f"{trial}.json"


def predictions_path(out: Path, trial: str) -> Path:
    """Where the test predictions of a trial lie."""
    return out / "predictions" / f"{trial}.parquet"


def do_trial(work: Work, trial: Trial, draw: Draw) -> dict[str, Any]:
    """Do one trial and write it down: predictions first, then the record. `results` measures them."""
    started = time.perf_counter()
    rows = np.array(draw.rows, dtype=np.int64)
    record = {**dataclasses.asdict(trial), **_counts(work.train, trial.target, rows)}
    record.update(status="done", notes=[], validation_films=0)
    try:
        if draw.undefined:
            raise UndefinedError(draw.undefined)
        judged = work.test.targets[trial.target]
        _check_test(judged)
        trained, scores = _train_and_score(work, trial, rows)
        record.update(notes=list(trained.notes), validation_films=trained.validation_films)
        table = _predictions(work.test.store, judged, scores)
        write_parquet(predictions_path(work.out, trial.id), table)
    except UndefinedError as error:
        record["status"] = f"undefined: {error}"
    record["seconds"] = round(time.perf_counter() - started, 3)
    write_json(record_path(work.out, trial.id), record)
    return record


def _counts(films: Films, target: str, rows: NDArray[np.int64]) -> dict[str, int]:
    return {
        "train_films": len(rows),
        "train_patients": films.store.index["patient"][rows].n_unique(),
        "train_positives": int((films.targets[target].labels[rows] == 1).sum()),
    }


def _check_test(target: Target) -> None:
    positives = int((target.labels[target.test] == 1).sum())
    for count, word in ((positives, "positive"), (len(target.test) - positives, "negative")):
        if not count:
            raise UndefinedError(f"none of the {len(target.test)} labelled test films is {word}")


def _predictions(store: Store, target: Target, scores: NDArray[np.float64]) -> pl.DataFrame:
    films = store.index.select("path", "patient", "study")[target.test]
    return films.with_columns(
        label=pl.Series(target.labels[target.test], dtype=pl.Int8), score=pl.Series(scores, dtype=pl.Float64)
    )


def _train_and_score(
    work: Work, trial: Trial, rows: NDArray[np.int64]
) -> tuple[Trained, NDArray[np.float64]]:
    """The trained classifier, and its scores of the test films (read once, after all training)."""
    source, method = work.sources[trial.arm, trial.run_index], work.method
    encoder = _opened(source, method.seed)
    size, tested = source.spec.size, work.test.targets[trial.target].test

    def features_of(films: Films, wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        kept = np.load(work.features[trial.arm, trial.run_index, films.store.sha256], mmap_mode="r")
        return np.asarray(kept[np.searchsorted(films.rows, wanted)])

    def scored(member: Encoder) -> NDArray[np.float32]:
        return features(
            member, work.test.store, tested, size=size, frame=method.frame, device=method.device, label=None
        )

    trained = learn(
        encoder, work.train.store, work.train.targets[trial.target], rows,
        mode=trial.mode, method=method, size=size, features_of=partial(features_of, work.train),
    )  # fmt: skip
    if method.solves(trial.mode):
        return trained, trained.members[0].head.scores(features_of(work.test, tested))
    return trained, member_scores(open_encoder(source, method.seed), trained.members, scored)


@lru_cache(maxsize=2)
def _opened(source: EncoderSource, seed: int) -> Encoder:
    """An encoder, opened once in a process: every use of it leaves it as it is."""
    return open_encoder(source, seed)


def run_trials(work: Work, todo: Sequence[tuple[Trial, Draw]], jobs: int) -> Iterator[dict[str, Any]]:
    """Do the trials and yield their records as they come; in several processes where they are slow."""
    by_gradient = any(not work.method.solves(trial.mode) for trial, _ in todo)
    slow = by_gradient or work.method.strength == "cv"
    if jobs == 1 or len(todo) == 1 or not slow:
        with _one_thread(by_gradient and work.method.device == "cpu"):
            yield from (do_trial(work, trial, draw) for trial, draw in todo)
        return
    context = multiprocessing.get_context("spawn")
    workers = min(jobs, len(todo))
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(work,)) as pool:
        futures = [pool.submit(_work_one, trial, draw) for trial, draw in todo]
        try:
            yield from (future.result() for future in as_completed(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    """Training by gradient takes one thread a trial, so that its sums do not depend on --jobs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if wanted else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_shared: list[Work] = []
"""The work of this worker process, set once when it starts."""


def _start_worker(work: Work) -> None:
    _shared[:] = [work]
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """A parent killed outright cannot stop its workers: they stop themselves."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work_one(trial: Trial, draw: Draw) -> dict[str, Any]:
    return do_trial(_shared[0], trial, draw)
