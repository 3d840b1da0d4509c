"""Views made on the device: stored images go there as uint8, and one affine sampling makes the views, as `views` does.

Random numbers and maps are those of `views`; only the sampling is another. A view differs from that of OpenCV 5 by a
grey level in one pixel of some ten thousand (tests/test_device_views.py); OpenCV 4 puts samples on the nearest 1/32 of
a pixel, and differs by more.

    n  images of this process in a step    H, W  height and width of the largest of them in px    S  side of a view
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mococxr.augment import Recipe, matrix, tones


@dataclass(frozen=True)
class Stored:
    """A step's images as stored, and how views are made of them.

    Args:
        images: (1 or 2, n, 1, H, W) uint8, each from the upper left corner of a black frame; 2 where the two sides show
            different images.
        maps: (2, n, 2, 3) float32, from pixels of a view to pixels of its image.
        tones: (2, n, 2) float32, gain and shift of the grey levels; None where they stay.
        size: S.
    """

    images: Tensor
    maps: Tensor
    tones: Tensor | None
    size: int

    def to(self, device: torch.device, non_blocking: bool = False) -> Tensor:
        """Send the images there and make their views, (2, n, 1, S, S) uint8."""
        images, maps = (part.to(device, non_blocking=non_blocking) for part in (self.images, self.maps))
        levels = None if self.tones is None else self.tones.to(device, non_blocking=non_blocking)
        views = []
        for side in (0, 1):
            tone = None if levels is None else levels[side]
            views.append(sample(images[min(side, len(images) - 1)], maps[side], self.size, tone))
        return torch.stack(views)


def store(
    sides: Sequence[Sequence[NDArray[np.uint8]]],
    recipe: Recipe,
    draws: Sequence[NDArray[np.float64]],
    pinned: bool,
) -> Stored:
    """What goes to the device for the views of a step.

    Args:
        sides: the images of each side, each (H, W) uint8; one list where both sides show the same.
        draws: the random numbers of each side, (n, DRAWS), always two.
        pinned: in page-locked memory.
    """
    shapes = np.array([[image.shape for image in images] for images in sides])
    images = torch.zeros(*shapes.shape[:2], 1, *shapes.max(axis=(0, 1)), dtype=torch.uint8, pin_memory=pinned)
    frames = images.numpy()
    for side, place in np.ndindex(*shapes.shape[:2]):
        height, width = shapes[side, place]
        frames[side, place, 0, :height, :width] = sides[side][place]
    maps = [matrix(recipe, shapes[min(side, len(shapes) - 1)], draws[side]) for side in (0, 1)]
    levels = None
    if recipe.brightness or recipe.contrast:
        levels = _sendable(np.stack([np.concatenate(tones(recipe, one), axis=1) for one in draws]), pinned)
    return Stored(images, _sendable(np.stack(maps), pinned), levels, recipe.size)


def _sendable(numbers: NDArray[np.float64], pinned: bool) -> Tensor:
    found = torch.from_numpy(numbers.astype(np.float32))
    return found.pin_memory() if pinned else found


def sample(images: Tensor, maps: Tensor, size: int, levels: Tensor | None = None) -> Tensor:
    """One view of each image, by bilinear sampling; outside an image all is black.

    Args:
        images: (n, 1, H, W) uint8.
        maps: (n, 2, 3) float32.
        size: S.
        levels: gain and shift, (n, 2) float32.

    Returns:
        (n, 1, S, S) uint8.
    """
    height, width = images.shape[-2:]
    places = torch.arange(size, dtype=torch.float32, device=images.device)
    x, y = places[None, None, :], places[None, :, None]
    at = maps[..., None, None]
    from_x = at[:, 0, 0] * x + at[:, 0, 1] * y + at[:, 0, 2]
    from_y = at[:, 1, 0] * x + at[:, 1, 1] * y + at[:, 1, 2]
    grid = torch.stack([(2 * from_x + 1) / width - 1, (2 * from_y + 1) / height - 1], dim=-1)
    views = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    views = views.round_()
    if levels is not None:
        gain, shift = levels[:, :, None, None, None].unbind(1)
        mean = views.mean(dim=(1, 2, 3), keepdim=True)
        views = ((views - mean) * (gain * shift) + mean * shift).clamp_(0, 255).round_()
    return views.to(torch.uint8)
