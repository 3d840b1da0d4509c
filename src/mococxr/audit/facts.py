"""Everything that `inspect` finds, gathered: the flags, and the facts that the page and the JSON file say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from mococxr import files
from mococxr.audit import labels, pose, text
from mococxr.audit.copies import copies_across, copies_within
from mococxr.audit.flags import KINDS, Flagger, to_frame
from mococxr.audit.measure import STATISTICS, measure, only_prints
from mococxr.store import Store

SHORTCUT = (
    "Report results within one value of the column too (--where COLUMN=VALUE), or balance it before training."
)
_PATIENTS = ("patient-in-two-splits", "patient-in-both-stores", "no-split")
"""Findings that are counted in patients."""


@dataclass(frozen=True)
class Found:
    """`facts`: the JSON file's content; `flags`: a row for each flag of each image."""

    facts: dict[str, Any]
    flags: pl.DataFrame


def gather(store: Store, other: Store | None, jobs: int) -> Found:
    """Look at the images, compare them, count, and draw the conclusions.

    Args:
        store: the store.
        other: one that should share nothing with it, or None.
        jobs: processes.
    """
    flagger = Flagger(store)
    measured = measure(store, jobs)
    copies = copies_within(store, measured.prints, measured.table["blank"].to_numpy())
    rows = flagger.quarantined() + flagger.splitting() + flagger.looks(measured) + flagger.copied(copies)
    if other is not None:
        rows += flagger.shared(other, copies_across(store, measured.prints, other, only_prints(other)))
    flags = to_frame(rows)
    words = measured.table["strokes"] >= text.WORD
    columns = labels.columns(store, words if words.any() else None)
    shortcuts = labels.shortcuts(store, columns)
    findings = _findings(flags, sum(one.warns for one in shortcuts))
    attention = [one for one in findings if one["attention"]]
    facts = {
        "verdict": _verdict(attention, len(store)),
        "exit_status": 3 if attention else 0,
        "store": _about(store, flagger),
        "against": None if other is None else _about(other, Flagger(other)),
        "findings": findings,
        "not_judged": _not_judged(store, measured.unjudged),
        "counts": labels.count(columns),
        "labels": labels.label_table(store),
        "labels_together": labels.together(store),
        "shortcuts": [
            {"label": one.label, "column": one.column, "auroc": one.auroc, "warns": one.warns, "enough": one.enough,
             "rates": [{"value": value, "positive": rate, "images": n} for value, rate, n in one.rates]}
            for one in shortcuts
        ],
        "pixels": labels.pixel_table(measured.table.select(STATISTICS)),
    }  # fmt: skip
    return Found(facts, flags)


def _about(store: Store, flagger: Flagger) -> dict[str, Any]:
    """A store's name, size and provenance."""
    changed = [
        name
        for name in ("index.parquet", "splits.csv", "quarantine.csv")
        if files.sha256_file(store.path / name) != store.manifest["hashes"]["files"][name]
    ]
    return {
        "name": store.path.name,
        "sha256": store.sha256,
        "source": store.source,
        "reader": store.manifest["reader"],
        "phantom": bool(store.manifest["phantom"]),
        "images": len(store),
        "patients": len(set(flagger.patients)) if store.patients_known else None,
        "quarantined": len(flagger.quarantined()),
        "size": store.manifest["size"],
        "split_rule": store.manifest["split_rule"],
        "blank": store.blank,
        "changed_since_prepare": changed,
    }


def _findings(flags: pl.DataFrame, shortcuts: int) -> list[dict[str, Any]]:
    """What was found, in the order of `KINDS`; nothing where there is none of a kind."""
    found = []
    for kind in KINDS:
        rows = flags.filter(pl.col("flag") == kind.flag)
        if len(rows):
            patients = rows["patient"].n_unique() if rows["patient"].null_count() == 0 else None
            counted = patients if kind.flag in _PATIENTS else len(rows)
            found.append(
                {"flag": kind.flag, "attention": kind.attention, "count": counted, "images": len(rows),
                 "patients": patients, "what": kind.what, "do": kind.do}
            )  # fmt: skip
    if shortcuts:
        found.append(
            {"flag": "shortcut", "attention": False, "count": shortcuts, "images": None, "patients": None,
             "what": f"labels that a column alone tells with an AUROC of {labels.WARN:.2f} or more", "do": SHORTCUT}
        )  # fmt: skip
    return found


def _verdict(attention: list[dict[str, Any]], images: int) -> str:
    if not attention:
        return f"Nothing in these {images:,} images needs attention."
    named = [f"{one['what'].split(':')[0].split(' (')[0]} ({one['count']:,})" for one in attention]
    more = f" and {len(named) - 4} more" if len(named) > 4 else ""
    noun = "finding needs" if len(named) == 1 else "findings need"
    return f"{len(named)} {noun} attention before training: {', '.join(named[:4])}{more}."


def _not_judged(store: Store, unjudged: dict[str, int]) -> list[str]:
    """What could not be looked at, and why, in sentences."""
    said = []
    if unjudged["pose"]:
        said.append(
            f"Pose and inversion of {unjudged['pose']:,} lateral images: fewer than {pose.ENOUGH} to learn from."
        )
    if unjudged["chest"]:
        said.append(
            f"Whether {unjudged['chest']:,} images show a chest: fewer than {pose.ENOUGH} of their view to learn from."
        )
    if unjudged["text"]:
        said.append(
            f"Burned-in text on {unjudged['text']:,} images: their shorter side is under {text.LEAST} px. Prepare "
            f"with --size {text.SIDE} to have it looked for."
        )
    if not store.patients_known:
        said.append("Patients in several splits: patients are not known, each image counts as one.")
    return said
