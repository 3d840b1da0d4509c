"""How fast this machine is: a few images of the source read, a few frames encoded, a few steps of pretraining made."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from mococxr import console
from mococxr.datasets import Dataset
from mococxr.encoders import LITE0, OFFLINE_BACKBONE, EncoderSpec, build, published_folder, shared_sets, trained_on
from mococxr.errors import ImageError
from mococxr.features import pick_device, seconds_per_image, set_threads
from mococxr.files import sha256_file
from mococxr.images import Reading, decode_image, read_bytes, resize_shorter
from mococxr.reproduction.plan import noise_store, pretrain_seconds
from mococxr.settings import PretrainSettings, RunSettings, make
from mococxr.workers import cores

LOOKED_AT = 12
"""Images of the source that are decoded."""
HASHED = 400
"""Images of the source that are compared with those that the published weights have seen."""
ENCODED = 224
"""Side of the frames that are timed, px; other sides take as their area."""
VIEW, BATCH = 96, 32
"""Side of the views of a timed step, px, and images in it: those of the preset `tuned`."""


@dataclass(frozen=True)
class Pace:
    """Seconds an image, measured.

    Args:
        decode: read, decoded and shrunk by one process.
        encode: a frame of `ENCODED` px through the encoder.
        pretrain: an image in a step of pretraining with views of `VIEW` px.
        processes: that decode side by side.
        device: where networks compute.
        shorter: median of the shorter sides of the images that were looked at, px; 0 where none can be read.
        unreadable: of these images, with the reason of the first.
    """

    decode: float
    encode: float
    pretrain: float
    processes: int
    device: str
    shorter: int
    unreadable: tuple[int, str]


def measure(dataset: Dataset, s: RunSettings, size: int) -> Pace:
    """Take the time of each kind of work.

    Args:
        size: shorter side that images are stored at, px.
    """
    console.say("a look at the images and at how fast this machine is: some seconds")
    device = pick_device(s.device)
    decode, shorter, unreadable = _decode(dataset, size)
    set_threads(s.jobs)
    encoder = build(EncoderSpec(OFFLINE_BACKBONE, ENCODED, features="stages"), seed=0)
    encode = seconds_per_image(encoder, ENCODED, device)
    return Pace(decode, encode, _pretrain(s.device), s.jobs or cores(), device.type, shorter, unreadable)


def _pretrain(device: str) -> float:
    with tempfile.TemporaryDirectory(prefix="mococxr-") as folder:
        store = noise_store(Path(folder), VIEW, images=3 * BATCH)
        options = {"stores": [store.path], "out": ".", "init": "random", "queue": BATCH, "device": device}
        settings = make(PretrainSettings, options | {"size": VIEW, "batch": BATCH})
        return pretrain_seconds(settings, store) / BATCH


def _decode(dataset: Dataset, size: int) -> tuple[float, int, tuple[int, str]]:
    """Seconds an image, the median of shorter sides, and how many of these images cannot be read, with a reason."""
    seconds, sides, reasons = [], [], []
    for path in _spread(dataset.files, LOOKED_AT):
        begun = time.perf_counter()
        try:
            pixels = decode_image(read_bytes(dataset.root / path), Reading(frames="first"))
        except ImageError as error:
            reasons.append(str(error))
            continue
        sides.append(min(pixels.shape))
        resize_shorter(pixels, size)
        seconds.append(time.perf_counter() - begun)
    first = reasons[0] if reasons else ""
    return float(np.mean(seconds or [0.0])), int(np.median(sides or [0])), (len(reasons), first)


def _spread(values: pl.Series, count: int) -> list[str]:
    """So many values, evenly from the first to the last."""
    picked = np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int))
    return values.gather(picked).to_list()


def published_weights(dataset: Dataset) -> str:
    """Why `mococxr-lite0` is not to be used on these images; nothing where it is here and has seen none of them."""
    folder = published_folder()
    if folder is None:
        return f"{LITE0} is not installed"
    if sets := shared_sets(dataset.source, trained_on(LITE0).sets):
        return f"{LITE0} has learned from images of {' and '.join(sets)}, and would know the test images"
    seen = set(pl.read_parquet(folder / "images.parquet", columns=["sha256"])["sha256"])
    files = [dataset.root / path for path in _spread(dataset.files, HASHED)]
    known = sum(sha256_file(file) in seen for file in files if file.is_file())
    return f"{LITE0} has learned from {known} of {len(files)} images looked at, test images among them" if known else ""
