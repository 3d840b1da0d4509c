"""Views a second of one core: a random 224 px view of a stored 320 x 390 image, ours and what others do for it.

    python bench/views.py [--rounds 5]

The view everywhere: shorter side to 224, flip with chance one half, rotation up to 10 degrees, bilinear, a crop of
224 x 224 anywhere along the longer side. All start from the decoded grey image in memory (array, PIL image or tensor)
and end at 224 x 224 grey values, not normalised: that comes later, on the device, on any side. Processor time, one
thread. Ours counts the random numbers and maps, and takes single samples (`--resampling bilinear`), as albumentations,
kornia and the bare `cv2.warpAffine`, which has one fixed map; torchvision averages (docs/benchmarks.md, Views).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2

from mococxr.augment import Recipe, draw_views, matrix, uniforms
from mococxr.synthetic import draw_synthetic
from ratio import Row, alternate, main, processor_rate, row

SIZE, BATCH = 224, 32
IMAGE = cv2.resize(draw_synthetic(0, 0, size=390), (320, 390))
RECIPE = Recipe(SIZE, flip=0.5, rotation=10.0, crop=(1.0, 1.0), resampling="bilinear")
Work = Callable[[int], object]


def ours() -> tuple[Work, int]:
    images, out = [IMAGE] * BATCH, np.empty((BATCH, SIZE, SIZE), np.uint8)
    return lambda call: draw_views(images, RECIPE, uniforms(0, call, range(BATCH), 0), out=out), BATCH


def bare() -> tuple[Work, int]:
    out = np.empty((SIZE, SIZE), np.uint8)
    fixed = matrix(RECIPE, IMAGE.shape, uniforms(0, 0, [0], 0)[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return lambda _: cv2.warpAffine(IMAGE, fixed, (SIZE, SIZE), dst=out, flags=flags), 1


def torchvision_tensor() -> tuple[Work, int]:
    view = v2.Compose(
        [
            v2.Resize(SIZE),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(10, InterpolationMode.BILINEAR),
            v2.RandomCrop(SIZE),
        ]
    )
    image = torch.from_numpy(IMAGE)[None]
    return lambda _: view(image), 1


def torchvision_pil() -> tuple[Work, int]:
    view = transforms.Compose(
        [
            transforms.Resize(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(10, InterpolationMode.BILINEAR),
            transforms.RandomCrop(SIZE),
        ]
    )
    image = Image.fromarray(IMAGE)
    return lambda _: view(image), 1


def albumentations() -> tuple[Work, int]:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version
    import albumentations as A

    view = A.Compose(
        [
            A.SmallestMaxSize(SIZE),
            A.HorizontalFlip(p=0.5),
            A.Rotate(limit=10, interpolation=cv2.INTER_LINEAR, border_mode=cv2.BORDER_CONSTANT, p=1.0),
            A.RandomCrop(SIZE, SIZE),
        ]
    )
    return lambda _: view(image=IMAGE)["image"], 1


def kornia() -> tuple[Work, int]:
    import kornia.augmentation as K

    view = torch.nn.Sequential(
        K.Resize(SIZE, side="short"),
        K.RandomHorizontalFlip(p=0.5),
        K.RandomRotation(10.0, p=1.0),
        K.RandomCrop((SIZE, SIZE)),
    )
    images = torch.from_numpy(IMAGE).float().div(255).expand(BATCH, 1, -1, -1).contiguous()
    return lambda _: view(images), BATCH


OTHERS = {
    "torchvision v2 on tensors": torchvision_tensor,
    "torchvision on PIL": torchvision_pil,
    "albumentations": albumentations,
    "kornia": kornia,
}


def views(rounds: int) -> Iterator[Row]:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    sides = {"ours": ours(), "bare cv2.warpAffine": bare()}
    for name, make in OTHERS.items():
        try:
            sides[name] = make()
        except ImportError as error:
            yield Row.missing(f"224 px views beside {name}", f"skipped: {error}")
    found = alternate({name: lambda side=side: processor_rate(*side) for name, side in sides.items()}, rounds)
    for name in sorted(OTHERS.keys() & found, key=lambda name: -max(found[name])):
        yield row("224 px views, one core", found, "ours", name, 1.6, unit="views/s")
    yield row("224 px views, one core", found, "ours", "bare cv2.warpAffine", 0.8, unit="views/s")


if __name__ == "__main__":
    sys.exit(main(__doc__, {"views": views}))
