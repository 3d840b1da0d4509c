"""What the benchmarks of pretraining share: images on disk, a store of them, and the images/s that a run logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import mococxr
from mococxr.synthetic import draw_synthetic

BATCH = 32
QUEUE = 128
SETTINGS: dict[str, Any] = {
    # ResNet-18 as MoCo v2 trains it, without what other libraries' examples do not do (shuffled batch norm).
    "backbone": "resnet18", "init": "random", "batch": BATCH, "queue": QUEUE, "dim": 128, "key_groups": 1,
    "optimizer": "sgd", "lr": 0.06, "temperature": 0.2, "momentum": 0.99, "warmup": 0.0, "device": "cpu",
    "precision": "no", "save_every": 1_000_000,
}  # fmt: skip
PICTURES = 48


def write_images(folder: Path, images: int, side: int, suffix: str, pictures: int = PICTURES) -> Path:
    """Synthetic images of a shorter side of `side` px with grain: a few pictures, each under several names."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(images):
        file = folder / f"synthetic{i:05d}{suffix}"
        if i >= pictures:
            os.link(folder / f"synthetic{i % pictures:05d}{suffix}", file)
            continue
        size = (side, side * 39 // 32)
        image = cv2.resize(draw_synthetic(0, i, size=390), size, interpolation=cv2.INTER_CUBIC)
        grainy = image + rng.normal(0, 2, image.shape).astype(np.float32)
        options = [cv2.IMWRITE_JPEG_QUALITY, 92] if suffix == ".jpg" else []
        cv2.imwrite(str(file), grainy.clip(0, 255).astype(np.uint8), options)
    return folder


def make_store(folder: Path, out: Path, size: int = 320) -> Path:
    """`mococxr prepare` a folder of images, all for pretraining, as a process of its own, as users run it."""
    options = [f"--size={size}", "--split", "1", "0", "0", "--patients-unknown"]
    subprocess.run(
        [sys.executable, "-m", "mococxr", "prepare", str(folder), f"--out={out}", *options],
        check=True,
        capture_output=True,
    )
    return out


def logged_rate(out: Path) -> float:
    """Images a second between the first and the last line of a run's log: the loop without its first steps."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    return (last["step"] - first["step"]) * SETTINGS["batch"] / (last["seconds"] - first["seconds"])


@contextmanager
def quietly() -> Iterator[None]:
    """Without what commands say on their way."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), redirect_stdout(nowhere):
        yield


def rate_apart(store: Path, out: Path, ranks: int = 1, threads: int | None = None, **settings: Any) -> float:
    """Images a second of `mococxr pretrain` in processes of its own, as users run it; all cores, or `threads` each."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    given = {**SETTINGS, **settings, "out": out}
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run(
        [sys.executable, *several, "-m", "mococxr", "pretrain", str(store), *options],
        env={**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return logged_rate(out)


def pretraining_rate(store: Path, out: Path, **settings: Any) -> float:
    """Images a second of `mococxr.pretrain` in this process: feeding, stepping, measuring and logging."""
    with quietly():
        mococxr.pretrain([store], out=out, **{**SETTINGS, **settings})
    return logged_rate(out)
