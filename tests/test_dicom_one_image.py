"""An image is one image: the same ramp, written in every way a header allows, is the same grey image."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from dicom_images import (
    BIG,
    DEFLATED,
    EXPLICIT,
    EXTENDED,
    IMPLICIT,
    J2K,
    J2K_LOSSLESS,
    LOSSLESS,
    LOSSLESS_FIRST,
    LS,
    LS_NEAR,
    RLE,
    described,
    encoded,
    image,
    table,
    tables,
)  # fmt: skip
from mococxr.images import decode_image

RAMP = np.arange(0, 4096, 4).reshape(32, 32)
"""Grey values of 12 bits that 10 bits can hold."""
GREY = np.floor(RAMP / 4095 * 255 + 0.5).astype(np.uint8)
ENDS = [(p, s) for p in ("MONOCHROME1", "MONOCHROME2") for s in (None, "IDENTITY", "INVERSE")]
DEPTHS = (10, 12, 14, 15, 16)
SCALES = (None, (1, 0), (2, -1000), "table")
WINDOWS = (None, "LINEAR", "LINEAR_EXACT", "table", "LINEAR and table")
SIGNS = (False, True)
EXACT = (EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE, LOSSLESS, LOSSLESS_FIRST, LS, J2K_LOSSLESS)
LOSSY = (LS_NEAR, J2K, EXTENDED)


@dataclass(frozen=True)
class Way:
    """One way of writing the ramp."""

    photometric: str
    shape: str | None
    depth: int
    scale: Any
    window: str | None
    signed: bool
    syntax: str

    @property
    def possible(self) -> bool:
        """A table has at most 65,536 entries, JPEG extended 12 unsigned bits; JPEG-LS with loss breaks a sign."""
        wide = self.scale == (2, -1000) and (self.depth == 16 or (self.depth == 15 and self.signed))
        if self.syntax == EXTENDED and (self.depth != 12 or self.signed):
            return False
        if self.syntax == LS_NEAR and self.signed:
            return False
        return not (wide and "table" in (self.window or ""))

    def write(self) -> bytes:
        """The file."""
        levels = 1 << self.depth
        stored = RAMP >> 12 - self.depth if self.depth < 12 else RAMP << self.depth - 12
        inverse = self.shape == "INVERSE" if self.shape else self.photometric == "MONOCHROME1"
        stored = levels - 1 - stored if inverse else stored
        lowest = -(levels // 2) if self.signed else 0
        cells = ((stored + lowest) % levels).astype(np.uint16)
        elements = {"PhotometricInterpretation": self.photometric, "BitsStored": self.depth}
        elements |= {"PixelRepresentation": int(self.signed)}
        if self.shape:
            elements["PresentationLUTShape"] = self.shape
        slope, intercept = self.scale if isinstance(self.scale, tuple) else (1, 0)
        low, high = lowest * slope + intercept, (lowest + levels - 1) * slope + intercept
        if self.scale == "table":
            item = table(np.arange(levels), lowest, self.depth, signed=self.signed)
            elements["ModalityLUTSequence"] = tables(item)
            low, high = 0, levels - 1
        elif self.scale:
            elements |= {"RescaleSlope": str(slope), "RescaleIntercept": str(intercept)}
        elements |= self._windows(low, high, slope)
        frame = None
        if self.syntax not in (EXPLICIT, IMPLICIT, BIG, DEFLATED):
            frame = packed(cells, self.syntax, self.depth, self.signed)
        elif self.depth < 16:  # what stands above the stored bits is none of the image's
            cells = cells | (np.arange(cells.size).reshape(cells.shape) << self.depth).astype(np.uint16)
        return image(cells, self.syntax, frame, **elements)

    def _windows(self, low: int, high: int, slope: int) -> dict[str, Any]:
        """The elements of a window or table that is the identity from `low` to `high`."""
        found: dict[str, Any] = {}
        name = self.window or ""
        if "LINEAR" in name:
            exact = name == "LINEAR_EXACT"
            found["WindowCenter"] = str((low + high) / 2 if exact else (low + high + 1) / 2)
            found["WindowWidth"] = str(high - low if exact else high - low + 1)
            if exact:
                found["VOILUTFunction"] = name
        if "table" in name:
            entries = np.arange(high - low + 1) // slope
            found["VOILUTSequence"] = tables(table(entries, low, self.depth, signed=low < 0))
        return found


FRAMES: dict[Any, bytes] = {}


def packed(cells: np.ndarray, syntax: str, depth: int, signed: bool) -> bytes:
    """A compressed frame, made once."""
    key = (cells.tobytes(), syntax, depth, signed)
    if key not in FRAMES:
        about = described(cells, BitsStored=depth)
        if syntax in (J2K, J2K_LOSSLESS) and signed:  # the one stream that says so itself
            cells = (cells.astype(np.int16) << 16 - depth) >> 16 - depth
        FRAMES[key] = encoded(cells, syntax, about)
    return FRAMES[key]


def every_way(syntaxes: tuple[str, ...]) -> Iterator[Way]:
    for (photometric, shape), *rest in itertools.product(ENDS, DEPTHS, SCALES, WINDOWS, SIGNS, syntaxes):
        way = Way(photometric, shape, *rest)
        if way.possible:
            yield way


def check(way: Way) -> None:
    """The image comes back: exactly at 12 bits without loss, within one level at other depths, two with loss."""
    off = np.abs(decode_image(way.write()).astype(int) - GREY).max()
    assert off <= (2 if way.syntax in LOSSY else way.depth != 12), way


def test_an_image_is_one_image_a_sample_of_every_way_of_writing_it() -> None:
    ways = list(every_way(EXACT)) + list(every_way(LOSSY))
    for i in np.random.default_rng(5).permutation(len(ways))[:200]:
        if ways[i].syntax != EXTENDED:
            check(ways[i])


@pytest.mark.parametrize("syntax", [*EXACT, *LOSSY])
def test_an_image_is_one_image_in_every_compression(syntax: str) -> None:
    for photometric, shape in ENDS:
        check(Way(photometric, shape, 12, None, None, False, syntax))


@pytest.mark.slow
@pytest.mark.parametrize("syntax", [*EXACT, *LOSSY])
def test_an_image_is_one_image_every_way_of_writing_it(syntax: str) -> None:
    for way in every_way((syntax,)):
        check(way)
