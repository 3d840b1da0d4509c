"""Images that are stored twice: the same bytes, or copies by fingerprint and pixel check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mococxr import console
from mococxr.near_duplicates import candidate_pairs, is_copy
from mococxr.store import Store


@dataclass(frozen=True)
class Pair:
    """Two images that are one: rows `a` and `b` (of the other store, where there are two); `bytes`: equal files."""

    a: int
    b: int
    bytes: bool


Rows = npt.NDArray[np.int64]


def copies_within(store: Store, prints: npt.NDArray[np.uint8], blank: npt.NDArray[np.bool_]) -> list[Pair]:
    """Pairs of images of one store that are one image, in order.

    Of n images with the same bytes each is paired with the first of them; images without a picture are compared
    by their bytes only.
    """
    numbers = _numbered(store.index["sha256"])
    first = _first_of(numbers)
    again = np.flatnonzero(first != np.arange(len(first)))
    seeing = np.flatnonzero(~blank & (first == np.arange(len(first))))
    candidates = seeing[candidate_pairs(prints[seeing])]
    found = [Pair(int(first[row]), int(row), True) for row in again]
    with console.progress("compare", len(candidates), unit="pairs") as bar:
        for a, b in candidates.tolist():
            if is_copy(store.pixels(a), store.pixels(b)):
                found.append(Pair(a, b, False))
            bar.advance()
    return sorted(found, key=lambda pair: (pair.a, pair.b))


def copies_across(
    store: Store, prints: npt.NDArray[np.uint8], other: Store, others: npt.NDArray[np.uint8]
) -> list[Pair]:
    """Pairs of an image of `store` and one of `other` that are one image, in order.

    Images without a picture have an empty fingerprint and are compared by their bytes only.
    """
    hashes = {sha256: row for row, sha256 in reversed(list(enumerate(other.index["sha256"].to_list())))}
    bytes_of = [hashes.get(sha256) for sha256 in store.index["sha256"].to_list()]
    found = [Pair(a, b, True) for a, b in enumerate(bytes_of) if b is not None]
    mine = np.flatnonzero(np.array([b is None for b in bytes_of], bool) & prints.any(axis=1))
    theirs = np.flatnonzero(others.any(axis=1))
    candidates = candidate_pairs(prints[mine], others[theirs])
    with console.progress("compare stores", len(candidates), unit="pairs") as bar:
        for i, j in candidates.tolist():
            a, b = int(mine[i]), int(theirs[j])
            if is_copy(store.pixels(a), other.pixels(b)):
                found.append(Pair(a, b, False))
            bar.advance()
    return sorted(found, key=lambda pair: (pair.a, pair.b))


def groups(pairs: list[Pair]) -> list[list[int]]:
    """Rows that are one image through some chain of pairs: each group sorted, groups by their first row."""
    leader: dict[int, int] = {}

    def find(row: int) -> int:
        while leader.setdefault(row, row) != row:
            row = leader[row]
        return row

    for pair in pairs:
        a, b = find(pair.a), find(pair.b)
        leader[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = {}
    for row in sorted(leader):
        members.setdefault(find(row), []).append(row)
    return sorted(members.values())


def _numbered(hashes: pl.Series) -> Rows:
    return hashes.rank("dense").to_numpy().astype(np.int64) - 1


def _first_of(numbers: Rows) -> Rows:
    """For each row the first row of the same number."""
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)
