"""What a step and a run of pretraining cost beside the arithmetic that they cannot do without; ResNet-18, batch 32.

    python bench/step.py [--rounds 5] [--only '64 px']

All cores, in one process; each round measures in turn
* pretraining: films/s of `mococxr.pretrain` on a store of 320 px films, as its log says (feeding, stepping, logging);
* the same step on one constant batch of views in memory;
* at 224 px the step with a queue of 24,576 keys;
* the passes alone: query forward and backward, key forward, with neither loss, queue, optimiser nor momentum update;
* the machine's matrix-product rate: `torch.mm` of float32, the best of three sizes, the same threads.
The arithmetic of the passes is what `torch.utils.flop_counter` counts, two FLOP a multiply-add. Backward is counted
as twice forward, less what the first layer does not need: the gradient of the films.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import mococxr
from mococxr.config import PretrainSettings, make, resolve
from mococxr.moco import KeyQueue
from mococxr.pretrain.pool import gather_pool
from mococxr.pretrain.setup import build_learner, make_accelerator
from mococxr.pretrain.step import Learner, moco_step
from ratio import Row, alternate, cores, main, row
from runs import BATCH, SETTINGS, make_store, pretraining_rate, quietly, write_films

FILMS = 12 * BATCH
PAPER_QUEUE = 24_576
MATRICES = (1024, 2048, 3072)
PLANS = {64: (4, 10, 30), 224: (1, 4, 6)}
"""size -> epochs of a run, steps between its log lines, steps of a round on the other sides."""


def flop_of(work: Callable[[], object]) -> int:
    """FLOP of a piece of work, two a multiply-add."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops())


def matrix_rate(seconds: float = 0.4) -> float:
    """FLOP/s of float32 matrix products, the best of three sizes."""
    best = 0.0
    for side in MATRICES:
        a, b, out = torch.rand(side, side), torch.rand(side, side), torch.empty(side, side)
        torch.mm(a, b, out=out)
        begun, products = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < seconds:
            torch.mm(a, b, out=out)
            products += 1
        best = max(best, products * 2 * side**3 / spent)
    return best


def a_learner(store: Path, size: int) -> Learner:
    """What a run of these settings would start with."""
    wanted = {"stores": [store], "out": store.parent / "run", "size": size, **SETTINGS}
    settings = resolve(make(PretrainSettings, wanted))
    with quietly():
        pool = gather_pool([mococxr.Store.open(store)], size, "train")
    return build_learner(settings, pool, make_accelerator("cpu", "no"))[0]


def passes(learner: Learner, films_q: Tensor, films_k: Tensor) -> None:
    """The four passes: query forward, backward (two), key forward."""
    learner.query.zero_grad(set_to_none=True)
    learner.query(films_q).sum().backward()
    with torch.no_grad():
        learner.key(films_k)


def a_step(learner: Learner, films_q: Tensor, films_k: Tensor) -> None:
    moco_step(
        learner, films_q, films_k,
        m=SETTINGS["momentum"], temperature=SETTINGS["temperature"], groups=SETTINGS["key_groups"],
    )  # fmt: skip


def rate(work: Callable[[], object], steps: int) -> float:
    """Films a second of `steps` calls, each over a batch, after one more to warm up."""
    work()
    begun = time.perf_counter()
    for _ in range(steps):
        work()
    return steps * BATCH / (time.perf_counter() - begun)


def fed(store: Path, top: Path, size: int) -> float:
    epochs, every, _ = PLANS[size]
    with TemporaryDirectory(dir=top) as out:
        return pretraining_rate(store, Path(out) / "run", size=size, epochs=epochs, log_every=every)


def stepping(rounds: int, size: int, share: float) -> Iterator[Row]:
    torch.set_num_threads(cores())
    steps = PLANS[size][2]
    with TemporaryDirectory() as name:
        top = Path(name)
        store = make_store(write_films(top / "films", FILMS, 320, ".jpg"), top / "store")
        views = torch.randint(0, 256, (2, BATCH, 1, size, size), dtype=torch.uint8)
        learner, large = a_learner(store, size), a_learner(store, size)
        large.queue = KeyQueue(PAPER_QUEUE, SETTINGS["dim"])
        flop_a_film = flop_of(lambda: passes(learner, *views)) / BATCH
        sides: dict[str, Callable[[], float]] = {
            "pretraining": partial(fed, store, top, size),
            "one constant batch": partial(rate, lambda: a_step(learner, *views), steps),
            "torch.mm": lambda: matrix_rate() / 1e9,
        }
        if size == 224:
            sides["step"] = partial(rate, lambda: a_step(large, *views), steps)
            sides["the passes alone"] = partial(rate, lambda: passes(large, *views), steps)
        found = alternate(sides, rounds)
    found["arithmetic"] = [films * flop_a_film / 1e9 for films in found["pretraining"]]
    what = f"ResNet-18, {size} px, batch {BATCH}"
    name = (
        f"pretraining, {what}: arithmetic ({flop_a_film / 1e9:.3g} GFLOP a film) of the matrix-product rate"
    )
    yield row(name, found, "arithmetic", "torch.mm", share, unit="GFLOP/s")
    yield row(f"pretraining, {what}", found, "pretraining", "one constant batch", 0.95)
    if size == 224:
        yield row(f"step, {what}, K {PAPER_QUEUE:,}", found, "step", "the passes alone", 0.9)


SUBJECTS = {
    "64 px": partial(stepping, size=64, share=0.52),
    "224 px": partial(stepping, size=224, share=0.62),
}

if __name__ == "__main__":
    sys.exit(main(__doc__, SUBJECTS))
