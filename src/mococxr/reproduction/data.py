"""The dataset as its tables tell it, before any image is read: rows, draws, and what the paper had."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.datasets import Dataset, read_dataset
from mococxr.errors import InputError
from mococxr.files import write_csv
from mococxr.preparation.manifest import all_synthetic
from mococxr.preparation.split_plan import decide
from mococxr.reproduction.recipe import TASKS
from mococxr.settings import ReproduceSettings
from mococxr.splits import paper_draws, sample_patients
from mococxr.store import Store
from mococxr.tables import read_table

PAPERS = {"rows": 223_414, "patients": 64_540, "studies": 187_641}
"""The paper's `train.csv`."""
PAPERS_TEST = {
    "Pleural Effusion": 104, "Atelectasis": 153, "Cardiomegaly": 151, "Consolidation": 29, "Edema": 78,
}  # fmt: skip
"""Positive studies among the 500 of the paper's test set."""
OFFICIAL = {"val": 234, "test": 668}
"""Images of the official validation and test sets, for a plan without them."""
Rows = NDArray[np.int64]
SHENZHEN_TASK = TASKS["shenzhen"][0]


@dataclass(frozen=True)
class Data:
    """The training images as their table lists them, and the counts of the others.

    Args:
        images: `path` and `patient` as the table writes them, one row an image, in its order.
        labels: task -> 1, 0, -1 (uncertain) for each of these rows; blanks stand as the dataset means them.
        images_of: images in `val` and `test`, assumed where `assumed` says so.
        assumed: what of these counts is not known yet, in words.
        missing: what the run will need and is not there, in words; empty where all is.
        synthetic: images were drawn by a program, as their folder says.
    """

    images: pl.DataFrame
    labels: dict[str, NDArray[np.int8]]
    images_of: dict[str, int]
    studies: int | None
    assumed: tuple[str, ...]
    missing: str = ""
    synthetic: bool = False

    def facts(self) -> dict[str, Any]:
        """Counts for reproduce.json."""
        counts = {"rows": len(self.images), "patients": self.images["patient"].n_unique(), "studies": self.studies}
        return {**counts, "table_is_papers": counts == PAPERS}


def read_chexpert(settings: ReproduceSettings) -> Data:
    """CheXpert's tables; images are not looked for.

    Raises:
        InputError: no train.csv, or a table that is not CheXpert's.
    """
    dataset = read_dataset(settings.root, format="chexpert")
    rows = dataset.rows
    if dataset.has_official_split:
        _refuse_test_alone(rows, settings.root)
    train = rows.filter(pl.col("split") == "train") if dataset.has_official_split else rows
    paths = _written_paths(settings.root)
    if len(paths) != len(train):
        raise InputError(
            f"{settings.root}: train.csv lists {len(paths):,} images, not {len(train):,}.", "Give it as released."
        )
    images_of, assumed, missing = {"val": rows.filter(pl.col("split") == "val").height}, [], ""
    if not images_of["val"]:
        missing = f"{settings.root} has no valid.csv: the official validation images choose the checkpoints."
        assumed.append(f"valid.csv is not there: {OFFICIAL['val']} validation images are assumed")
    tested = _test_dataset(settings)
    images_of["test"] = OFFICIAL["test"] if tested is None else tested.rows.height
    if settings.test_root is None:
        assumed.append(f"--test-root is not given: {OFFICIAL['test']} test images are assumed")
    return Data(
        pl.DataFrame({"path": paths, "patient": train["patient"]}),
        _labels(train, TASKS["chexpert"]),
        {"val": images_of["val"] or OFFICIAL["val"], "test": images_of["test"]},
        train["study"].n_unique(),
        tuple(assumed),
        missing,
        all_synthetic(dataset) or (tested is not None and all_synthetic(tested)),
    )


def _refuse_test_alone(rows: pl.DataFrame, root: Path) -> None:
    if not (rows["split"] == "train").any():
        raise InputError(f"{root} has no train.csv.", "Give the folder of the release by --root.")


def _written_paths(root: Path) -> pl.Series:
    """The paths of the training images as their table writes them."""
    folders = [root, *sorted(root.glob("CheXpert*/"))]
    tables = [folder / "train.csv" for folder in folders if (folder / "train.csv").is_file()]
    if not tables:
        raise InputError(f"{root} has no train.csv.", "Give the folder of the release by --root.")
    return read_table(tables[0])["Path"]  # as released: the reader's are relative to the root


def _labels(rows: pl.DataFrame, tasks: tuple[str, ...]) -> dict[str, NDArray[np.int8]]:
    absent = [task for task in tasks if task not in rows.columns]
    if absent:
        raise InputError(f"The table has no column {absent[0]!r}.", "Give CheXpert's table as released.")
    return {task: rows[task].fill_null(0).to_numpy().astype(np.int8) for task in tasks}  # the paper counts blanks as 0


def _test_dataset(settings: ReproduceSettings) -> Dataset | None:
    """The official test images, and no others; None where they are not given."""
    if settings.test_root is None:
        return None
    dataset = read_dataset(settings.test_root, format="chexpert")
    rows = dataset.rows.filter(pl.col("split") == "test")
    if not len(rows):
        raise InputError(
            f"{settings.test_root} holds no test image.", "Give the folder of the official test set by --test-root."
        )
    return dataclasses.replace(dataset, rows=rows)


def read_shenzhen(settings: ReproduceSettings) -> Data:
    """Shenzhen's images by name, divided as `prepare` will if it can read them all."""
    dataset = read_dataset(settings.root, format="shenzhen")
    splits = _shenzhen_split(dataset, settings)
    rows = dataset.rows.drop("split").join(splits, on="patient", maintain_order="left")
    train = rows.filter(pl.col("split") == "train")
    images_of = {name: rows.filter(pl.col("split") == name).height for name in ("val", "test")}
    labels = _labels(train, (SHENZHEN_TASK,))
    return Data(train.select("path", "patient"), labels, images_of, None, (), synthetic=all_synthetic(dataset))


def _shenzhen_split(dataset: Dataset, settings: ReproduceSettings) -> pl.DataFrame:
    plan = decide(dataset, settings.split_file, settings.split, settings.seed, stratify=settings.split_file is None)
    return plan.assign(dataset.rows, dataset.labels)


def chexpert_draws(data: Data, counts: Mapping[float, int], seed: int) -> dict[float, list[Rows]]:
    """The paper's draws, for each share as many as wanted; see `splits.paper_draws`."""
    return {f: paper_draws(len(data.images), f, draws, seed) for f, draws in counts.items()}


def patient_draws(data: Data, counts: Mapping[float, int], seed: int) -> dict[float, list[Rows]]:
    """Draws by patient (an image is one), as `study` makes them; the authors' are not known."""
    known = pl.DataFrame({"patient": data.images["patient"], "label": data.labels[SHENZHEN_TASK]})
    return {
        fraction: [
            known["patient"].is_in(sample_patients(known, fraction, i, seed)).arg_true().to_numpy().astype(np.int64)
            for i in range(draws)
        ]
        for fraction, draws in counts.items()
    }


def write_draws(folder: Path, data: Data, draws: Mapping[float, list[Rows]]) -> None:
    """`<fraction>-<i>.csv` with `row` (from 0 in the table), `path`, `patient`; tables beyond them are removed."""
    for fraction, members in draws.items():
        for i, rows in enumerate(members):
            table = data.images[rows.tolist()] if len(rows) < len(data.images) else data.images
            write_csv(folder / f"{fraction:g}-{i}.csv", table.select(pl.Series("row", rows), "path", "patient"))
        for stale in folder.glob(f"{fraction:g}-*.csv"):
            # of an earlier call with more --draws: `study` reads all
            if int(stale.stem.rpartition("-")[2]) >= len(members):
                stale.unlink()


def labelled(data: Data, task: str, rows: Rows) -> tuple[int, int]:
    """How many of some rows have a label of the task (uncertain ones have none), and how many are positive."""
    values = data.labels[task][rows]
    return int((values >= 0).sum()), int((values == 1).sum())


def test_counts(store: Store | None, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Test studies and their positives, as the store holds them; a study is positive where any image is."""
    if store is None:
        return {"kind": "none", "studies": 0, "positives": {}}
    images = store.index[store.rows_in("test").tolist()]
    unit = pl.coalesce("study", "path") if "study" in images.columns else pl.col("path")
    judged = images.group_by(unit.alias("unit")).agg(pl.col(task).fill_null(0).max() for task in tasks)
    positives = {task: int((judged[task] == 1).sum()) for task in tasks}
    kind = str(store.manifest["split_rule"]) if tasks == (SHENZHEN_TASK,) else "official"
    return {"kind": kind, "studies": len(judged), "images": len(images), "positives": positives}
