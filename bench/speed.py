"""Speed as ratios, each pair measured in one run: python bench/speed.py [--rounds 5]

1. Two 224 px views of a stored 320 x 390 film against the usual pipeline (torchvision on PIL: decode once, RGB, then
   for each view resize, flip, rotate, crop, tensor, normalise), one core, bilinear on both sides.
2. Pretraining of the preset `tuned` (96 px, the views drawn by its feed) against the same step on one constant batch.

Rounds alternate between the two sides of a ratio; the median ratio is printed.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import transforms

import mococxr
from mococxr.config import PretrainSettings, make, resolve
from mococxr.phantom import draw_phantom, write_phantoms
from mococxr.pretrain.pool import gather_pool
from mococxr.pretrain.setup import build_learner, make_accelerator
from mococxr.pretrain.step import moco_step
from mococxr.views import Recipe, draw_view, uniforms


def rate(work: Callable[[int], object], seconds: float) -> float:
    """Calls a second of processor time over at least `seconds`."""
    work(0)
    done, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        done += 1
        work(done)
    return done / spent


def views(rounds: int) -> None:
    """Ratio 1."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    film = cv2.resize(draw_phantom(0, 0, size=390), (320, 390))
    jpeg = cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    usual = transforms.Compose(
        [
            transforms.Resize(224),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(10, transforms.InterpolationMode.BILINEAR),
            transforms.RandomCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    recipe = Recipe(224, 0.5, 10.0, (1.0, 1.0))
    out = np.empty((2, 224, 224), np.uint8)

    def ours(index: int) -> None:  # a batch of 32, as the feed draws it
        for side in (0, 1):
            for draws in uniforms(0, index, range(32), side):
                draw_view(film, recipe, draws, out=out[side])

    def theirs(_: int) -> None:  # one film, decoded once for both views
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        usual(image), usual(image)

    pairs = [(32 * rate(ours, 1.0), rate(theirs, 1.0)) for _ in range(rounds)]
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"two 224 px views, one core: {a:,.0f} films/s, torchvision on PIL {b:,.1f}: {ratio:.0f} x (bar 30)"
    )


def pretraining(rounds: int, films: int = 1600, steps: int = 10) -> None:
    """Ratio 2."""
    torch.set_num_threads(torch.get_num_threads() if torch.get_num_threads() > 1 else 2)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder / "films", films, size=192)
        mococxr.prepare(folder / "films", out=folder / "store", size=160, split=(1, 0, 0))
        store = mococxr.Store.open(folder / "store")
        settings = resolve(
            make(PretrainSettings, {"stores": [store.path], "out": folder / "run", "queue": 1024})
        )
        accelerator = make_accelerator("auto", "auto")
        pool = gather_pool([store], settings.size, "train")
        learner, feed, _ = build_learner(settings, pool, accelerator)
        step = {"m": settings.momentum, "temperature": settings.temperature, "groups": settings.key_groups}
        constant = feed.views(*feed.films(0)).to(accelerator.device)

        def fed(start: int) -> float:
            begun = time.perf_counter()
            for _, batch in feed.run(start, start + steps):
                moco_step(learner, *batch.to(accelerator.device), **step)
            return steps * settings.batch / (time.perf_counter() - begun)

        def bare() -> float:
            begun = time.perf_counter()
            for _ in range(steps):
                moco_step(learner, *constant, **step)
            return steps * settings.batch / (time.perf_counter() - begun)

        bare()
        pairs = [(fed(r * steps), bare()) for r in range(rounds)]
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"pretraining {settings.backbone} at {settings.size} px, batch {settings.batch}, "
        f"{torch.get_num_threads()} threads on {accelerator.device.type}: {a:.1f} films/s, "
        f"the same step on a constant batch {b:.1f}: {ratio:.2f} (bar 0.9)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    pretraining(asked.rounds)
    views(asked.rounds)
