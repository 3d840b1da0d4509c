"""What a store is and where it comes from, as `manifest.json` says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mococxr import files
from mococxr.datasets import Cohort
from mococxr.store.levels import level_folder, written_factors
from mococxr.store.reader import FORMAT
from mococxr.version import VERSION
from mococxr.workers import cores

_TABLES = ("index.parquet", "splits.csv", "quarantine.csv")


def manifest(
    folder: Path,
    cohort: Cohort,
    *,
    settings: Mapping[str, Any],
    size: int,
    rule: str,
    made_from: str,
    counts: Mapping[str, Any],
    shards: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The manifest; no clock and no machine in it, so equal input gives equal bytes.

    Args:
        folder: the store, whole but for its manifest.
        cohort: what it was made of.
        settings: those that the content depends on.
        size: shorter side of a stored image, in pixels.
        rule: how patients were split, in words.
        made_from: hash of images, labels and settings.
        counts: see `summary.count`.
        shards: `{"file", "first_row", "images"}` each.
    """
    levels = written_factors(size)
    names = list(_TABLES)
    for factor in (1, *levels):
        where = level_folder(folder, size, factor).relative_to(folder)
        names += [(where / shard["file"]).as_posix() for shard in shards]
    return {
        "format": FORMAT,
        "mococxr": VERSION,
        "source": cohort.source,
        "reader": cohort.name,
        "pseudonyms": cohort.file_paths is not None,
        "phantom": all_phantoms(cohort),
        "size": size,
        "patients_known": cohort.patients_known,
        "split_rule": rule,
        "blank": cohort.blank_means,
        "labels": list(cohort.labels),
        "metadata": list(cohort.metadata),
        "counts": counts,
        "settings": settings,
        "hashes": {"made_from": made_from, "inputs": cohort.inputs, "files": _hashes(folder, names)},
        "levels": levels,
        "shards": shards,
    }


def _hashes(folder: Path, names: Sequence[str]) -> dict[str, str]:
    with ThreadPoolExecutor(min(8, cores())) as pool:
        return dict(zip(names, pool.map(files.sha256_file, [folder / name for name in names]), strict=True))


def all_phantoms(cohort: Cohort) -> bool:
    """Whether every image says by its name that it is synthetic, or a `PHANTOM.txt` in their folder says so."""
    named = cohort.files.str.contains(r"(^|/)phantom-[^/]*$").all()
    return bool(named) or (Path(cohort.root) / "PHANTOM.txt").is_file()
