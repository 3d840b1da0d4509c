"""Who trains, who validates, who tests, and whose labels a study may use: always by patient, always seeded.

Nothing here depends on the order of rows: patients are hashed one by one, or sorted before anything is drawn.
"""

from __future__ import annotations

import hmac
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from mococxr.errors import InputError, Shown, UndefinedError

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
               "validate": "val", "test": "test", "testing": "test"}  # fmt: skip
"""Words that name a split, in lower case -> the split."""
_BLOCK = 10
"""Neighbouring patients among whom the splits are shuffled; small, so that strata stay even."""


def hashed_split(patients: pl.Series, shares: Sequence[float], seed: int) -> pl.DataFrame:
    """Give each patient a split by its identifier and the seed alone: whoever else is there, and whatever the labels.

    HMAC-SHA256 of the identifier, under the seed as key, is a number in 0..1; the shares, one after the other, divide
    that range. So they are met in expectation.

    Args:
        patients: identifiers as their owner writes them; the same one may come often.
        shares: of train, val and test, in 0..1, adding up to 1.
        seed: another seed gives another split.

    Returns:
        `patient, split`, sorted by patient.

    Raises:
        InputError: impossible shares.

    >>> hashed_split(pl.Series(["b", "a", "b"]), (0.5, 0.1, 0.4), 0).rows()
    [('a', 'train'), ('b', 'test')]
    """
    filled = _filled(shares)
    names = patients.unique().sort()
    # the last sum may miss 1 by rounding: the rest is the last split's
    limits = np.cumsum([shares[i] for i in filled])[:-1]
    key = f"mococxr split {seed}".encode()
    digests = (hmac.digest(key, name.encode(), "sha256") for name in names)
    at = np.fromiter((int.from_bytes(digest[:8], "big") for digest in digests), np.uint64, len(names)) / 2.0**64
    parts = [SPLITS[filled[i]] for i in np.searchsorted(limits, at, side="right").tolist()]
    return pl.DataFrame({"patient": names, "split": pl.Series(parts, dtype=pl.String)})


def filling_seed(patients: pl.Series, shares: Sequence[float], tries: int = 200) -> int | None:
    """The first seed by which `hashed_split` leaves no split with a share empty, or None."""
    needed = len(_filled(shares))
    if patients.n_unique() > 1000:  # of so many only a share of next to nothing gets none
        return None
    return next((n for n in range(tries) if hashed_split(patients, shares, n)["split"].n_unique() == needed), None)


def stratified_split(rows: pl.DataFrame, labels: Sequence[str], shares: Sequence[float], seed: int) -> pl.DataFrame:
    """Deal patients out to train, val and test in exact shares, as even as possible in every label.

    Patients are sorted by their labels (positive, known, unknown), the rarest finding first, in random order
    where they are equal. Then they are dealt out in turn, at random within each ten.

    Args:
        rows: one row an image, with `patient` and the label columns (1, 0, -1 or null); a patient with one
            positive image is positive.
        labels: label columns to stratify by.
        shares: of train, val and test, in 0..1, adding up to 1. A share above 0 means at least one patient.
        seed: another seed gives another split.

    Returns:
        `patient, split`, sorted by patient.

    Raises:
        InputError: impossible shares, or fewer patients than splits.
    """
    states = _states(rows, labels)
    counts = _counts(len(states), shares)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(states))
    keys = [states[name].to_numpy()[shuffled] for name in _rarest_first(states, labels)]
    order = shuffled[np.lexsort(keys[::-1])] if keys else shuffled  # lexsort sorts by its last key first
    split = np.empty(len(states), dtype=np.int64)
    split[order] = _stratified_order(counts, rng)
    return states.select("patient", split=pl.Series([SPLITS[s] for s in split.tolist()], dtype=pl.String))


def _states(rows: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """Per patient and label: 2 has a positive image, 1 has an image with a known value, 0 has neither."""
    # A positive image is a known one, so that the two add up.
    state = [
        (pl.col(name).is_not_null().any().cast(pl.Int8) + (pl.col(name) == 1).any().cast(pl.Int8)).alias(name)
        for name in labels
    ]
    return rows.group_by("patient").agg(state).sort("patient")  # group_by keeps no order


def _rarest_first(states: pl.DataFrame, labels: Sequence[str]) -> list[str]:
    return sorted(labels, key=lambda name: (int((states[name] == 2).sum()), name))


def _counts(patients: int, shares: Sequence[float]) -> list[int]:
    """Patients a split, by largest remainder; every share above 0 gets one, from the largest split."""
    filled = _filled(shares)
    refuse_few(patients, shares)
    exact = [share * patients for share in shares]
    counts = [int(np.floor(x + 1e-9)) for x in exact]  # 0.29 x 100 is 28.999999999999996
    by_remainder = sorted(filled, key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: patients - sum(counts)]:
        counts[i] += 1
    for i in filled:
        if counts[i] == 0:
            counts[counts.index(max(counts))] -= 1
            counts[i] = 1
    return counts


def _filled(shares: Sequence[float]) -> list[int]:
    """Numbers of the splits that have a share.

    Raises:
        InputError: impossible shares.
    """
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) < 1e-6:
        raise InputError(
            "--split cannot be {shares}.",
            "Give three shares that are not negative and add up to 1, e.g. 0.5 0.1 0.4.",
            shares=Shown(" ".join(f"{share:g}" for share in shares)),
        )
    return [i for i, share in enumerate(shares) if share > 0]


def refuse_few(patients: int, shares: Sequence[float]) -> None:
    """Refuse fewer patients than splits that have a share.

    Raises:
        InputError: so few, or impossible shares.
    """
    if patients < (count := len(_filled(shares))):
        raise InputError(
            "{patients} patients cannot fill {count} splits.",
            "Give more patients, or a share of 0 for a split that may stay empty (--split). Where an anonymiser wrote one "
            "identifier into all images, --patients-unknown lets each study, or else each image, count as a patient.",
            patients=patients,
            count=count,
        )


def _stratified_order(counts: Sequence[int], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Split numbers in dealing order: each spread evenly over the whole, then shuffled in small blocks."""
    split = np.repeat(np.arange(len(counts)), counts)
    position = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in counts])  # middles of n equal parts of 0..1
    dealt = split[np.argsort(position, kind="stable")]
    for start in range(0, len(dealt), _BLOCK):
        rng.shuffle(dealt[start : start + _BLOCK])
    return dealt


def explicit_split(
    table: pl.DataFrame, patients: pl.Series, name: str, rest: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, int, int]:
    """A split that somebody stated: checked, and reduced to the patients there are.

    Args:
        table: `patient, split` (one of `SPLITS`), any number of rows a patient; rows that lack either say nothing.
        patients: the patients that need a split.
        name: what the table is called in messages, e.g. its file name.
        rest: `patient, split` of all patients, for those that the table does not name; None where it must name all.

    Returns:
        `patient, split` sorted by patient; how many of them come from `rest`; how many patients of the table are not
        among `patients`.

    Raises:
        InputError: a patient in two splits, a patient without one, or a table that names nobody who is here; each names
            the culprit.
    """
    stated = table.select("patient", "split").with_row_index("row", offset=1).drop_nulls()
    _check_one_each(stated, name)
    needed = patients.unique().sort()
    absent = needed.filter(~needed.is_in(stated["patient"].unique().implode()))
    if len(absent) and (rest is None or len(absent) == len(needed)):
        raise InputError(
            "{name} has no split for {count:,} patients, e.g. {patient!r}.",
            "Give each of them one of {names}, or a table of patients that may leave some out (--split-file).",
            name=name,
            count=len(absent),
            patient=absent[0],
            names=Shown(", ".join(SPLITS)),
        )
    # rows of one patient agree: checked above
    chosen = stated.unique("patient").filter(pl.col("patient").is_in(needed.implode())).select("patient", "split")
    unused = stated["patient"].n_unique() - len(chosen)
    if rest is not None:
        chosen = pl.concat([chosen, rest.filter(pl.col("patient").is_in(absent.implode()))])
    return chosen.sort("patient"), len(absent), unused


def _check_one_each(stated: pl.DataFrame, name: str) -> None:
    several = (
        stated.group_by("patient")
        .agg(pl.col("split").n_unique().alias("splits"), pl.col("row").sort(), pl.col("split").unique().sort())
        .filter(pl.col("splits") > 1)
        .sort("patient")
    )
    if len(several):
        patient, _, rows, splits = several.row(0)
        shown = ", ".join(map(str, rows[:5]))
        raise InputError(
            "{name}: patient {patient!r} is in {splits} (rows {rows}).",
            "A patient belongs to one split, or the test would be on known people.",
            name=name,
            patient=patient,
            splits=Shown(" and ".join(splits)),
            rows=Shown(shown),
        )


def sample_patients(table: pl.DataFrame, fraction: float, draw: int, seed: int) -> list[str]:
    """Draw the patients whose labels may be used, at one label fraction.

    Draws are nested: at equal `draw` and `seed` a smaller fraction is a subset of a larger one. The first
    patient of each class in the draw's order stands at its front, so both classes are in every fraction.

    Args:
        table: `patient, label` with 1 or 0, one row a labelled training image; one positive image makes a
            patient positive.
        fraction: share of the labelled patients, above 0 and up to 1; at least two are drawn.
        draw: number of the draw, from 0.
        seed: the study's seed.

    Returns:
        max(2, round(fraction * labelled patients)) patients, in the order of the draw.

    Raises:
        UndefinedError: the labelled patients are all of one class.
        ValueError: the fraction is out of range, or a label is neither 1 nor 0.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction is {fraction}; it lies above 0 and up to 1")
    if not table["label"].is_in([0, 1]).all() or table["label"].null_count():
        raise ValueError("a label is neither 1 nor 0")
    # Sorted, since group_by keeps no order and the draw must not hang on one.
    known = table.group_by("patient").agg(pl.col("label").max()).sort("patient")
    positives = int(known["label"].sum())
    if positives in (0, len(known)):
        lacking = "positive" if positives == 0 else "negative"
        raise UndefinedError(f"none of the {len(known):,} labelled training patients is {lacking}")
    order = np.random.default_rng([seed, draw]).permutation(len(known))
    label = known["label"].to_numpy()[order]
    other = int(np.flatnonzero(label != label[0])[0])  # the first patient of the other class
    order = np.concatenate([order[[0, other]], np.delete(order, [0, other])])
    count = max(2, round(fraction * len(known)))
    return known["patient"].gather(order[:count].tolist()).to_list()


PAPER_SHARES = ((0.001, 5), (0.01, 5), (0.1, 5), (0.5, 5), (1.0, 1))
"""Shares and draws of the paper's one walk through its table, in the order in which it asks for numbers."""


def paper_draws(rows: int, fraction: float, draws: int, seed: int = 0) -> list[npt.NDArray[np.int64]]:
    """The paper's draws of labels: row by row by chance, not by patient, neither stratified nor nested.

    The released code of arXiv 2010.05352 walks through the table with Python's `random.seed(0)` and asks, for
    each row, share and draw of `PAPER_SHARES` in this order, whether `random.random()` is below the share. Draws of
    `PAPER_SHARES` come from that walk whatever else is asked for. Every other share or draw comes from a walk of its
    own, seeded with the share in millionths, the draw and `seed`; at 1 it is every row.

    Args:
        rows: of the table.
        fraction: share of the rows, above 0 and up to 1.
        draws: how many.
        seed: of the draws that are not the paper's.

    Returns:
        Row numbers in order, for each draw.
    """
    widths = [count for _, count in PAPER_SHARES]
    paper_count = dict(PAPER_SHARES).get(fraction, 0)
    drawn = []
    if paper_count:
        before = [share for share, _ in PAPER_SHARES].index(fraction)
        walk = _as_python_draws(0).random((rows, sum(widths)))  # filled row by row, as their loop asks
        columns = walk[:, sum(widths[:before]) :][:, : min(draws, paper_count)]
        drawn = [np.flatnonzero(column < fraction) for column in columns.T]
    for draw in range(len(drawn), draws):
        rng = np.random.default_rng([round(fraction * 1e6), draw, seed])
        drawn.append(np.flatnonzero(rng.random(rows) < fraction))
    return drawn


def _as_python_draws(seed: int) -> np.random.Generator:
    """A Mersenne twister of numpy in the state of Python's: its numbers are those of `random.Random(seed).random()`."""
    *key, position = random.Random(seed).getstate()[1]  # 624 words and the place among them
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": np.array(key, dtype=np.uint32), "pos": position}}
    return np.random.Generator(twister)  # both make a double of two 32-bit numbers in the same way
