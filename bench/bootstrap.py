"""500 paired bootstrap replicates of the AUROC, 5 draws x 2 arms, 500 images, beside a loop over scikit-learn.

    python bench/bootstrap.py [--rounds 5]

Both judge the ten score columns on the same resamples of the patients; numbers that differ by more than 1e-12 fail.
The loop takes the rows of each resample and asks `sklearn.metrics.roc_auc_score` ten times, as one writes it by hand; a
tenth of its resamples is timed, other ones each round, and their time taken tenfold. Processor time, one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from mococxr import metrics
from mococxr.metrics import Resamples, patient_resamples
from ratio import Row, alternate, main, row

REPLICATES, IMAGES, COLUMNS, SEED = 500, 500, 10, 3
SHARE = 10
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Study:
    """Test images with labels, patients (one image each) and a column of scores for each draw of each arm."""

    labels_N: NDArray[np.int64]
    scores_TN: NDArray[np.float64]
    patients_N: NDArray[np.int64]


def made_up(images: int = IMAGES, columns: int = COLUMNS) -> Study:
    rng = np.random.default_rng(0)
    labels = (rng.random(images) < 0.2).astype(np.int64)
    return Study(labels, rng.normal(size=(columns, images)) + labels, np.arange(images))


def loop(study: Study, resamples: Resamples, which: range) -> NDArray[np.float64]:
    """The AUROC of each column on some of the resamples, (T, len(which)), by scikit-learn."""
    found = np.empty((len(study.scores_TN), len(which)))
    for place, b in enumerate(which):
        rows = np.repeat(np.arange(study.labels_N.size), resamples.weights_BU[b][resamples.unit_N])
        labels = study.labels_N[rows]
        for t, scores in enumerate(study.scores_TN):
            found[t, place] = roc_auc_score(labels, scores[rows])
    return found


def apart(study: Study, replicates: int) -> float:
    """The largest difference between our replicates and those of the loop."""
    ours = metrics.bootstrap(study.labels_N, study.scores_TN, study.patients_N, replicates, SEED)
    theirs = loop(study, patient_resamples(study.patients_N, replicates, SEED), range(replicates))
    return float(np.abs(ours - theirs).max())


def bootstrap(rounds: int) -> Iterator[Row]:
    study = made_up()
    resamples = patient_resamples(study.patients_N, REPLICATES, SEED)
    parts = iter(range(0, SHARE * REPLICATES, REPLICATES // SHARE))

    def ours() -> float:
        begun, times = time.process_time(), 10
        for _ in range(times):
            metrics.bootstrap(study.labels_N, study.scores_TN, study.patients_N, REPLICATES, SEED)
        return (time.process_time() - begun) / times

    def theirs() -> float:
        start = next(parts) % REPLICATES
        begun = time.process_time()
        loop(study, resamples, range(start, start + REPLICATES // SHARE))
        return (time.process_time() - begun) * SHARE

    with threadpool_limits(limits=1):
        ours()
        found = alternate({"ours": ours, "loop over scikit-learn": theirs}, rounds)
        difference = apart(study, REPLICATES)
    name = f"500 bootstrap replicates, 5 draws x 2 arms, n = 500 (largest difference {difference:.0e})"
    yield row(name, found, "ours", "loop over scikit-learn", 300.0, unit="s")
    if difference > TOLERANCE:
        raise ValueError(f"the replicates differ from scikit-learn's by {difference:.3g}")


if __name__ == "__main__":
    sys.exit(main(__doc__, {"bootstrap": bootstrap}))
