"""What is known of a folder before anything is made of it: its reader, images, patients, labels and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mococxr import tables
from mococxr.datasets import Dataset, read_dataset
from mococxr.errors import InputError
from mococxr.heads.targets import read_target
from mococxr.preparation.split_plan import SplitPlan, decide
from mococxr.settings import PrepareSettings, RunSettings, nearest
from mococxr.splits import SPLITS
from mococxr.store import Store
from mococxr.tables import findings
from mococxr.workers import cores

LEAST = 2
"""Patients of each class that a split should have: with fewer the split is stratified."""


@dataclass(frozen=True)
class Facts:
    """What a plan is made from.

    Args:
        reader: the kind of data set, as `--format` has it.
        recognised: the same in a sentence, with the reason.
        origin: where the patients come from, as a store names it.
        target: the label to predict; None where there is none, or several and none was named.
        findings: label -> positive images.
        labels: of the target, in images: positive, negative, uncertain, blank.
        splits: train, val, test -> images, patients, and of the target positive_patients, negative_patients, labelled.
        options: settings of `prepare` beyond its defaults.
        notes: why they are so.
    """

    reader: str
    recognised: str
    origin: str
    images: int
    patients: int
    patients_known: bool
    target: str | None
    findings: dict[str, int]
    labels: dict[str, int]
    splits: dict[str, dict[str, int]]
    options: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the target has both classes."""
        return bool(self.labels) and min(self.labels["positive"], self.labels["negative"]) > 0


def read_source(s: RunSettings) -> Dataset:
    """The rows of the source; no image is decoded.

    Raises:
        InputError: as `read_dataset`.
    """

    def read(label: tuple[str, ...]) -> Dataset:
        return read_dataset(
            s.source, format=s.format, labels=s.labels, label=label, label_key=s.label_key,
            patients_unknown=s.patients_unknown, jobs=s.jobs or cores(),
        )  # fmt: skip

    dataset = read(())
    # labels in words are labels only where they are named
    return read((s.target,)) if s.target in dataset.metadata else dataset


def facts_of(dataset: Dataset, s: RunSettings) -> Facts:
    """What is known of a source before it is prepared.

    Raises:
        InputError: a target that it does not have, or too few patients to split.
    """
    target = _target(dataset.labels, [*dataset.labels, *dataset.metadata, *_fixed(dataset)], s)
    values = None if target is None else _values(dataset, target)
    rows = dataset.rows.select("patient").with_columns(label=pl.lit(None, pl.Int8) if values is None else values)
    options = _options(dataset, s)
    split, extra, notes = _split(dataset, rows, target)
    return Facts(
        reader=dataset.name,
        recognised=_recognised(dataset, s.format),
        origin=dataset.source,
        images=len(rows),
        patients=rows["patient"].n_unique(),
        patients_known=dataset.patients_known,
        target=target,
        findings={name: int((dataset.rows[name] == 1).sum()) for name in dataset.labels},
        labels={} if target is None else _counts(rows["label"]),
        splits=_by_split(rows.join(split, on="patient", how="left")),
        options=options | extra,
        notes=notes,
    )


def facts_of_store(store: Store, before: Facts, s: RunSettings) -> Facts:
    """The same of a store that was prepared, with the labels that it has by now.

    Args:
        before: what was known of its source.
    """
    target = _target(store.labels, store.index.columns, s)
    labels = None if target is None else read_target(store, target).labels
    column = pl.Series("label", [None] * len(store) if labels is None else labels, dtype=pl.Int8)
    rows = store.index.select("patient").with_columns(column.replace(-1, None))
    return Facts(
        reader=before.reader,
        recognised=before.recognised,
        origin=store.source,
        images=len(store),
        patients=rows["patient"].n_unique(),
        patients_known=store.patients_known,
        target=target,
        findings={name: int((store.index[name] == 1).sum()) for name in store.labels},
        labels={} if target is None else _counts(rows["label"]),
        splits=_by_split(rows.join(store.splits, on="patient", how="left")),
        options=before.options,
        notes=before.notes,
    )


def _recognised(dataset: Dataset, asked: str) -> str:
    """The first note where the layout was detected; of an archive without names, which may be those of patients."""
    if asked != "auto" or not dataset.notes:
        return f"The source is read as {dataset.name}."
    return dataset.notes[0].redacted if dataset.name == "dicom" else str(dataset.notes[0])


def _fixed(dataset: Dataset) -> list[str]:
    return [name for name in ("view", "sex") if dataset.rows[name].null_count() < len(dataset.rows)]


def _target(labels: Sequence[str], columns: Sequence[str], s: RunSettings) -> str | None:
    """The label to predict: the one that was named, or the only one.

    Raises:
        InputError: it was named, and there are others only.
    """
    if s.target is None:
        return labels[0] if len(labels) == 1 else None
    column = min((s.target.partition(sign)[0] for sign in "=~"), key=len)
    if s.target in labels or (column in columns and column != s.target):
        return s.target
    if not labels:  # it is still to be labelled
        return None
    raise InputError(f"--target {s.target}: {s.source} has no such label.", nearest(s.target, {*labels, *columns}))


def _values(dataset: Dataset, target: str) -> pl.Series:
    """1, 0, -1 or null for each row, as `study` will read them but for rarities."""
    if target in dataset.labels:
        blank = 0 if dataset.blank_means == "negative" else None
        return dataset.rows[target].cast(pl.Int8).fill_null(blank) if blank is not None else dataset.rows[target]
    sign = "~" if "~" in target else "="
    column, _, value = target.partition(sign)
    text = dataset.rows[column].cast(pl.String)
    known = tables.identifiers(text).is_not_null()
    holds = findings.holds(text, value) if sign == "~" else text == value
    return pl.DataFrame({"holds": holds.cast(pl.Int8), "known": known}).select(
        pl.when("known").then("holds").alias("label")
    )["label"]


def _options(dataset: Dataset, s: RunSettings) -> dict[str, object]:
    """Settings of `prepare` that follow from what the user said."""
    options: dict[str, object] = {"labels": s.labels, "label_key": s.label_key, "key": s.key}
    options["format"] = None if s.format == "auto" else s.format
    if s.target in dataset.labels and len(dataset.labels) == 1:
        options["label"] = [s.target]  # or labels in words would be metadata
    options["patients_unknown"] = s.patients_unknown or None
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items() if value}


def _split(
    dataset: Dataset, rows: pl.DataFrame, target: str | None
) -> tuple[pl.DataFrame, dict[str, object], tuple[str, ...]]:
    """`patient, split` as `prepare` will make it, the settings that make it so, and why they are not the defaults."""
    shares = PrepareSettings.split  # the default
    plan = decide(dataset, None, shares, 0)
    if plan.shares is None:  # stated by the data set
        return plan.assign(dataset.rows, dataset.labels), {}, ()
    split = plan.assign(dataset.rows, dataset.labels)
    if target in dataset.labels and _too_few(rows.join(split, on="patient")):
        even = decide(dataset, None, shares, 0, stratify=True).assign(dataset.rows, dataset.labels)
        note = f"So few labels that the split is stratified: by patient at random a split could lack {target}."
        return even, {"stratify": True}, (note,)
    return _filled(dataset, plan, split, shares)


def _filled(
    dataset: Dataset, plan: SplitPlan, split: pl.DataFrame, shares: tuple[float, float, float]
) -> tuple[pl.DataFrame, dict[str, object], tuple[str, ...]]:
    """The split by the first seed that leaves no split empty."""
    seed = plan.seed_that_fills
    if seed is None:
        return split, {}, ()
    filled = decide(dataset, None, shares, seed).assign(dataset.rows, dataset.labels)
    return filled, {"split_seed": seed}, (f"So few patients that --split-seed is {seed}, which fills every split.",)


def _too_few(rows: pl.DataFrame) -> bool:
    """Whether training or test images lack a class that there is enough of."""
    total = _by_class(rows)
    enough = min(total.values()) >= 2 * LEAST
    parts = [_by_class(rows.filter(pl.col("split") == name)) for name in ("train", "test")]
    return enough and any(min(part.values()) < LEAST for part in parts)


def _by_class(rows: pl.DataFrame) -> dict[str, int]:
    return {
        f"{name}_patients": rows.filter(pl.col("label") == value)["patient"].n_unique()
        for name, value in (("positive", 1), ("negative", 0))
    }


def _by_split(rows: pl.DataFrame) -> dict[str, dict[str, int]]:
    parts = {name: rows.filter(pl.col("split") == name) for name in SPLITS}
    return {
        name: {
            "images": len(part),
            "patients": part["patient"].n_unique(),
            "labelled": int(part["label"].is_in([0, 1]).sum()),
            **_by_class(part),
        }
        for name, part in parts.items()
    }


def _counts(labels: pl.Series) -> dict[str, int]:
    known = {
        name: int((labels == value).sum()) for name, value in (("positive", 1), ("negative", 0), ("uncertain", -1))
    }
    return known | {"blank": labels.null_count()}
