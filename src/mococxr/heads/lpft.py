"""LP-FT: a linear probe, then fine-tuning of all layers from that head (Kumar et al., ICLR 2022, arXiv 2202.10054).

A random head pulls the features of a pretrained encoder about before it is any good itself, which costs most on
images of another hospital. A head that already fits leaves them where they are. The probe is the solved one, so that
the start is a function of the labels alone.
"""

from __future__ import annotations

from dataclasses import replace

from mococxr.heads.classifier import FitResult, TrainConfig, TrainData
from mococxr.heads.finetune import train_by_gradient
from mococxr.heads.linear import solve_probe


def train_lpft(data: TrainData, config: TrainConfig) -> FitResult:
    """Solve the head on frozen features, then train all layers from it.

    Raises:
        UndefinedError: one class only among the rows.
        RunError: the loss is not finite.
    """
    head = solve_probe(data, config)  # of centred frames; training then cuts at random
    result = train_by_gradient(data, config, start=head)
    return replace(result, notes=(*head.notes, *result.notes))
