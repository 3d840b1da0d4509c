"""Two ranks on two cores beside one rank on two cores: the same images a step, ResNet-18, 224 px.

    python bench/ranks.py [--rounds 5]

Each is `mococxr pretrain` in processes of its own, one thread a core: two ranks by `torchrun`, one by itself. What
counts is images/s as the run logged them from its first line to its last, without start-up.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from mococxr.workers import cores
from ratio import Row, alternate, main, row
from runs import BATCH, make_store, rate_apart, write_images

IMAGES = 6 * BATCH
RANKS = 2
SIZE, EVERY = 224, 2


def pretrain(store: Path, out: Path, ranks: int) -> float:
    """Images a second of a run of one epoch in so many processes."""
    how = {"size": SIZE, "epochs": 1, "log_every": EVERY}
    return rate_apart(store, out, ranks, threads=max(1, RANKS // ranks), **how)


def ranks(rounds: int) -> Iterator[Row]:
    if cores() < RANKS:
        yield Row.missing(f"{RANKS} ranks", f"skipped: {cores()} core")
        return
    with TemporaryDirectory() as name:
        top = Path(name)
        store = make_store(write_images(top / "images", IMAGES, 320, ".jpg"), top / "store")
        outs = iter(range(2 * rounds))
        sides = {
            f"{count} rank{'s' * (count > 1)}": lambda count=count: pretrain(store, top / f"run{next(outs)}", count)
            for count in (RANKS, 1)
        }
        found = alternate(sides, rounds)
    yield row(f"{RANKS} ranks, ResNet-18, {SIZE} px, {BATCH} images a step", found, f"{RANKS} ranks", "1 rank", 0.9)


if __name__ == "__main__":
    sys.exit(main(__doc__, {"ranks": ranks}))
