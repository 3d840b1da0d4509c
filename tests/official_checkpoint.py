"""Checkpoints as MoCo's released script writes them: two encoders with heads, a queue, prefixes, an optimiser."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

CLASSIFIER = {"resnet18": "fc", "resnet50": "fc", "densenet121": "classifier", "mnasnet1_0": "classifier"}
DIM = 16


@cache
def network(arch: str, head: str = "mlp") -> nn.Module:
    """torchvision's network with MoCo's head, its batch norm as if it had seen images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = getattr(torchvision.models, arch)(weights=None)
        name = CLASSIFIER[arch]
        old = getattr(net, name)
        width = (old[-1] if isinstance(old, nn.Sequential) else old).in_features
        last = nn.Linear(width, DIM)
        first = [nn.Linear(width, width), nn.ReLU()] if head == "mlp" else []
        setattr(net, name, nn.Sequential(*first, last) if first else last)
        for key, value in net.state_dict().items():
            if key.endswith("running_mean"):
                value.normal_(std=0.1)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    return net.eval()


def state_dict(arch: str, head: str = "mlp", prefix: str = "module.") -> dict[str, Tensor]:
    """Keys as in the released code: query, key encoder (which is never read: one number a tensor, stored once), queue."""
    query = network(arch, head).state_dict()
    table = {f"{prefix}encoder_q.{key}": value.clone() for key, value in query.items()}
    table |= {f"{prefix}encoder_k.{key}": value.new_full((), 2).expand(value.shape) for key, value in query.items()}
    queue = {"queue": torch.randn(DIM, 8, generator=torch.Generator().manual_seed(0))}
    return table | {f"{prefix}{k}": v for k, v in queue.items()} | {f"{prefix}queue_ptr": torch.zeros(1).long()}


def checkpoint(arch: str, head: str = "mlp", prefix: str = "module.") -> dict[str, Any]:
    """All four entries; the optimiser has seen one step of one parameter."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=1e-4)
    weight.sum().backward()
    optimizer.step()
    tensors = state_dict(arch, head, prefix)
    return {"epoch": 20, "arch": arch, "state_dict": tensors, "optimizer": optimizer.state_dict()}


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def features(arch: str, frames: Tensor) -> Tensor:
    """What the authors' own network, head off, makes of normalised frames (N, 3, H, W)."""
    net = copy.deepcopy(network(arch))
    setattr(net, CLASSIFIER[arch], nn.Identity())
    with torch.inference_mode():
        return net(frames)
