"""Test images that are also among the images a run was pretrained on: the same file, or one that looks the same.

A run keeps hashes and fingerprints of its images, not their pixels (`images.parquet`), so an image that looks the same is
known by its fingerprint only, and the two are not laid beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.files import write_csv
from mococxr.near_duplicates import candidate_pairs, fingerprints
from mococxr.store import Store
from mococxr.studies.plan import Arm

IMAGES_SEEN = "TEST IMAGES SEEN: "
DISTANCE = 16
"""Bits of 256. Of the worst kind of copies 99 % lie within 16 (mococxr.near_duplicates); images that are no copies
begin at 73 between adult and child images of two hospitals, at 51 among real images, at 18 among 2,000 phantoms."""
SCHEMA = {
    "arm": pl.String,
    "run": pl.String,
    "row": pl.Int64,
    "path": pl.String,
    "found": pl.String,
    "bits": pl.Int64,
}


def compare_images(out: Path, store: Store, arms: Sequence[Arm]) -> tuple[dict[str, Any], list[str]]:
    """Compare the test images with those of each run, and list what is in both in `copies.csv`.

    Args:
        out: the STUDY folder.
        store: whose test images are judged.

    Returns:
        Facts, an entry a run (`arm/run`): images compared, the same files, and images that look the same (null where
        the run keeps no fingerprints); and warnings.
    """
    runs = [(arm.name, name, one.path) for arm in arms for name, one in zip(arm.runs, arm.sources, strict=True)
            if one.path is not None]  # fmt: skip
    known = [run for run in runs if (run[2] / "images.parquet").is_file()]
    warnings = [
        f"Run {name} of arm {arm} keeps no fingerprints of its images (an earlier version made it): whether test "
        "images are among them was not checked."
        for arm, name, path in runs
        if (arm, name, path) not in known
    ]
    facts: dict[str, Any] = {f"{arm}/{name}": None for arm, name, _ in runs}
    rows: list[dict[str, Any]] = []
    if known:
        test = store.rows_in("test")
        marks = fingerprints(store.pixels(int(row)) for row in test)
        for arm, name, path in known:
            found = _in_both(store, test, marks, pl.read_parquet(path / "images.parquet"))
            rows += [{"arm": arm, "run": name, **row} for row in found]
            same = sum(row["found"] == "same file" for row in found)
            facts[f"{arm}/{name}"] = {"test_images": len(test), "same": same, "alike": len(found) - same}
            warnings += [_sentence(arm, name, same, len(found) - same, len(test))] if found else []
    table = out / "copies.csv"
    if rows:
        write_csv(table, pl.DataFrame(rows, schema=SCHEMA))
    else:
        table.unlink(missing_ok=True)
    return facts, warnings


def _sentence(arm: str, run: str, same: int, alike: int, total: int) -> str:
    return (
        f"{IMAGES_SEEN}of the {total:,} test images, {same:,} are files that run {run} of arm {arm} was pretrained on, "
        f"and {alike:,} more look like one of them (by fingerprint only: the pixels were not compared). They are "
        "listed in copies.csv."
    )


def _in_both(
    store: Store, test: NDArray[np.int64], marks: NDArray[np.uint8], seen: pl.DataFrame
) -> list[dict[str, Any]]:
    """A row a test image that is in both."""
    index = store.index.select("path", "sha256")[test]
    hashes = set(seen["sha256"].to_list())
    theirs = np.frombuffer(b"".join(seen["fingerprint"].to_list()), dtype=np.uint8).reshape(
        -1, marks.shape[1]
    )
    theirs = np.unique(theirs[theirs.any(axis=1)], axis=0)
    pairs = candidate_pairs(marks, theirs, DISTANCE)
    pairs = pairs[marks[pairs[:, 0]].any(axis=1)]  # images without a picture all look the same
    bits: dict[int, int] = {}
    for i, j in pairs.tolist():
        apart = int(np.unpackbits(marks[i] ^ theirs[j]).sum())
        bits[i] = min(apart, bits.get(i, apart))
    found = []
    for i, (path, sha256) in enumerate(index.iter_rows()):
        if sha256 in hashes:
            found.append({"row": int(test[i]), "path": path, "found": "same file", "bits": 0})
        elif i in bits:
            found.append({"row": int(test[i]), "path": path, "found": "looks the same", "bits": bits[i]})
    return found
