"""What a step and a run of pretraining cost beside the arithmetic that they cannot do without; ResNet-18, batch 32.

    python bench/step.py [--rounds 5] [--only '64 px']

All cores, in one process; each round measures in turn
* pretraining: images/s of `mococxr.pretrain` on a store of 320 px images, as its log says (feeding, stepping, logging);
* the same step on one constant batch of views in memory;
* at 224 px the step with a queue of 24,576 keys;
* the passes alone: query forward and backward, key forward, with neither loss, queue, optimiser nor momentum update;
* the machine's matrix-product rate, the same threads: the best of three sizes and of two libraries, `torch.mm` (MKL,
  which leaves AVX-512 alone on other makers' processors) and the same product as a convolution of 1 x 1 (oneDNN).
The arithmetic of the passes is what `torch.utils.flop_counter` counts, two FLOP a multiply-add. Backward is counted
as twice forward, less what the first layer does not need: the gradient of the images. All in float32, and at 64 px once
more in bfloat16 (step and matrix products both), which `--precision auto` takes where the processor is fast in it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mococxr.pretraining.hardware import bf16_support, make_accelerator
from mococxr.pretraining.moco import KeyQueue, MoCo
from mococxr.pretraining.pretrain import build_method
from mococxr.settings import PretrainSettings, make
from mococxr.workers import cores, keep_memory, opencv_on_one_thread
from ratio import Row, alternate, main, row
from runs import BATCH, SETTINGS, make_store, pretraining_rate, write_images

PAPER_QUEUE = 24_576
MATRICES = (1024, 2048, 3072)
PLANS = {64: (62, 10, 40), 224: (8, 2, 5)}
"""size -> steps of a run, steps between its log lines, steps of a round on the other sides."""
NUMBERS = {"no": ("float32", torch.float32), "bf16": ("bfloat16", torch.bfloat16)}


def flop_of(work: Callable[[], object]) -> int:
    """FLOP of a piece of work, two a multiply-add."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops())


@torch.no_grad()
def matrix_rate(dtype: torch.dtype, seconds: float = 0.4) -> float:
    """FLOP/s of matrix products, the best of three sizes and of two libraries."""
    best = 0.0
    for side in MATRICES:
        a, b, out = (torch.rand(side, side).to(dtype) for _ in range(3))
        image = a.view(1, 32, side // 32, side).permute(0, 3, 1, 2)  # a row a pixel, a column a channel
        kernels = b.T.contiguous()[:, :, None, None]
        for product in (partial(torch.mm, a, b, out=out), partial(F.conv2d, image, kernels)):
            best = max(best, _calls_a_second(product, seconds) * 2 * side**3)
    return best


def _calls_a_second(work: Callable[[], object], seconds: float) -> float:
    work()
    begun, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds:
        work()
        calls += 1
    return calls / spent


def make_moco(store: Path, size: int, precision: str = "no") -> MoCo:
    """What a run of these settings would start with."""
    wanted = {"stores": [store], "out": store.parent / "run", "size": size, **SETTINGS, "precision": precision}
    settings = make(PretrainSettings, wanted)
    return build_method(settings, make_accelerator("cpu", precision))[0]


def passes(method: MoCo, images_q: Tensor, images_k: Tensor) -> None:
    """The four passes: query forward, backward (two), key forward."""
    method.network.zero_grad(set_to_none=True)
    method.wrapped(images_q).sum().backward()
    with torch.no_grad(), method.autocast():
        method.key(images_k)


def rate(work: Callable[[], object], steps: int) -> float:
    """Images a second of `steps` calls, each over a batch, after one more to warm up."""
    work()
    begun = time.perf_counter()
    for _ in range(steps):
        work()
    return steps * BATCH / (time.perf_counter() - begun)


def fed(store: Path, top: Path, size: int, precision: str) -> float:
    how = {"size": size, "log_every": PLANS[size][1], "epochs": 1, "precision": precision}
    with TemporaryDirectory(dir=top) as out:
        return pretraining_rate(store, Path(out) / "run", **how)


def stepping(rounds: int, size: int, share: float, precision: str = "no") -> Iterator[Row]:
    torch.set_num_threads(cores())
    keep_memory()  # as pretraining does: all sides the same
    number, dtype = NUMBERS[precision]
    if precision == "bf16" and bf16_support(torch.device("cpu")) is False:
        yield Row.missing(f"ResNet-18, {size} px, {number}", "skipped: the processor has no fast bfloat16")
        return
    steps = PLANS[size][2]
    with TemporaryDirectory() as name:
        top = Path(name)
        images = write_images(top / "images", PLANS[size][0] * BATCH, 320, ".jpg")
        store = make_store(images, top / "store")
        views = torch.randint(0, 256, (2, BATCH, 1, size, size), dtype=torch.uint8)
        learner, large = make_moco(store, size, precision), make_moco(store, size, precision)
        lr = SETTINGS["lr"]
        large.queue = KeyQueue(PAPER_QUEUE, SETTINGS["dim"])
        flop_an_image = flop_of(lambda: passes(learner, *views)) / BATCH
        sides: dict[str, Callable[[], float]] = {
            "pretraining": partial(fed, store, top, size, precision),
            "one constant batch": partial(rate, lambda: learner.step(views, lr), steps),
            "matrix product": lambda: matrix_rate(dtype) / 1e9,
        }
        if size == 224:
            sides["step"] = partial(rate, lambda: large.step(views, lr), steps)
            sides["the passes alone"] = partial(rate, lambda: passes(large, *views), steps)
        with opencv_on_one_thread():  # as pretraining does
            found = alternate(sides, rounds)
    found["arithmetic"] = [images * flop_an_image / 1e9 for images in found["pretraining"]]
    what = f"ResNet-18, {size} px, batch {BATCH}, {number}"
    name = f"pretraining, {what}: arithmetic ({flop_an_image / 1e9:.3g} GFLOP an image) of the matrix-product rate"
    yield row(name, found, "arithmetic", "matrix product", share, unit="GFLOP/s")
    yield row(f"pretraining, {what}", found, "pretraining", "one constant batch", 0.95)
    if size == 224:
        yield row(f"step, {what}, K {PAPER_QUEUE:,}", found, "step", "the passes alone", 0.9)


SUBJECTS = {
    "64 px": partial(stepping, size=64, share=0.52),
    "64 px, bfloat16": partial(stepping, size=64, share=0.52, precision="bf16"),
    "224 px": partial(stepping, size=224, share=0.62),
}

if __name__ == "__main__":
    sys.exit(main(__doc__, SUBJECTS))
