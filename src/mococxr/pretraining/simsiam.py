"""SimSiam: one view predicts the embedding of the other, without negatives and without a momentum encoder.

Source: Chen and He 2021, arXiv 2011.10566, algorithm 1 and section 3; layers as in its released code. Deviations: batch
norm takes the statistics of each process (synchronised in the paper), and `--schedule` moves the predictor's rate too.

    n  images on this process    D  length of an encoder's feature    C  length of an embedding
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from mococxr.encoders import Encoder
from mococxr.pretraining import diagnostics
from mococxr.pretraining.diagnostics import Log, Run, Verdict
from mococxr.pretraining.method import Method, OneProcess, StepResult, Words, seeded
from mococxr.settings import PretrainSettings


class SimSiam(Method):
    """Encoder, projector and predictor under the symmetric negative cosine."""

    words = Words("SimSiam", "Chen and He 2021, arXiv 2011.10566")
    UNUSED = ("queue", "momentum", "key_groups", "accumulate", "temperature", "head", "negatives_from")
    RUNNING = ("loss",)
    MEASURES = ("feature_std", "effective_rank", "uniformity")

    def __init__(self, encoder: Encoder, settings: PretrainSettings, accelerator: Accelerator | OneProcess) -> None:
        with seeded(settings.seed):
            network = Siamese(encoder, encoder.spec.feature_dim, settings.dim)
        super().__init__(network, settings, accelerator)

    def step(
        self,
        views: Tensor,
        lr: float,
        groups: Tensor | None = None,  # noqa: ARG002 - no negatives
        metadata_2nA: Tensor | None = None,
    ) -> StepResult:
        """Algorithm 1: each view's prediction against the other's embedding, which gets no gradient."""
        self.set_rate(lr)
        self.optimizer.zero_grad(set_to_none=True)
        z_2nC, p_2nC = self.wrapped(views.flatten(0, 1))
        (z1, z2), (p1, p2) = z_2nC.chunk(2), p_2nC.chunk(2)
        loss = (negative_cosine(p1, z2) + negative_cosine(p2, z1)) / 2
        auxiliary = self.auxiliary_loss(metadata_2nA)
        self.backward(loss + self.settings.auxiliary_weight * auxiliary)
        self.optimizer.step()
        self.update_average()
        embeddings = self.gather(F.normalize(z1.detach(), dim=1))
        return StepResult(loss.detach(), embeddings=embeddings, auxiliary=auxiliary.detach())

    def running(self, result: StepResult) -> Tensor:
        """The loss of a step, (1,)."""
        return result.loss.float()[None]

    def measures(self, result: StepResult) -> dict[str, float | None]:
        """Spread of the batch's embeddings: section 4.1 tells a collapse by it."""
        return diagnostics.spread(result.embeddings)

    def judge(self, log: Log, steps: int) -> Verdict:
        """One word on the run; its loss is -1 for a collapse as for perfect views, so spread and rank decide."""
        s, d = self.settings, diagnostics
        run = Run(steps, s.batch, 0, s.dim, trained=self.trained)
        return d.judge(log, run, (d.growing, d.same_picture), (d.collapsed, d.flat))


class Siamese(nn.Module):
    """Both views (2n, ...), the first sides first -> embeddings z and predictions p, each (2n, C) float32."""

    def __init__(self, encoder: nn.Module, width: int, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Sequential(
            *_layer(width, width), *_layer(width, width),
            # no scale or shift at the end: the released code
            nn.Linear(width, dim, bias=False), nn.BatchNorm1d(dim, affine=False),
        )  # fmt: skip
        hidden = max(1, dim // 4)  # a bottleneck of a quarter, section 3
        # output without batch norm: section 4.4
        self.predictor = nn.Sequential(*_layer(dim, hidden), nn.Linear(hidden, dim))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """One view after the other, as each has batch statistics of its own in the paper."""
        z = [self.projector(self.encoder(view)) for view in images.chunk(2)]
        p = [self.predictor(side) for side in z]
        return torch.cat(z).float(), torch.cat(p).float()


def _layer(inputs: int, outputs: int) -> list[nn.Module]:
    # batch norm would cancel a bias
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]


def negative_cosine(p_nC: Tensor, z_nC: Tensor) -> Tensor:
    """D(p, stopgrad(z)): minus the cosine, mean over images, -1 to 1 (equation 1)."""
    # without the stop-gradient it collapses: section 4.1
    return -F.cosine_similarity(p_nC, z_nC.detach(), dim=1).mean()
