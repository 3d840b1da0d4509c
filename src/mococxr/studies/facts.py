"""What the report must say besides numbers: data, splits, targets, arms, and what to be wary of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from mococxr.heads.targets import Target
from mococxr.store import Store

Facts = dict[str, Any]


def store_facts(store: Store) -> Facts:
    """Counts and names of the store, and of each split."""
    images = store.index.select("patient").join(store.splits, on="patient", how="left")
    splits = {
        name: {"images": len(part), "patients": part["patient"].n_unique()}
        for name in ("train", "val", "test")
        for part in (images.filter(pl.col("split") == name),)
    }
    paths = store.index["path"]
    return {
        "path_name": store.path.name,
        "source": store.source,
        "images": len(store),
        "patients": store.index["patient"].n_unique(),
        "patients_known": store.patients_known,
        "phantom": bool(store.manifest.get("phantom", paths.str.contains("phantom-").all())),
        "unreadable": int(store.quarantine["unreadable"].sum()),
        "not_used": int((~store.quarantine["unreadable"]).sum()),
        "splits": splits,
        "split_rule": store.manifest.get("split_rule"),
        "sha256": store.sha256,
    }


def target_facts(store: Store, target: Target) -> Facts:
    """Counts of one target, in training and test: images with a label that counts, their patients, by class."""
    counts: Facts = {}
    for split in ("train", "test"):
        rows = target.known(split)
        labels = target.labels[rows]
        patients = store.index["patient"].to_numpy()[rows]
        counts |= {f"{split}_images": len(rows), f"{split}_patients": len(set(patients.tolist()))}
        for word, value in (("positive", 1), ("negative", 0)):
            counts[f"{split}_{word}s"] = int((labels == value).sum())
            if split == "test":
                counts[f"test_{word}_patients"] = len(set(patients[labels == value].tolist()))
    return counts | {"unknown": target.unknown, "uncertain": target.uncertain}


def note_warnings(records: Sequence[Facts]) -> list[str]:
    """What training had to decide, each with the number of trials it concerns."""
    counts: dict[str, int] = {}
    for record in records:
        for note in record.get("notes", []):
            counts[f"{record['mode']}: {note}"] = counts.get(f"{record['mode']}: {note}", 0) + 1
    return [f"{note} ({count:,} trials)." for note, count in counts.items()]


def validation_labels(records: Sequence[Facts], modes: Sequence[str]) -> Facts:
    """The most validation labels that a trial of each mode used."""
    return {
        mode: max((r.get("validation_images", 0) for r in records if r["mode"] == mode), default=0)
        for mode in modes
    }


def calibration_labels(records: Sequence[Facts], targets: Sequence[str]) -> Facts:
    """Validation images whose labels chose calibration and threshold, after all training: no classifier saw them."""
    return {
        target: max((r.get("validation_scored", 0) for r in records if r["target"] == target), default=0)
        for target in targets
    }


def primary(cells: Sequence[Facts], arms: Sequence[str], reference: str) -> Facts | None:
    """The comparison of the verdict, by rule and not by result.

    The first target and mode, the first arm that is not the reference, the smallest fraction that is defined.
    """
    others = [name for name in arms if name != reference]
    if not cells or not others:
        return None
    first = cells[0]
    mine = [
        c
        for c in cells
        if c["arm"] == others[0] and c["target"] == first["target"] and c["mode"] == first["mode"]
    ]
    fractions = [c["fraction"] for c in mine if c.get("auroc") is not None] or [c["fraction"] for c in mine]
    return {"target": first["target"], "mode": first["mode"], "fraction": min(fractions), "arm": others[0]}
