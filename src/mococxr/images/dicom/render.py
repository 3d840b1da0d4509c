"""A DICOM file -> one uint8 grey image; the order of the steps is in docs/dicom.md.

The grey of every cell that there can be is worked out in one table, so that an image costs one look-up a pixel.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mococxr.errors import ImageError
from mococxr.images.dicom import metadata, pixels, scales
from mococxr.images.dicom.elements import DEFLATED, Elements, numbers, read_elements, value_bytes
from mococxr.images.dicom.kind import not_an_image
from mococxr.images.dicom.pixels import Cells
from mococxr.images.grey_levels import Voi

_SPACINGS = (0x00280030, 0x00181164, 0x00182010)
"""PixelSpacing, ImagerPixelSpacing, NominalScannedPixelSpacing: the first that a file has."""
_ASPECT = 0x00280034
_PALETTE = (0x00281101, 0x00281102, 0x00281103)
_PALETTE_DATA = (0x00281201, 0x00281202, 0x00281203)
_PADDING = (0x00280120, 0x00280121)
TAGS = [*metadata.TAGS, *pixels.TAGS, *scales.TAGS, *_SPACINGS, _ASPECT, *_PALETTE, *_PALETTE_DATA, *_PADDING]
_SQUARE = 0.01
"""Difference of the sides of a pixel up to which it counts as square."""
_LONGEST = 4.0
"""Ratio of the sides of a pixel above which they are not believed."""


def decode_dicom(
    data: bytes, window: tuple[float, float] | None, voi: Voi, refuse_frames: bool, max_pixels: int
) -> NDArray[np.uint8]:
    """Decode an image; arguments, result and errors as in `images.decode_image`.

    Args:
        window: percentiles of an image of more than 8 bits that become 0 and 255; None is its whole range.
    """
    elements = read_elements(data, TAGS)
    reason = not_an_image(metadata.header_of(elements))
    if reason is not None:
        raise ImageError(reason)
    return decode_elements(data, elements, window, voi, refuse_frames, max_pixels)


def decode_elements(
    data: bytes,
    elements: Elements,
    window: tuple[float, float] | None,
    voi: Voi,
    refuse_frames: bool,
    max_pixels: int,
) -> NDArray[np.uint8]:
    """The pixels of a DICOM object as grey, whether it is an image or not."""
    if elements.syntax == DEFLATED:
        elements = read_elements(data, TAGS, inflated=4 * max_pixels + (16 << 20))
    cells = pixels.read_cells(elements, refuse_frames, max_pixels)
    if cells.cells.ndim == 3:
        cells = _luma(cells)
    table = _table(elements.data, cells, window, voi)
    return _square(_looked_up(table, cells.cells), elements.data)


def _looked_up(table: NDArray[np.uint8], cells: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """The table's entry for every cell; OpenCV is three times as fast where it knows tables of 65,536 entries."""
    try:
        return np.asarray(cv2.LUT(cells, table), np.uint8)
    except cv2.error:  # before OpenCV 5
        return table[cells]


def _luma(cells: Cells) -> Cells:
    """Colours to luma (ITU-R BT.601), cells of the same depth."""
    whole = cells.cells >> cells.shift if cells.shift else cells.cells
    luma = np.asarray(cv2.cvtColor(np.ascontiguousarray(whole), cv2.COLOR_RGB2GRAY), cells.cells.dtype)
    return Cells(luma, cells.stored, 0, False, "RGB")


def _table(data: Dataset, cells: Cells, window: tuple[float, float] | None, voi: Voi) -> NDArray[np.uint8]:
    """The grey 0..255 of every cell that the cells' type can hold."""
    every = np.arange(1 << 8 * cells.cells.itemsize)
    codes = (every >> cells.shift) & ((1 << cells.stored) - 1)
    values = codes - ((codes >> (cells.stored - 1)) << cells.stored) if cells.signed else codes
    image = np.ones(len(every), bool)
    if cells.photometric == "PALETTE COLOR":
        grey = _palette(data, values)
    elif cells.photometric.startswith("MONOCHROME"):
        grey = scales.grey_of(data, values, voi)
        if scales.inverted(data, cells.photometric):
            grey = 1 - grey
        ends = pixels.padding(data, cells.stored, cells.signed)
        if ends is not None:
            image = (values < ends[0]) | (values > ends[1])
    elif cells.narrow:
        unit = (1 << cells.stored) / 256
        grey = np.clip((values / unit - 16) / 219, 0, 1)
    else:
        grey = values / ((1 << cells.stored) - 1)
    if window is not None and cells.stored > 8:
        grey = _stretch(grey, np.bincount(cells.cells.ravel(), minlength=len(every)) * image, window)
    return np.where(image, np.floor(grey * 255 + 0.5), 0).astype(np.uint8)


def _stretch(
    grey: NDArray[np.float64], counts: NDArray[np.int64], window: tuple[float, float]
) -> NDArray[np.float64]:
    """Two percentiles (linear, as numpy's) of the greys that occur to 0 and 1; one grey has nothing to stretch."""
    order = np.argsort(grey, kind="stable")
    upto = np.cumsum(counts[order])
    if upto[-1] == 0:
        return grey
    ends = []
    for share in window:
        place = share / 100 * (upto[-1] - 1)
        below, above = (
            grey[order[np.searchsorted(upto, at, "right")]] for at in (np.floor(place), np.ceil(place))
        )
        ends.append(below + (above - below) * (place - np.floor(place)))
    return np.clip((grey - ends[0]) / (ends[1] - ends[0]), 0, 1) if ends[1] > ends[0] else grey


def _palette(data: Dataset, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Grey of every palette index: the luma of its colour.

    Raises:
        ImageError: the file has no palette (segmented ones are not read), or a part of one.
    """
    colours = []
    for descriptor, entries in zip(_PALETTE, _PALETTE_DATA, strict=True):
        words = [int(number) & 0xFFFF for number in numbers(data, descriptor)]
        raw, little = value_bytes(data, entries)
        if len(words) != 3 or not raw:
            raise ImageError("a palette image without a palette that is read here")
        many, first, bits = words[0] or 1 << 16, words[1], words[2]
        if len(raw) >= 2 * many:
            table = np.frombuffer(raw, "<u2" if little else ">u2", many).astype(np.float64)
        elif len(raw) >= many:
            table = np.frombuffer(raw, np.uint8, many).astype(np.float64)
        else:
            raise ImageError("a palette shorter than its descriptor says")
        top = 255.0 if bits <= 8 and table.max() < 256 else 65535.0
        colours.append(table[np.clip(values - first, 0, many - 1)] / top)
    return colours[0] * 0.299 + colours[1] * 0.587 + colours[2] * 0.114


def _square(image: NDArray[np.uint8], data: Dataset) -> NDArray[np.uint8]:
    """Resample pixels that are not square by shrinking the side that has more of them.

    Raises:
        ImageError: one side of a pixel is more than four times the other.
    """
    ratio = _ratio(data)
    if not 1 / _LONGEST <= ratio <= _LONGEST:
        raise ImageError(f"pixels of {ratio:.3g} times their width in height: not believed")
    if abs(ratio - 1) <= _SQUARE:
        return image
    height, width = image.shape
    if ratio > 1:
        width = max(1, round(width / ratio))
    else:
        height = max(1, round(height * ratio))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _ratio(data: Dataset) -> float:
    """Height of a pixel over its width; 1 where the file does not say."""
    for tag in (*_SPACINGS, _ASPECT):
        sides = numbers(data, tag, "IS" if tag == _ASPECT else "DS")
        if len(sides) == 2 and all(np.isfinite(side) and side > 0 for side in sides):
            return sides[0] / sides[1]
    return 1.0
