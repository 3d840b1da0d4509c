"""A map over its image, as a picture; and a folder of such pictures with the table of what they are.

H, W  height and width of an image in px
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.features import pick_device
from mococxr.files import atomic_write, claim, write_csv
from mococxr.heads.classifier import Ensemble
from mococxr.maps.class_map import class_maps, method_of
from mococxr.maps.occlusion import Frames

FOR, AGAINST = (0, 90, 255), (255, 130, 0)
"""Colours of what speaks for the finding, orange, and against it, blue: (blue, green, red)."""
OPAQUE, OUTSIDE = 0.6, 0.45
"""How much of the strongest colour covers the image, and how bright the image is where the classifier does not look."""
STRONGEST = 0.995
"""Quantile of the absolute values from which the colour is the strongest."""
BLOCK = 16
"""Images whose maps are held at a time."""
TABLE = "maps.csv"
SCHEMA = {
    "file": pl.String,
    "path": pl.String,
    "target": pl.String,
    "logit": pl.Float64,
    "intercept": pl.Float64,
    "method": pl.String,
}


def overlay(image: NDArray[np.uint8], values: NDArray[np.float64], crop_mode: str = "center") -> NDArray[np.uint8]:
    """The image with the map in colour, (H, W, 3) uint8 as OpenCV orders channels; darker where no encoder looks.

    Args:
        image: (H, W) uint8.
        values: a map of what the classifier saw of it, as `ClassMap` has it.
        crop_mode: what that was, as `to_frame` takes it.
    """
    height, width = image.shape
    side = min(height, width)
    inside = (slice(None), slice(None))
    if crop_mode == "center":
        top, left = (height - side) // 2, (width - side) // 2
        inside = (slice(top, top + side), slice(left, left + side))
    seen = image[inside]
    placed = cv2.resize(values.astype(np.float32), seen.shape[::-1], interpolation=cv2.INTER_LINEAR)
    strongest = float(np.quantile(np.abs(placed), STRONGEST)) or 1.0
    alpha = OPAQUE * np.clip(np.abs(placed) / strongest, 0, 1)[..., None]
    colour = np.where(placed[..., None] > 0, FOR, AGAINST)
    picture = np.repeat((image * OUTSIDE)[..., None], 3, axis=2)
    picture[inside] = (1 - alpha) * seen[..., None] + alpha * colour
    return picture.round().astype(np.uint8)


@dataclass
class MapFolder:
    """Pictures of maps, numbered as they come, and `maps.csv` of what they are; nothing is written before the first.

    Args:
        crop_mode: what the classifier sees of an image, as `to_frame` takes it.
        targets: of the classifier, in its order.

    Raises:
        InputError: the folder holds something else, or cannot be written to.
    """

    folder: Path
    crop_mode: str
    targets: tuple[str, ...]
    rows: list[tuple[str, str, str, float, float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        claim(self.folder, TABLE, "a folder of maps", "Name another folder for --maps.")

    def draw(
        self, ensemble: Ensemble, names: Sequence[str], images: Sequence[NDArray[np.uint8]], frames: Sequence[Frames],
        device: str,
    ) -> None:  # fmt: skip
        """Write the pictures of some images (H, W), N of them.

        Args:
            names: of the images, as the table of scores has them; they stand in `maps.csv`, no file is called so.
            frames: of each image its frame for each encoder.
        """
        if not self.rows:
            self._clear()
        method, used = method_of(ensemble.encoders), pick_device(device)
        for start in range(0, len(images), BLOCK):
            some = slice(start, start + BLOCK)
            maps = [class_maps(ensemble, frames[some], used, method, target) for target in range(len(self.targets))]
            for name, image, *of_targets in zip(names[some], images[some], *maps, strict=True):
                number = len(self.rows) // len(self.targets) + 1
                for position, (target, drawn) in enumerate(zip(self.targets, of_targets, strict=True), 1):
                    file = f"{number:05d}.png" if len(self.targets) == 1 else f"{number:05d}-{position}.png"
                    picture = overlay(image, drawn.values, self.crop_mode)
                    atomic_write(self.folder / file, cv2.imencode(".png", picture)[1].tobytes())
                    self.rows.append((file, name, target, drawn.logit, drawn.intercept, method))

    def _clear(self) -> None:
        """Take out the pictures of an earlier run, and lay the table down by which the folder is known."""
        for file in self.folder.glob("[0-9]" * 5 + "*.png"):
            file.unlink()
        self.finish()

    def finish(self) -> None:
        """Write the table."""
        write_csv(self.folder / TABLE, pl.DataFrame(self.rows, schema=SCHEMA, orient="row"))
