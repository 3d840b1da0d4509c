"""Flow and characteristics of a study's images: by target and split, which are left out and why, and who is in it."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from mococxr.heads.targets import UNCERTAIN_CLASS, Target
from mococxr.results import Row as Record
from mococxr.store import Store
from mococxr.studies.design import Design

GROUPS = {"positive": 1, "negative": 0}


def flow_rows(design: Design) -> list[Record]:
    """Rows of `flow.csv`: for each target and split all images of the split, then those that count, by label.

    Training and validation are of the store that trains, test of the one that is judged.
    """
    parts = (("train", design.train), ("val", design.train), ("test", design.test))
    return [
        row
        for name in design.targets
        for split, data in parts
        for row in split_rows(data.store, data.targets[name], split)
    ]


def split_rows(store: Store, target: Target, split: str) -> Iterator[Record]:
    """The rows of one target and split."""
    every, known = store.rows_in(split), target.known(split)
    names = {"target": target.name, "split": split}
    reasons = {
        name: int((target.left_out[every] == code).sum())
        for code, name in enumerate(("restricted", "uncertain", "unlabelled"), start=1)
    }
    if split != "train":  # a class of its own in training, and never judged
        reasons["uncertain"] += int((target.labels[every] == UNCERTAIN_CLASS).sum())
    yield names | {"label": "all"} | _described(store.index[every]) | reasons
    for word, value in GROUPS.items():
        yield names | {"label": word} | _described(store.index[known[target.labels[known] == value]])


def _described(index: pl.DataFrame) -> Record:
    """Counts of images, patients and studies; age, sex, view and device of those whose is known."""
    row: Record = {"images": index.height, "patients": index["patient"].n_unique()}
    # A study counts within its patient.
    row["studies"] = index.drop_nulls("study").select("patient", "study").n_unique() or None
    ages = index["age"].cast(pl.Float64, strict=False).drop_nulls()  # text that is no number is an unknown age
    if len(ages):
        row |= {"age_median": ages.median(), "age_q1": ages.quantile(0.25), "age_q3": ages.quantile(0.75)}
    for name in ("sex", "view", "device"):
        row[name] = _counts(index[name]) if name in index.columns else None
    return row


def _counts(values: pl.Series) -> str | None:
    """`F 120, M 98, not known 4`, the most frequent first; None where nothing is known."""
    known = values.cast(pl.String).drop_nulls()  # as text, whatever type the store has
    if not len(known):
        return None
    counts = known.value_counts(name="count").sort(["count", values.name], descending=[True, False])
    texts = [f"{value} {count:,}" for value, count in counts.rows()[:8]]
    texts += [f"{counts.height - 8} others"] if counts.height > 8 else []
    return ", ".join([*texts, *([f"not known {missing:,}"] if (missing := len(values) - len(known)) else [])])
