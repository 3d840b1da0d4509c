"""Which split `prepare` uses: a stated one before the table's own, that before shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mococxr import console
from mococxr.datasets import Cohort
from mococxr.datasets.tables import read_table
from mococxr.preparation import split_lists
from mococxr.splits import given_splits, split_patients


@dataclass(frozen=True)
class Division:
    """A decision on the split, made and checked before any image is decoded.

    Args:
        rule: the decision in words.
        stated: `patient, split` of every patient, or None for shares.
        shares: of train, val and test.
        seed: of the split by shares.
    """

    rule: str
    stated: pl.DataFrame | None
    shares: tuple[float, float, float]
    seed: int

    def of(self, rows: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
        """`patient, split` for the patients of these rows."""
        if self.stated is None:
            return split_patients(rows, labels, self.shares, self.seed)
        return self.stated.filter(pl.col("patient").is_in(rows["patient"].unique().implode()))


def decide(
    cohort: Cohort,
    split_file: Path | None,
    shares: tuple[float, float, float],
    seed: int,
    known_as: Callable[[pl.Series], pl.Series] | None = None,
) -> Division:
    """Decide, and say what of a stated split is not used.

    Args:
        cohort: whose patients are divided.
        split_file: a stated split.
        shares: of train, val and test.
        seed: of the split by shares.
        known_as: patients as the split file names them -> as the cohort does, where it uses pseudonyms.

    Raises:
        InputError: a stated split does not fit the patients, or shares are impossible.
    """
    if split_file is None and not cohort.has_official_split:
        words = " ".join(f"{share:g}" for share in shares)
        division = Division(
            f"by shares {words} of the patients, even in the labels, seed {seed}", None, shares, seed
        )
        division.of(cohort.rows, cohort.labels)
        return division
    if split_file is None:
        table, name = cohort.rows.select("patient", "split"), "the table's own split"
        rule = "as stated by the data set or its table"
    else:
        if split_lists.is_lists(split_file):
            table = split_lists.read_lists(split_file, cohort)
        else:
            read = read_table(split_file)
            table = read.frame.select(patient=read.column("patient"), split=read.column("split"))
        name, rule = split_file.name, f"as stated in {split_file.name}"
        if known_as is not None:
            table = table.with_columns(patient=known_as(table["patient"]))
            name, rule = "the split file", "as stated in a file"
    stated, notes = given_splits(table, cohort.rows["patient"], name)
    for note in notes:
        console.say(note)
    return Division(rule, stated, shares, seed)
