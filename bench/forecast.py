"""Do forecasts of the learning curve hold, and are few labels calibrated? python bench/forecast.py --out runs/forecast

Needs a folder (MOCOCXR_DATA) with `nih/`, `pediatric/` and `splits.csv`, as bench/real_images.py does. Encoder:
`imagenet@160` of tf_efficientnet_lite0, linear heads.
For seven targets, splits and random orders of the training and validation images:

1. from the first 40, 80 and 160 labels the AUROC with twice and four times as many is forecast (nominal 90 %), and compared
   with that of the very head, on the test images; intervals wider than 0.2 are "cannot be said";
2. a head of the first 30, 60 and 120 labels is calibrated, by cross-fitting and by the validation images among them alone,
   and slope and expected by observed are measured on the test images.

A row of every answer is written to OUT/rows.csv, and the tables are printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import mococxr
from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.files import write_csv
from mococxr.heads.cross_fit import cross_fitted
from mococxr.heads.learning_curve import as_they_are, learning_curve
from mococxr.heads.linear import solve_linear
from mococxr.heads.targets import read_target
from mococxr.metrics.checks import too_few
from mococxr.metrics.forecast import SPREAD
from mococxr.metrics.logistic import logistic_fit
from real_images import DATA, prepare

SETS = {
    "nih": ("Effusion", "Pneumonia", "Atelectasis", "Infiltration", "sex=M"),
    "pediatric": ("Pneumonia", "Bacterial"),
}
LABELS, AHEAD, FEW = (40, 80, 160), (2, 4), (30, 60, 120)
Row = dict[str, Any]


def rows_of(out: Path, sets: list[str], splits: list[int], orders: int) -> Iterator[Row]:
    """Every answer; features are read once a set, and splits differ by patients alone."""
    table = pl.read_csv(DATA / "splits.csv", infer_schema=False)
    for name, store in ((name, mococxr.Store.open(folder)) for name, folder in prepare(out, 0).items() if name in sets):
        file = out / f"{name}.parquet"
        if not file.exists():  # once a set
            mococxr.embed(
                store.path, encoder="imagenet@160", backbone="tf_efficientnet_lite0", out=file, device="cpu", jobs=1
            )
        features = np.array(pl.read_parquet(file)["features"].to_list(), dtype=np.float64)
        patients = store.index["patient"].to_numpy()
        features = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
        for text in SETS[name]:
            labels = read_target(store, text, where=("Pneumonia=1",) * (text == "Bacterial")).labels
            for split in splits:
                part = dict(table.filter(pl.col("set") == name).select("patient_id", f"split{split}").iter_rows())
                test = np.array([part[patient] == "test" for patient in patients]) & (labels >= 0)
                learned = np.flatnonzero(~test & (labels >= 0))
                for order in range(orders):
                    drawn = np.random.default_rng([split, order]).permutation(learned)
                    data = features, labels, patients, drawn, np.flatnonzero(test)
                    names = {"target": text, "split": split, "order": order}
                    yield from (names | row for row in [*forecasts(*data), *calibrations(*data)])
                print(f"{text} split {split}", file=sys.stderr, flush=True)


def head_scores(x: NDArray, y: NDArray, patients: NDArray, rows: NDArray, judged: NDArray) -> NDArray[np.float64]:
    """Log odds of the rows that are judged, by the head of others."""
    head = solve_linear(x[rows], y[rows], as_they_are(x.shape[1]), patients=patients[rows])
    return head.logits(x[judged])


def forecasts(x: NDArray, y: NDArray, patients: NDArray, drawn: NDArray, test: NDArray) -> Iterator[Row]:
    """Forecast and truth from each number of labels to each multiple."""
    reached = {}
    for count in {n * times for n in LABELS for times in AHEAD}:
        if count <= len(drawn) and len(np.unique(y[drawn[:count]])) == 2:
            reached[count] = metrics.auroc(y[test], head_scores(x, y, patients, drawn[:count], test))
    for n in LABELS:
        rows = drawn[:n]
        try:
            sizes, scores = learning_curve(x[rows], y[rows], patients[rows], as_they_are(x.shape[1]))
            points = metrics.curve_points(scores, y[rows], patients[rows])
            curves = metrics.forecast(sizes, *points, n, spread=SPREAD / n**0.5)
        except UndefinedError:
            curves = None
        for times in AHEAD:
            if n * times in reached:
                row = {"part": "forecast", "labels": n, "times": times, "truth": reached[n * times]}
                yield row | ({} if curves is None else interval(curves, n * times))


def interval(curves: metrics.Forecast, count: int) -> Row:
    number = curves.at(count)
    return {"value": number.value, "low": number.low, "high": number.high, "said": number.reason is None}


def calibrations(x: NDArray, y: NDArray, patients: NDArray, drawn: NDArray, test: NDArray) -> Iterator[Row]:
    """Slope and expected by observed on the test images; of the labels every sixth is a validation label."""
    for n in FEW:
        rows, held = drawn[:n][np.arange(n) % 6 > 0], drawn[:n][::6]
        if len(np.unique(y[rows])) < 2:
            continue
        logits, of_held = (head_scores(x, y, patients, rows, judged) for judged in (test, held))
        for how in ("cross-fitted", "hold-out"):
            used, scores = held, of_held
            if how == "cross-fitted" and too_few(y[rows], patients[rows], minimum=2) is None:
                crossed = metrics.as_logits(cross_fitted(x[rows], y[rows], patients[rows], as_they_are(x.shape[1])))
                used, scores = np.concatenate([held, rows]), np.concatenate([of_held, crossed])
            row = {"part": "calibration", "labels": n, "how": how}
            try:
                made = metrics.fit_calibrator("platt", y[used], scores, patients[used])
            except UndefinedError:
                yield row
                continue
            p = made.apply(logits)
            slope = logistic_fit(metrics.as_logits(p), y[test].astype(float))[1]
            yield row | {"slope": slope, "eo": float(p.sum() / y[test].sum())}


def tables(rows: pl.DataFrame) -> str:
    """The two tables of docs/benchmarks.md."""
    forecast = rows.filter(pl.col("part") == "forecast")
    inside = (pl.col("low") <= pl.col("truth")) & (pl.col("truth") <= pl.col("high"))
    shown = [pl.len().alias("n"), (1 - pl.col("said").fill_null(False).mean()).alias("cannot_be_said"),
             inside.filter(pl.col("said")).mean().alias("coverage_said"), inside.mean().alias("coverage_all"),
             (pl.col("high") - pl.col("low")).median().alias("width"),
             (pl.col("value") - pl.col("truth")).mean().alias("bias")]  # fmt: skip
    parts = [
        forecast.select(shown),
        *(forecast.group_by(by).agg(shown).sort(by) for by in (["target"], ["labels", "times"])),
    ]
    ends = [pl.col(name).quantile(q).alias(f"{name}_{q}") for name in ("slope", "eo") for q in (0.1, 0.5, 0.9)]
    answers = [pl.col("slope").is_not_null().mean().alias("answered"), *ends]
    parts.append(
        rows.filter(pl.col("part") == "calibration").group_by("labels", "how").agg(answers).sort("labels", "how")
    )
    with pl.Config(tbl_rows=50, tbl_cols=20, float_precision=3, tbl_width_chars=200):
        return "\n".join(map(str, parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=tuple(SETS))
    parser.add_argument("--splits", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--orders", type=int, default=20)
    settings = parser.parse_args()
    settings.out.mkdir(parents=True, exist_ok=True)
    every = rows_of(settings.out, settings.sets, settings.splits, settings.orders)
    rows = pl.DataFrame(list(every), infer_schema_length=None)
    write_csv(settings.out / "rows.csv", rows)
    print(tables(rows))


if __name__ == "__main__":
    main()
