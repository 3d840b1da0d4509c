"""What a run keeps of the films it saw, so that a study can tell whether its test films were among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import journal
from mococxr.backbone import SETS, TrainedOn, trained_on
from mococxr.files import read_json, write_csv, write_parquet
from mococxr.pretrain.pool import Pool
from mococxr.store import Store
from mococxr.twins import fingerprints

SMALLEST = 64
"""Pixels: from films of this shorter side and more, a fingerprint is that of the full film but for 11 of 256 bits (500
real films); from 32 px it may be 22 bits away."""


def write_seen(out: Path, pool: Pool, stores: Sequence[Store], init: str, size: int) -> None:
    """Write `patients.csv` (source, patient) and `films.parquet` (sha256 of the file, fingerprint of 32 bytes).

    Neither paths nor patients stand in `films.parquet`, and it is in the order of the hashes. What the run that this
    one starts from saw is in both tables too.

    Args:
        init: the encoder that the run starts from.
        size: side of its views, px; films come from that level, or from a larger one where it is too small to mark.
    """
    patients, earlier = pool.patients, Path(init)
    if (earlier / "patients.csv").is_file():
        before = pl.read_csv(earlier / "patients.csv", infer_schema=False)
        patients = pl.concat([patients, before.select(patients.columns)]).unique().sort("source", "patient")
    write_csv(out / "patients.csv", patients)
    if not (out / "films.parquet").is_file():
        films = _films(pool, stores, size)
        if (earlier / "films.parquet").is_file():
            films = pl.concat([films, pl.read_parquet(earlier / "films.parquet")])
        write_parquet(out / "films.parquet", films.unique("sha256").sort("sha256"))


def _films(pool: Pool, stores: Sequence[Store], size: int) -> pl.DataFrame:
    levels = pool.levels if size >= SMALLEST else tuple(store.level(SMALLEST) for store in stores)
    hashes = [store.index["sha256"].to_list() for store in stores]
    sha256 = [hashes[place][row] for place, row in zip(pool.store_N, pool.row_N, strict=True)]
    with journal.progress("fingerprints", len(pool)) as bar:

        def images() -> Any:
            for place, row in zip(pool.store_N, pool.row_N, strict=True):
                yield levels[place].pixels(int(row))
                bar.advance()

        marks = fingerprints(images())
    return pl.DataFrame(
        {"sha256": sha256, "fingerprint": [mark.tobytes() for mark in marks]},
        schema={"sha256": pl.String, "fingerprint": pl.Binary},
    )


def started_from(init: str) -> dict[str, Any]:
    """What is known of the films behind the weights that a run starts from, but for those in its own tables."""
    record = Path(init) / "run.json"
    if record.is_file():
        told = read_json(record).get("started_from")
        listed = (Path(init) / "films.parquet").is_file()
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
