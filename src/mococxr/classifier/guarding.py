"""What `fit` learns for the guard of a classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.guard import pose
from mococxr.guard.guard import EXAMINED, Guard, glance, learn
from mococxr.heads.scaling import scaling_rows
from mococxr.near_duplicates import fingerprints
from mococxr.store import Store


def examined_rows(store: Store) -> NDArray[np.int64]:
    """The training rows that the guard learns from, in a random order that is the same each time."""
    return np.random.default_rng(0).permutation(scaling_rows(store, EXAMINED))


def learn_guard(
    store: Store, features_of: Callable[[NDArray[np.int64]], NDArray[np.float32]], frame: int
) -> tuple[Guard | None, dict[str, Any]]:
    """Learn from a store's training images, labelled or not.

    Args:
        features_of: rows -> features of the classifier's first checkpoint, (N, D).
        frame: shorter side of the largest frame that the classifier sees, px.

    Returns:
        The guard, and what `model.json` says of it besides; None and the reason where there are too few images.
    """
    rows, every = examined_rows(store), scaling_rows(store)
    index = store.index
    with console.progress("guard", len(every)) as bar:
        glances = []
        for row in rows:
            glances.append(glance(store.pixels(int(row))))
            bar.advance()
        others = np.setdiff1d(every, rows)
        prints = [each.prints[0] for each in glances]
        for row in others:
            prints += list(fingerprints([store.pixels(int(row))]))
            bar.advance()
    lateral = (index["view"][rows] == "Lateral").fill_null(False).to_numpy()
    usable = sum(each.evened is not None for each in glances) - int(lateral.sum())
    if usable < pose.ENOUGH:
        reason = f"The training images with a picture, side views left out, are {usable}; it takes {pose.ENOUGH}."
        return None, {"reason": reason}
    patients = index["patient"][rows].rank("dense").to_numpy().astype(np.int64)
    least = int(index[rows].select(pl.min_horizontal("height", "width").min()).item())
    guard, share = learn(glances, features_of(rows), patients, lateral, np.stack(prints), min(least, frame))
    return guard, {"images": len(rows), "prints": len(prints), "warned": share, "reason": None}


def guard_words(facts: dict[str, Any]) -> str:
    """What `fit` says of it."""
    if facts["reason"]:
        return f"`predict` will warn of no image. {facts['reason']}"
    return (
        f"`predict` will warn of images that are not such as these: learned from {facts['images']:,} training images, "
        f"of which {100 * facts['warned']:.1f} % would be warned of"
    )
