"""Where data and encoders come from: facts for study.json, and warnings of test images that an encoder has seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.encoders import SETS, EncoderSource, TrainedOn, display_name, open_encoder, shared_sets
from mococxr.encoders.seen import patients_seen, published_of, run_record
from mococxr.features import seconds_per_image
from mococxr.files import read_json, write_csv
from mococxr.heads.targets import Target, column_of
from mococxr.near_duplicates import candidate_pairs, fingerprints
from mococxr.store import Store
from mococxr.studies.design import Arm
from mococxr.studies.feature_table import KIND
from mococxr.studies.recipe import recipe_of

Facts = dict[str, Any]
MAX_LOG_LINES = 100
"""Lines of a run's log that a study keeps."""
CURVES = ("step", "loss", "contrast_accuracy", "effective_rank", "knn_auroc")
"""What it keeps of each."""
SEVERAL = "several"
"""The kind of an arm whose encoders side by side are of several kinds, none of them a run."""
PATIENTS_SEEN = "TEST PATIENTS SEEN: "
IMAGES_SEEN = "TEST IMAGES SEEN: "
MAY_HOLD = "TEST IMAGES MAY HAVE BEEN SEEN: "
TARGET_SEEN = "TARGET SEEN: "
DISTANCE = 16
"""Bits of 256. Of the worst kind of copies 99 % lie within 16 (mococxr.near_duplicates); images that are no copies
begin at 73 between adult and child images of two hospitals, at 51 among real images, at 18 among 2,000 synthetic images."""
COPIES = {
    "arm": pl.String, "run": pl.String, "row": pl.Int64, "path": pl.String, "match": pl.String, "hamming_distance": pl.Int64,
}  # fmt: skip
"""Columns of `copies.csv`."""


def store_facts(store: Store) -> Facts:
    """Counts and names of the store, and of each split."""
    images = store.index.select("patient").join(store.splits, on="patient", how="left")
    splits = {
        name: {"images": len(part), "patients": part["patient"].n_unique()}
        for name in ("train", "val", "test")
        for part in (images.filter(pl.col("split") == name),)
    }
    return {
        "path_name": store.path.name,
        "source": store.source,
        "images": len(store),
        "patients": store.index["patient"].n_unique(),
        "patients_known": store.patients_known,
        "synthetic": bool(store.manifest["synthetic"]),
        "unreadable": int(store.quarantine["unreadable"].sum()),
        "not_used": int((~store.quarantine["unreadable"]).sum()),
        "splits": splits,
        "split_rule": store.manifest["split_rule"],
        "sha256": store.sha256,
        "labels": store.label_state,
    }


def target_facts(train: Store, trained: Target, test: Store, judged: Target) -> Facts:
    """Counts of one target, by split: images with a label that counts, their patients, by class."""
    counts: Facts = {}
    for split, store, target in (("train", train, trained), ("val", train, trained), ("test", test, judged)):
        rows = target.known(split)
        labels = target.labels[rows]
        patients = store.index["patient"].to_numpy()[rows]
        counts |= {f"{split}_images": len(rows), f"{split}_patients": len(set(patients.tolist()))}
        for word, value in (("positive", 1), ("negative", 0)):
            counts[f"{split}_{word}s"] = int((labels == value).sum())
            if split == "test":
                counts[f"test_{word}_patients"] = len(set(patients[labels == value].tolist()))
    return counts | {"unknown": trained.unknown, "uncertain": trained.uncertain}


def blank_words(store: Store, targets: Sequence[str], stated: str | None) -> str:
    """What a blank counts as: `negative`, or of targets that differ `Effusion: negative; sex=M: unknown`."""
    meaning = {name: stated if stated and name in store.labels else store.blank_of(name) for name in targets}
    kinds = set(meaning.values())
    return kinds.pop() if len(kinds) == 1 else "; ".join(f"{name}: {kind}" for name, kind in meaning.items())


def note_warnings(records: Sequence[Facts]) -> list[str]:
    """What training had to decide, each with the number of trials it concerns."""
    counts = Counter(f"{record['mode']}: {note}" for record in records for note in record["notes"])
    return [f"{note} ({count:,} trial{'s' if count > 1 else ''})." for note, count in counts.items()]


def largest(records: Sequence[Facts], field: str, by: str, names: Sequence[str]) -> Facts:
    """The largest `field` among the trials of each mode or target."""
    return {name: max((r[field] for r in records if r[by] == name), default=0) for name in names}


def arm_facts(store: Store, arm: Arm, device: str) -> Facts:
    """Where an arm comes from and what an image costs; what its runs did not record is null.

    Args:
        device: where the cost is measured.
    """
    parts = arm.sources[0]
    lead = next((source for source in parts if source.pretrained), parts[0])  # the one that was pretrained
    records = [[run_record(source) for source in several] for several in arm.sources]
    # A folder with an encoder alone records no seconds.
    timed = [[run["seconds"] for run in several if run.get("seconds") is not None] for several in records]
    seconds = [sum(several) for several in timed if several]
    verdicts = list(dict.fromkeys(run["verdict"] for several in records for run in several if run.get("verdict")))
    record = run_record(lead)
    kind = lead.kind if lead.pretrained or len({source.kind for source in parts}) == 1 else SEVERAL
    init = record.get("init") if lead.pretrained else kind
    published = dict.fromkeys(known.sentence() for source in parts if (known := published_of(source)))
    costs = [_cost(source, device) for source in parts]
    single = ", ".join(arm.runs) if lead.kind == "run" else display_name(lead.name)
    return {
        "encoder": single if len(parts) == 1 else " + ".join(map(_words, parts)),
        "kind": kind,
        "init": init and display_name(init),
        "parts": [_part_facts(source) | cost for source, cost in zip(parts, costs, strict=True)],
        "method": record.get("method", {}).get("name"),
        "pretrained_on": _pretrained_on(store, record),
        "trained_on": "; ".join(published) or None,
        "runs": [
            {"run": run, "health": _health(source), "recipe": recipe_of(source)}
            for _, run, source in _runs([arm])
            if source.kind == "run" or len(parts) == 1
        ],
        "verdict": "; ".join(verdicts) or None,
        "seconds": sum(seconds) / len(seconds) if seconds else None,
        "files_sha256": [source.hashes() for several in arm.sources for source in several],
        **{name: _total(costs, name) for name in ("dimensions", "parameters", "seconds_per_image")},
        "device": device,
    }


def _part_facts(source: EncoderSource) -> Facts:
    """One of the encoders of an arm."""
    library = "" if source.spec.package == "timm" else f" ({source.spec.package})"
    return {
        "timm": source.spec.architecture + library,
        "size": source.spec.size or None,
        "channels": source.spec.channels,
        "mean": source.spec.mean,
        "std": source.spec.std,
        "features": source.spec.features,
        "feature": source.spec.pool or "pooled by the network",
    }


def _words(source: EncoderSource) -> str:
    """One of several encoders side by side, as it may be written."""
    name = display_name(source.name)
    return f"{name}@{source.spec.size}" if source.spec.size else name


def _runs(arms: Sequence[Arm]) -> Iterator[tuple[str, str, EncoderSource]]:
    """Arm, run and encoder of every run; of encoders side by side each by its own name."""
    for arm in arms:
        for run, parts in zip(arm.runs, arm.sources, strict=True):
            for source in parts:
                yield arm.name, run if len(parts) == 1 else _words(source), source


def _cost(source: EncoderSource, device: str) -> Facts:
    """Length of a feature, weights, and seconds of an image in one pass."""
    if source.kind == KIND:
        return {"dimensions": source.spec.feature_dim, "parameters": None, "seconds_per_image": None}
    encoder = open_encoder(source)
    return {
        "dimensions": encoder.spec.feature_dim,
        "parameters": sum(weight.numel() for weight in encoder.parameters()),
        "seconds_per_image": round(seconds_per_image(encoder, source.spec.size, device), 6),
    }


def _total(costs: Sequence[Facts], name: str) -> float | None:
    """The sum over encoders side by side; null where one is not known."""
    values = [cost[name] for cost in costs]
    return None if None in values else sum(values)


def _health(source: EncoderSource) -> Facts | None:
    """Verdict and last measures of a run, with at most `MAX_LOG_LINES` lines of its log; null where it has none."""
    record = run_record(source)
    if source.path is None or not record.get("health"):
        return None
    words = {name: record[name] for name in ("verdict", "reason", "remedy")}
    return {**words, **record["health"], "log": _thinned_log(source.path / "log.jsonl")}


def _thinned_log(path: Path) -> list[Facts]:
    """Evenly chosen lines, the last among them, and all at which labels were looked at."""
    if not path.is_file():
        return []
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    looked = [i for i, entry in enumerate(entries) if entry.get("knn_auroc") is not None]
    looked = looked[-MAX_LOG_LINES // 4 :]  # a quarter of the room at most: the other lines are chosen evenly
    room = min(len(entries), MAX_LOG_LINES - len(looked))
    evenly = {len(entries) - 1 - i * len(entries) // room for i in range(room)}
    return [{name: entries[i].get(name) for name in CURVES} for i in sorted(evenly | set(looked))]


def _pretrained_on(store: Store, record: Facts) -> Facts | None:
    before = record.get("pretrained_on")
    if not before:
        return None
    names = before["source"]
    source = store.source if store.source in names else ", ".join(names)
    facts = {name: before[name] for name in ("images", "patients", "splits")}
    # imported encoders have none
    return {"source": source, **facts, "stores": before.get("stores", [])}


def encoder_warnings(train: Store, test: Store, arms: Sequence[Arm]) -> list[str]:
    """Arms that enlarge images; arms whose published training data may hold the test images, or is not known."""
    stored = min(store.manifest["size"] for store in (train, test))  # px of the shorter side
    warnings = [
        f"Arm {arm.name} sees frames of {size} px, larger than the images of the store "
        f"({stored} px): they were enlarged."
        for arm in arms
        for size in [max(source.spec.size for parts in arm.sources for source in parts)]
        if size > stored
    ]
    for arm, run, source in _runs(arms):
        whose = f"The weights of arm {arm}" + (f" ({run})" if run != arm else "")
        if source.kind == "run":
            whose = f"The weights that run {run} of arm {arm} started from"
        warnings += _training_warning(test, whose, published_of(source))
    return warnings


def _training_warning(store: Store, whose: str, published: TrainedOn | None) -> list[str]:
    if published is None:
        return []
    if not published.known:
        return [f"{whose}: what they were trained on is not known, so it may hold the test images."]
    both = shared_sets(store.source, published.sets)
    if not both:
        return []
    how = "with" if published.labels else "without"
    return [
        f"{MAY_HOLD}{whose} were trained, {how} labels, on {', '.join(SETS[name] for name in both)}, where images of "
        f"this store ({store.source}) come from. Its scores may be too high."
    ]


def patient_warnings(test: Store, arms: Sequence[Arm]) -> list[str]:
    """How many test patients each arm's pretraining saw, where its runs say so."""
    patients = set(test.splits.filter(pl.col("split") == "test")["patient"].to_list())
    warnings = []
    for arm, run, source in _runs(arms):
        if source.kind != "run" or source.path is None:  # published weights name no patient
            continue
        seen = patients_seen(source.path, test.source)
        if seen is None:
            warnings.append(f"Run {run} of arm {arm} does not say whose images it was pretrained on.")
        elif both := len(patients & seen):
            warnings.append(
                f"{PATIENTS_SEEN}Run {run} of arm {arm} was pretrained on images of {both:,} "
                f"of the {len(patients):,} test patients (without labels). Its scores may be too high."
            )
    return warnings


def target_warnings(store: Store, arms: Sequence[Arm], targets: Sequence[str]) -> list[str]:
    """Runs whose encoder learned to predict the column that a target asks for (`pretrain --auxiliary`)."""
    columns = {target: column_of(store, target) for target in targets}
    return [
        f"{TARGET_SEEN}Run {run} of arm {arm} learned to predict {column} from all images that it was pretrained on "
        f"(--auxiliary), and --target {target} asks for it: its fractions say nothing of how few labels are enough."
        for arm, run, source in _runs(arms)
        for target, column in columns.items()
        if column in _predicted(run_record(source))
    ]


def _predicted(record: Facts) -> set[str]:
    """The columns that a run predicted besides its task, or that the run did from which it starts."""
    names = {facts["column"] for facts in record.get("auxiliary", [])}
    before = Path(record["init"], "run.json") if record.get("init") else None
    return names | (_predicted(read_json(before)) if before and before.is_file() else set())


def compare_images(out: Path, test: Store, arms: Sequence[Arm]) -> tuple[Facts, list[str]]:
    """Compare the test images with those of each run, and list what is in both in `copies.csv`.

    A run keeps hashes and fingerprints of its images, not their pixels (`images.parquet`): an image that looks the same
    is known by its fingerprint only, and the two are not laid side by side.

    Args:
        out: the study folder.

    Returns:
        Facts, an entry a run (`arm/run`): images compared, the same files, and images that look the same (null where
        the run keeps no fingerprints); and warnings.
    """
    facts: Facts = {}
    warnings: list[str] = []
    copies: list[Facts] = []
    prints = None
    for arm, run, source in _runs(arms):
        if source.path is None:
            continue
        facts[f"{arm}/{run}"] = None
        seen = source.path / "images.parquet"
        if not seen.is_file():
            warnings.append(
                f"Run {run} of arm {arm} has no images.parquet: whether it saw test images was not checked."
            )
            continue
        rows = test.rows_in("test")
        if prints is None:
            prints = fingerprints(test.pixels(int(row)) for row in rows)  # once for all runs: every test image is read
        both = _in_both(test, rows, prints, pl.read_parquet(seen))
        copies += [{"arm": arm, "run": run, **row} for row in both]
        same = sum(row["match"] == "same file" for row in both)
        facts[f"{arm}/{run}"] = {"test_images": len(rows), "same": same, "near_duplicates": len(both) - same}
        if both:
            warnings.append(
                f"{IMAGES_SEEN}Of the {len(rows):,} test images, {same:,} are files that run {run} of arm {arm} was "
                f"pretrained on, and {len(both) - same:,} more look like one of them (by fingerprint only: the pixels "
                "were not compared). They are listed in copies.csv."
            )
    table = out / "copies.csv"
    table.unlink(missing_ok=True)  # an earlier measurement may have had other arms
    if copies:
        write_csv(table, pl.DataFrame(copies, schema=COPIES))
    return facts, warnings


def _in_both(store: Store, rows: NDArray[np.int64], prints: NDArray[np.uint8], seen: pl.DataFrame) -> list[Facts]:
    """A row for each test image that is in both."""
    hashes = set(seen["sha256"].to_list())  # the same file is sure; a fingerprint is not
    others = np.frombuffer(b"".join(seen["fingerprint"].to_list()), dtype=np.uint8)
    others = others.reshape(-1, prints.shape[1])
    others = np.unique(others[others.any(axis=1)], axis=0)  # all zeros: an image without a picture, alike to all such
    pairs = candidate_pairs(prints, others, DISTANCE)
    pairs = pairs[prints[pairs[:, 0]].any(axis=1)]  # images without a picture all look the same
    distances: dict[int, int] = {}
    for i, j in pairs.tolist():
        distance = int(np.unpackbits(prints[i] ^ others[j]).sum())
        distances[i] = min(distance, distances.get(i, distance))
    both = []
    for i, (path, sha256) in enumerate(store.index.select("path", "sha256")[rows].iter_rows()):
        if sha256 in hashes:
            both.append({"row": int(rows[i]), "path": path, "match": "same file", "hamming_distance": 0})
        elif i in distances:
            both.append(
                {"row": int(rows[i]), "path": path, "match": "looks the same", "hamming_distance": distances[i]}
            )
    return both
