"""The command `views`: images beside the random views that pretraining would draw of them, as a picture."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from mococxr import console
from mococxr.augment import Recipe, draw_view, uniforms
from mococxr.errors import InputError
from mococxr.files import atomic_write, check_place
from mococxr.settings import PretrainSettings, ViewsSettings, make
from mococxr.store import Store
from mococxr.store.contact_sheet import tile, write

EPOCHS = 4
"""Pairs of views of each image: those of the first epochs."""
TILE, CAPTION, GAP, BETWEEN = 160, 20, 4, 18
"""Pixels of a tile's side, of a line of text, between tiles, and between pairs."""


def run(settings: ViewsSettings) -> Path:
    """Draw the sheet: a row an image, first the image as stored, then pairs of views, query and key side.

    The images are training images, and each pair is the one that pretraining with this preset, size and seed, on
    this store alone, would draw of the image in that epoch.

    Returns:
        The path of the PNG.

    Raises:
        InputError: no such store, no training images; nothing was written.
    """
    check_place(settings.out)
    store = Store.open(settings.store)
    named = {"stores": settings.store, "out": settings.out, "preset": settings.preset, "size": settings.size}
    # through the settings of pretraining, so that it cannot differ
    recipe = Recipe.of(vars(make(PretrainSettings, named)))
    rows = store.rows_in("train")
    if not len(rows):
        raise InputError(f"{settings.store} has no training images.", "Prepare it with a training share above 0.")
    count = min(settings.images, len(rows))
    chosen = np.sort(np.random.default_rng(settings.seed).choice(len(rows), count, replace=False))
    sheet = _draw(store, recipe, rows, chosen, settings.seed, _title(store, settings.preset, recipe))
    atomic_write(settings.out, cv2.imencode(".png", sheet)[1].tobytes())
    console.say(f"{count:,} images, {EPOCHS} pairs of views each: {settings.out}")
    return settings.out


def pairs(store: Store, recipe: Recipe, row: int, image: int, epochs: int, seed: int) -> NDArray[np.uint8]:
    """The views of one image in the first epochs.

    Args:
        row: the image's row in the store.
        image: its number among the images that are pretrained on, from 0.
        seed: of the run.

    Returns:
        (epochs, 2, S, S) uint8, query side first.
    """
    array = store.level(recipe.size).pixels(row)
    return np.stack([
        [draw_view(array, recipe, uniforms(seed, epoch, [image], side)[0]) for side in (0, 1)]
        for epoch in range(epochs)
    ])  # fmt: skip


def _title(store: Store, preset: str, recipe: Recipe) -> str:
    synthetic = "SYNTHETIC - " if store.manifest.get("synthetic") else ""
    low, high = recipe.crop
    return (
        f"{synthetic}preset {preset}: views of {recipe.size} px, rotation to {recipe.rotation:g} degrees either way, "
        f"flip {recipe.flip:g}, crop area {low:g} to {high:g}, brightness {recipe.brightness:g}, "
        f"contrast {recipe.contrast:g}"
    )


def _draw(
    store: Store, recipe: Recipe, rows: NDArray[np.int64], chosen: NDArray[np.int64], seed: int, title: str
) -> NDArray[np.uint8]:
    lefts = [GAP + TILE + BETWEEN + i * (TILE + GAP) + i // 2 * (BETWEEN - GAP) for i in range(2 * EPOCHS)]
    step = TILE + CAPTION + GAP
    head = 2 * CAPTION + GAP
    sheet = np.zeros((head + len(chosen) * step + GAP, lefts[-1] + TILE + GAP), np.uint8)
    write(sheet, title, GAP, CAPTION - 5, 0.45, sheet.shape[1] - 2 * GAP)
    write(sheet, "image", GAP, 2 * CAPTION - 4, 0.4, TILE)
    for i, left in enumerate(lefts):
        write(sheet, f"epoch {i // 2}, {('query', 'key')[i % 2]}", left, 2 * CAPTION - 4, 0.4, TILE)
    for i, image in enumerate(chosen.tolist()):
        top, row = head + i * step, int(rows[image])
        views = pairs(store, recipe, row, image, EPOCHS, seed)
        pictures = [store.pixels(row), *views.reshape(-1, recipe.size, recipe.size)]
        for picture, left in zip(pictures, [GAP, *lefts], strict=True):
            sheet[top : top + TILE, left : left + TILE] = tile(picture, TILE)
        write(sheet, _caption(store, row), GAP, top + TILE + 14, 0.36, sheet.shape[1] - 2 * GAP)
    return sheet


def _caption(store: Store, row: int) -> str:
    path, height, width = store.index.select("path", "height", "width").row(row)
    return f"{PurePosixPath(path).stem}  {width} x {height} px as stored"
