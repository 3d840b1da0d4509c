"""A dataset under pseudonyms: from here on only the key's owner can tell who and what a row is."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from mococxr import console
from mococxr.datasets import Dataset
from mococxr.errors import InputError, Shown, message
from mococxr.privacy import LOOKUP, Key

KNOWN_WORDS = {
    "view": re.findall(
        r"\S+",
        "AP PA L R LL RL LLD RLD LLO RLO LAO RAO LPO RPO LAT LATERAL LEFT RIGHT FRONTAL OBLIQUE DECUBITUS AXIAL LORDOTIC "
        "APICAL SWIMMERS XTABLE HORIZONTAL VERTICAL SUPINE PRONE ERECT UPRIGHT STANDING SITTING LYING PORTABLE BEDSIDE "
        "INSPIRATION EXPIRATION CHEST THORAX COSTAL PEDIATRIC VIEW PROJECTION UNKNOWN UNK OTHER EXCLUDE POSTEROANTERIOR "
        "ANTEROPOSTERIOR GENERICA OBLICUA SEITLICH LIEGEND STEHEND SITZEND",
    ),
    # 0 1 2 9: ISO 5218
    "sex": re.findall(
        r"\S+", "M F W D O U X MALE FEMALE OTHER UNKNOWN INTERSEX NONBINARY DIVERS WEIBLICH MÄNNLICH 0 1 2 9"
    ),
}
"""Column of text -> the words that may stand in it; whatever else is written there may name a patient."""


@dataclass(frozen=True)
class Pseudonymisation:
    """What the pseudonyms of a dataset stand for.

    Args:
        key: makes them.
        table: a row a file, with the columns of the look-up table.
    """

    key: Key
    table: pl.DataFrame

    def patients(self, identities: pl.Series) -> pl.Series:
        """Pseudonyms of patients named in a table of the user's; one that is a pseudonym here stays."""
        known = identities.is_in(self.table["patient"].implode())
        new = self.key.names("patient", identities)
        return pl.select(pl.when(known).then(identities).otherwise(new)).to_series()

    def identities(self, patients: pl.Series) -> pl.Series:
        """What patients of the dataset are called in truth."""
        real = self.table.select("patient", "real_patient").drop_nulls().unique("patient")
        return patients.replace_strict(real["patient"], real["real_patient"])

    def discard_new_key(self) -> None:
        """Undo `save` where it made a new key: nothing has been written under it."""
        self.key.forget(self.table)

    def save(self) -> None:
        """Write the key, if it is new, and the look-up table, and say where they are."""
        self.key.keep()
        self.key.record(self.table)
        console.say(
            f"Patients, studies and images have pseudonyms. Keep key {self.key.path} and re-identification table "
            f"{self.key.lookup} private; never share them with recipients of the store."
        )


def pseudonymise(dataset: Dataset, key: Key, keep: tuple[str, ...]) -> tuple[Dataset, Pseudonymisation]:
    """Replace every identity of a dataset; rows are put in the order of the pseudonyms, which says nothing.

    Args:
        dataset: as its reader made it.
        key: makes the pseudonyms.
        keep: metadata columns of the user's table that may enter the store.

    Raises:
        InputError: a column to keep is not there.
    """
    kept = _metadata(dataset, keep)
    plain, blanked = _plain(dataset.rows)
    by_path = dataset.source + "/" + dataset.rows["path"]  # under one key, equal paths of two sources are two images
    rows = plain.with_columns(
        real_path="path",
        real_patient="patient",
        real_study="study",
        path=key.names("image", by_path if dataset.image_ids is None else dataset.image_ids),
        patient=key.names("patient", dataset.rows["patient"]),
        study=key.names("study", dataset.rows["study"]),
    ).sort("patient", "study", "path")
    rejected = _rejected(dataset, key)
    root = pl.lit(os.path.abspath(dataset.root)).alias("root")
    table = pl.concat([rows.rename({"path": "image"}), rejected.rename({"path": "image"})], how="diagonal")
    pseudonyms = Pseudonymisation(key, table.with_columns(root).select(LOOKUP))
    return dataclasses.replace(
        dataset,
        source=key.fingerprint,
        rows=rows.select(*(n for n in dataset.rows.columns if n not in dataset.metadata), *kept),
        metadata=kept,
        notes=_notes(dataset, kept, blanked),
        # names of tables may be a patient's
        inputs={f"table-{i}": sha256 for i, sha256 in enumerate(dataset.inputs.values(), 1)},
        file_paths=rows["real_path"],
        rejected=rejected.select("path", "reason"),
        image_ids=None,
    ), pseudonyms


def _plain(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows without free text: what is not made of known words is blank; and how many values that are, by column."""
    blanked = {}
    for column, words in KNOWN_WORDS.items():
        known = [text for text in rows[column].drop_nulls().unique() if _is_made_of(words, text)]
        stays = pl.col(column).is_in(known)
        if count := rows.filter(pl.col(column).is_not_null() & ~stays).height:
            blanked[column] = count
        rows = rows.with_columns(pl.when(stays).then(pl.col(column)).alias(column))
    return rows, blanked


def _is_made_of(words: Sequence[str], text: str) -> bool:
    return all(word in words for word in re.split(r"[\s_/-]+", text.upper().replace(".", "").strip()))  # A.P. is AP


def _metadata(dataset: Dataset, keep: tuple[str, ...]) -> tuple[str, ...]:
    for name in keep:
        if name not in dataset.metadata:
            raise InputError(
                "--keep {name}: there is no such column.",
                "Name one of the {count:,} columns of the table that are no labels, as its header writes it: {columns}.",
                name=Shown(name),
                count=len(dataset.metadata),
                columns=", ".join(dataset.metadata) or "none",
            )
    return tuple(name for name in dataset.metadata if name in {*keep, *dataset.safe})


def _rejected(dataset: Dataset, key: Key) -> pl.DataFrame:
    """`path, reason, real_path` of what is no image, in the order of the pseudonyms."""
    files = dataset.rejected
    if files is None:
        files = pl.DataFrame(schema={"path": pl.String, "reason": pl.String})
    named = key.names("file", dataset.source + "/" + files["path"])
    return files.with_columns(real_path="path", path=named).sort("path")


def _notes(dataset: Dataset, kept: tuple[str, ...], blanked: dict[str, int]) -> tuple[Shown, ...]:
    """What the reader had to say, without values that may name a patient, and what is not taken over."""
    notes = [Shown(note.redacted) for note in dataset.notes]  # readers quote values
    if dropped := [name for name in dataset.metadata if name not in kept]:
        text = "Columns dropped, as they may identify a patient: {count:,}; keep one with --keep COLUMN."
        notes.append(message(text, count=len(dropped)))
    text = "{count:,} values of {column} are free text, which may name a patient: they are blank in the store."
    notes += [message(text, count=count, column=Shown(column)) for column, count in blanked.items()]
    return tuple(notes)
