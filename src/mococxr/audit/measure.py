"""Every image looked at once: statistics of its pixels, how it lies, text, fingerprint. Some 200 bytes an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mococxr import console
from mococxr.guard import pose
from mococxr.guard.text import text_strokes
from mococxr.near_duplicates import fingerprints
from mococxr.store import Store
from mococxr.workers import surviving_map

STATISTICS = ("mean", "sd", "black", "white", "entropy")
"""Mean and deviation in grey levels; shares of pixels up to 5 and from 250; entropy of the histogram in bits."""
LEARN_FROM = 1024
"""Images of a kind of view that the detectors learn from, evenly spread over the rows."""

FEW_GREYS = 64
"""Grey levels between which 98 % of the pixels of a narrow image lie. Of 700 radiographs of three data sets none has under
89; of values of 12 bits in 16 it is 12."""
_EVEN = 0.25
"""Grey levels of deviation, at 24 x 24, under which there is no picture in few greys either; 9 bits in 16 have 0.36."""

_CHUNK = 512  # images of one task
_DARK, _BRIGHT = 6, 250  # grey levels below and from which a pixel is black or white


@dataclass(frozen=True)
class Measured:
    """What was measured of a store.

    Args:
        table: a row an image: `STATISTICS`; `blank` (no picture to be judged); `narrow` (a picture of few
            greys); `turned` (quarter turns counter-clockwise that the image seems to have been given), `inverted`, both
            null where not judged; `explained`, the share of the image that is chest, null where not judged; `longest`
            and `strokes` of text, null where the image is too small.
        prints: uint8 (images, 32), the fingerprints.
        unjudged: kind of view -> images whose pose, and images whose being a chest, was not judged.
    """

    table: pl.DataFrame
    prints: npt.NDArray[np.uint8]
    unjudged: dict[str, int]


def measure(store: Store, jobs: int) -> Measured:
    """Look at every image of a store, in `jobs` processes."""
    lateral = (store.index["view"] == "Lateral").fill_null(False).to_numpy()
    models = {kind: _learn(store, np.flatnonzero(lateral == kind), not kind) for kind in (False, True)}
    tasks: list[Task] = [
        (store, start, [models[bool(kind)] for kind in lateral[start : start + _CHUNK]])
        for start in range(0, len(store), _CHUNK)
    ]
    parts: list[tuple[list[tuple[object, ...]], npt.NDArray[np.uint8]] | None] = [None] * len(tasks)
    with console.progress("inspect", len(store)) as bar:
        in_one = jobs == 1 or len(tasks) == 1
        for number, part in enumerate(map(look, tasks)) if in_one else surviving_map(look, tasks, jobs):
            parts[number] = part  # answers come in any order
            bar.advance(len(part[0]))
    whole = [part for part in parts if part is not None]
    table = pl.DataFrame([row for rows, _ in whole for row in rows], schema=_SCHEMA, orient="row")
    unjudged = {
        "pose": int((table["turned"].is_null() & ~table["blank"]).sum()),
        "chest": int((table["explained"].is_null() & ~table["blank"]).sum()),
        "text": int(table["strokes"].is_null().sum()),
    }
    return Measured(table, np.concatenate([prints for _, prints in whole]), unjudged)


def only_prints(store: Store) -> npt.NDArray[np.uint8]:
    """The fingerprints of a store, uint8 (images, 32)."""
    with console.progress("inspect the other store", len(store)) as bar:
        return fingerprints(_advancing(store, bar))


def _advancing(store: Store, bar: console.Progress) -> Iterator[npt.NDArray[np.uint8]]:
    for i in range(len(store)):
        yield store.pixels(i)
        bar.advance()


_SCHEMA = {
    **dict.fromkeys(STATISTICS, pl.Float64),
    "blank": pl.Boolean, "narrow": pl.Boolean, "turned": pl.Int8, "inverted": pl.Boolean, "explained": pl.Float64,
    "longest": pl.Int32, "strokes": pl.Int32,
}  # fmt: skip


def _learn(store: Store, rows: npt.NDArray[np.int64], frontal: bool) -> pose.Model | None:
    """The model of one kind of view, from as many images of one half of the rows as of the other."""
    chosen: list[int] = []
    for half in (0, 1):  # an image is judged by what the other half of the rows taught
        these = rows[pose.half_of(rows) == half]
        places = np.linspace(0, len(these) - 1, min(LEARN_FROM // 2, len(these))).round().astype(int)
        chosen += these[np.unique(places)].tolist()
    images, kept = [], []
    for row in sorted(chosen):
        small = pose.shrink(store.pixels(row))
        if small.std() >= pose.FLAT:  # an image without a picture teaches nothing
            images.append(pose.equalise(small))
            kept.append(row)
    return pose.learn(images, kept, frontal)


Task = tuple[Store, int, Sequence[pose.Model | None]]
Part = tuple[list[tuple[object, ...]], npt.NDArray[np.uint8]]


def look(task: Task) -> Part:
    """Measure the images from row `start` on, one a model: rows as in `_SCHEMA`, and fingerprints."""
    store, start, models = task
    images = [store.pixels(start + i) for i in range(len(models))]
    rows = [_measure(image, start + i, model) for i, (image, model) in enumerate(zip(images, models, strict=True))]
    return rows, fingerprints(images)


def _measure(image: npt.NDArray[np.uint8], row: int, model: pose.Model | None) -> tuple[object, ...]:
    shares = np.bincount(image.ravel(), minlength=256) / image.size
    levels = np.arange(256)
    mean = float(shares @ levels)
    sd = float(shares @ (levels - mean) ** 2) ** 0.5
    filled = shares[shares > 0]  # 0 log 0 is 0
    numbers = (mean, sd, float(shares[:_DARK].sum()), float(shares[_BRIGHT:].sum()), float(-filled @ np.log2(filled)))
    longest, every = text_strokes(image) or (None, None)
    small = pose.shrink(image)
    blank = bool(small.std() < pose.FLAT)
    low, high = np.searchsorted(np.cumsum(shares), (0.01, 0.99))  # 1st and 99th percentile, in grey levels
    narrow = bool(high - low < FEW_GREYS and small.std() >= _EVEN)
    if blank or model is None:
        return (*numbers, blank, narrow, None, None, None, longest, every)
    evened = pose.equalise(small)
    turned, inverted = pose.verdict(model.fits(evened, row))
    chest = None if model.means is None else model.explained(evened, row)
    return (*numbers, False, narrow, turned, inverted, chest, longest, every)
