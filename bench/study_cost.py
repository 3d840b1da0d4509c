"""What a study costs from images, and from features that an earlier one has read: minutes, and what the cache holds.

    python bench/study_cost.py [--rounds 5] [--cores 2]

`mococxr.study` whole: 3 encoders x 4 fractions x 5 draws of one target on 1,000 synthetic images, with intervals, tests
and report: an encoder fed 96 px and one fed 224 px, of random weights, which cost what trained ones cost, and the
baseline that a study adds, ImageNet's at 288 px. Once with an empty `--feature-cache`, then into another folder with what
it left.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import mococxr
from mococxr.encoders import EncoderSpec, initial_encoder, save_encoder
from mococxr.synthetic import write_synthetic
from mococxr.workers import cores
from ratio import Row, main, shown
from runs import quietly

IMAGES, SIZE = 1000, 288
SIZES = (96, 224)
BACKBONE = "tf_efficientnet_lite0"
FRACTIONS, DRAWS = (0.05, 0.1, 0.2, 0.5), 5
COLD, CACHED = 360.0, 60.0
"""Seconds, at most."""


def make_images(folder: Path, images: int) -> list[str]:
    """A store of synthetic images with labels, and two arms beside it."""
    with quietly():
        write_synthetic(folder / "images", images, size=320, labelled=1.0, subtle=1.0)
        how = {"size": SIZE, "split": (0.5, 0.1, 0.4), "stratify": True}
        mococxr.prepare(folder / "images", out=folder / "store", **how)
    for i, size in enumerate(SIZES):
        save_encoder(initial_encoder("random", EncoderSpec(BACKBONE, size), i)[0], folder / f"encoder{i}", {})
    return [f"encoder{i}at{size}={folder / f'encoder{i}'}" for i, size in enumerate(SIZES)]


def study(folder: Path, arms: list[str], out: Path, cache: Path) -> float:
    """Seconds of a whole study."""
    begun = time.perf_counter()
    with quietly():
        mococxr.study(
            folder / "store", target=["Effusion"], arm=arms, fraction=FRACTIONS, draws=DRAWS, out=out, device="cpu",
            feature_cache=cache,
        )  # fmt: skip
    return time.perf_counter() - begun


def cost(rounds: int) -> Iterator[Row]:
    torch.set_num_threads(cores())
    found: dict[str, list[float]] = {"cold": [], "cached": []}
    with TemporaryDirectory() as name:
        folder = Path(name)
        arms = make_images(folder, IMAGES)
        for turn in range(rounds):
            cache = folder / f"cache{turn}"
            for state, seconds in found.items():
                seconds.append(study(folder, arms, folder / f"{state}{turn}", cache))
        held = sum(file.stat().st_size for file in cache.glob("*.npy"))
    sizes = ", ".join(f"{size} px" for size in (*SIZES, SIZE))
    what = f"3 encoders ({BACKBONE}: {sizes}), 4 fractions x {DRAWS} draws, {IMAGES:,} images, {cores()} cores"
    for state, bar in (("cold", COLD), ("cached", CACHED)):
        seconds = statistics.median(found[state])
        beside = f"features kept: {held / 1e6:.3g} MB"
        met = "yes" if seconds <= bar else "no"
        yield Row(f"study, {state}: {what}", shown(seconds, "s"), beside, None, f"at most {bar:g} s", met)


if __name__ == "__main__":
    sys.exit(main(__doc__, {"cost": cost}))
