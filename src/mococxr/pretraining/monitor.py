"""What is measured on the way, and it moves no number: sums on the device at every step, the rest at the log lines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mococxr.pretraining import diagnostics
from mococxr.pretraining.method import Method, StepResult


class Monitor:
    """Measures of a run between two log lines: nothing waits for the device but at a line.

    Every process calls it at the same step, since the answers are those of all. Made before a checkpoint is restored:
    the weights that it starts from are those of the start.
    """

    COLUMNS = ("view_change", "gradient_norm", "weights_grown")
    """What it measures of every method, beside the method's own columns."""

    def __init__(self, method: Method) -> None:
        self.method, self.device = method, method.device
        self.start = diagnostics.weight_sample(method.network)
        self.sums = torch.zeros(len(method.RUNNING) + 1, device=self.device)
        self.bad = torch.zeros((), dtype=torch.long, device=self.device)

    def add(self, step: int, result: StepResult) -> None:
        """Record a step, numbered from 0."""
        self.sums[:-1] += self.method.running(result)
        self.sums[-1] += 1
        first = (self.bad == 0) & ~torch.isfinite(result.loss)
        self.bad = torch.where(first, torch.full_like(self.bad, step + 1), self.bad)

    def bad_step(self) -> int | None:
        """The first step, from 1, whose loss was not finite on any process."""
        steps = [step for step in self.method.gather(self.bad[None]).tolist() if step]
        return min(steps) if steps else None

    def shared(self) -> Tensor:
        """The sums of all processes together, as each process's equal share."""
        return self.method.gather(self.sums[None]).sum(dim=0) / self.method.world

    def collect(self, views: Tensor, result: StepResult) -> dict[str, Any]:
        """The means since the last line and, of the step just done and of the weights, the measures of now.

        The gradients of that step must still be there.
        """
        *sums, count = self.shared().tolist()
        self.sums.zero_()
        method = self.method
        return {
            **{name: value / count for name, value in zip(method.RUNNING, sums, strict=True)},
            **method.measures(result),
            "view_change": method.shared_mean(diagnostics.view_change(views)),
            "gradient_norm": float(diagnostics.gradient_norm(method.network)),
            "weights_grown": float(diagnostics.weight_sample(method.network).norm() / self.start.norm()),
        }
