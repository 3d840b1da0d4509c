"""Batches of views: made ready ahead by threads, as uint8, one channel.

OpenCV releases the interpreter while it warps, so threads suffice; they share the memory-mapped images. Views are made
here, or on the device from images that go there as they are stored (`PackedImages`).
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Semaphore
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from mococxr.augment import Recipe, draw_views, matrix, shrinking, tones, uniforms
from mococxr.pretraining.dataset import PretrainSet, SpacedShuffle, free_queue, study_partners
from mococxr.pretraining.hardware import processes_here, view_threads
from mococxr.pretraining.method import sent
from mococxr.pretraining.phases import phase_of
from mococxr.settings import Phase, PretrainSettings

PREFETCH = 3
"""Batches drawn before they are wanted."""
REMEMBERED = 256
"""Steps whose images are kept: more than are ever drawn ahead."""
NEARLY_FIXED = 0.75
"""Share of an epoch after which an image may come again, at which two images of a batch meet in the next epoch twice as
often as in a plain shuffle (`free_queue`)."""
LOOK, PATIENCE = 16, 0.02
"""Steps between two looks at how long the run waited for views, and the share of the time that it may."""


KINDS = ("image", "study", "patient")
"""What the images of a group have in common, the smallest first."""


class AdaptiveThreads:
    """Threads that make batches ready; where the run had to wait for them, one more is let to work.

    Args:
        workers: threads that work at first.
        most: threads that may work in the end.
        clock: seconds, for tests.
    """

    def __init__(self, workers: int, most: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.workers, self.most, self.clock = workers, most, clock
        # a pool cannot grow: `_leave` says how many may work
        self.threads = ThreadPoolExecutor(most, thread_name_prefix="views")
        self._leave = Semaphore(workers)
        self._waited, self._looked, self._begun = 0.0, 0, clock()

    def start(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have something done, in turn."""
        return self.threads.submit(self._with_leave, work, *arguments)

    def _with_leave(self, work: Callable[..., Any], *arguments: Any) -> Any:
        with self._leave:
            return work(*arguments)

    def result(self, future: Future[Any]) -> Any:
        """What was asked for, when it is there; the wait is noted."""
        begun = self.clock()
        batch = future.result()
        ended = self.clock()
        self._waited += ended - begun
        self._looked += 1
        if self._looked == LOOK:
            if self._waited > PATIENCE * (ended - self._begun) and self.workers < self.most:
                self.workers += 1
                self._leave.release()
            self._waited, self._looked, self._begun = 0.0, 0, ended
        return batch


@dataclass
class BatchLoader:
    """The batches of this process, in the order of the run.

    Args:
        recipe: of the views; where there are phases, their size is that of the phase.
        batch: images a step over all processes; `batch // world` of them come here.
        positives: view or study.
        negatives_from: image, study or patient: what the keys of are no negatives of an image.
        workers: threads that make views, at first and at most (`hardware.view_threads`).
        pinned: in page-locked memory, for copies to a GPU that do not wait.
        views_on: `cpu`: batches are views. `device`: they are stored images, which become views when they go to the
            device.
        metadata_NA: values of the dataset's images for an auxiliary head, if there is one.
        phases: in which the views have sizes of their own, by epoch; empty where all have the recipe's.
    """

    dataset: PretrainSet
    recipe: Recipe
    order: SpacedShuffle
    batch: int
    seed: int
    positives: str = "view"
    negatives_from: str = "image"
    rank: int = 0
    world: int = 1
    workers: tuple[int, int] = (1, 1)
    pinned: bool = False
    views_on: str = "cpu"
    phases: Sequence[Phase] = ()
    metadata_NA: NDArray[np.float32] | None = None
    _batches: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return self.order.used // self.batch

    @property
    def warnings(self) -> list[str]:
        """What a run is to be warned of."""
        gap, used = self.order.min_gap, self.order.used
        if gap <= NEARLY_FIXED * used or self.steps_per_epoch == 1:
            return []
        return [
            f"An image comes again only after {gap:,} of {used:,} others, so that their order is much the same in every "
            f"epoch. --queue {free_queue(len(self.dataset), self.batch):,} or a smaller --batch leaves it free."
        ]

    def groups(self, step: int) -> Tensor:
        """A number for each image of a step, those of all processes, by rank: images of one number are no negatives of
        each other. Only of steps whose images were asked for.
        """
        return torch.from_numpy(self.dataset.groups(self._batches[step], self.negatives_from))

    def metadata(self, step: int) -> Tensor | None:
        """The metadata of this process's images of a step on both sides, (2, n, A); only of steps that were asked for."""
        if self.metadata_NA is None:
            return None
        epoch, images = self.images(step)
        return torch.from_numpy(self.metadata_NA[np.stack([images, self.partners(epoch, images)])])

    def images(self, step: int) -> tuple[int, NDArray[np.int64]]:
        """The epoch of a step, and this process's images in it; the latest `REMEMBERED` steps cost nothing."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        if step not in self._batches:
            self._batches[step] = self.order.epoch(epoch)[step_in_epoch * self.batch :][: self.batch]
            self._batches.pop(step - REMEMBERED, None)
        share = self.batch // self.world
        return epoch, self._batches[step][self.rank * share :][:share]

    def recipe_of(self, epoch: int) -> Recipe:
        """What the views of an epoch may be."""
        return dataclasses.replace(self.recipe, size=phase_of(self.phases, epoch).size) if self.phases else self.recipe

    def partners(self, epoch: int, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """The images of the second views: the same ones, or others of their studies."""
        return images if self.positives == "view" else study_partners(self.dataset, images, self.seed, epoch)

    def views(self, epoch: int, images: NDArray[np.int64]) -> Tensor:
        """Both views of some images: (2, n, 1, S, S) uint8, query side first."""
        recipe = self.recipe_of(epoch)
        size = recipe.size
        views = torch.empty(2, len(images), 1, size, size, dtype=torch.uint8, pin_memory=self.pinned)
        out = views.numpy()
        for side, chosen in enumerate((images, self.partners(epoch, images))):
            array = [self.dataset.pixels(image, size) for image in chosen]
            draw_views(array, recipe, uniforms(self.seed, epoch, images, side), out=out[side, :, 0])
        return views

    def stored(self, epoch: int, images: NDArray[np.int64]) -> PackedImages:
        """The same views, yet to be made: `.to(device)` makes them there."""
        sides = [images] if self.positives == "view" else [images, self.partners(epoch, images)]
        recipe = self.recipe_of(epoch)
        array = [[self.dataset.pixels(image, recipe.size) for image in side] for side in sides]
        draws = [uniforms(self.seed, epoch, images, side) for side in (0, 1)]
        return pack(array, recipe, draws, self.pinned)

    def run(self, start: int, stop: int) -> Iterator[tuple[int, Tensor | PackedImages]]:
        """(step, batch) for the steps from `start` up to `stop`, made ready ahead; `batch.to(device)` is its views."""
        crew, make = AdaptiveThreads(*self.workers), self.stored if self.views_on == "device" else self.views
        with crew.threads:
            ahead: deque[tuple[int, Future[Any]]] = deque()
            try:
                for step in range(start, stop):
                    # The order is asked for here, in turn: the threads only draw.
                    ahead.append((step, crew.start(make, *self.images(step))))
                    if len(ahead) > PREFETCH + crew.workers:  # beside those that the threads are at work on
                        step_ready, future = ahead.popleft()
                        yield step_ready, crew.result(future)
                while ahead:
                    step_ready, future = ahead.popleft()
                    yield step_ready, crew.result(future)
            finally:
                for _, future in ahead:  # a run that stops here waits for no views that nobody takes
                    future.cancel()


# --- views made on the device: stored images go there as uint8, and one affine sampling makes the views, as `augment`
# does, with the same random numbers and maps. A view differs from that of OpenCV 5 by a grey level in one pixel of some
# ten thousand (tests/test_device_views.py); OpenCV 4 puts samples on the nearest 1/32 of a pixel, and differs by more.


@dataclass(frozen=True)
class PackedImages:
    """A step's images as stored, and how views are made of them.

    Args:
        images: (1 or 2, n, 1, H, W) uint8, each from the upper left corner of a black frame; 2 where the two sides show
            different images.
        maps: (2, n, 2, 3) float32, from pixels of a view to pixels of its image.
        tones: (2, n, 2) float32, gain and shift of the grey levels; None where they stay.
        small: (2, n), on the CPU, views whose pixels are means over areas.
        size: S.
    """

    images: Tensor
    maps: Tensor
    tones: Tensor | None
    small: Tensor
    size: int

    def to(self, device: torch.device, non_blocking: bool = False) -> Tensor:
        """Send the images there and make their views, (2, n, 1, S, S) uint8."""
        images, maps = (part.to(device, non_blocking=non_blocking) for part in (self.images, self.maps))
        levels = None if self.tones is None else self.tones.to(device, non_blocking=non_blocking)
        views = []
        for side in (0, 1):
            tone = None if levels is None else levels[side]
            views.append(sample(images[min(side, len(images) - 1)], maps[side], self.size, self.small[side], tone))
        return torch.stack(views)


def pack(
    sides: Sequence[Sequence[NDArray[np.uint8]]], recipe: Recipe, draws: Sequence[NDArray[np.float64]], pinned: bool
) -> PackedImages:
    """What goes to the device for the views of a step.

    Args:
        sides: the images of each side, each (H, W) uint8; one list where both sides show the same.
        draws: the random numbers of each side, (n, DRAWS), always two.
        pinned: in page-locked memory.
    """
    shapes = np.array([[image.shape for image in images] for images in sides])
    images = torch.zeros(*shapes.shape[:2], 1, *shapes.max(axis=(0, 1)), dtype=torch.uint8, pin_memory=pinned)
    frames = images.numpy()
    for side, i in np.ndindex(*shapes.shape[:2]):
        height, width = shapes[side, i]
        frames[side, i, 0, :height, :width] = sides[side][i]
    maps = [matrix(recipe, shapes[min(side, len(shapes) - 1)], draws[side]) for side in (0, 1)]
    levels = None
    if recipe.brightness or recipe.contrast:
        levels = _sendable(np.stack([np.concatenate(tones(recipe, draw), axis=1) for draw in draws]), pinned)
    small = torch.from_numpy(np.stack([shrinking(recipe, side) for side in maps]))
    return PackedImages(images, _sendable(np.stack(maps), pinned), levels, small, recipe.size)


def _sendable(numbers: NDArray[np.float64], pinned: bool) -> Tensor:
    tensor = torch.from_numpy(numbers.astype(np.float32))  # a Mac's GPU has no float64
    return tensor.pin_memory() if pinned else tensor


def sample(images: Tensor, maps: Tensor, size: int, small: Tensor, levels: Tensor | None = None) -> Tensor:
    """One view of each image, by bilinear samples or means of four; outside an image all is black.

    Args:
        images: (n, 1, H, W) uint8.
        maps: (n, 2, 3) float32.
        size: S.
        small: (n,) bool on the CPU, which views are means: nothing is drawn that no view needs.
        levels: gain and shift, (n, 2) float32.

    Returns:
        (n, 1, S, S) uint8.
    """
    pixels = images.float()
    if not small.any():
        views = _bilinear(pixels, maps, size)
    else:
        views = _means_of_four(pixels, maps, size)
        if not small.all():
            chosen = sent(small, images.device)[:, None, None, None]
            views = torch.where(chosen, views, _bilinear(pixels, maps, size))
    if levels is not None:
        gain, shift = levels[:, :, None, None, None].unbind(1)
        mean = views.mean(dim=(1, 2, 3), keepdim=True)
        views = ((views - mean) * (gain * shift) + mean * shift).clamp_(0, 255).round_()
    return views.to(torch.uint8)


def _means_of_four(pixels: Tensor, maps: Tensor, size: int) -> Tensor:
    """(n, 1, S, S), each pixel the mean of the middles of its four quarters; sampled one by one, in the memory of one."""
    total = torch.zeros((), device=pixels.device)
    for x, y in ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)):
        shifted = maps.clone()
        shifted[..., 2] += x * maps[..., 0] + y * maps[..., 1]
        total = total + _bilinear(pixels, shifted, size)
    return torch.floor((total + 2) / 4)  # halves go up, as OpenCV's


def _bilinear(pixels: Tensor, maps: Tensor, size: int) -> Tensor:
    """(n, 1, S, S) whole grey levels, as OpenCV gives."""
    height, width = pixels.shape[-2:]
    places = torch.arange(size, dtype=torch.float32, device=pixels.device)
    x, y = places[None, None, :], places[None, :, None]
    at = maps[..., None, None]
    from_x = at[:, 0, 0] * x + at[:, 0, 1] * y + at[:, 0, 2]
    from_y = at[:, 1, 0] * x + at[:, 1, 1] * y + at[:, 1, 2]
    # Without align_corners -1 and 1 are the outer edges of the image, so that pixel centres lie half a pixel inside.
    grid = torch.stack([(2 * from_x + 1) / width - 1, (2 * from_y + 1) / height - 1], dim=-1)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False).round_()


def make_loader(s: PretrainSettings, dataset: PretrainSet, accelerator: Accelerator) -> BatchLoader:
    """The batches of this process."""
    used = len(dataset) // s.batch * s.batch
    return BatchLoader(
        dataset,
        Recipe.of(vars(s)),
        # A batch more than K: the first image of a batch meets the keys of all batches before its own.
        SpacedShuffle(len(dataset), used, min_gap=(s.queue or 0) + s.batch - 1, seed=s.seed),
        batch=s.batch,
        seed=s.seed,
        positives=s.positives,
        # With positives of one study, its other keys cannot be negatives: that would pull and push one pair.
        negatives_from=max(s.negatives_from, "image" if s.positives == "view" else s.positives, key=KINDS.index),
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=view_threads(accelerator.device, processes_here(accelerator.num_processes), s.workers),
        pinned=accelerator.device.type == "cuda",
        views_on=s.views_on,
        phases=s.phases,
    )
