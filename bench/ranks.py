"""Two ranks on two cores beside one rank on two cores: the same films a step, ResNet-18, 224 px.

    python bench/ranks.py [--rounds 5]

Each is `mococxr pretrain` in processes of its own, one thread a core: two ranks by `torchrun`, one by itself. What
counts is films/s as the run logged them from its first line to its last, without start-up.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from ratio import Row, alternate, cores, main, row
from runs import BATCH, SETTINGS, logged_rate, make_store, write_films

FILMS = 6 * BATCH
RANKS = 2
SIZE, EVERY = 224, 2


def pretrain(store: Path, out: Path, ranks: int) -> float:
    """Films a second of a run of one epoch in so many processes."""
    several = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    )
    settings = {**SETTINGS, "size": SIZE, "epochs": 1, "log_every": EVERY, "out": out}
    options = [
        part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    done = subprocess.run(
        [sys.executable, *several, "-m", "mococxr", "pretrain", str(store), *options],
        env={**os.environ, "OMP_NUM_THREADS": str(max(1, RANKS // ranks))},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return logged_rate(out)


def ranks(rounds: int) -> Iterator[Row]:
    if cores() < RANKS:
        yield Row.missing(f"{RANKS} ranks", f"skipped: {cores()} core")
        return
    with TemporaryDirectory() as name:
        top = Path(name)
        store = make_store(write_films(top / "films", FILMS, 320, ".jpg"), top / "store")
        outs = iter(range(2 * rounds))
        sides = {
            f"{count} rank{'s' * (count > 1)}": lambda count=count: pretrain(
                store, top / f"run{next(outs)}", count
            )
            for count in (RANKS, 1)
        }
        found = alternate(sides, rounds)
    yield row(
        f"{RANKS} ranks, ResNet-18, {SIZE} px, {BATCH} films a step", found, f"{RANKS} ranks", "1 rank", 0.9
    )


if __name__ == "__main__":
    sys.exit(main(__doc__, {"ranks": ranks}))
