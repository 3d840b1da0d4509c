"""What the report must say of arms: where each encoder comes from, what it was trained on, what an image costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.encoders import (
    SETS,
    EncoderSource,
    TrainedOn,
    display_name,
    open_encoder,
    shared_sets,
    trained_on,
)
from mococxr.errors import InputError
from mococxr.features import seconds_per_image
from mococxr.files import read_json
from mococxr.store import Store
from mococxr.studies.plan import Arm

Facts = dict[str, Any]
POINTS = 100
"""Lines of a run's log that a study keeps, at most."""
CURVES = ("step", "loss", "contrast_accuracy", "effective_rank", "knn_auroc")
"""What it keeps of each."""
MAY_HOLD = "TEST IMAGES MAY HAVE BEEN SEEN: "


def arm_facts(store: Store, arm: Arm, device: str) -> Facts:
    """Where an arm comes from and what an image costs; what its runs did not record is null.

    Args:
        device: where the cost is measured.
    """
    source = arm.sources[0]
    runs = [_run_record(one.path) for one in arm.sources if one.path is not None]
    first = runs[0] if runs else {}
    seconds = [run["seconds"] for run in runs if isinstance(run.get("seconds"), int | float)]
    verdicts = list(dict.fromkeys(str(run["verdict"]) for run in runs if run.get("verdict")))
    init = _init_of(first)
    library = "" if source.spec.package == "timm" else f" ({source.spec.package})"
    return {
        "encoder": ", ".join(arm.runs) if source.kind == "run" else display_name(source.name),
        "kind": source.kind,
        "init": (init and display_name(str(init))) if source.kind == "run" else source.kind,
        "timm": source.spec.architecture + library,
        "size": source.spec.size,
        "channels": source.spec.channels,
        "mean": source.spec.mean,
        "std": source.spec.std,
        "feature": source.spec.pool or "pooled by the network",
        "method": (first.get("method") or {}).get("name"),
        "pretrained_on": _pretrained_on(store, first),
        "trained_on": told.sentence() if (told := published(source)) else None,
        "runs": [
            {"run": name, "health": _health(one.path)}
            for name, one in zip(arm.runs, arm.sources, strict=True)
        ],
        "verdict": "; ".join(verdicts) or None,
        "seconds": sum(seconds) / len(seconds) if seconds else None,
        "files_sha256": [one.hashes() for one in arm.sources],
        **_cost(source, device),
    }


def _cost(source: EncoderSource, device: str) -> Facts:
    encoder = open_encoder(source)
    return {
        "parameters": sum(weight.numel() for weight in encoder.parameters()),
        "seconds_per_image": round(seconds_per_image(encoder, source.spec.size, device), 6),
        "device": device,
    }


def _init_of(record: Facts) -> Any:
    settings = record.get("settings")
    return record.get("init") or (settings.get("init") if isinstance(settings, dict) else None)


def _run_record(folder: Path) -> Facts:
    try:
        record = read_json(folder / "run.json")
    except InputError:
        return {}
    return record if isinstance(record, dict) else {}


def _health(folder: Path | None) -> Facts | None:
    """What a run said of itself, with at most `POINTS` lines of its log; null where it said nothing."""
    record = _run_record(folder) if folder else {}
    if not isinstance(record.get("health"), dict):
        return None
    words = {name: record.get(name) for name in ("verdict", "reason", "remedy")}
    return {**words, **record["health"], "log": _thinned_log(folder / "log.jsonl") if folder else []}


def _thinned_log(path: Path) -> list[Facts]:
    """Evenly chosen lines, the last among them, and all at which labels were looked at."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []
    looked = [i for i, entry in enumerate(entries) if entry.get("knn_auroc") is not None][-POINTS // 4 :]
    room = min(len(entries), POINTS - len(looked))
    evenly = {len(entries) - 1 - i * len(entries) // room for i in range(room)}
    return [{name: entries[i].get(name) for name in CURVES} for i in sorted(evenly | set(looked))]


def _pretrained_on(store: Store, record: Facts) -> Facts | None:
    before = record.get("pretrained_on")
    if not isinstance(before, dict):
        return None
    names = before.get("source")
    names = names if isinstance(names, list) else [names]
    source = store.source if store.source in names else ", ".join(str(name) for name in names if name) or None
    return {"source": source} | {name: before.get(name) for name in ("images", "patients", "splits")}


def published(source: EncoderSource) -> TrainedOn | None:
    """What the published weights that an encoder is, or that its run started from, were trained on.

    None where a run does not even say what it started from.
    """
    if source.kind != "run" or source.path is None:
        return trained_on(source.name)
    record = _run_record(source.path)
    told = record.get("started_from")
    if isinstance(told, dict):
        return TrainedOn(bool(told["known"]), tuple(told["sets"]), bool(told["labels"]))
    init = _init_of(record)
    return trained_on(str(init)) if init else None


def encoder_warnings(store: Store, arms: Sequence[Arm]) -> list[str]:
    """Arms whose published training data may hold images of this store, or is not known; images that were enlarged."""
    warnings = [
        f"Arm {arm.name} sees frames of {arm.sources[0].spec.size} px, larger than the images of the store "
        f"({store.manifest['size']} px): they were enlarged."
        for arm in arms
        if arm.sources[0].spec.size > store.manifest["size"]
    ]
    for arm in arms:
        for name, source in zip(arm.runs, arm.sources, strict=True):
            whose = f"The weights of arm {arm.name}" + (f" ({name})" if name != arm.name else "")
            if source.kind == "run":
                whose = f"The weights that run {name} of arm {arm.name} started from"
            warnings += _training_warning(store, whose, published(source))
    return warnings


def _training_warning(store: Store, whose: str, told: TrainedOn | None) -> list[str]:
    if told is None:
        return []
    if not told.known:
        return [f"{whose}: what they were trained on is not known, so it may hold the test images."]
    both = shared_sets(store.source, told.sets)
    if not both:
        return []
    how = "with" if told.labels else "without"
    return [
        f"{MAY_HOLD}{whose} were trained, {how} labels, on {', '.join(SETS[one] for one in both)}, where images of "
        f"this store ({store.source}) come from. Its scores may be too high."
    ]


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
                    f"Run {name} of arm {arm.name} does not say whose images it was pretrained on."
                )
            elif both := len(test & seen):
                warnings.append(
                    f"TEST PATIENTS SEEN: run {name} of arm {arm.name} was pretrained on images of {both:,} "
                    f"of the {len(test):,} test patients (without labels). Its scores may be too high."
                )
    return warnings


def _patients_seen(folder: Path, source: str) -> set[str] | None:
    path = folder / "patients.csv"
    if not path.is_file():
        return None
    table = pl.read_csv(path, infer_schema=False)
    return set(table.filter(pl.col("source") == source)["patient"].to_list())
