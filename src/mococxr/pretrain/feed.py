"""Batches of views: drawn ahead by threads, as uint8, one channel.

OpenCV releases the interpreter while it warps, so threads suffice; they share the memory-mapped films.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mococxr.pretrain.pool import Orders, Pool, mates
from mococxr.views import Recipe, draw_views, uniforms

AHEAD = 3
"""Batches drawn before they are wanted."""
REMEMBERED = 256
"""Steps whose films are kept: more than are ever drawn ahead."""


class Feed:
    """The batches of this process, in the order of the run.

    Args:
        batch: films a step over all processes; `batch // world` of them come here.
        positives: view or study.
        pinned: in page-locked memory, for copies to a GPU that do not wait.
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
        workers: int = 1,
        pinned: bool = False,
    ) -> None:
        self.pool, self.recipe, self.orders = pool, recipe, orders
        self.batch, self.seed, self.positives = batch, seed, positives
        self.rank, self.world, self.workers, self.pinned = rank, world, workers, pinned
        self.steps_per_epoch = orders.used // batch
        self._batches: dict[int, NDArray[np.int64]] = {}

    def films(self, step: int) -> tuple[int, NDArray[np.int64]]:
        """The epoch of a step, and this process's films in it."""
        share = self.batch // self.world
        return step // self.steps_per_epoch, self.batch_of(step)[self.rank * share :][:share]

    def batch_of(self, step: int) -> NDArray[np.int64]:
        """The films of a step on all processes, (batch,), by rank; the latest `REMEMBERED` steps cost nothing."""
        if step not in self._batches:
            epoch, place = divmod(step, self.steps_per_epoch)
            self._batches[step] = self.orders.order(epoch)[place * self.batch :][: self.batch]
            self._batches.pop(step - REMEMBERED, None)
        return self._batches[step]

    def views(self, epoch: int, films: NDArray[np.int64]) -> Tensor:
        """Both views of some films: (2, n, 1, S, S) uint8, query side first."""
        seconds = films if self.positives == "view" else mates(self.pool, films, self.seed, epoch)
        size = self.recipe.size
        views = torch.empty(2, len(films), 1, size, size, dtype=torch.uint8, pin_memory=self.pinned)
        out = views.numpy()
        for side, chosen in enumerate((films, seconds)):
            images = [self.pool.pixels(film) for film in chosen]
            draw_views(images, self.recipe, uniforms(self.seed, epoch, films, side), out=out[side, :, 0])
        return views

    def run(self, start: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """(step, views) for the steps from `start` up to `stop`, drawn ahead."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="views") as threads:
            ahead: deque[tuple[int, Future[Tensor]]] = deque()
            try:
                for step in range(start, stop):
                    # The order is asked for here, in turn: the threads only draw.
                    ahead.append((step, threads.submit(self.views, *self.films(step))))
                    if len(ahead) > AHEAD + self.workers:
                        step_ready, future = ahead.popleft()
                        yield step_ready, future.result()
                while ahead:
                    step_ready, future = ahead.popleft()
                    yield step_ready, future.result()
            finally:
                for _, future in ahead:
                    future.cancel()
