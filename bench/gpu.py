"""What a GPU makes of both presets, written into docs/benchmarks.md: python bench/gpu.py [--seconds 20] [--compile]

For each preset at its own size and batch, on random images of the level that its views come from: images/s with its feed
at work, its share of the rate on one constant batch, TFLOP/s of the four passes and their share of the matrix product
measured in the same run, and the most memory that was held. Rounds alternate; medians. Without a GPU it says so.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch.utils.flop_counter import FlopCounterMode

from mococxr.pretraining.dataset import PretrainSet
from mococxr.pretraining.hardware import make_accelerator
from mococxr.pretraining.loader import make_loader
from mococxr.pretraining.pretrain import build_method
from mococxr.settings import PretrainSettings, make
from mococxr.store import Level
from mococxr.workers import opencv_on_one_thread

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- gpu: rows begin -->", "<!-- gpu: rows end -->"
IMAGES, ROUNDS = 4096, 5


class Random(Level):
    """Images of noise in memory, of the shape that a store of the preset's level has."""

    def __init__(self, size: int) -> None:
        self.noise = np.random.default_rng(0).integers(0, 256, (64, size * 3 // 2, size * 15 // 8), dtype=np.uint8)

    def pixels(self, i: int) -> np.ndarray:
        return self.noise[i % 64]


def settings_of(preset: str, given: argparse.Namespace) -> PretrainSettings:
    stated = {"stores": ["none"], "out": "none", "preset": preset, "init": "random", "queue": None}
    fast = {"compile": given.compile, "views_on": given.views_on, "precision": given.precision}
    settings = make(PretrainSettings, stated | fast)
    return make(PretrainSettings, stated | fast | {"queue": min(2048, IMAGES - 2 * settings.batch)})


def steady(work: Callable[[], object], seconds: float) -> float:
    """Calls a second, the device's work included."""
    torch.cuda.synchronize()
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for _ in range(5):
            work()
        torch.cuda.synchronize()
        done += 5
    return done / (time.perf_counter() - begun)


def matrix_peak(kind: torch.dtype, side: int = 8192) -> float:
    """TFLOP/s of a matrix product of that side."""
    a, b = (torch.randn(side, side, device="cuda", dtype=kind) for _ in range(2))
    return max(steady(lambda: a @ b, 1.0) for _ in range(3)) * 2 * side**3 / 1e12


def measure(preset: str, given: argparse.Namespace) -> str:
    """One row of the table."""
    s = settings_of(preset, given)
    accelerator = make_accelerator("cuda", s.precision)
    alone = pl.DataFrame({"source": ["noise"], "patient": ["0"]})
    rows = np.arange(IMAGES)
    pool = PretrainSet({s.size: (Random(s.size),)}, np.zeros(IMAGES, dtype=np.int64), rows, rows, rows, alone)
    method, feed = build_method(s, accelerator)[0], make_loader(s, pool, accelerator)
    constant = feed.views(*feed.images(0)).to(accelerator.device)

    def bare() -> object:
        return method.step(constant, s.lr)

    batches: Iterator[tuple[int, object]] = feed.run(0, 1 << 40)

    def fed() -> object:
        _, batch = next(batches)
        return method.step(batch.to(accelerator.device, non_blocking=True), s.lr)

    if s.compile:
        flop = float("nan")  # the counter does not see into compiled code
    else:
        with FlopCounterMode(display=False) as counter:
            bare()
        flop = counter.get_total_flops()
    for _ in range(20):
        bare(), fed()
    torch.cuda.reset_peak_memory_stats()
    pairs = [(steady(fed, given.seconds / ROUNDS), steady(bare, given.seconds / ROUNDS)) for _ in range(ROUNDS)]
    batches.close()
    rate, share = statistics.median(a for a, _ in pairs), statistics.median(a / b for a, b in pairs)
    kind = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    peak, made = matrix_peak(kind), rate * flop / 1e12
    ways = [accelerator.mixed_precision.replace("no", "float32"), f"views on {s.views_on}"]
    ways += ["compiled"] if s.compile else []
    return (
        f"| {datetime.date.today()} | {torch.cuda.get_device_name()} | `{preset}`: {s.backbone}, {s.size} px, batch "
        f"{s.batch} | {', '.join(ways)} | {rate * s.batch:,.0f} | {share:.2f} | {made:.1f} | {made / peak:.2f} of "
        f"{peak:.0f} | {torch.cuda.max_memory_allocated() / 2**30:.1f} |"
    )


def record(rows: list[str], page: Path = PAGE) -> None:
    """Put rows in front of the end of the table, which a person may trim."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"{page.name} has not its marks {BEGIN} and {END}")
    page.write_text(text.replace(END, "\n".join([*rows, END])), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each side of each preset")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--views-on", choices=["cpu", "device"], default="cpu")
    parser.add_argument("--precision", choices=["auto", "no", "bf16", "fp16"], default="auto")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU of NVIDIA here: nothing measured, nothing written")
        return
    with opencv_on_one_thread():  # as pretraining does
        rows = [measure(preset, given) for preset in ("paper", "tuned")]
    record(rows)
    print("\n".join(rows))


if __name__ == "__main__":
    main()
