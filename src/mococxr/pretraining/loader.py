"""Batches of views: made ready ahead by threads, as uint8, one channel.

OpenCV releases the interpreter while it warps, so threads suffice; they share the memory-mapped images. Views are made
here, or on the device from images that go there as they are stored (`device_views`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mococxr.augment import Recipe, draw_views, uniforms
from mococxr.pretraining import device_views
from mococxr.pretraining.dataset import Orders, Pool, mates

AHEAD = 3
"""Batches drawn before they are wanted."""
REMEMBERED = 256
"""Steps whose images are kept: more than are ever drawn ahead."""
LOOK, PATIENCE = 16, 0.02
"""Steps between two looks at how long the run waited for views, and the share of the time that it may."""


class Crew:
    """Threads that make batches ready; where the run had to wait for them, one more is let to work.

    Args:
        workers: threads that work at first.
        most: threads that may work in the end.
        clock: seconds, for tests.
    """

    def __init__(self, workers: int, most: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.workers, self.most, self.clock = workers, most, clock
        self.threads = ThreadPoolExecutor(most, thread_name_prefix="views")
        self._leave = Semaphore(workers)
        self._waited, self._looked, self._begun = 0.0, 0, clock()

    def start(self, work: Callable[..., Any], *given: Any) -> Future[Any]:
        """Have something done, in turn."""
        return self.threads.submit(self._with_leave, work, *given)

    def _with_leave(self, work: Callable[..., Any], *given: Any) -> Any:
        with self._leave:
            return work(*given)

    def result(self, future: Future[Any]) -> Any:
        """What was asked for, when it is there; the wait is noted."""
        begun = self.clock()
        found = future.result()
        ended = self.clock()
        self._waited += ended - begun
        self._looked += 1
        if self._looked == LOOK:
            if self._waited > PATIENCE * (ended - self._begun) and self.workers < self.most:
                self.workers += 1
                self._leave.release()
            self._waited, self._looked, self._begun = 0.0, 0, ended
        return found


class Feed:
    """The batches of this process, in the order of the run.

    Args:
        batch: images a step over all processes; `batch // world` of them come here.
        positives: view or study.
        workers: threads that make views, at first and at most (`machine.view_threads`).
        pinned: in page-locked memory, for copies to a GPU that do not wait.
        views_on: `cpu`: batches are views. `device`: they are stored images, which become views when they go to the
            device.
    """

    def __init__(
        self,
        pool: Pool,
        recipe: Recipe,
        orders: Orders,
        *,
        batch: int,
        seed: int,
        positives: str = "view",
        rank: int = 0,
        world: int = 1,
        workers: tuple[int, int] = (1, 1),
        pinned: bool = False,
        views_on: str = "cpu",
    ) -> None:
        self.pool, self.recipe, self.orders = pool, recipe, orders
        self.batch, self.seed, self.positives = batch, seed, positives
        self.rank, self.world, self.workers, self.pinned = rank, world, workers, pinned
        self.make = self.stored if views_on == "device" else self.views
        self.steps_per_epoch = orders.used // batch
        self._batches: dict[int, NDArray[np.int64]] = {}

    def images(self, step: int) -> tuple[int, NDArray[np.int64]]:
        """The epoch of a step, and this process's images in it."""
        share = self.batch // self.world
        return step // self.steps_per_epoch, self.batch_of(step)[self.rank * share :][:share]

    def batch_of(self, step: int) -> NDArray[np.int64]:
        """The images of a step on all processes, (batch,), by rank; the latest `REMEMBERED` steps cost nothing."""
        if step not in self._batches:
            epoch, place = divmod(step, self.steps_per_epoch)
            self._batches[step] = self.orders.order(epoch)[place * self.batch :][: self.batch]
            self._batches.pop(step - REMEMBERED, None)
        return self._batches[step]

    def views(self, epoch: int, images: NDArray[np.int64]) -> Tensor:
        """Both views of some images: (2, n, 1, S, S) uint8, query side first."""
        seconds = images if self.positives == "view" else mates(self.pool, images, self.seed, epoch)
        size = self.recipe.size
        views = torch.empty(2, len(images), 1, size, size, dtype=torch.uint8, pin_memory=self.pinned)
        out = views.numpy()
        for side, chosen in enumerate((images, seconds)):
            array = [self.pool.pixels(image) for image in chosen]
            draw_views(array, self.recipe, uniforms(self.seed, epoch, images, side), out=out[side, :, 0])
        return views

    def stored(self, epoch: int, images: NDArray[np.int64]) -> device_views.Stored:
        """The same views, yet to be made: `.to(device)` makes them there."""
        sides = [images] if self.positives == "view" else [images, mates(self.pool, images, self.seed, epoch)]
        array = [[self.pool.pixels(image) for image in side] for side in sides]
        draws = [uniforms(self.seed, epoch, images, side) for side in (0, 1)]
        return device_views.store(array, self.recipe, draws, self.pinned)

    def run(self, start: int, stop: int) -> Iterator[tuple[int, Tensor | device_views.Stored]]:
        """(step, batch) for the steps from `start` up to `stop`, made ready ahead; `batch.to(device)` is its views."""
        crew = Crew(*self.workers)
        with crew.threads:
            ahead: deque[tuple[int, Future[Any]]] = deque()
            try:
                for step in range(start, stop):
                    # The order is asked for here, in turn: the threads only draw.
                    ahead.append((step, crew.start(self.make, *self.images(step))))
                    if len(ahead) > AHEAD + crew.workers:
                        step_ready, future = ahead.popleft()
                        yield step_ready, crew.result(future)
                while ahead:
                    step_ready, future = ahead.popleft()
                    yield step_ready, crew.result(future)
            finally:
                for _, future in ahead:
                    future.cancel()
