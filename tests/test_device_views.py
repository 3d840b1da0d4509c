"""Views made on the device are those of the threads but for rounding: same random numbers, same maps, same images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mococxr.augment import Recipe, draw_views, matrix, shrinking, uniforms
from mococxr.pretraining.dataset import SpacedShuffle, gather_images
from mococxr.pretraining.loader import BatchLoader, pack
from mococxr.store import Store
from mococxr.synthetic import draw_synthetic

MEAN, MOST = (0.01, 1) if cv2.__version__ >= "5" else (0.5, 6)
"""Grey levels that a view on the device may differ by: on average, and in the worst pixel.

OpenCV 4 puts a sample on the nearest 1/32 of a pixel.
"""

RECIPES = {
    "paper": Recipe(64, 0.5, 10.0, (1.0, 1.0)),
    "crops and turns": Recipe(48, 0.5, 45.0, (0.3, 1.0)),
    "grey levels": Recipe(64, 0.5, 10.0, (0.9, 1.0), brightness=0.4, contrast=0.4),
    "all shrink": Recipe(44, 0.5, 10.0, (0.9, 1.0)),
    "single samples": Recipe(44, 0.5, 10.0, (0.9, 1.0), resampling="bilinear"),
}


def some_images() -> list[np.ndarray]:
    """Smooth images of several shapes; the sizes of a level: up to twice the view."""
    images = [draw_synthetic(0, number, size=112) for number in range(6)]
    return [image[: 112 - 4 * i, : 80 + 5 * i] for i, image in enumerate(images)]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("study_partners", [False, True])
def test_a_view_made_on_the_device_is_opencvs_to_a_stated_tolerance(name, study_partners):
    recipe, images = RECIPES[name], some_images()
    sides = [images, images[::-1]] if study_partners else [images]
    draws = [uniforms(3, 1, range(len(images)), side) for side in (0, 1)]
    made = pack(sides, recipe, draws, pinned=False).to(torch.device("cpu"))
    assert made.dtype == torch.uint8
    maps = matrix(recipe, np.array([image.shape for image in images]), draws[0])
    shrinks = {"all shrink": {True}, "single samples": {False}}.get(name, {True, False})
    assert set(shrinking(recipe, maps).tolist()) == shrinks
    assert made.shape == (2, len(images), 1, recipe.size, recipe.size)
    for side in (0, 1):
        expected = draw_views(sides[min(side, len(sides) - 1)], recipe, draws[side])
        apart = np.abs(made[side, :, 0].numpy().astype(int) - expected.astype(int))
        assert apart.mean() < MEAN
        assert apart.max() <= MOST
    assert not torch.equal(made[0], made[1])


def test_without_turning_or_scaling_a_view_on_the_device_is_the_image_itself():
    image = np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8)
    draws = np.full((1, 7), 0.5)
    draws[0, 0] = 1.0  # no flip
    made = pack([[image]], Recipe(24, rotation=0.0), [draws, draws], pinned=False).to(torch.device("cpu"))
    np.testing.assert_array_equal(made[0, 0, 0].numpy(), image[:, 8:32])


@pytest.mark.parametrize("positives", ["view", "study"])
def test_a_feed_gives_the_same_batches_either_way(synthetic_store, positives):
    pool = gather_images([Store.open(synthetic_store)], (32,), "train")
    recipe = Recipe(32, 0.5, 10.0, (0.9, 1.0), 0.2, 0.2)

    def batches(views_on: str) -> list[torch.Tensor]:
        orders = SpacedShuffle(len(pool), 40, min_gap=16, seed=2)
        feed = BatchLoader(pool, recipe, orders, batch=8, seed=2, positives=positives, views_on=views_on)
        return [batch.to(torch.device("cpu")) for _, batch in feed.run(3, 9)]

    for one, other in zip(batches("cpu"), batches("device"), strict=True):
        apart = (one.int() - other.int()).abs()
        assert apart.float().mean() < MEAN
        assert int(apart.max()) <= 2 * MOST  # a level more or less, and then the contrast
