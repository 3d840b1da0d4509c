"""How files become 8-bit grey: the settings of reading, what is remarked, and more than 8 bits -> 8 by a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mococxr.errors import InputError, Shown

MAX_PIXELS = 120_000_000
"""Pixels above which an image is refused before it is decoded (the largest detectors give about 20 million)."""
FRAMES = ("first", "refuse")
"""What becomes of a DICOM file of several frames: its first is the image, or it is refused."""
WINDOW_MISSES, NARROW, FEWER_BITS = "window-misses", "narrow", "fewer-bits"
FOR_PROCESSING = "for-processing"
REMARKS = {
    WINDOW_MISSES: "the window or table of the header shows next to nothing; the next one was used, else the whole "
    "range that the header declares",
    NARROW: "98 % of the pixels lie within less than half of the range that the file declares, so they are dark, or "
    "pale: values of 12 bits in words of 16, perhaps",
    FOR_PROCESSING: "the header says FOR PROCESSING: values of the detector, not meant to be looked at; they differ from "
    "images FOR PRESENTATION, and between makers",
    FEWER_BITS: "the compressed data have fewer bits than the header says; black to white is the range of those bits",
}
"""What is said of an image that is read, where its file leaves something in doubt."""


def remarked(counts: Mapping[str, int]) -> list[str]:
    """A sentence for each remark with the number of its images."""
    return [f"{n:,} {'image' if n == 1 else 'images'}: {REMARKS[remark]}." for remark, n in counts.items()]


HALF = 0.5
"""Share of the declared range under which an image of more than 8 bits is narrow."""
SHOWN = 1 / 8
"""Share of the greys under which a window shows next to nothing."""
_BULK = (1.0, 99.0)
"""Percentiles between whose greys an image lies: markers and dead pixels are beyond."""
_SAMPLE = 1 << 17
"""Pixels, about, that are looked at for these."""


@dataclass(frozen=True)
class Decoded:
    """An image that was read.

    Args:
        pixels: uint8 (H, W), upright, pixels square, larger = whiter; uint16 where `Reading.white` asks for it.
        remarks: keys of `REMARKS`, sorted.
    """

    pixels: npt.NDArray[Any]
    remarks: tuple[str, ...] = ()


def sample(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every n-th row and column (H', W'), a hundred thousand pixels or so: enough for shares."""
    step = max(1, round((values.size / _SAMPLE) ** 0.5))  # the root, since rows and columns are both thinned
    return values[::step, ::step]


def percentiles(
    grey: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], percents: tuple[float, float]
) -> tuple[float, float]:
    """Two percentiles of the greys of pixels, linear between ranks as numpy's; (0, 0) of no pixel.

    Args:
        grey: (N,) of every entry.
        counts: (N,) pixels that have it.
        percents: 0..100, the lower first.
    """
    occurs = np.flatnonzero(counts)
    if not len(occurs):
        return 0.0, 0.0
    order = occurs[np.argsort(grey[occurs], kind="stable")]
    upto = np.cumsum(counts[order])
    ranks = np.array(percents) / 100 * (upto[-1] - 1)
    below, above = (grey[order[np.searchsorted(upto, side(ranks), "right")]] for side in (np.floor, np.ceil))
    low, high = below + (above - below) * (ranks - np.floor(ranks))
    return float(low), float(high)


def extent(grey: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> float:
    """How far apart the greys are between which 98 % of the pixels lie; arguments as of `percentiles`."""
    low, high = percentiles(grey, counts, _BULK)
    return high - low


@dataclass(frozen=True)
class Voi:
    """Which of a DICOM file's grey-scale choices (tables first, then windows, in their order) is applied.

    Args:
        choice: `first`, `widest`, `none`, `number` or `name`.
        number: its place from 1, for `number`.
        name: its explanation in lower case, for `name`.
    """

    choice: str = "first"
    number: int = 1
    name: str = ""


def parse_voi(text: str) -> Voi:
    """`first`, `widest`, `none`, a number from 1, or `name:TEXT`.

    A DICOM file may offer several grey scales: lookup tables, then windows. `first` takes the first table, else
    the first window; `widest` the window of the greatest width, else the first table; `none` the whole stored
    range; a number the choice of that place; `name:TEXT` the choice whose explanation is TEXT, in any case.
    A file that has no choice of that number or name is read as by `first`; one that has none, as by `none`.

    Raises:
        InputError: none of these forms.
    """
    plain = text.strip()
    if plain in ("first", "widest", "none"):
        return Voi(plain)
    if plain.isdecimal() and len(plain) <= 6 and int(plain) >= 1:
        return Voi("number", number=int(plain))
    if plain.startswith("name:") and plain[5:].strip():
        return Voi("name", name=plain[5:].strip().lower())
    raise InputError(
        "The window to apply is {text!r}.",
        "Give `first`, `widest`, `none`, a number from 1, or `name:TEXT`.",
        text=Shown(text),
    )


def parse_window(text: str) -> tuple[float, float] | None:
    """`full` -> None; `0.5:99.5` -> (0.5, 99.5).

    Raises:
        InputError: neither form, or not 0 <= LOW < HIGH <= 100.
    """
    if text == "full":
        return None
    low, _, high = text.partition(":")
    try:
        window = float(low), float(high)
    except ValueError:
        window = (1.0, 0.0)
    if not 0 <= window[0] < window[1] <= 100:
        raise InputError(
            "The depth is {text!r}.",
            "Give `full`, or two percentiles such as `0.5:99.5` (0 <= LOW < HIGH <= 100).",
            text=Shown(text),
        )
    return window


@dataclass(frozen=True)
class Reading:
    """How files become images; checked and parsed once.

    Args:
        depth: `full` maps the declared range of an image of more than 8 bits to 0..255; `LOW:HIGH` maps these two
            percentiles of the image to 0 and 255. Images of 8 bits stay as they are.
        voi: which window or table of a DICOM file is applied (see `parse_voi`).
        frames: `first` takes the first frame of a DICOM file of several, `refuse` refuses such a file.
        max_pixels: images with more pixels are refused before anything is allocated.
        any_body_part: DICOM images whose header names another part of the body than the chest are read too.
        white: the largest grey of the result: 255, or 65535 for uint16, which keeps every level of a file to window later.

    Attributes:
        window: the percentiles of `depth`, or None.
        choice: `voi`, parsed.

    Raises:
        InputError: `depth`, `voi` or `frames` is none of its forms.
    """

    depth: str = "full"
    voi: str = "first"
    frames: str = "first"
    max_pixels: int = MAX_PIXELS
    any_body_part: bool = False
    white: int = 255
    window: tuple[float, float] | None = field(init=False, repr=False, compare=False)
    choice: Voi = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.frames not in FRAMES:
            raise InputError("frames is {frames!r}.", "Give `first` or `refuse`.", frames=Shown(self.frames))
        object.__setattr__(self, "window", parse_window(self.depth))
        object.__setattr__(self, "choice", parse_voi(self.voi))


def as_levels(grey: npt.NDArray[np.float64], white: int) -> npt.NDArray[Any]:
    """Greys of 0..1 as whole levels 0..white, uint8 or uint16."""
    # halves go up: np.rint would send every second one down
    return np.floor(grey * white + 0.5).astype(np.uint8 if white == 255 else np.uint16)


def to_greys(grey: np.ndarray, shift: int, top: int | None, white_is_zero: bool, reading: Reading) -> Decoded:
    """Map grey values to 0..255, or 0..65535, rounded to the nearest.

    Args:
        grey: uint8 or uint16 (H, W); uint8 is returned as it is.
        shift: bits to drop at the low end (PNG `sBIT`: the significant bits stand at the high end).
        top: the largest value declared; None, or a declaration that the image exceeds, means the full range.
        white_is_zero: the largest value is black.
        reading: its `window` are percentiles (low, high) of this image that become black and white; None is the whole
            declared range. An image whose two percentiles are one value has nothing to stretch and keeps the whole range.

    Returns:
        uint8 (H, W), or uint16 where `reading.white` is 65535, and whether it is narrow.
    """
    window = reading.window
    if grey.dtype == np.uint8:
        return Decoded(grey if reading.white == 255 else grey.astype(np.uint16) * 257)
    full = (1 << (16 - shift)) - 1  # all ones in the significant bits
    largest = int(grey.max()) >> shift
    highest = top if top is not None and largest <= top else full
    values = np.minimum(np.arange(1 << 16) >> shift, highest)  # of every entry there can be: one look-up a pixel
    if white_is_zero:
        values = highest - values
    counts = np.bincount((sample(grey) if window is None else grey).ravel(), minlength=len(values))
    low, high = percentiles(values, counts, window) if window is not None else (0.0, 0.0)
    if high <= low:  # one value has nothing to stretch
        low, high = 0.0, float(highest)
    table = as_levels(np.clip((values - low) / (high - low), 0, 1), reading.white)
    narrow = window is None and extent(values / highest, counts) < HALF  # percentiles have stretched it otherwise
    return Decoded(table[grey], (NARROW,) if narrow else ())
