"""What is measured on the way, and it moves no number: sums on the device at every step, the rest at the log lines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mococxr.pretraining import diagnostics
from mococxr.pretraining.loader import Feed
from mococxr.pretraining.step import Learner

KEYS = 4096
"""Keys that spread and effective rank are measured on, at most."""
PAIRED_KEYS = 512
"""Keys whose pairs uniformity is measured on, at most."""
SUMS = ("loss", "contrast_accuracy", "pair_auroc", "alignment", "own_keys")
"""What is summed since the last log line, with the steps: what costs a step nothing that shows."""


class Watch:
    """Measures of a run between two log lines: nothing waits for the device but at a line.

    Every process asks at the same step, since what is answered is that of all of them. Made before a checkpoint is put
    back: the weights that it is given are those of the start.
    """

    def __init__(self, learner: Learner, feed: Feed, temperature: float) -> None:
        self.learner, self.feed, self.temperature = learner, feed, temperature
        self.device = learner.queue.keys_KC.device
        self.start = diagnostics.weight_sample(learner.query)
        self.sums = torch.zeros(len(SUMS) + 1, device=self.device)
        self.bad = torch.zeros((), dtype=torch.long, device=self.device)
        self.own = OwnKeys(len(feed.pool), len(learner.queue.keys_KC), feed.batch)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint stands."""
        self.sums = state["seen"].to(self.device)
        step = int(state["step"])
        for before in range(max(0, step - self.own.steps), step):
            self.own.add(before, self.feed.batch_of(before))

    def add(self, step: int, loss: Tensor, logits: Tensor) -> None:
        """Take up a step, numbered from 0."""
        own = self.own.add(step, self.feed.batch_of(step))
        seen = [
            loss.float(),
            diagnostics.contrast_accuracy(logits),
            diagnostics.pair_auroc(logits, self._newest(step)),
            diagnostics.alignment(logits, self.temperature),
        ]
        self.sums[:-2] += torch.stack(seen)
        self.sums[-2] += own  # plain numbers: a copy from memory that is not pinned may wait for the device
        self.sums[-1] += 1
        first = (self.bad == 0) & ~torch.isfinite(loss)
        self.bad = torch.where(first, torch.full_like(self.bad, step + 1), self.bad)

    def _newest(self, done: int) -> Tensor:
        """Places in the queue of the keys of the last of `done` steps."""
        length, entered = len(self.learner.queue.keys_KC), done * self.feed.batch
        return torch.arange(entered - min(length, self.feed.batch), entered, device=self.device) % length

    def bad_step(self) -> int | None:
        """The first step, from 1, whose loss was not finite on any process."""
        steps = [step for step in self.learner.gather(self.bad[None]).tolist() if step]
        return min(steps) if steps else None

    def shared(self) -> Tensor:
        """The sums of all processes together, as each process's equal share."""
        return self.learner.gather(self.sums[None]).sum(dim=0) / self.learner.world

    def _mean(self, value: float | None) -> float | None:
        """A number of each process -> their mean, where all have one."""
        mine = torch.tensor([math.nan if value is None else value], device=self.device)
        mean = float(self.learner.gather(mine).mean())
        return None if math.isnan(mean) else mean

    def take(self, done: int, views: Tensor, logits: Tensor) -> dict[str, Any]:
        """The measures since the last line and, of the step just done, of queue and weights, those of now.

        The gradients of that step must still be there.
        """
        *means, count = self.shared().tolist()
        self.sums.zero_()
        learner = self.learner
        length = len(learner.queue.keys_KC)
        filled = min(length, done * self.feed.batch)
        keys = learner.queue.keys_KC[: min(filled, KEYS)]
        newest = learner.queue.keys_KC[self._newest(done)]
        query, key = (diagnostics.weight_sample(network) for network in (learner.query, learner.key))
        moved = float((query - self.start).norm())
        return {
            **{name: value / count for name, value in zip(SUMS, means, strict=True)},
            **_spread(keys),
            "batch_std": diagnostics.feature_std(newest) if len(newest) > 1 else None,
            "view_change": self._mean(diagnostics.view_change(views)),
            "tied": self._mean(diagnostics.tied(logits)),
            "gradient_norm": float(diagnostics.gradient_norm(learner.query)),
            "lag": diagnostics.relative_distance(learner.query, learner.key),
            "key_moved": float((key - self.start).norm()) / moved if moved else 1.0,
            "weights_grown": float(query.norm() / self.start.norm()),
            "queue_filled": filled / length,
            "queue_age": math.ceil(filled / self.feed.batch),
        }


def _spread(keys: Tensor) -> dict[str, float | None]:
    """How far the keys spread; null of a single key, which has no spread."""
    if keys.device.type == "mps":
        keys = keys.cpu()  # where torch has singular values and distances of pairs
    if len(keys) < 2:
        return {"feature_std": None, "effective_rank": None, "uniformity": None}
    return {
        "feature_std": diagnostics.feature_std(keys),
        "effective_rank": diagnostics.effective_rank(keys),
        "uniformity": diagnostics.uniformity(keys[:PAIRED_KEYS]),
    }


class OwnKeys:
    """Whether images meet their own earlier key among the negatives, told from the order alone.

    Args:
        images: N.
        queue: K.
        batch: images a step, over all processes.
    """

    def __init__(self, images: int, queue: int, batch: int) -> None:
        self.last_N = np.full(images, -1, dtype=np.int64)
        self.queue, self.batch = queue, batch
        self.steps = math.ceil(queue / batch)

    def add(self, step: int, images: NDArray[np.int64]) -> float:
        """The share of a step's images whose own key is still in the queue; the step's keys then enter it."""
        entered = step * self.batch
        last = self.last_N[images]
        self.last_N[images] = entered + np.arange(len(images))
        return float(((last >= 0) & (last >= entered - self.queue)).mean())
