"""A linear study of 4 fractions x 5 draws beside training each head by epochs over the images; ResNet-18, 224 px.

    python bench/linear_study.py [--rounds 5]

Ours: `mococxr.study` whole, on two arms and one target: a pass over the images an arm, 40 solved heads, intervals,
tests and report, into a fresh folder each round. Beside it the paper's way: a frozen encoder with batch norm in train
mode, one linear layer, Adam, batches of 16, as many epochs as `220 (n / 223)^-0.365` for n images, which gives the
paper's 220, 95, 41 and 18. Only its training is counted, with images that come from our store in memory: no decoding, no
validation, no test. One epoch over the largest fraction is measured; all 40 heads are extrapolated from it by the images
that they go through.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import mococxr
from mococxr.encoders import EncoderSpec, initial_encoder
from mococxr.frames import random_frame
from mococxr.heads.finetune import paper_epochs
from mococxr.heads.targets import read_target
from mococxr.synthetic import write_synthetic
from mococxr.workers import cores
from ratio import Row, alternate, main, row
from runs import quietly

IMAGES = 600
SIZE, BATCH = 224, 16
FRACTIONS, DRAWS, ARMS = (0.05, 0.1, 0.2, 0.5), 5, 2
TARGET = "Effusion"


def make_images(folder: Path, images: int) -> mococxr.Store:
    """A store of synthetic images with labels, and the second arm's weights beside it."""
    with quietly():
        write_synthetic(folder / "images", images, size=320, labelled=1.0, subtle=1.0)
        mococxr.prepare(
            folder / "images", out=folder / "store", size=SIZE, split=(0.5, 0.1, 0.4), stratify=True, jobs=1
        )
    weights = an_encoder(1).network.state_dict()
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / "other.safetensors")
    return mococxr.Store.open(folder / "store")


def an_encoder(seed: int) -> nn.Module:
    return initial_encoder("random", EncoderSpec("resnet18", SIZE, 3, 0.449, 0.226), seed)[0]


def study(store: mococxr.Store, out: Path) -> float:
    """Seconds of a whole study."""
    other = f"other=resnet18:{store.path.parent / 'other.safetensors'}"
    begun = time.perf_counter()
    with quietly():
        mococxr.study(
            store.path, target=[TARGET], arm=["random", other], backbone="resnet18", size=SIZE,
            fraction=FRACTIONS, draws=DRAWS, out=out, device="cpu", baseline=False,
        )  # fmt: skip
    return time.perf_counter() - begun


def epoch(store: mococxr.Store, images: int) -> float:
    """Seconds an image of one epoch of a head over `images` training images."""
    target = read_target(store, TARGET)
    rng = np.random.default_rng(0)
    rows = rng.permutation(target.train)[:images]
    level, encoder = store.level(SIZE), an_encoder(0).train()
    head = nn.Linear(512, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-5)
    begun = time.perf_counter()
    for part in np.array_split(rows, max(1, len(rows) // BATCH)):
        frames = np.stack([random_frame(level.pixels(int(row)), SIZE, rng.random()) for row in part])
        with torch.no_grad():
            features = encoder(torch.from_numpy(frames)[:, None])
        labels = torch.from_numpy(target.labels[part].astype(np.float32))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(head(features)[:, 0], labels).backward()
        optimizer.step()
    return (time.perf_counter() - begun) / len(rows)


def gone_through(train: int) -> float:
    """Images that all heads of the study go through, epoch by epoch."""
    sizes = [round(fraction * train) for fraction in FRACTIONS]
    return ARMS * DRAWS * sum(images * paper_epochs(images) for images in sizes)


def linear(rounds: int) -> Iterator[Row]:
    torch.set_num_threads(cores())
    with TemporaryDirectory() as name:
        top = Path(name)
        store = make_images(top, IMAGES)
        train = len(read_target(store, TARGET).train)
        largest = round(FRACTIONS[-1] * train)
        outs = iter(range(rounds))
        sides = {
            "ours": lambda: study(store, top / f"study{next(outs)}"),
            "the paper's way": lambda: epoch(store, largest) * gone_through(train),
        }
        found = alternate(sides, rounds)
    name = f"linear study, 2 arms, 4 fractions x 5 draws of {train} images, {SIZE} px"
    yield row(name, found, "ours", "the paper's way", 200.0, unit="s")


if __name__ == "__main__":
    sys.exit(main(__doc__, {"linear": linear}))
