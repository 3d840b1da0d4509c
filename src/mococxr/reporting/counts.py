"""How many images and patients were labelled, scored and left out, by target and split."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mococxr.pages import format as fmt
from mococxr.pages.render import Column, Table, tabulate
from mococxr.reporting.headline import units
from mococxr.results import Row, StudyResults

SPLITS = {"train": "training", "val": "validation", "test": "test"}
REASONS = {"restricted": "outside of --where", "uncertain": "an uncertain label", "unlabelled": "no label"}
"""Why images of a split are left out: column of `flow.csv` -> words."""
MOST = 3
"""Targets whose counts stand in the paragraph; of more they stand in the table."""


def _rows(study: StudyResults) -> Iterator[Row]:
    """A row for each target and split: images and patients with a label that counts, by class; those left out."""
    for target in study.targets:
        facts = study.facts["targets"][target]
        for split, word in SPLITS.items():
            every = next(iter(study.rows("flow", target=target, split=split, label="all")), None)
            yield {"target": target, "split": word, "every": every} | {
                name: facts.get(f"{split}_{name}") for name in ("images", "patients", "positives", "negatives")
            }


def labelled(study: StudyResults) -> list[str]:
    """Sentences on the labels of each split; of many targets the range, with the table that has them all."""
    rows = list(_rows(study))
    if len(study.targets) > MOST:
        parts = [
            f"{word}, {fmt.span(row['images'] for row in rows if row['split'] == word)} images of "
            f"{fmt.span(row['patients'] for row in rows if row['split'] == word)} patients"
            for word in SPLITS.values()
        ]
        return [
            f"Images with a label, depending on the target: {'; '.join(parts)} (labelled.csv has each). "
            f"All labelled test images were scored{_joined(study)}."
        ]
    return [_sentence(study, target, [row for row in rows if row["target"] == target]) for target in study.targets]


def _sentence(study: StudyResults, target: str, rows: list[Row]) -> str:
    known = [row for row in rows if row["images"] is not None]
    text = (
        f"Labels of {target}: {'; '.join(_counts(study, row) for row in known)}. All labelled test images were scored"
    )
    out = [f"{row['split']}, {words}" for row in rows if (words := _left_out(row))]
    return f"{text}{_joined(study)}." + (f" Left out of {target}: {'; '.join(out)}." if out else "")


def _counts(study: StudyResults, row: Row) -> str:
    """`test, 512 images of 309 patients (300 positive)`."""
    patients = f" of {row['patients']:,} patients" if study.patients_known else ""
    return f"{row['split']}, {row['images']:,} images{patients} ({row['positives']:,} positive)"


def _joined(study: StudyResults) -> str:
    return (
        ""
        if study.facts["unit"] == "image"
        else f", and their scores joined by {study.facts['aggregate']} to {units(study)}"
    )


def _left_out(row: Row) -> str:
    """`12 images (2: an uncertain label, 10: no label) and with them 5 patients`; nothing where none is."""
    if row["every"] is None or row["patients"] is None:
        return ""
    parts = {words: row["every"][name] or 0 for name, words in REASONS.items()}
    why = ", ".join(f"{count:,}: {words}" for words, count in parts.items() if count)
    patients = row["every"]["patients"] - row["patients"]  # those of whom no image counts
    whole = f" and with them {patients:,} patient{'' if patients == 1 else 's'}" if patients > 0 else ""
    return f"{sum(parts.values()):,} images ({why}){whole}" if why else ""


def table(study: StudyResults) -> Table:
    """The same as a table, a row for each target and split."""
    columns: dict[str, Column] = {
        "Target": "target",
        "Split": "split",
        **{name.capitalize(): (name, fmt.count) for name in ("images", "patients", "positives", "negatives")},
        **{
            f"Left out: {words}": partial(_reason, name=name)
            for name, words in REASONS.items()
        },
    }  # fmt: skip
    note = "Images and patients with a label that counts; every one of the test split was scored."
    return tabulate(_rows(study), columns, 2, note)


def _reason(row: Row, name: str) -> str:
    return fmt.DASH if row["every"] is None else fmt.count(row["every"][name])
