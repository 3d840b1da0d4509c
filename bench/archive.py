"""An archive of 5,000 DICOM images with the header mix of real ones and 2 % broken files: is every image right?

    python bench/archive.py [--images 5000] [--side 192] [--jobs 2] [--folder DIR]

Writes the archive (half of the images inverted, 10 to 15 bits, windows, tables, five transfer syntaxes), prepares it,
and compares every pixel with what was written, and every broken file with the quarantine list. Exit status 1 if one
image is wrong or one broken file is not named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from archive_images import Archive, write_archive
from mococxr.datasets import read_dataset
from mococxr.preparation.prepare import run
from mococxr.settings import PrepareSettings
from mococxr.store import Store


def check(store: Store, written: Archive, key: Path) -> bool:
    """Say what is right and what is not."""
    names = pl.read_csv(f"{key}.lookup.csv", infer_schema=False).select("image", "real_path")
    real = dict(names.iter_rows())
    off: Counter[int] = Counter()
    for i, path in enumerate(store.index["path"]):
        grey = written.good.pop(real[path])
        off[int(np.abs(store.pixels(i).astype(int) - grey).max())] += 1
    quarantine = pl.read_csv(store.path / "quarantine.csv")
    named = {real[path]: reason for path, reason in quarantine.iter_rows()}
    print(f"images by their largest difference in grey levels: {dict(sorted(off.items()))}")
    print(f"good images missing: {len(written.good)}")
    reasons = Counter((kind, named.get(path, "NOT NAMED")) for path, kind in written.broken.items())
    for (kind, reason), count in sorted(reasons.items()):
        print(f"  {kind}: {reason} ({count})")
    wrongly = set(named) - set(written.broken)
    print(f"broken files named: {len(set(named) & set(written.broken))} of {len(written.broken)}")
    print(f"good images in quarantine: {len(wrongly)}")
    return max(off) <= 1 and not written.good and not wrongly and set(written.broken) == set(named)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--side", type=int, default=192, help="shorter side of an image, which is stored as it is")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where it is written; a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as top:
        root, key = Path(top) / "archive", Path(top) / "key"
        written = write_archive(root, given.images, sides=(given.side * 5 // 4, given.side))
        begun = time.perf_counter()
        read_dataset(root, format="dicom", jobs=given.jobs)
        print(f"headers: {given.images / (time.perf_counter() - begun):,.0f} files/s with {given.jobs} processes")
        store = run(PrepareSettings(source=root, out=Path(top) / "store", size=given.side, jobs=given.jobs, key=key))
        sys.exit(0 if check(store, written, key) else 1)


if __name__ == "__main__":
    main()
