"""Small methods for tests: an accelerator of one process, and any network as an encoder."""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mococxr.pretraining.hardware import make_accelerator
from mococxr.pretraining.method import OneProcess


def alone() -> OneProcess:
    """This process on its CPU, in float32."""
    return OneProcess(make_accelerator("cpu", "no"))


class Net(nn.Module):
    """A network with the face of an encoder: images -> (N, width)."""

    def __init__(self, net: nn.Module, width: int) -> None:
        super().__init__()
        self.net, self.spec = net, SimpleNamespace(feature_dim=width)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class Waits(TorchDispatchMode):
    """Counts what a program must wait for: numbers read from a tensor, and sizes that depend on what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operation, types, given=(), named=None):
        if str(operation).split(".")[1] in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero"):
            self.found.append(str(operation))
        return operation(*given, **(named or {}))
