"""Test films -> the units that are judged: films, studies or patients, one score each."""

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
        InputError: studies are asked for and films have none.
    """
    if unit == "study" and store.index["study"].null_count():
        missing = store.index["study"].null_count()
        raise InputError(
            f"--unit study: {missing:,} films have no study.",
            "Take --unit film or patient, or name the studies.",
        )


def join_units(
    films: pl.DataFrame, scores: NDArray[np.float64], unit: str, how: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray]:
    """Labels (G,), scores (G,) or (T, G) and patients (G,) of the units.

    Args:
        films: `patient, study, label`, one row a film; a study counts within its patient only.
        scores: (N,) or (T, N).
        unit: `film`, `study` or `patient`.
        how: `max` or `mean` over the films of a unit; a unit is positive where any film is.
    """
    labels, patients = films["label"].to_numpy().astype(np.int64), films["patient"].to_numpy()
    if unit == "film":
        return labels, scores, patients
    names = ["patient"] if unit == "patient" else ["patient", "study"]
    numbers = films.select(pl.struct(names).rank("dense")).to_series().to_numpy().astype(np.int64)
    joined_labels, joined, _ = vote(labels, scores, numbers, how)
    _, first = np.unique(numbers, return_index=True)
    return joined_labels, joined, patients[first]
