"""Trials of a made-up study: scores drawn by the test, no image seen, written as `study` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mococxr.studies.trial import predictions_path, validation_path

IMAGES = {0.01: 20, 0.1: 200, 0.5: 1000, 1.0: 2000}


@dataclass
class FakeStore:
    """What measuring asks of the store of the test images."""

    index: pl.DataFrame
    path: Path = Path("store")

    def rows_in(self, *splits: str) -> np.ndarray:
        """All images are test images."""
        return self.index["row"].to_numpy() if "test" in splits else np.empty(0, dtype=int)


@dataclass
class Scored:
    """A study folder with scores in it, its records and the store of its test images."""

    out: Path
    records: list[dict[str, Any]]
    store: FakeStore

    def images(self, trial: str, folder: str = "predictions") -> pl.DataFrame:
        """What one trial scored."""
        return pl.read_parquet(self.out / folder / f"{trial}.parquet")


def scored_study(
    out: Path,
    *,
    patients: int = 160,
    images: int = 2,
    prevalence: float = 0.3,
    gain: dict[str, float] | None = None,
    runs: dict[str, int] | None = None,
    fractions: tuple[float, ...] = (0.01, 0.1, 1.0),
    draws: int = 3,
    validation: int = 60,
    modes: tuple[str, ...] = ("linear",),
    targets: tuple[str, ...] = ("Finding",),
    too_sure: float = 1.0,
    seed: int = 0,
) -> Scored:
    """Write predictions and validation scores of every trial.

    Args:
        gain: arm -> how far positives lie above negatives with all labels; half of it with the fewest.
        runs: arm -> pretraining runs.
        too_sure: what the logit is multiplied by, so that probabilities are wrong.
    """
    rng = np.random.default_rng(seed)
    gain = gain or {"imagenet": 1.0, "moco": 2.0}
    records = []
    index = _images(rng, patients, images, "test")
    labelled = index
    for target in targets:
        own = {"test": _labels(rng, index, prevalence)}
        if "=" not in target:
            labelled = labelled.with_columns(pl.Series(target, own["test"]))
        valid = _images(rng, validation, images, "val")
        own["val"] = _labels(rng, valid, prevalence)
        shared = {name: rng.normal(size=len(labels)) for name, labels in own.items()}
        for fraction in fractions:
            for draw in range(1 if fraction == 1 else draws):
                spread = rng.normal(0, 0.15)
                for mode in modes:
                    for arm, most in gain.items():
                        for run in range((runs or {}).get(arm, 1)):
                            trial = f"{target}-{mode}-{arm}-{run}-{fraction:g}-{draw}"
                            height = most * (0.5 + 0.5 * np.sqrt(fraction)) + spread + rng.normal(0, 0.1) * run
                            for name, table, path in (
                                ("test", index, predictions_path(out, trial)),
                                ("val", valid, validation_path(out, trial)),
                            ):
                                if len(table):
                                    path.parent.mkdir(parents=True, exist_ok=True)
                                    noise = 0.7 * shared[name] + 0.7 * rng.normal(size=len(table))
                                    logit = too_sure * (height * (own[name] - 0.5) + noise)
                                    table.select("path", "patient", "study").with_columns(
                                        label=pl.Series(own[name], dtype=pl.Int8),
                                        score=pl.Series(1 / (1 + np.exp(-logit))),
                                    ).write_parquet(path)
                            records.append(
                                {"id": trial, "arm": arm, "run": f"run{run}", "run_index": run, "mode": mode,
                                 "target": target, "fraction": fraction, "draw": draw, "status": "done",
                                 "train_images": IMAGES[fraction], "train_patients": IMAGES[fraction] // 2,
                                 "train_positives": IMAGES[fraction] // 3, "notes": [], "seconds": 0.1,
                                 "validation_images": 0, "validation_scored": len(valid)}
                            )  # fmt: skip
    return Scored(out, records, FakeStore(labelled))


def _images(rng: np.random.Generator, patients: int, images: int, kind: str) -> pl.DataFrame:
    """A row an image: the first images of all patients, then the second."""
    count = patients * images
    person = np.arange(count) % max(patients, 1)
    sex, age = rng.choice(["F", "M"], max(patients, 1)), rng.integers(20, 90, max(patients, 1))
    return pl.DataFrame(
        {"row": np.arange(count), "path": [f"{kind}/{i}.png" for i in range(count)],
         "patient": [f"{kind}-{p}" for p in person], "study": [f"s{i % 2}" for i in range(count)],
         "sex": sex[person], "age": age[person].astype(float), "view": rng.choice(["AP", "PA"], count),
         "site": rng.choice(["north", "south", "tiny"], count, p=[0.5, 0.48, 0.02])}
    )  # fmt: skip


def _labels(rng: np.random.Generator, images: pl.DataFrame, prevalence: float) -> np.ndarray:
    """One label a patient, a fixed number of them positive."""
    people = images["patient"].unique(maintain_order=True).to_list()
    sick = set(rng.permutation(people)[: round(prevalence * len(people))].tolist())
    return np.array([int(p in sick) for p in images["patient"]])
