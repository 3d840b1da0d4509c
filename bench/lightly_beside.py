"""Pretraining films/s beside lightly 1.6, on the same films, all cores.

    python bench/lightly_beside.py [--rounds 5] [--only 'jpeg 96']

lightly: the model, loss, transform and dataset classes of its MoCo example (`lightly.transforms.MoCoV2Transform`, set
to the same view: crop of 90 to 100 % of the area, flip, rotation up to 10 degrees, no jitter, blur or grey), a PyTorch
DataLoader with the best of 0, 1 and 2 workers (tried first). Ours: `mococxr.pretrain` on a store, as its log says.
ResNet-18 with three channels, MLP head, SGD, the same batch and queue; batch norm is shuffled on neither side.

1. Films of 320 px as JPEG. Our `prepare` is not counted: it is paid once.
2. Films of 2,048 px as PNG. Our `prepare` is counted in over 20 epochs: the seconds of a film are those of a measured
   stretch of pretraining and a twentieth of those of `prepare`, measured once on the same films, start-up and all.
"""

from __future__ import annotations

import copy
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ratio import Row, alternate, cores, main, row
from runs import BATCH, QUEUE, SETTINGS, make_store, pretraining_rate, write_films

FILMS = 12 * BATCH
EPOCHS = 20
WARM = 4
"""Steps of lightly's before its clock starts, each time: what its workers had ready is then used up."""
PLANS = {64: (4, 10), 96: (3, 10), 224: (1, 4)}
"""size -> epochs of a run of ours, steps between its log lines."""


class MoCo(nn.Module):
    """The model of lightly's example."""

    def __init__(self) -> None:
        from lightly.models.modules import MoCoProjectionHead
        from lightly.models.utils import deactivate_requires_grad

        super().__init__()
        self.backbone = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
        self.head = MoCoProjectionHead(512, 512, 128)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.head_momentum = copy.deepcopy(self.head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.head_momentum)

    def forward(self, films: Tensor) -> Tensor:
        return self.head(self.backbone(films).flatten(start_dim=1))

    def keys(self, films: Tensor) -> Tensor:
        return self.head_momentum(self.backbone_momentum(films).flatten(start_dim=1)).detach()


class Lightly:
    """Its training loop over one folder, that can be run for some steps and left."""

    def __init__(self, folder: Path, size: int, workers: int) -> None:
        from lightly.data import LightlyDataset
        from lightly.loss import NTXentLoss
        from lightly.transforms import MoCoV2Transform

        plain = {"cj_prob": 0.0, "random_gray_scale": 0.0, "gaussian_blur": 0.0}
        view = MoCoV2Transform(input_size=size, min_scale=0.9, rr_prob=1.0, rr_degrees=10.0, **plain)
        options: dict[str, Any] = {"persistent_workers": True} if workers else {}
        self.loader = DataLoader(
            LightlyDataset(str(folder), transform=view),
            batch_size=BATCH, shuffle=True, drop_last=True, num_workers=workers, **options,
        )  # fmt: skip
        self.model = MoCo().train()
        self.loss = NTXentLoss(temperature=SETTINGS["temperature"], memory_bank_size=(QUEUE, 128))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=SETTINGS["lr"])
        self.batches = itertools.chain.from_iterable(iter(lambda: self.loader, None))

    def steps(self, count: int) -> None:
        from lightly.models.utils import update_momentum

        for batch in itertools.islice(self.batches, count):
            films_q, films_k = batch[0]
            update_momentum(self.model.backbone, self.model.backbone_momentum, m=SETTINGS["momentum"])
            update_momentum(self.model.head, self.model.head_momentum, m=SETTINGS["momentum"])
            loss = self.loss(self.model(films_q), self.model.keys(films_k))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def rate(self, steps: int) -> float:
        """Films a second over so many steps."""
        self.steps(WARM)
        begun = time.perf_counter()
        self.steps(steps)
        return steps * BATCH / (time.perf_counter() - begun)


def best_workers(folder: Path, size: int, steps: int) -> tuple[int, Lightly]:
    """The number of workers with the most films/s, and the loop with it."""
    tried: dict[int, tuple[float, Lightly]] = {}
    for workers in (0, 1, 2):
        loop = Lightly(folder, size, workers)
        tried[workers] = (loop.rate(steps), loop)
    best = max(tried, key=lambda workers: tried[workers][0])
    return best, tried[best][1]


def our_rate(store: Path, top: Path, size: int) -> float:
    epochs, every = PLANS[size]
    with TemporaryDirectory(dir=top) as out:
        return pretraining_rate(store, Path(out) / "run", size=size, epochs=epochs, log_every=every)


def jpeg(rounds: int, size: int, bar: float) -> Iterator[Row]:
    torch.set_num_threads(cores())
    steps = {64: 30, 96: 20, 224: 8}[size]
    with TemporaryDirectory() as name:
        top = Path(name)
        films = write_films(top / "films", FILMS, 320, ".jpg")
        store = make_store(films, top / "store")
        workers, loop = best_workers(films, size, steps)
        beside = f"lightly 1.6, {workers} workers"
        sides: dict[str, Callable[[], float]] = {
            "ours": partial(our_rate, store, top, size),
            beside: partial(loop.rate, steps),
        }
        found = alternate(sides, rounds)
        del loop
    yield row(f"pretraining, ResNet-18, 320 px JPEG films, {size} px", found, "ours", beside, bar)


def png(rounds: int, size: int = 96, bar: float = 2.0) -> Iterator[Row]:
    torch.set_num_threads(cores())
    with TemporaryDirectory() as name:
        top = Path(name)
        films = write_films(top / "films", FILMS, 2048, ".png")
        begun = time.perf_counter()
        store = make_store(films, top / "store")
        preparing = (time.perf_counter() - begun) / FILMS / EPOCHS
        workers, loop = best_workers(films, size, WARM)
        beside = f"lightly 1.6, {workers} workers"
        sides: dict[str, Callable[[], float]] = {
            "ours": lambda: 1 / (1 / our_rate(store, top, size) + preparing),
            beside: partial(loop.rate, 8),
        }
        found = alternate(sides, rounds)
        del loop
    name = f"the same, 2,048 px PNG films, {size} px, `prepare` counted over {EPOCHS} epochs"
    yield row(name, found, "ours", beside, bar)


SUBJECTS = {
    "jpeg 64": partial(jpeg, size=64, bar=1.15),
    "jpeg 96": partial(jpeg, size=96, bar=1.15),
    "jpeg 224": partial(jpeg, size=224, bar=1.3),
    "png 96": png,
}

if __name__ == "__main__":
    sys.exit(main(__doc__, SUBJECTS))
