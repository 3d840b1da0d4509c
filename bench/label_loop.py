"""Does choosing what to label next beat labelling at random? The loop of `next`, `label` and `fit`, played on real images.

    python bench/label_loop.py --out runs/loop [--splits 0 1 2 3 4] [--starts 5] [--readers perfect noisy two]
        [--by coverage uncertainty balanced] [--encoder imagenet@160] [--judge-only]

Needs a folder (MOCOCXR_DATA) with `nih/`, `pediatric/` and `splits.csv` (see `real_images.py`). The training patients of
a split have no label at first. List after list is chosen, up to 10, 20, 40, 80, 160 and 200 images, a fifth of each at
random as `next` does it; readers answer, and the AUROC of a linear head on all answers so far is taken on the split's test
images. Features are read once. A start is a seed, and so another random order.

Readers: perfect; noisy (85 % sensitive, 95 % specific, 8 % "uncertain", all the likelier the more a classifier with all
labels errs on the image); two such readers, where what they agree on counts. An image costs one label, whatever they say.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

import mococxr
from mococxr.choosing.next import SCORED, take
from mococxr.choosing.pool import Pool, Rounds, random_order
from mococxr.choosing.strategies import STRATEGIES, Situation, first
from mococxr.errors import UndefinedError
from mococxr.files import write_parquet
from mococxr.heads.linear import solve_linear
from mococxr.heads.scaling import Scaling, scaling_of
from mococxr.metrics import auroc

DATA = Path(os.environ.get("MOCOCXR_DATA", Path(__file__).parents[2] / "shared" / "data"))
TARGETS = {
    "nih": ("Effusion", "Pneumonia", "Atelectasis", "Infiltration", "sex"),
    "pediatric": ("Bacterial",),  # among those with pneumonia: the others are viral
}
SIDES = {"nih": 320, "pediatric": 224}
SIZES = (10, 20, 40, 80, 160, 200)
SHARE = 0.2
SENSITIVITY, SPECIFICITY, UNCERTAIN = 0.85, 0.95, 0.08
BARS = {40: 0.015, 160: 0.005}
"""Labels -> least gain over random, in the mean of the adults' targets."""
LOWEST = -0.01
"""No target may gain less, in the mean over 20, 40, 80 and 160 labels."""
RESAMPLES = 500


@dataclass(frozen=True)
class Case:
    """One target of one split: products of standardised features among training images (N, N) and with test images."""

    gram_NN: NDArray
    test_gram_MN: NDArray
    labels: NDArray
    test_labels: NDArray
    patients: NDArray
    paths: list[str]

    @property
    def cosines(self) -> NDArray:
        length = np.sqrt(np.diag(self.gram_NN))
        return self.gram_NN / length[:, None] / length


def features(out: Path, name: str, encoder: str) -> pl.DataFrame:
    """`path, features` of a set, by the package's own commands."""
    table = out / f"{name}-{Path(encoder).name}.parquet"
    if not table.is_file():
        store = out / f"store-{name}"
        if not store.exists():
            mococxr.prepare(DATA / name, out=store, size=SIDES[name], split=(1.0, 0.0, 0.0))
        mococxr.embed(store, encoder=encoder, backbone="tf_efficientnet_lite0", out=table)
    return pl.read_parquet(table, columns=["path", "features"])


def read_set(name: str, split: int, table: pl.DataFrame) -> tuple[pl.DataFrame, NDArray]:
    """The images of a set with labels and `split`, and their features, standardised by the training images."""
    images = pl.read_csv(DATA / name / "labels.csv").with_columns(patient=pl.col("patient_id").cast(pl.String))
    images = images.with_columns(sex=(pl.col("sex") == "M").cast(pl.Int64)) if name == "nih" else images
    images = images if name == "nih" else images.filter(pl.col("Pneumonia") == 1)
    splits = pl.read_csv(DATA / "splits.csv", infer_schema=False).filter(pl.col("set") == name)
    images = images.join(splits.select(patient="patient_id", split=f"split{split}"), on="patient").join(
        table, on="path"
    )
    values = np.stack(images["features"].to_numpy()).astype(np.float64)
    scaling = scaling_of(values[(images["split"] == "train").to_numpy()])
    return images.drop("features"), (values - scaling.mean) / scaling.scale


def read_cases(name: str, split: int, table: pl.DataFrame) -> dict[str, Case]:
    """The targets of a set on a split."""
    images, values = read_set(name, split, table)
    train = (images["split"] == "train").to_numpy()
    gram, test_gram = values[train] @ values[train].T, values[~train] @ values[train].T
    patients, paths = images["patient"].to_numpy()[train], images["path"].filter(train).to_list()
    labels = {target: images[target].to_numpy() for target in TARGETS[name]}
    return {target: Case(gram, test_gram, y[train], y[~train], patients, paths) for target, y in labels.items()}


def head(gram_NN: NDArray, rows: NDArray, labels: NDArray) -> tuple[NDArray, float] | None:
    """The head of `fit` on these rows: what each row weighs in a score, and the bias; None with one class.

    It needs the products of features alone: rows of a Cholesky factor have the same products, and are shorter.
    """
    products = gram_NN[np.ix_(rows, rows)]
    factor = np.linalg.cholesky(products + 1e-9 * np.trace(products) * np.eye(len(rows)))
    unscaled = Scaling(np.zeros(len(rows)), np.ones(len(rows)), len(rows))
    try:
        solved = solve_linear(factor, labels, unscaled, patients=rows)
    except UndefinedError:
        return None
    return np.linalg.solve(factor.T, solved.weight[0]), float(solved.bias[0])


# --- readers


def hardness(case: Case) -> NDArray:
    """How wrong a classifier with all labels of other patients is about each image, 0 to 1, (N,)."""
    wrong = np.empty(len(case.labels))
    for rows, held in GroupKFold(5).split(case.gram_NN, groups=case.patients):
        weights, bias = head(case.gram_NN, rows, case.labels[rows])
        scores = 1 / (1 + np.exp(-(case.gram_NN[np.ix_(held, rows)] @ weights + bias)))
        wrong[held] = np.abs(case.labels[held] - scores)
    return wrong


def noisy_answers(labels: NDArray, wrong: NDArray, rng: np.random.Generator) -> NDArray:
    """1, 0 or -1 (uncertain) for each image, (N,)."""
    rates = np.where(labels == 1, 1 - SENSITIVITY, 1 - SPECIFICITY)
    share = np.where(labels == 1, wrong / wrong[labels == 1].mean(), wrong / wrong[labels == 0].mean())
    erring = rng.random(len(labels)) < np.minimum(rates * share, 0.9)
    unsure = rng.random(len(labels)) < np.minimum(UNCERTAIN * wrong / wrong.mean(), 0.9)
    return np.where(unsure, -1, np.where(erring, 1 - labels, labels))


def answers_of(case: Case, reader: str, wrong: NDArray | None, seed: int) -> NDArray:
    """What the reader, or the readers together, say of each image."""
    if wrong is None:
        return case.labels
    first_reader, second = (noisy_answers(case.labels, wrong, np.random.default_rng([seed, i])) for i in (0, 1))
    return first_reader if reader == "noisy" else np.where(first_reader == second, first_reader, -1)


# --- the loop


def play(case: Case, by: str, answers: NDArray, seed: int) -> list[float]:
    """The AUROC on test images with as many labels as `SIZES` says; 0.5 while the answers are of one class."""
    _, patients = np.unique(case.patients, return_inverse=True)
    order = random_order([str(name) for name in case.patients], case.paths, seed)
    cosines, labelled, solved, curve = case.cosines, np.empty(0, np.int64), None, []
    for size in SIZES:
        scores = None if solved is None else case.gram_NN[:, solved[0]] @ solved[1] + solved[2]
        labelled = np.r_[labelled, next_rows(by, size - len(labelled), labelled, patients, order, cosines, scores)]
        rows = labelled[answers[labelled] >= 0]
        weighed = head(case.gram_NN, rows, answers[rows]) if len(rows) else None
        solved = None if weighed is None else (rows, *weighed)
        curve.append(0.5 if solved is None else auroc(case.test_labels, case.test_gram_MN[:, rows] @ solved[1]))
    return curve


def next_rows(
    by: str, count: int, labelled: NDArray, patients: NDArray, order: NDArray, cosines: NDArray, scores: NDArray | None
) -> NDArray:
    """One list of `next`."""
    rows = np.setdiff1d(np.arange(len(patients)), labelled)
    done = np.bincount(patients[labelled], minlength=patients.max() + 1)
    rounds = Rounds(Pool(rows, patients[rows], done, order[rows]))
    drawn = take(rounds, partial(first, order[rows]), count if by == "random" else round(SHARE * count))
    if by != "random":
        known = np.r_[labelled, rows[drawn]]
        pairs = cosines[np.ix_(rows, rows)], cosines[np.ix_(rows, known)]
        by = "coverage" if scores is None and by in SCORED else by
        situation = Situation(order[rows], lambda: pairs, lambda: scores[rows][:, None])
        drawn += take(rounds, STRATEGIES[by](situation), count - len(drawn))
    return rows[drawn]


def run(out: Path, split: int, reader: str, strategies: list[str], starts: int, encoder: str) -> pl.DataFrame:
    """The curves of a split and a reader: `split, reader, target, by, start, labels, auroc`."""
    rows = []
    for name in TARGETS:
        for target, case in read_cases(name, split, features(out, name, encoder)).items():
            wrong = None if reader == "perfect" else hardness(case)
            for start in range(starts):
                answers = answers_of(case, reader, wrong, start)
                for by in ("random", *strategies):
                    curve = play(case, by, answers, start)
                    rows += [(split, reader, target, by, start, *point) for point in zip(SIZES, curve, strict=True)]
    names = ["split", "reader", "target", "by", "start", "labels", "auroc"]
    return pl.DataFrame(rows, schema=names, orient="row")


# --- what came out


def gains(table: pl.DataFrame) -> pl.DataFrame:
    """`gain`: AUROC less that of random, of the same split, reader, target, start and number of labels."""
    keys = ["split", "reader", "target", "start", "labels"]
    random = table.filter(pl.col("by") == "random").select(*keys, random="auroc")
    return (
        table.filter(pl.col("by") != "random")
        .join(random, on=keys)
        .with_columns(gain=pl.col("auroc") - pl.col("random"))
    )


def labels_needed(table: pl.DataFrame, by: str) -> tuple[str, str, str]:
    """Labels with which the adults' mean curve, smoothed, reaches that of random at 200; 95 % over splits and starts."""
    curves = [_curves(table.filter(pl.col("by") == word)) for word in (by, "random")]
    rng, splits, starts = np.random.default_rng(0), *curves[0].shape[:2]
    values = [_crossing(*(curve.mean(axis=(0, 1)) for curve in curves))]
    for _ in range(RESAMPLES):
        picked = rng.integers(splits, size=splits)
        within = rng.integers(starts, size=(splits, starts))
        values.append(_crossing(*(curve[picked[:, None], within].mean(axis=(0, 1)) for curve in curves)))
    low, high = np.quantile(values[1:], [0.025, 0.975], method="nearest")
    return tuple(f"{value:.0f}" if value <= SIZES[-1] else f"over {SIZES[-1]}" for value in (values[0], low, high))


def _curves(table: pl.DataFrame) -> NDArray:
    """The mean AUROC over the adults' targets, (splits, starts, sizes)."""
    adults = table.filter(pl.col("target").is_in(TARGETS["nih"]))
    mean = adults.group_by("split", "start", "labels").agg(pl.col("auroc").mean()).sort("split", "start", "labels")
    return mean["auroc"].to_numpy().reshape(mean["split"].n_unique(), -1, len(SIZES))


def _crossing(curve: NDArray, random: NDArray) -> float:
    """Labels at which a curve, a parabola in the logarithm of labels, reaches the end of another; infinite if never."""
    grid = np.arange(SIZES[0], SIZES[-1] + 1)
    smooth, other = (np.polyval(np.polyfit(np.log(SIZES), c, 2), np.log(grid)) for c in (curve, random))
    reached = np.flatnonzero(smooth >= other[-1] - 1e-9)
    return float(grid[reached[0]]) if len(reached) else np.inf


def judge(table: pl.DataFrame) -> None:
    """Print gains by reader, strategy and target, the means beside their bars, and the labels needed."""
    every = gains(table)
    adults = pl.col("target").is_in(TARGETS["nih"])
    for (reader, by), part in every.group_by("reader", "by", maintain_order=True):
        print(
            f"\n{reader} reader, {by} minus random ({part['split'].n_unique()} splits, {part['start'].n_unique()} starts)"
        )
        for target in [name for names in TARGETS.values() for name in names]:
            of = part.filter(pl.col("target") == target)
            words = [f"{of.filter(pl.col('labels') == n)['gain'].mean():+.3f}" for n in SIZES]
            spread = of.filter(pl.col("labels").is_in(SIZES[1:5]))["gain"].mean()
            print(f"  {target:14s} {' '.join(words)}   mean of 20 to 160 {spread:+.3f}")
        means = {n: part.filter(adults & (pl.col("labels") == n))["gain"].mean() for n in SIZES}
        print(f"  {'adults, mean':14s} {' '.join(f'{value:+.3f}' for value in means.values())}")
        print(
            "  "
            + ", ".join(f"at {n} labels {bar:+.3f} {'met' if means[n] >= bar else 'MISSED'}" for n, bar in BARS.items())
        )
        value, low, high = labels_needed(table.filter(pl.col("reader") == reader), by)
        print(f"  labels that reach random at {SIZES[-1]}: {value} ({low} to {high})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/loop"))
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--readers", nargs="+", default=["perfect", "noisy", "two"])
    parser.add_argument("--by", nargs="+", default=["coverage", "uncertainty", "balanced"])
    parser.add_argument("--encoder", default="imagenet@160", help="as in `embed`; {split} stands for the split")
    parser.add_argument("--judge-only", action="store_true")
    asked = parser.parse_args()
    if not (DATA / "splits.csv").is_file():
        print(f"no real images at {DATA}: set MOCOCXR_DATA")
        return 2
    tables = []
    for reader in asked.readers:
        for split in asked.splits:
            file = asked.out / f"curves-{Path(asked.encoder).name.format(split=split)}-{reader}-{split}.parquet"
            if not file.is_file() and not asked.judge_only:
                encoder = asked.encoder.format(split=split)
                write_parquet(file, run(asked.out, split, reader, asked.by, asked.starts, encoder))
            tables += [pl.read_parquet(file)] if file.is_file() else []
    if tables:
        judge(pl.concat(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
