"""A store of a million images opens fast and costs a flat amount of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

IMAGES, HEIGHT, WIDTH, PER_SHARD = 1_000_000, 390, 320, 8_000


def write_million(folder: Path) -> None:
    """A store as `prepare` would leave it; the pixel files are holes but for their first and last image."""
    folder.mkdir()
    rows = np.arange(IMAGES)
    patient = pl.select(pl.format("patient-{}", (pl.lit(pl.Series(rows)) // 4).cast(pl.String).str.zfill(24)))
    hexes = pl.select(pl.lit(pl.Series(rows)).hash(0).cast(pl.String).str.zfill(64)).to_series()
    pl.DataFrame(
        {
            "row": rows, "path": "image-" + hexes.str.slice(0, 24), "patient": patient.to_series(),
            "study": "study-" + hexes.str.slice(8, 24), "view": ["PA", "AP"] * (IMAGES // 2),
            "sex": ["F", "M"] * (IMAGES // 2), "age": rows % 90 * 1.0,
            "height": np.full(IMAGES, HEIGHT, np.int32), "width": np.full(IMAGES, WIDTH, np.int32),
            "sha256": hexes, "Finding": (rows % 7 == 0).astype(np.int8),
        }
    ).write_parquet(folder / "index.parquet")  # fmt: skip
    patients = patient.to_series().unique(maintain_order=True)
    split = pl.Series(["train", "train", "val", "test"] * (len(patients) // 4))
    pl.DataFrame({"patient": patients, "split": split}).write_csv(folder / "splits.csv")
    shards = []
    for first in range(0, IMAGES, PER_SHARD):
        size = PER_SHARD * HEIGHT * WIDTH
        name = f"pixels-{first // PER_SHARD:05d}.bin"
        with open(folder / name, "wb") as file:
            file.truncate(size)
            file.write(b"\7" * (HEIGHT * WIDTH))
        shards.append({"file": name, "first_row": first, "images": PER_SHARD})
    manifest = {
        "format": 1, "mococxr": "0.1.0", "counts": {"images": IMAGES}, "labels": ["Finding"], "size": 320,
        "source": "here", "patients_known": True, "blank": "unknown", "metadata": [],
        "hashes": {"files": {}}, "levels": [], "shards": shards,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


LOOK = """
import json, resource, sys, time
import numpy, polars
import mococxr.store.reader as reader

def memory():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith("RssAnon"))

facts = {"before": memory()}
begun = time.process_time(), time.perf_counter()
store = reader.Store.open(sys.argv[1])
facts["open_cpu"], facts["open"] = time.process_time() - begun[0], time.perf_counter() - begun[1]
assert store.pixels(0)[0, 0] == 7 and store.pixels(len(store) - 1)[0, 0] == 0
facts["first"] = time.perf_counter() - begun[1]
facts["opened"] = memory()
rng = numpy.random.default_rng(0)
for i in rng.integers(0, len(store), 20_000).tolist():
    store.pixels(i)
facts["used"] = memory()
begun = time.perf_counter()
rows = store.rows_in("train")
facts["rows_in"], facts["split"] = time.perf_counter() - begun, memory()
facts["train"] = len(rows)
store.index
facts["index"] = memory()
print(json.dumps(facts))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
def test_a_million_images_open_in_two_seconds_and_keep_memory_flat(tmp_path):
    write_million(tmp_path / "store")
    look = [sys.executable, "-c", LOOK, str(tmp_path / "store")]
    facts = json.loads(subprocess.run(look, check=True, capture_output=True, text=True).stdout)
    assert facts["open_cpu"] < 2
    assert facts["opened"] - facts["before"] < 120
    assert facts["used"] - facts["opened"] < 5
    assert facts["train"] == IMAGES // 2
