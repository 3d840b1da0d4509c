"""Pretraining images/s beside lightly 1.6, on the same images, all cores.

    python bench/lightly_beside.py [--rounds 5] [--only 'jpeg 96']

lightly: the model, loss, transform and dataset classes of its MoCo example, a PyTorch DataLoader with the best of 0, 1
and 2 workers (tried first). Its transform (`lightly.transforms.MoCoV2Transform`) once as the example has it (crop of
20 % of the area and more, jitter, grey, no blur) and once set to our view (crop of 90 % and more, flip, rotation up to
10 degrees, nothing else), the cheaper of the two. Ours: `mococxr pretrain` on a store, in a process of its own, as its
log says, in float32 as theirs, and once more as it comes, with `--precision auto`. ResNet-18 with three channels, MLP
head, SGD, the same batch and queue; batch norm is shuffled on neither side.

1. Images of 320 px as JPEG. Our `prepare` is not counted: it is paid once.
2. Images of 2,048 px as PNG. Our `prepare` is counted in over 20 epochs: the seconds of an image are those of a measured
   stretch of pretraining and a twentieth of those of `mococxr prepare`, measured once on the same images, start-up and
   all.
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

from mococxr.workers import cores
from ratio import Row, alternate, main, row
from runs import BATCH, PICTURES, QUEUE, SETTINGS, make_store, rate_apart, write_images

EPOCHS = 20
PLANS = {64: (40, 10, 20, 4), 96: (24, 6, 12, 4), 224: (8, 2, 5, 2)}
"""size -> steps of a run of ours, steps between its log lines; steps of lightly's, and before its clock starts, so that
what its workers had ready is used up."""
VIEWS: dict[str, dict[str, Any]] = {
    "our view": {
        "cj_prob": 0.0, "random_gray_scale": 0.0, "gaussian_blur": 0.0,
        "min_scale": 0.9, "rr_prob": 1.0, "rr_degrees": 10.0,
    },
    "its example's view": {"gaussian_blur": 0.0},
}  # fmt: skip


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

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images).flatten(start_dim=1))

    def keys(self, images: Tensor) -> Tensor:
        return self.head_momentum(self.backbone_momentum(images).flatten(start_dim=1)).detach()


class Lightly:
    """Its training loop over one folder, that can be run for some steps and left."""

    def __init__(self, folder: Path, size: int, view: str, workers: int) -> None:
        from lightly.data import LightlyDataset
        from lightly.loss import NTXentLoss
        from lightly.transforms import MoCoV2Transform

        transform = MoCoV2Transform(input_size=size, **VIEWS[view])
        options: dict[str, Any] = {"persistent_workers": True} if workers else {}
        self.loader = DataLoader(
            LightlyDataset(str(folder), transform=transform),
            batch_size=BATCH, shuffle=True, drop_last=True, num_workers=workers, **options,
        )  # fmt: skip
        self.model = MoCo().train()
        self.loss = NTXentLoss(temperature=SETTINGS["temperature"], memory_bank_size=(QUEUE, 128))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=SETTINGS["lr"])
        self.batches = itertools.chain.from_iterable(iter(lambda: self.loader, None))

    def steps(self, count: int) -> None:
        from lightly.models.utils import update_momentum

        for batch in itertools.islice(self.batches, count):
            images_q, images_k = batch[0]
            update_momentum(self.model.backbone, self.model.backbone_momentum, m=SETTINGS["momentum"])
            update_momentum(self.model.head, self.model.head_momentum, m=SETTINGS["momentum"])
            loss = self.loss(self.model(images_q), self.model.keys(images_k))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def rate(self, steps: int, warm: int) -> float:
        """Images a second over so many steps, after others that do not count."""
        self.steps(warm)
        begun = time.perf_counter()
        self.steps(steps)
        return steps * BATCH / (time.perf_counter() - begun)


def best_workers(folder: Path, size: int, view: str) -> tuple[str, Lightly]:
    """The loop with the number of workers that makes the most images/s, and what to call it."""
    _, _, steps, warm = PLANS[size]
    # A loop is gone, its workers too, before the next one's workers are forked.
    tried = {workers: Lightly(folder, size, view, workers).rate(max(2, steps // 2), warm) for workers in (0, 1, 2)}
    best = max(tried, key=lambda workers: tried[workers])
    return f"lightly 1.6, {view}, {best} worker{'s' * (best != 1)}", Lightly(folder, size, view, best)


def our_rate(store: Path, top: Path, size: int, precision: str) -> float:
    how = {"size": size, "log_every": PLANS[size][1], "epochs": 1, "precision": precision}
    with TemporaryDirectory(dir=top) as out:
        return rate_apart(store, Path(out) / "run", **how)


def beside(
    rounds: int, size: int, bar: float, side: int = 320, suffix: str = ".jpg", counted: bool = False
) -> Iterator[Row]:
    """The rows of one size of views.

    Args:
        side: shorter side of the images, px.
        suffix: their format.
        counted: `prepare` is counted in, over 20 epochs, and lightly draws our view only.
    """
    torch.set_num_threads(cores())
    steps, _, theirs, warm = PLANS[size]
    with TemporaryDirectory() as name:
        top = Path(name)
        images = write_images(top / "images", steps * BATCH, side, suffix, pictures=16 if counted else PICTURES)
        begun = time.perf_counter()
        store = make_store(images, top / "store")
        preparing = (time.perf_counter() - begun) / (steps * BATCH) / EPOCHS if counted else 0.0

        def ours(precision: str) -> float:
            return 1 / (1 / our_rate(store, top, size, precision) + preparing)

        sides: dict[str, Callable[[], float]] = {"float32": partial(ours, "no"), "auto": partial(ours, "auto")}
        for view in list(VIEWS)[: 1 if counted else 2]:
            told, loop = best_workers(images, size, view)
            sides[told] = partial(loop.rate, theirs, warm)
        found = alternate(sides, rounds)
    what = f"{side:,} px {suffix[1:].upper()} images, ResNet-18, {size} px"
    if counted:
        what += f", `prepare` counted over {EPOCHS} epochs"
    others = list(found)[2:]
    for told in others:
        yield row(f"pretraining, {what}, float32", found, "float32", told, bar)
    yield row(f"pretraining, {what}, as it comes (`--precision auto`)", found, "auto", others[0], bar)


SUBJECTS = {
    "jpeg 64": partial(beside, size=64, bar=1.15),
    "jpeg 96": partial(beside, size=96, bar=1.15),
    "jpeg 224": partial(beside, size=224, bar=1.3),
    "png 96": partial(beside, size=96, bar=2.0, side=2048, suffix=".png", counted=True),
}

if __name__ == "__main__":
    sys.exit(main(__doc__, SUBJECTS))
