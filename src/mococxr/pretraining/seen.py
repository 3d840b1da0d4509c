"""What a run keeps of the images it saw, so that a study can tell whether its test images were among them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import console
from mococxr.encoders import SETS, TrainedOn, trained_on
from mococxr.files import read_json, write_csv, write_parquet
from mococxr.near_duplicates import fingerprints
from mococxr.pretraining.dataset import Pool
from mococxr.store import Store
from mococxr.workers import cores

SMALLEST = 64
"""Pixels: from images of this shorter side and more, a fingerprint is that of the full image but for 11 of 256 bits (500
real images); from 32 px it may be 22 bits away."""
_BLOCK = 2048
"""Images that a thread takes at once."""


def write_patients(out: Path, pool: Pool, init: str) -> None:
    """Write `patients.csv` (source, patient), with those of the run that this one starts from."""
    patients, earlier = pool.patients, Path(init) / "patients.csv"
    if earlier.is_file():
        before = pl.read_csv(earlier, infer_schema=False)
        patients = pl.concat([patients, before.select(patients.columns)]).unique().sort("source", "patient")
    write_csv(out / "patients.csv", patients)


def write_images(out: Path, pool: Pool, stores: Sequence[Store], init: str, size: int) -> None:
    """Write `images.parquet` (sha256 of the file, fingerprint of 32 bytes), unless it is there already.

    Neither paths nor patients stand in it, and it is in the order of the hashes. What the run that this one starts
    from saw is in it too. At the end of a run: it takes a minute or two for 224,000 images.

    Args:
        init: the encoder that the run starts from.
        size: side of its views, px; images come from that level, or from a larger one where it is too small to mark.
    """
    earlier = Path(init) / "images.parquet"
    if (out / "images.parquet").is_file():
        return
    images = _images(pool, stores, size)
    if earlier.is_file():
        images = pl.concat([images, pl.read_parquet(earlier)])
    write_parquet(out / "images.parquet", images.unique("sha256").sort("sha256"))


def _images(pool: Pool, stores: Sequence[Store], size: int) -> pl.DataFrame:
    levels = pool.levels if size >= SMALLEST else tuple(store.level(SMALLEST) for store in stores)
    blocks = [range(start, min(start + _BLOCK, len(pool))) for start in range(0, len(pool), _BLOCK)]

    def marks(block: range) -> pl.Series:
        part = slice(block.start, block.stop)
        images = zip(pool.store_N[part].tolist(), pool.row_N[part].tolist(), strict=True)
        found = fingerprints(levels[place].pixels(row) for place, row in images)
        return pl.Series("fingerprint", [mark.tobytes() for mark in found], dtype=pl.Binary)

    threads = min(len(blocks), cores())
    with console.progress("fingerprints", len(pool)) as bar, ThreadPoolExecutor(threads) as workers:
        parts = []
        for block, part in zip(blocks, workers.map(marks, blocks), strict=True):
            parts.append(part)
            bar.advance(len(block))
    sha256 = pl.concat(
        store.columns("sha256")["sha256"].gather(pool.row_N[pool.store_N == place])
        for place, store in enumerate(stores)
    )
    return pl.DataFrame([sha256, pl.concat(parts)])


def started_from(init: str) -> dict[str, Any]:
    """What is known of the images behind the weights that a run starts from, but for those in its own tables."""
    record = Path(init) / "run.json"
    if record.is_file():
        told = read_json(record).get("started_from")
        listed = (Path(init) / "images.parquet").is_file()
        if isinstance(told, dict) and listed:
            return told
        known = TrainedOn(False)
    else:
        known = trained_on(init)
    return {
        "known": known.known,
        "sets": [name for name in known.sets if name in SETS],
        "labels": known.labels,
    }
