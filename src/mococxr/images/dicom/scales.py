"""Stored values -> grey from 0 (black) to 1 (white): modality scale, window or table, and which end is white.

The steps are those of DICOM PS3.3 (C.7.6.3, C.11.1, C.11.2) and PS3.4 annex N. Where no window and no table is
applied, the whole range that the header declares goes to 0..1, not the values that happen to occur.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mococxr.errors import ImageError
from mococxr.images.dicom.elements import items, numbers, text, texts, value_bytes
from mococxr.images.grey_levels import Voi

_MODALITY_TABLES, _VOI_TABLES = 0x00283000, 0x00283010
_DESCRIPTOR, _EXPLANATION, _DATA = 0x00283002, 0x00283003, 0x00283006
_SLOPE, _INTERCEPT = 0x00281053, 0x00281052
_CENTER, _WIDTH, _WINDOW_NAMES, _FUNCTION = 0x00281050, 0x00281051, 0x00281055, 0x00281056
_SHAPE = 0x20500020
TAGS = [_MODALITY_TABLES, _VOI_TABLES, _SLOPE, _INTERCEPT, _CENTER, _WIDTH, _WINDOW_NAMES, _FUNCTION, _SHAPE]
Values = NDArray[np.float64]


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


def inverted(data: Dataset, photometric: str) -> bool:
    """Whether the lowest value is white: PresentationLUTShape where the file has one, else MONOCHROME1.

    The shape is the later word: MONOCHROME1 with INVERSE says one thing twice and is inverted once.
    """
    shape = (text(data, _SHAPE) or "").upper()
    return shape == "INVERSE" if shape in ("INVERSE", "IDENTITY") else photometric == "MONOCHROME1"


def grey_of(data: Dataset, values: NDArray[np.int64], voi: Voi) -> Values:
    """Grey 0..1 of every storable value, before inversion.

    Args:
        values: the storable values, lowest to highest of the declared depth among them.

    Raises:
        ImageError: a table is damaged, or the rescale leaves the range of numbers.
    """
    scaled, low, high = _modality(data, values)
    chosen = choose(offered(data, signed=low < 0), voi)
    if chosen is not None:
        return chosen.grey(scaled)
    return (scaled - low) / (high - low)


def _modality(data: Dataset, values: NDArray[np.int64]) -> tuple[Values, float, float]:
    """(modality values, the lowest and the highest there can be).

    A slope of 0, or one that is no number, is no slope.
    """
    tables = items(data, _MODALITY_TABLES)
    if tables:
        first, table, top = _table(tables[0], signed=bool(values.min() < 0))
        return table[np.clip(values - first, 0, len(table) - 1)], 0.0, top
    slope = (numbers(data, _SLOPE, "DS") or (1.0,))[0]
    intercept = (numbers(data, _INTERCEPT, "DS") or (0.0,))[0]
    if not np.isfinite(slope) or slope == 0:
        slope = 1.0
    if not np.isfinite(intercept):
        intercept = 0.0
    scaled = values.astype(np.float64) * slope + intercept
    low, high = float(scaled.min()), float(scaled.max())
    if not abs(low) + abs(high) < 1e15 or high - low < 1e-9 * max(abs(low), abs(high)):
        raise ImageError("rescale values that leave no grey scale")
    return scaled, low, high


def offered(data: Dataset, signed: bool) -> list[Choice]:
    """The grey scales of a file: its tables, then its windows, each in the file's order.

    A window whose width is below 1 (LINEAR) or not above 0 is none, nor is one of an unknown function.

    Args:
        signed: tables are entered by signed values.
    """
    tables = [_table_choice(item, signed) for item in items(data, _VOI_TABLES)]
    function = (text(data, _FUNCTION) or "LINEAR").upper()
    names = [name.lower() for name in texts(data, _WINDOW_NAMES)]
    pairs = list(zip(numbers(data, _CENTER, "DS"), numbers(data, _WIDTH, "DS"), strict=False))
    names += [""] * len(pairs)
    if function not in _FUNCTIONS:
        return tables
    least = 1.0 if function == "LINEAR" else 1e-9
    windows = [
        Choice(name, width, _window(center, width, function))
        for (center, width), name in zip(pairs, names, strict=False)
        if abs(center) < 1e15 and least <= width < 1e15
    ]
    return tables + windows


def choose(choices: list[Choice], voi: Voi) -> Choice | None:
    """The choice that a setting means among those of a file; see `tones.parse_voi`."""
    if voi.choice == "none" or not choices:
        return None
    if voi.choice == "widest":
        return max(choices, key=lambda choice: choice.width)
    if voi.choice == "number" and voi.number <= len(choices):
        return choices[voi.number - 1]
    named = [choice for choice in choices if choice.name == voi.name] if voi.choice == "name" else []
    return (named or choices)[0]


def _table_choice(item: Dataset, signed: bool) -> Choice:
    """A VOI table, read when it is chosen."""

    def grey(scaled: Values) -> Values:
        first, table, top = _table(item, signed)
        return table[np.clip(np.rint(scaled).astype(np.int64) - first, 0, len(table) - 1)] / top

    return Choice((text(item, _EXPLANATION) or "").lower(), 0.0, grey)


def _table(item: Dataset, signed: bool) -> tuple[int, Values, float]:
    """(first value mapped, entries, the largest grey they can say) of a lookup table.

    The largest grey is all ones in the bits that the largest entry needs, at least 8: tables said to have 16 bits
    often only stand in words of 16.

    Raises:
        ImageError: no descriptor, or fewer entries than it says.
    """
    descriptor = [int(number) & 0xFFFF for number in numbers(item, _DESCRIPTOR)]
    if len(descriptor) != 3:
        raise ImageError("a lookup table without a descriptor")
    many, first = descriptor[0] or 1 << 16, descriptor[1]
    raw, little = value_bytes(item, _DATA)
    if len(raw) >= 2 * many:
        table = np.frombuffer(raw, "<u2" if little else ">u2", many)
    elif len(raw) >= many and descriptor[2] <= 8:
        table = np.frombuffer(raw, np.uint8, many)
    else:
        raise ImageError("a lookup table shorter than its descriptor says")
    top = (1 << max(int(table.max()).bit_length(), 8)) - 1
    return first - (1 << 16) if signed and first >> 15 else first, table.astype(np.float64), float(top)


def _window(center: float, width: float, function: str) -> Callable[[Values], Values]:
    """A window as a function of modality values."""
    return lambda scaled: _FUNCTIONS[function](scaled, center, width)


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
    return 1 / (1 + np.exp(np.clip(-4 * (scaled - center) / width, -700, 700)))


_FUNCTIONS: dict[str, Callable[[Values, float, float], Values]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}
