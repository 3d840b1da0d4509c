"""`mococxr evaluate` on large tables, start of the program included, beside a loop over scikit-learn.

    python bench/evaluate.py [--rounds 5]

200,000 rows of 65,000 patients with threshold, calibration and three columns of groups; 20,000 rows with 14 labels. The
loop asks scikit-learn for AUROC and average precision of as many resamples as `evaluate` makes of one label (for all
labels of the second table), as one writes it by hand; a fortieth of them is timed. Processor time, one thread.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from mococxr.measure.measures import Resampling
from ratio import Row, alternate, main, row

SHARE = 40
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


def table(rows: int, patients: int, labels: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    patient_N = rng.integers(0, patients, rows)
    columns = {"patient": [f"patient{seed}-{number:06d}" for number in patient_N]}
    for k in range(labels):
        truth = (rng.random(patients) < 0.1)[patient_N].astype(int)
        columns |= {f"label{k}": truth, f"score{k}": expit(rng.normal(size=rows) + 1.6 * truth - 2.2)}
    groups = {"sex": ["F", "M"], "view": ["PA", "AP", "LL"], "age": np.arange(18, 90)}
    return pl.DataFrame(columns | {name: rng.choice(values, patients)[patient_N] for name, values in groups.items()})


def ours(arguments: list[str]) -> float:
    """Processor seconds of the command, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "mococxr", "evaluate", *arguments]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | THREADS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def loop(frame: pl.DataFrame, labels: int) -> float:
    """Processor seconds of the resamples by scikit-learn, from a few of them."""
    truth, scores = frame["label0"].to_numpy(), frame["score0"].to_numpy()
    replicates = Resampling().on(frame.height).replicates
    unit_N = frame["patient"].rank("dense").to_numpy() - 1
    rng, begun = np.random.default_rng(0), time.process_time()
    for _ in range(replicates // SHARE):
        drawn = np.bincount(rng.integers(0, unit_N.max() + 1, unit_N.max() + 1), minlength=unit_N.max() + 1)
        rows = np.repeat(np.arange(unit_N.size), drawn[unit_N])
        roc_auc_score(truth[rows], scores[rows])
        average_precision_score(truth[rows], scores[rows])
    return (time.process_time() - begun) * SHARE * labels


def evaluate(rounds: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("large.csv", "validation.csv", "labels.csv")]
        large, validation, many = table(200_000, 65_000, 1, 0), table(20_000, 7_000, 1, 1), table(20_000, 7_000, 14, 2)
        for frame, file in zip((large, validation, many), files, strict=True):
            frame.write_csv(file)
        rule = ["--threshold=sensitivity=0.9", f"--validation={files[1]}", "--calibrate=platt"]
        groups = [f"--subgroup={name}" for name in ("sex", "view", "age")]
        pairs = [f"--{kind}={kind}{k}" for k in range(14) for kind in ("label", "score")]
        jobs = (
            ("200,000 rows, threshold, calibration, groups", large, 1, [files[0], *pairs[:2], *rule, *groups], 1.5),
            ("20,000 rows, 14 labels", many, 14, [files[2], *pairs], 4.0),
        )
        for name, frame, labels, arguments, bar in jobs:
            sides = {
                "ours": lambda arguments=arguments: ours([*arguments, "--patient=patient"]),
                "loop over scikit-learn": lambda frame=frame, labels=labels: loop(frame, labels),
            }
            yield row(f"evaluate: {name}", alternate(sides, rounds), "ours", "loop over scikit-learn", bar, unit="s")


if __name__ == "__main__":
    sys.exit(main(__doc__, {"evaluate": evaluate}))
