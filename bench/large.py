"""Pretraining on large stores: the process's own memory, and seconds from the start of a run to its first step.

    python bench/large.py [--rounds 3] [--only memory|start|million]

Synthetic stores of 320 px images, as `prepare` would leave them; the pixel files are holes. Each run is a process of
its own: ResNet-18, 64 px, batch 32, a few steps. Memory is the anonymous pages (RssAnon), not the page cache, the most
after any step. Seconds count from the call of `pretrain` (what it imports is imported before) to the end of the first
step; the smaller images that such views come from are there already, as from an earlier run, but for the row that says
they are not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from ratio import Row, alternate, main, row, shown

SMALL, LARGE, HUGE = 2_000, 224_000, 1_000_000
HEIGHT, WIDTH, PER_SHARD, HALVING = 390, 320, 8_000, 4
START = 10.0
"""Seconds that a run may take to its first step."""
STEPS = 12

CHILD = """
import json, sys, time
import mococxr.store
from mococxr.pretraining.moco import MoCo
from mococxr.errors import RunError
import mococxr, torch

facts = {"memory": 0.0, "before": 0.0}

def memory():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith("RssAnon"))

step, done = MoCo.step, []

def watched(*given, **how):
    result = step(*given, **how)
    done.append(time.perf_counter())
    facts.setdefault("processor", time.process_time() - used)
    facts["memory"] = max(facts["memory"], memory())
    if len(done) == int(sys.argv[3]):
        raise RunError("enough")
    return result

MoCo.step = watched
facts["before"], begun, used = memory(), time.perf_counter(), time.process_time()
try:
    mococxr.pretrain([sys.argv[1]], out=sys.argv[2], backbone="resnet18", init="random", size=64, batch=32, queue=1024,
                     device="cpu")
except RunError:
    pass
facts["start"] = done[0] - begun
print(json.dumps(facts))
"""


def write_store(folder: Path, images: int) -> Path:
    """A store of images without pictures: four images a patient, three patients of four for training."""
    folder.mkdir()
    rows = pl.Series(np.arange(images))
    patient = (rows // 4).cast(pl.String).str.zfill(24)
    hexes = rows.hash(0).cast(pl.String).str.zfill(64)
    pl.DataFrame(
        {
            "row": rows, "path": "images/" + hexes + ".png", "patient": patient,
            "study": (rows // 2).cast(pl.String).str.zfill(16), "view": ["PA", "AP"] * (images // 2),
            "sex": ["F", "M"] * (images // 2), "age": rows % 90 * 1.0,
            "height": np.full(images, HEIGHT, np.int32), "width": np.full(images, WIDTH, np.int32),
            "sha256": hexes, "Finding": (rows % 7 == 0).cast(pl.Int8),
        }
    ).write_parquet(folder / "index.parquet")  # fmt: skip
    patients = patient.unique(maintain_order=True)
    splits = (["train", "train", "train", "test"] * (len(patients) // 4 + 1))[: len(patients)]
    pl.DataFrame({"patient": patients, "split": splits}).write_csv(folder / "splits.csv")
    manifest = {
        "format": 1, "mococxr": "0.1.0", "counts": {"images": images}, "labels": ["Finding"], "size": 320,
        "source": "synthetic", "patients_known": True, "blank": "unknown", "metadata": [],
        "hashes": {"files": {}}, "shards": _holes(folder, images, HEIGHT * WIDTH),
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def write_level(store: Path, images: int) -> None:
    """The images at a quarter of their size, as a run over 64 px views leaves them in the store."""
    folder = store / "levels" / str(WIDTH // HALVING)
    folder.mkdir(parents=True)
    sha256 = hashlib.sha256((store / "manifest.json").read_bytes()).hexdigest()
    shards = _holes(folder, images, (HEIGHT // HALVING) * (WIDTH // HALVING))
    (folder / "level.json").write_text(json.dumps({"store": sha256, "factor": HALVING, "shards": shards}))


def _holes(folder: Path, images: int, image_bytes: int) -> list[dict[str, Any]]:
    """Pixel files that are holes; `file, first_row, images, bytes` of each."""
    shards = []
    for first in range(0, images, PER_SHARD):
        count = min(PER_SHARD, images - first)
        name = f"pixels-{first // PER_SHARD:05d}.bin"
        with open(folder / name, "wb") as file:
            file.truncate(count * image_bytes)
        shards.append({"file": name, "first_row": first, "images": count, "bytes": count * image_bytes})
    return shards


def pretrained(store: Path, out: Path) -> dict[str, float]:
    """A few steps in a process of their own: memory in MB after the steps and before the run, seconds to the first."""
    shutil.rmtree(out, ignore_errors=True)
    line = [sys.executable, "-c", CHILD, str(store), str(out), str(STEPS)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def made(folder: Path, images: int, level: bool = True) -> Path:
    store = write_store(folder / f"store-{images}", images)
    if level:
        write_level(store, images)
    return store


def memory(rounds: int) -> Iterator[Row]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        sides = {
            f"{images:,} images": partial(lambda store: pretrained(store, folder / "run")["memory"], made(folder, images))
            for images in (LARGE, SMALL)
        }  # fmt: skip
        found = alternate(sides, rounds)
    large, small = found
    yield row("own memory while pretraining", found, large, small, 1.1, unit="MB", at_most=True)


def start(rounds: int, images: int = LARGE, level: bool = True) -> Iterator[Row]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = made(folder, images, level)
        runs = [pretrained(store, folder / "run") for _ in range(rounds if level else 1)]
    seconds = statistics.median(run["start"] for run in runs)
    most = max(run["memory"] for run in runs)
    used = statistics.median(run["processor"] for run in runs)
    yield Row(
        f"start of a run on {images:,} images" + ("" if level else ", the first on its store"),
        shown(seconds, "s"),
        f"at most {START:g} s; {shown(used, 's')} of processor time; {shown(most, 'MB')} while pretraining",
        seconds / START,
        "at most 1",
        "yes" if seconds <= START else "no",
    )


def first(_: int) -> Iterator[Row]:
    return start(1, LARGE, level=False)


def million(rounds: int) -> Iterator[Row]:
    return start(rounds, HUGE)


SUBJECTS = {"memory": memory, "start": start, "first": first, "million": million}

if __name__ == "__main__":
    sys.exit(main(__doc__, SUBJECTS))
