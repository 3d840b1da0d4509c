"""The contact sheet: some images of a store on one picture, to look at before anything is trained."""

from __future__ import annotations

from pathlib import PurePosixPath

import cv2
import numpy as np

from mococxr.store.levels import Image, Level

TILE, CAPTION, COLUMNS, GAP = 180, 34, 8, 6
"""Pixels of a tile's side, of its caption and between tiles; tiles in a row."""


def contact_sheet(images: Level, paths: list[str], captions: list[str], title: str, most: int = 40) -> Image:
    """Draw up to `most` images, evenly spread over the rows.

    Args:
        images: the images.
        paths: one an image; the name without folder and suffix is the first line under it.
        captions: one an image: the second line.
        title: the line above all.
        most: images shown at most.

    Returns:
        uint8 (H, W).
    """
    rows = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int)).tolist()
    columns = min(COLUMNS, len(rows))
    width = max(columns * (TILE + GAP) + GAP, 480)  # few images must leave room for the title
    sheet = np.zeros((CAPTION + -(-len(rows) // columns) * (TILE + CAPTION + GAP) + GAP, width), np.uint8)
    write(sheet, title, GAP, 22, 0.5, width)
    for number, i in enumerate(rows):
        top = CAPTION + number // columns * (TILE + CAPTION + GAP)
        left = GAP + number % columns * (TILE + GAP)
        sheet[top : top + TILE, left : left + TILE] = tile(images.pixels(i))
        write(sheet, PurePosixPath(paths[i]).stem, left, top + TILE + 13, 0.36, TILE)
        write(sheet, captions[i], left, top + TILE + 28, 0.36, TILE)
    return sheet


def tile(image: Image, side: int = TILE) -> Image:
    """The whole image, centred on black, (side, side)."""
    scale = side / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, (width, height), interpolation=shrinks)
    whole = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    whole[top : top + height, left : left + width] = small
    return whole


def write(sheet: Image, text: str, left: int, base: int, scale: float, room: int) -> None:
    """One line of text, shortened in the middle to the room there is; the font knows ASCII only."""
    text = text.encode("ascii", "replace").decode()
    font = cv2.FONT_HERSHEY_SIMPLEX

    def width(words: str) -> int:
        return int(cv2.getTextSize(words, font, scale, 1)[0][0])

    keep = len(text)
    shown = text
    while width(shown) > room and keep > 4:
        keep -= 1
        shown = text[: keep // 2] + ".." + text[len(text) - (keep - keep // 2) :]
    cv2.putText(sheet, shown, (left, base), font, scale, 225, 1, cv2.LINE_AA)
