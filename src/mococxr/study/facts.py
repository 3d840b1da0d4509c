"""What the report must say besides numbers: data, splits, targets, arms, and what to be wary of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.errors import InputError
from mococxr.files import read_json
from mococxr.store import Store
from mococxr.study.plan import Arm
from mococxr.targets import Target

Facts = dict[str, Any]


def store_facts(store: Store) -> Facts:
    """Counts and names of the store, and of each split."""
    films = store.index.select("patient").join(store.splits, on="patient", how="left")
    splits = {
        name: {"films": len(part), "patients": part["patient"].n_unique()}
        for name in ("train", "val", "test")
        for part in (films.filter(pl.col("split") == name),)
    }
    paths = store.index["path"]
    return {
        "path_name": store.path.name,
        "source": store.source,
        "films": len(store),
        "patients": store.index["patient"].n_unique(),
        "patients_known": store.patients_known,
        "phantom": bool(store.manifest.get("phantom", paths.str.contains("phantom-").all())),
        "quarantined": store.manifest["counts"].get("quarantined"),
        "splits": splits,
        "split_rule": store.manifest.get("split_rule"),
        "sha256": store.sha256,
    }


def target_facts(store: Store, target: Target) -> Facts:
    """Counts of one target."""
    counts: Facts = {}
    for split in ("train", "test"):
        rows = target.known(split)
        labels = target.labels[rows]
        patients = store.index["patient"].to_numpy()[rows]
        for word, value in (("positive", 1), ("negative", 0)):
            counts[f"{split}_{word}s"] = int((labels == value).sum())
            if split == "test":
                counts[f"test_{word}_patients"] = len(set(patients[labels == value].tolist()))
    return counts | {"unknown": target.unknown, "uncertain": target.uncertain}


def arm_facts(store: Store, arm: Arm) -> Facts:
    """Where an arm comes from; what its runs did not record is null."""
    source = arm.sources[0]
    runs = [_run_record(one.path) for one in arm.sources if one.path is not None]
    first = runs[0] if runs else {}
    seconds = [run["seconds"] for run in runs if isinstance(run.get("seconds"), int | float)]
    verdicts = list(dict.fromkeys(str(run["verdict"]) for run in runs if run.get("verdict")))
    return {
        "encoder": ", ".join(arm.runs),
        "kind": source.kind,
        "init": (first.get("init") or _setting(first, "init")) if source.kind == "run" else source.kind,
        "timm": source.spec.timm,
        "size": source.spec.size,
        "pretrained_on": _pretrained_on(store, first),
        "runs": len(arm.sources),
        "verdict": "; ".join(verdicts) or None,
        "seconds": sum(seconds) / len(seconds) if seconds else None,
    }


def _setting(record: Facts, name: str) -> Any:
    settings = record.get("settings")
    return settings.get(name) if isinstance(settings, dict) else None


def _run_record(folder: Path) -> Facts:
    try:
        record = read_json(folder / "run.json")
    except InputError:
        return {}
    return record if isinstance(record, dict) else {}


def _pretrained_on(store: Store, record: Facts) -> Facts | None:
    before = record.get("pretrained_on")
    if not isinstance(before, dict):
        return None
    names = before.get("source")
    names = names if isinstance(names, list) else [names]
    source = store.source if store.source in names else ", ".join(str(name) for name in names if name) or None
    return {"source": source} | {name: before.get(name) for name in ("films", "patients", "splits")}


def overlap_warnings(store: Store, arms: Sequence[Arm]) -> list[str]:
    """How many test patients of this store each arm's pretraining saw, where its runs tell."""
    test = set(store.splits.filter(pl.col("split") == "test")["patient"].to_list())
    warnings = []
    for arm in arms:
        for name, source in zip(arm.runs, arm.sources, strict=True):
            if source.path is None:
                continue
            seen = _patients_seen(source.path, store.source)
            if seen is None:
                warnings.append(
                    f"Run {name} of arm {arm.name} does not say whose films it was pretrained on."
                )
            elif both := len(test & seen):
                warnings.append(
                    f"TEST PATIENTS SEEN: run {name} of arm {arm.name} was pretrained on films of {both:,} "
                    f"of the {len(test):,} test patients (without labels). Its scores may be too high."
                )
    return warnings


def _patients_seen(folder: Path, source: str) -> set[str] | None:
    path = folder / "patients.csv"
    if not path.is_file():
        return None
    table = pl.read_csv(path, infer_schema=False)
    return set(table.filter(pl.col("source") == source)["patient"].to_list())


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
        mode: max((r.get("validation_films", 0) for r in records if r["mode"] == mode), default=0)
        for mode in modes
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
