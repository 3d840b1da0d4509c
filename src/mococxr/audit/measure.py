"""Every image looked at once: statistics of its pixels, how it lies, text, fingerprint. Some 200 bytes an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from mococxr import console
from mococxr.audit import pose
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

TEXT_SIDE, TEXT_LEAST = 320, 224
LONG_LINE, MUCH_TEXT = 12, 20
"""Strokes of one line, or of all, from which a text may name a person: more than AP, SUPINE and PORTABLE."""
WORD = 6
"""Strokes in all from which there is a word, more than a side marker."""

_CHUNK = 512  # images of one task
_DARK, _BRIGHT = 6, 250  # grey levels below and from which a pixel is black or white
_SQUARE = np.ones((9, 9), np.uint8)  # px; opening by it takes bright strokes away and leaves the anatomy
_CONTRAST, _FAINT, _SATURATED = 40, 18, 245
"""Grey levels of a stroke above its ground; above a bright ground less is enough where the stroke is white."""
_RISE = 18  # grey levels, see `_rises`
_HEIGHTS, _WIDEST = (3, 18), 150  # px of a letter's height, and of several that have merged

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.int64]


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


# Lines of letters burned into an image: small bright strokes of one height, side by side.
#
# Images are looked at with a shorter side of 320 pixels (224 at least), where letters of an image's text are 4 to 16
# pixels high: smaller ones merge and are not seen. What is counted are strokes, the bright runs along a line: a
# letter has one or two.
#
# Measured: of 40 synthetic images with a name and a number along an edge, letters 2.5 to 3.5 % of the height, 38 reached 12
# strokes in a line; of 80 without none had a word. Of 1,000 images of adults 17 % carry words like AP, SUPINE or
# PORTABLE (8 to 11 strokes), and 6 images reach 12 or 20; all that were looked at carry text.


def text_strokes(image: Image) -> tuple[int, int] | None:
    """Strokes of the longest line of letters and of all lines; None where the image is too small to say."""
    shorter = min(image.shape)
    if shorter < TEXT_LEAST:
        return None
    if shorter > TEXT_SIDE:
        scale = TEXT_SIDE / shorter
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    # strokes are narrower than the square
    raised = cv2.subtract(image, cv2.morphologyEx(image, cv2.MORPH_OPEN, _SQUARE))
    white = cv2.inRange(image, np.array(_SATURATED), np.array(255))
    mask = (raised > _CONTRAST) | ((raised > _FAINT) & (white > 0))
    # The first component is the background.
    boxes = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][1:, :4].astype(np.int64)
    boxes = boxes[(boxes[:, 3] >= _HEIGHTS[0]) & (boxes[:, 3] <= _HEIGHTS[1]) & (boxes[:, 2] <= _WIDEST)]
    lines = _lines(boxes[np.argsort(boxes[:, 0], kind="stable")])
    counts = [(_count(np.asarray(raised, np.uint8), line), line) for line in lines]
    return _longest([(count, line) for count, line in counts if count]), sum(count for count, _ in counts)


def _longest(counts: list[tuple[int, Boxes]]) -> int:
    """Strokes of the longest line, parts of one height on one level taken together: bone hides a letter or two."""
    best = 0
    for _, line in counts:
        height, level = np.median(line[:, 3]), np.median(line[:, 1])
        level_with = (abs(np.median(part[:, 1]) - level) <= max(1.0, 0.3 * height) for _, part in counts)
        best = max(best, sum(count for (count, _), fits in zip(counts, level_with, strict=True) if fits))
    return int(best)


def _lines(boxes: Boxes) -> list[Boxes]:
    """Boxes (x, y, width, height), sorted by x, put together to lines of one top and bottom."""
    left = list(range(len(boxes)))
    lines = []
    while left:
        line = [left.pop(0)]
        x, y, width, height = boxes[line[0]].tolist()
        end, bottom = x + width, y + height
        for other in left.copy():
            next_x, next_y, next_width, next_height = boxes[other].tolist()
            if next_x - end > 1.5 * height:
                break
            apart = max(abs(next_y - y), abs(next_y + next_height - bottom))
            if next_x >= end - 2 and apart <= max(1.0, 0.3 * height):
                line.append(other)
                left.remove(other)
                end = next_x + next_width
                if next_width > 3:
                    y, bottom = next_y, next_y + next_height
        lines.append(boxes[line])
    return lines


def _count(raised: Image, line: Boxes) -> int:
    """The strokes of a line that could be text; 0 where it could not: too short, too few, or too dense."""
    left, top = line[:, :2].min(axis=0)
    right, bottom = (line[:, :2] + line[:, 2:]).max(axis=0)
    height, width = float(np.median(line[:, 3])), int(right - left)
    if width < 2.5 * height:
        return 0
    count = _rises(raised[top:bottom, left:right].max(axis=0).astype(np.int64))
    return count if count >= 4 and 0.55 * width <= count * height and 1.2 * count <= width else 0


def _rises(profile: npt.NDArray[np.int64]) -> int:
    """How often a profile rises by 18 grey levels, a fall by as much between each two."""
    count, rising, turn = 0, True, int(profile[0])
    for value in profile.tolist():
        if rising:
            turn = min(turn, value)
            if value - turn >= _RISE:
                count, rising, turn = count + 1, False, value
        else:
            turn = max(turn, value)
            if turn - value >= _RISE:
                rising, turn = True, value
    return count
