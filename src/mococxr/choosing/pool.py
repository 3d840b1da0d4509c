"""What may be chosen: images without a label and without a copy, one a patient in each round, in an order by hash.

N  candidates    P  their patients
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mococxr import console
from mococxr.errors import InputError
from mococxr.near_duplicates import candidate_pairs, fingerprints, is_copy
from mococxr.store import Store

SIDE = 128
"""Pixels at which images are compared."""
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """The candidates.

    Args:
        rows: of the store, in order, (N,).
        patients: number of the patient of each, 0 to P - 1, (N,).
        labelled: images that are labelled already, of each patient, (P,).
        order: rank of each candidate in random order, (N,); it hangs on seed, patient and path alone.
        copies: images without a label that were left out, since an image like them is labelled or a candidate.
    """

    rows: Rows
    patients: Rows
    labelled: Rows
    order: Rows
    copies: int = 0


class Rounds:
    """Who is left to choose from: in a round each patient gives one image, and the next begins when none is left."""

    def __init__(self, pool: Pool) -> None:
        self.patients, self.counts = pool.patients, pool.labelled.copy()
        self.left = np.ones(len(pool.rows), dtype=bool)

    def allowed(self) -> NDArray[np.bool_]:
        """The candidates of the round, (N,); none when all are chosen."""
        counts = self.counts[self.patients]
        return self.left & (counts == counts[self.left].min(initial=np.iinfo(np.int64).max))

    def take(self, candidate: int) -> None:
        """Choose one."""
        self.left[candidate] = False
        self.counts[self.patients[candidate]] += 1


def inclusion(patients_N: Rows, labelled_P: Rows, count: int) -> NDArray[np.float64]:
    """The chance of each candidate to be among the first `count` in random order, over all seeds, (N,).

    A patient whose turn it is gives an image that is drawn from all of the patient's candidates; in the last round
    the patients are drawn, too.
    """
    images_P = np.bincount(patients_N, minlength=len(labelled_P))
    expected_P, left = np.zeros(len(labelled_P)), min(count, len(patients_N))
    level = int(labelled_P.min(initial=0))
    while left > 0:
        in_turn = (labelled_P <= level) & (level < labelled_P + images_P)
        expected_P += in_turn * min(1.0, left / max(in_turn.sum(), 1))
        left, level = left - int(in_turn.sum()), level + 1
    return (expected_P / images_P)[patients_N]


def read_pool(store: Store, targets: Sequence[str], splits: Sequence[str], seed: int) -> Pool:
    """The images of these splits that lack a label of some target, without those that copy a labelled one or another.

    Raises:
        InputError: there is none.
    """
    labelled = labelled_rows(store, targets)
    rows = store.rows_in(*splits)
    unlabelled = rows[~labelled[rows]]
    kept = without_copies(store, unlabelled, np.flatnonzero(labelled))
    if not len(kept):
        raise InputError(
            f"No image of the {' and '.join(splits)} patients is left to label for {', '.join(targets)}.",
            "New images enter by: mococxr prepare --add.",
        )
    table = store.columns("path", "patient")
    names, numbers = np.unique(table["patient"][kept].to_numpy(), return_inverse=True)
    done = Counter(table["patient"].filter(labelled).to_list())
    labelled_P = np.array([done[name] for name in names.tolist()], dtype=np.int64)
    order = random_order(table["patient"][kept].to_list(), table["path"][kept].to_list(), seed)
    return Pool(kept, numbers.astype(np.int64), labelled_P, order, len(unlabelled) - len(kept))


def labelled_rows(store: Store, targets: Sequence[str]) -> NDArray[np.bool_]:
    """Which images of the store have a label of each target, uncertain ones too."""
    every = np.ones(len(store), dtype=bool)
    for name in targets:
        every &= store.index[name].is_not_null().to_numpy() if name in store.labels else False
    return every


def random_order(patients: Sequence[str], paths: Sequence[str], seed: int) -> Rows:
    """The rank of each image in an order by hash: of the patients by theirs, of a patient's images by that of their path.

    Who else is there changes nothing: a later draw goes on where an earlier one stopped.
    """
    key = f"mococxr next {seed}".encode()
    pairs = zip(patients, paths, strict=True)
    keys = [tuple(hmac.digest(key, name.encode(), "sha256") for name in pair) for pair in pairs]
    rank = np.empty(len(keys), dtype=np.int64)
    rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return rank


def without_copies(store: Store, rows: Rows, known: Rows) -> Rows:
    """The rows that are no copy of a known row, nor of another that is kept, in order."""
    level = store.level(SIDE)
    every = np.concatenate([known, rows])
    with console.progress("looking for copies", len(every)) as bar:
        prints = np.concatenate([np.empty((0, 32), np.uint8), *(_print(level.pixels(int(row)), bar) for row in every)])
    seeing = np.flatnonzero(prints.any(axis=1))  # all that have no picture have one fingerprint
    gone = np.zeros(len(every), dtype=bool)
    for a, b in seeing[candidate_pairs(prints[seeing])].tolist():
        if b >= len(known) and not gone[a] and not gone[b]:
            gone[b] = is_copy(level.pixels(int(every[a])), level.pixels(int(every[b])))
    return rows[~gone[len(known) :]]


def _print(image: NDArray[np.uint8], bar: console.Progress) -> NDArray[np.uint8]:
    bar.advance()
    return fingerprints([image])
