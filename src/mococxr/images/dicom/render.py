"""A DICOM file -> one uint8 grey image; the order of the steps is in docs/dicom.md.

The grey of every entry that there can be is worked out in one table, so that an image costs one look-up a pixel. The steps
are those of DICOM PS3.3 (C.7.6.3, C.11.1, C.11.2) and PS3.4 annex N. Where no window and no table is applied, the whole
range that the header declares goes to 0..1, not the values that happen to occur.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mococxr.errors import ImageError
from mococxr.images.dicom import metadata, pixels
from mococxr.images.dicom.elements import DEFLATED, DicomFile, Elements, read_file
from mococxr.images.dicom.pixels import StoredPixels
from mococxr.images.grey_levels import (
    FEWER_BITS,
    FOR_PROCESSING,
    HALF,
    NARROW,
    SHOWN,
    WINDOW_MISSES,
    Decoded,
    Reading,
    Voi,
    as_levels,
    extent,
    percentiles,
    sample,
)

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
"""The first that a file has counts."""
_PALETTE = tuple(f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))
KEYWORDS = [
    *metadata.KEYWORDS, *pixels.KEYWORDS, *_SPACINGS, "PixelAspectRatio", *(f"{name}Descriptor" for name in _PALETTE),
    *(f"{name}Data" for name in _PALETTE), "ModalityLUTSequence", "VOILUTSequence", "RescaleSlope", "RescaleIntercept",
    "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "PresentationLUTShape",
]  # fmt: skip
Values = NDArray[np.float64]
_LEVELS = 2
"""Grey levels that the whole range must show at least to take the place of a window that shows nothing."""
_SQUARE = 0.01
"""Difference of the sides of a pixel up to which it counts as square."""
_LONGEST = 4.0
"""Ratio of the sides of a pixel above which they are not believed."""


def decode_dicom(data: bytes, reading: Reading) -> Decoded:
    """Decode an image; result and errors as in `images.decode`."""
    file = read_file(data, KEYWORDS)
    facts = metadata.metadata_of(file)
    reason = metadata.rejection_reason(facts, reading.any_body_part)
    if reason is not None:
        raise ImageError(reason)
    image = render(data, file, reading)
    return replace(image, remarks=(FOR_PROCESSING, *image.remarks)) if facts.for_processing else image


def render(data: bytes, file: DicomFile, reading: Reading) -> Decoded:
    """The pixels of a DICOM object as grey, whether it is a chest image or not."""
    if file.syntax == DEFLATED:
        file = read_file(data, KEYWORDS, pixels=6 * reading.max_pixels)  # three colours of 16 bits
    stored = pixels.read_pixels(file, reading.frames == "refuse", reading.max_pixels)
    if stored.values.ndim == 3:
        stored = _luma(stored)
    table, remarks = _grey_table(file.elements, stored, reading)
    if stored.fewer_bits:
        remarks.add(FEWER_BITS)
    return Decoded(_square(_looked_up(table, stored.values), file.elements), tuple(sorted(remarks)))


def _looked_up(table: NDArray[Any], values: NDArray[np.unsignedinteger]) -> NDArray[Any]:
    """The table's entry for every pixel; OpenCV is three times as fast where it knows tables of 65,536 entries."""
    try:
        return np.asarray(cv2.LUT(values, table), table.dtype)
    except cv2.error:  # before OpenCV 5
        return table[values]


def _luma(stored: StoredPixels) -> StoredPixels:
    """Colours to luma (ITU-R BT.601), of the same depth."""
    whole = stored.values >> stored.low_bit if stored.low_bit else stored.values  # luma weighs the values alone
    luma = np.asarray(cv2.cvtColor(np.ascontiguousarray(whole), cv2.COLOR_RGB2GRAY), stored.values.dtype)
    return StoredPixels(luma, stored.bits_stored, 0, False, "RGB", fewer_bits=stored.fewer_bits)


def _grey_table(elements: Elements, stored: StoredPixels, reading: Reading) -> tuple[NDArray[Any], set[str]]:
    """The grey (0 to `reading.white`) of every entry that the pixels' type can hold, and what is to be remarked."""
    every, bits = np.arange(1 << 8 * stored.values.itemsize), stored.bits_stored
    codes = (every >> stored.low_bit) & ((1 << bits) - 1)
    # two's complement within the stored bits, not within the type
    values = codes - ((codes >> (bits - 1)) << bits) if stored.signed else codes
    image, remarks, least = np.ones(len(every), bool), set(), HALF
    counts = np.bincount(sample(stored.values).ravel(), minlength=len(every))
    if stored.photometric == "PALETTE COLOR":
        grey, least = _palette(elements, values), 0.0
    elif stored.photometric.startswith("MONOCHROME"):
        ends = pixels.padding(elements, bits, stored.signed)
        if ends is not None:
            image = (values < ends[0]) | (values > ends[1])
        counts = counts * image  # padding is no part of what is shown
        scale = _grey_of(elements, values, pixels.declared_top(elements, stored, image), reading.choice, counts)
        grey = 1 - scale.grey if _inverted(elements, stored.photometric) else scale.grey
        least = scale.least
        if scale.missed:
            remarks.add(WINDOW_MISSES)
    elif stored.video_range:
        unit = (1 << bits) / 256
        grey = np.clip((values / unit - 16) / 219, 0, 1)  # black is 16, white 235, of 256 (BT.601)
    else:
        grey = values / ((1 << bits) - 1)
    if reading.window is not None and bits > 8:
        low, high = percentiles(grey, np.bincount(stored.values.ravel(), minlength=len(every)) * image, reading.window)
        grey = np.clip((grey - low) / (high - low), 0, 1) if high > low else grey  # one grey has nothing to stretch
    elif bits > 8 and least and extent(grey, counts) < least:
        remarks.add(NARROW)
    return as_levels(np.where(image, grey, 0.0), reading.white), remarks


def _palette(elements: Elements, values: NDArray[np.int64]) -> Values:
    """Grey of every palette index: the luma of its colour.

    Raises:
        ImageError: the file has no palette (segmented ones are not read), or a part of one.
    """
    colours = []
    for name in _PALETTE:
        first, table, bits = _lookup_table(elements, f"{name}Descriptor", f"{name}Data", "palette", byte_tables=True)
        top = 255.0 if bits <= 8 and table.max() < 256 else 65535.0
        colours.append(table[np.clip(values - first, 0, len(table) - 1)] / top)
    return colours[0] * 0.299 + colours[1] * 0.587 + colours[2] * 0.114  # BT.601


def _lookup_table(
    elements: Elements, descriptor: str, data: str, kind: str, *, byte_tables: bool
) -> tuple[int, Values, int]:
    """(first value mapped, entries, bits declared) of a table.

    Args:
        kind: what it is called in an error.
        byte_tables: entries may stand in bytes whatever the descriptor says; else only where it says 8 bits or fewer.

    Raises:
        ImageError: no descriptor or no entries, or fewer entries than it says.
    """
    words = [int(number) & 0xFFFF for number in elements.numbers(descriptor)]  # as unsigned, whichever VR it has
    raw, little = elements.value_bytes(data)
    if len(words) != 3:
        raise ImageError(f"a {kind} without a descriptor")
    count, first, bits = words[0] or 1 << 16, words[1], words[2]  # 0 says 65,536 (PS3.3 C.11.1.1.1)
    if len(raw) >= 2 * count:
        return first, np.frombuffer(raw, "<u2" if little else ">u2", count).astype(np.float64), bits
    if len(raw) >= count and (byte_tables or bits <= 8):
        return first, np.frombuffer(raw, np.uint8, count).astype(np.float64), bits
    raise ImageError(f"a {kind} shorter than its descriptor says")


def _square(image: NDArray[Any], elements: Elements) -> NDArray[Any]:
    """Resample pixels that are not square by shrinking the side that has more of them.

    Raises:
        ImageError: one side of a pixel is more than four times the other.
    """
    ratio = _ratio(elements)
    if not 1 / _LONGEST <= ratio <= _LONGEST:
        raise ImageError(f"implausible pixel aspect ratio {ratio:.3g}:1 (limit {_LONGEST:g}:1)")
    if abs(ratio - 1) <= _SQUARE:
        return image
    height, width = image.shape
    if ratio > 1:
        width = max(1, round(width / ratio))
    else:
        height = max(1, round(height * ratio))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), image.dtype)


def _ratio(elements: Elements) -> float:
    """Height of a pixel over its width; 1 where the file does not say."""
    for keyword in (*_SPACINGS, "PixelAspectRatio"):
        sides = elements.numbers(keyword, "IS" if keyword == "PixelAspectRatio" else "DS")
        if len(sides) == 2 and all(np.isfinite(side) and side > 0 for side in sides):
            return sides[0] / sides[1]  # between rows first, then between columns (PS3.3 10.7.1.3)
    return 1.0


# --- stored values -> grey from 0 (black) to 1 (white): modality scale, window or table, and which end is white


@dataclass(frozen=True)
class Choice:
    """One grey scale that a file offers: `grey` maps modality values to 0..1.

    Args:
        name: its explanation, lower case.
        width: of a window; 0 of a table.
    """

    name: str
    width: float
    grey: Callable[[Values], Values]


def _inverted(elements: Elements, photometric: str) -> bool:
    """Whether the lowest value is white: PresentationLUTShape where the file has one, else MONOCHROME1.

    The shape is the later word: MONOCHROME1 with INVERSE says one thing twice and is inverted once.
    """
    shape = elements.code("PresentationLUTShape")
    return shape == "INVERSE" if shape in ("INVERSE", "IDENTITY") else photometric == "MONOCHROME1"


@dataclass(frozen=True)
class _Scale:
    """`grey` 0..1 of every storable value, before inversion; `least`, the extent under which the image is narrow; and
    whether the window or table that was meant showed next to nothing.
    """

    grey: Values
    least: float = HALF
    missed: bool = False


def _grey_of(
    elements: Elements, values: NDArray[np.int64], most: int | None, voi: Voi, counts: NDArray[np.int64]
) -> _Scale:
    """The grey scale that is meant; where it shows next to nothing and another shows more, that one.

    The others are those of the file in order, then the whole declared range: never the range that occurs, which would
    make a picture of the noise of an empty exposure.

    Args:
        values: the storable values, lowest to highest of the declared depth among them.
        most: the largest value, where the header declares a lower one than there are bits for.
        counts: how many pixels have each.

    Raises:
        ImageError: a table is damaged, or the rescale leaves the range of numbers.
    """
    scaled, low, high = _modality(elements, values, most)
    meant, others = _choose(_offered(elements, signed=low < 0), voi)
    if meant is None:
        return _Scale(np.clip((scaled - low) / (high - low), 0, 1))
    grey = meant.grey(scaled)
    seen = extent(grey, counts)
    if seen >= SHOWN:
        return _Scale(grey, least=0.0)
    for other in others:
        with suppress(ImageError):  # a table that is damaged is no way out
            if extent(other.grey(scaled), counts) >= SHOWN:
                return _Scale(other.grey(scaled), least=0.0, missed=True)
    whole = np.clip((scaled - low) / (high - low), 0, 1)
    if extent(whole, counts) > max(2 * seen, _LEVELS / 255):
        return _Scale(whole, missed=True)
    return _Scale(grey, least=SHOWN)


def _modality(elements: Elements, values: NDArray[np.int64], most: int | None) -> tuple[Values, float, float]:
    """(modality values, the lowest and the highest there can be).

    A slope of 0, or one that is no number, is no slope.
    """
    tables = _items(elements, "ModalityLUTSequence")
    if tables:
        first, table, top = _table(tables[0], signed=bool(values.min() < 0))
        # Values beyond the ends map to the ends (PS3.3 C.11.1.1.1).
        return table[np.clip(values - first, 0, len(table) - 1)], 0.0, top
    slope = (elements.numbers("RescaleSlope", "DS") or (1.0,))[0]
    intercept = (elements.numbers("RescaleIntercept", "DS") or (0.0,))[0]
    if not np.isfinite(slope) or slope == 0:
        slope = 1.0
    if not np.isfinite(intercept):
        intercept = 0.0
    scaled = values.astype(np.float64) * slope + intercept
    possible = scaled if most is None else scaled[values <= most]
    low, high = float(possible.min()), float(possible.max())
    # float64 tells whole numbers apart up to 9e15
    if not abs(low) + abs(high) < 1e15 or high - low < 1e-9 * max(abs(low), abs(high)):
        raise ImageError("rescale values that leave no grey scale")
    return scaled, low, high


def _items(elements: Elements, keyword: str) -> list[Elements]:
    """The tables of a sequence; some writers leave an item with neither descriptor nor data where there is none."""
    items = elements.items(keyword)
    return [item for item in items if item.value_bytes("LUTData")[0] or any(item.numbers("LUTDescriptor"))]


def _offered(elements: Elements, signed: bool) -> list[Choice]:
    """The grey scales of a file: its tables, then its windows, each in the file's order.

    A window whose width is below 1 (LINEAR) or not above 0 is none, nor is one of an unknown function.

    Args:
        signed: tables are entered by signed values.
    """
    tables = [_table_choice(item, signed) for item in _items(elements, "VOILUTSequence")]
    function = elements.code("VOILUTFunction") or "LINEAR"
    names = [name.lower() for name in elements.texts("WindowCenterWidthExplanation")]
    pairs = list(zip(elements.numbers("WindowCenter", "DS"), elements.numbers("WindowWidth", "DS"), strict=False))
    names += [""] * len(pairs)
    if function not in _FUNCTIONS:
        return tables
    least = 1.0 if function == "LINEAR" else 1e-9  # PS3.3 C.11.2.1.2: the width is at least 1
    windows = [
        Choice(name, width, partial(_FUNCTIONS[function], center=center, width=width))
        for (center, width), name in zip(pairs, names, strict=False)
        if abs(center) < 1e15 and least <= width < 1e15
    ]
    return tables + windows


def _choose(choices: list[Choice], voi: Voi) -> tuple[Choice | None, list[Choice]]:
    """The choice that a setting means among those of a file, or None, and the others; see `grey_levels.parse_voi`."""
    if voi.choice == "none" or not choices:
        return None, []
    named = [choice for choice in choices if choice.name == voi.name] if voi.choice == "name" else []
    meant = (named or choices)[0]
    if voi.choice == "widest":
        meant = max(choices, key=lambda choice: choice.width)
    if voi.choice == "number" and voi.number <= len(choices):
        meant = choices[voi.number - 1]
    return meant, [choice for choice in choices if choice is not meant]


def _table_choice(item: Elements, signed: bool) -> Choice:
    """A VOI table, read when it is chosen."""

    def grey(scaled: Values) -> Values:
        first, table, top = _table(item, signed)
        return table[np.clip(np.rint(scaled).astype(np.int64) - first, 0, len(table) - 1)] / top

    return Choice((item.text("LUTExplanation") or "").lower(), 0.0, grey)


def _table(item: Elements, signed: bool) -> tuple[int, Values, float]:
    """(first value mapped, entries, the largest grey they can say) of a lookup table.

    The largest grey is all ones in the bits that the largest entry needs, at least 8: tables said to have 16 bits
    often only stand in words of 16.

    Raises:
        ImageError: no descriptor, or fewer entries than it says.
    """
    first, table, _ = _lookup_table(item, "LUTDescriptor", "LUTData", "lookup table", byte_tables=False)
    top = (1 << max(int(table.max()).bit_length(), 8)) - 1
    return first - (1 << 16) if signed and first >> 15 else first, table, float(top)  # first is signed where pixels are


def _linear(scaled: Values, center: float, width: float) -> Values:
    """PS3.3 C.11.2.1.2.1: the window of width w holds w whole values; of width 1 it is a threshold."""
    if width == 1:
        return (scaled > center - 0.5).astype(np.float64)
    return np.clip((scaled - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _linear_exact(scaled: Values, center: float, width: float) -> Values:
    """PS3.3 C.11.2.1.3.2."""
    return np.clip((scaled - center) / width + 0.5, 0, 1)


def _sigmoid(scaled: Values, center: float, width: float) -> Values:
    """PS3.3 C.11.2.1.3.1."""
    return 1 / (1 + np.exp(np.clip(-4 * (scaled - center) / width, -700, 700)))  # exp overflows beyond 709


_FUNCTIONS: dict[str, Callable[..., Values]] = {"LINEAR": _linear, "LINEAR_EXACT": _linear_exact, "SIGMOID": _sigmoid}
