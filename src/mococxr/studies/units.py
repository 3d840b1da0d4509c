"""Test images -> the units that are judged: images, studies or patients, one score each."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.errors import InputError
from mococxr.metrics import vote
from mococxr.store import Store


def check_unit(store: Store, unit: str) -> None:
    """Refuse a unit that the store cannot make.

    Raises:
        InputError: studies are asked for and images have none.
    """
    if unit == "study" and store.index["study"].null_count():
        missing = store.index["study"].null_count()
        raise InputError(
            f"--unit study: {missing:,} images have no study.",
            "Take --unit image or patient, or name the studies.",
        )


def check_test_store(store: Store, tested: Store) -> None:
    """Refuse test images of another store that there are none of, or whose patients train.

    Raises:
        InputError: no image of `tested` is in its test split, or a test patient trains or validates in `store`.
    """
    patients = tested.splits.filter(pl.col("split") == "test")["patient"]
    if not len(patients):
        raise InputError(
            f"--test-on {tested.path}: none of its images is a test image.",
            "Prepare it with --split 0 0 1 to judge all of its images, or with a split that has test patients.",
        )
    own = store.splits.filter(pl.col("split") != "test")["patient"]
    shared = patients.is_in(own.implode()).sum() if store.source == tested.source else 0
    if shared:
        raise InputError(
            f"--test-on {tested.path}: {shared:,} of its {len(patients):,} test patients train or validate in "
            f"{store.path}.",
            "Prepare one of the two without them (--split-file).",
        )


def join_units(
    images: pl.DataFrame, scores: NDArray[np.float64], unit: str, how: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray]:
    """Labels (G,), scores (G,) or (T, G) and patients (G,) of the units.

    Args:
        images: `patient, study, label`, one row an image; a study counts within its patient only.
        scores: (N,) or (T, N).
        unit: `image`, `study` or `patient`.
        how: `max` or `mean` over the images of a unit; a unit is positive where any image is.
    """
    labels, patients = images["label"].to_numpy().astype(np.int64), images["patient"].to_numpy()
    if unit == "image":
        return labels, scores, patients
    numbers = _numbers(images, unit)
    joined_labels, joined, _ = vote(labels, scores, numbers, how)
    _, first = np.unique(numbers, return_index=True)
    return joined_labels, joined, patients[first]


def unit_values(images: pl.DataFrame, values: pl.Series, unit: str) -> pl.Series:
    """The value of each unit, in the order of `join_units`: null where its images have several, or none is known."""
    if unit == "image":
        return values
    table = pl.DataFrame({"unit": _numbers(images, unit), "value": values})
    known = pl.col("value").drop_nulls()
    one = pl.when(known.n_unique() == 1).then(known.first())
    return table.group_by("unit").agg(one.alias("value")).sort("unit")["value"]


def _numbers(images: pl.DataFrame, unit: str) -> NDArray[np.int64]:
    """The unit of each image, numbered in the order of patient and study."""
    names = ["patient"] if unit == "patient" else ["patient", "study"]
    return images.select(pl.struct(names).rank("dense")).to_series().to_numpy().astype(np.int64)
