"""SimCLR: the two views of an image attract each other, all other views of the batch repel (Chen et al. 2020).

Source: arXiv 2002.05709, algorithm 1 and equation 1. Deviations: the views are this project's (one scan needs no colour
jitter), the optimiser is `--optimizer` (LARS in the paper, for batches of thousands).

    N  images in a batch, over all processes    n  on this process    C  length of an embedding
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from mococxr.encoders import Encoder
from mococxr.pretraining import diagnostics
from mococxr.pretraining.diagnostics import Log, Run, Verdict
from mococxr.pretraining.method import Method, OneProcess, Projector, StepResult, Words, seeded, sent
from mococxr.settings import PretrainSettings


class SimCLR(Method):
    """One network under the NT-Xent loss; the negatives are the batch, so a large `--batch` replaces MoCo's queue."""

    words = Words("SimCLR", "Chen et al. 2020, arXiv 2002.05709")
    UNUSED = ("queue", "momentum", "key_groups", "accumulate")
    RUNNING = ("loss", "contrast_accuracy", "positive_auroc", "alignment")
    MEASURES = ("feature_std", "effective_rank", "uniformity")

    def __init__(self, encoder: Encoder, settings: PretrainSettings, accelerator: Accelerator | OneProcess) -> None:
        s = settings
        with seeded(s.seed):
            network = Projector(encoder, encoder.spec.feature_dim, s.dim, mlp=s.head == "mlp")
        super().__init__(network, s, accelerator)
        self.chance = math.log(2 * s.batch - 1)  # one positive among all views but the anchor itself

    def step(
        self, views: Tensor, lr: float, groups: Tensor | None = None, metadata_2nA: Tensor | None = None
    ) -> StepResult:
        """Both views in one pass, NT-Xent against the views of all processes but those of the same group, descent."""
        self.set_rate(lr)
        self.optimizer.zero_grad(set_to_none=True)
        # One pass: DistributedDataParallel allows one forward a backward, and batch norm sees both views.
        a_nC, b_nC = self.wrapped(views.flatten(0, 1)).chunk(2)
        all_a_NC, all_b_NC = (gather_with_gradient(side, self.rank, self.world) for side in (a_nC, b_nC))
        numbers_N = None if groups is None else sent(groups, self.device)
        loss, logits = nt_xent(a_nC, b_nC, all_a_NC, all_b_NC, self.settings.temperature, self.rank, numbers_N)
        auxiliary = self.auxiliary_loss(metadata_2nA)
        self.backward(loss + self.settings.auxiliary_weight * auxiliary)
        self.optimizer.step()
        self.update_average()
        return StepResult(loss.detach(), logits.detach(), all_a_NC.detach(), auxiliary.detach())

    def running(self, result: StepResult) -> Tensor:
        """Loss, contrast accuracy, AUROC of pairs and alignment of a step, (4,)."""
        # no queue: every negative is of this step
        everything = torch.arange(result.logits.shape[1] - 1, device=result.logits.device)
        return diagnostics.contrast_measures(result.loss, result.logits, everything, self.settings.temperature)

    def measures(self, result: StepResult) -> dict[str, float | None]:
        """Spread of the batch's embeddings."""
        return diagnostics.spread(result.embeddings)

    def judge(self, log: Log, steps: int) -> Verdict:
        """One word on the run; there is no key encoder that could be stale."""
        s, d = self.settings, diagnostics
        late = (d.collapsed, d.flat, d.stuck, d.easy_at_once)
        # K: all views but itself and its partner
        run = Run(steps, s.batch, 2 * s.batch - 2, s.dim, trained=self.trained)
        return d.judge(log, run, (d.growing, d.same_picture), late)


def nt_xent(
    a_nC: Tensor,
    b_nC: Tensor,
    all_a_NC: Tensor,
    all_b_NC: Tensor,
    temperature: float,
    rank: int = 0,
    numbers_N: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Normalised temperature-scaled cross entropy (SimCLR, equation 1), mean over both views of this process's images.

    Args:
        a_nC, b_nC: unit embeddings of the two views on this process.
        all_a_NC, all_b_NC: those of all processes, by rank.
        rank: of this process.
        numbers_N: images of one number are no negatives of each other: their logits are -inf.

    Returns:
        The loss, and the logits (2n, 2N - 1) it came from: the positive first, then the 2N - 2 negatives.
    """
    count, total = len(a_nC), len(all_a_NC)
    itself = rank * count + torch.arange(count, device=a_nC.device)[:, None]
    # Columns other than the view itself (own) and its partner (own + N): arithmetic, since a mask would wait for a GPU.
    negatives = torch.arange(2 * total - 2, device=a_nC.device).expand(count, -1)
    negatives = negatives + (negatives >= itself)
    negatives = negatives + (negatives >= itself + total)
    left_out = torch.zeros((), dtype=torch.bool, device=a_nC.device)
    if numbers_N is not None:
        left_out = numbers_N[itself] == numbers_N.repeat(2)[negatives]
    sides = []
    # an anchor's own side first, or the columns are wrong
    for anchor, partner, same, other in ((a_nC, b_nC, all_a_NC, all_b_NC), (b_nC, a_nC, all_b_NC, all_a_NC)):
        positive = (anchor * partner).sum(dim=1, keepdim=True)
        cosines = anchor @ torch.cat([same, other]).T
        sides.append(torch.cat([positive, cosines.gather(1, negatives).masked_fill(left_out, -math.inf)], dim=1))
    logits = torch.cat(sides) / temperature
    return F.cross_entropy(logits, torch.zeros(2 * count, dtype=torch.long, device=logits.device)), logits


class _Gather(torch.autograd.Function):
    """Tensors of all processes, by rank; the gradient of each comes back to the process that it is from."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rank: int, world: int) -> Tensor:
        ctx.rank, ctx.count = rank, len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(world)]
        torch.distributed.all_gather(parts, tensor.contiguous())  # by itself it hands no gradient back
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.contiguous()
        # The sum, not the mean: DistributedDataParallel divides by the number of processes afterwards.
        torch.distributed.all_reduce(gradient)
        return gradient[ctx.rank * ctx.count :][: ctx.count], None, None


def gather_with_gradient(tensor: Tensor, rank: int, world: int) -> Tensor:
    """(n, C) of this process -> (N, C) of all, by rank; gradients flow back to every process."""
    return _Gather.apply(tensor, rank, world) if world > 1 else tensor
