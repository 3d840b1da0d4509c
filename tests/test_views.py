from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from mococxr.augment import DRAWS, Recipe, draw_view, draw_views, matrix, uniforms
from mococxr.store.levels import shrink
from mococxr.synthetic import draw_synthetic

FLIP, ANGLE, AREA, X, Y, CONTRAST, BRIGHTNESS = range(DRAWS)
STILL = Recipe(64, flip=0, rotation=0)
WILD = Recipe(64, flip=0.5, rotation=15, crop=(0.5, 1))


def image(index: int = 0, height: int = 230) -> np.ndarray:
    """A synthetic image as it stands in a store, (230, 192): three times as wide as a view of 64."""
    return draw_synthetic(3, index, size=height)


def slow_view(image: np.ndarray, recipe: Recipe, draws: np.ndarray) -> np.ndarray:
    """The same view step by step in PIL: turn about the crop's centre, cut, shrink antialiased, mirror."""
    height, width = image.shape
    low, high = recipe.crop
    side = min(height, width) * np.sqrt(low + (high - low) * draws[AREA])
    left, top = (width - side) * draws[X], (height - side) * draws[Y]
    fine = 4  # turned at four times the size, so that turning itself loses little
    large = Image.fromarray(image).resize((width * fine, height * fine), Image.Resampling.BICUBIC)
    centre = (fine * (left + side / 2), fine * (top + side / 2))
    degrees = recipe.rotation * (2 * draws[ANGLE] - 1)
    turned = large.rotate(degrees, Image.Resampling.BICUBIC, center=centre)
    box = tuple(float(np.clip(fine * v, 0, fine * max(height, width))) for v in (left, top))
    box = (*box, min(box[0] + fine * side, fine * width), min(box[1] + fine * side, fine * height))
    small = turned.resize((recipe.size, recipe.size), Image.Resampling.BOX, box=box)
    if draws[FLIP] < recipe.flip:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(small)


def error(image: np.ndarray, recipe: Recipe, images: int = 12) -> float:
    """Mean absolute difference from the slow views, grey levels of 255."""
    draws = uniforms(1, 2, range(images), 0)
    differences = [np.abs(draw_view(image, recipe, d).astype(float) - slow_view(image, recipe, d)) for d in draws]
    return float(np.mean(differences))


@pytest.mark.parametrize("height", [77, 115, 153])  # shorter sides 64, 96, 128: one to two times the view
def test_one_resampling_is_the_slow_composition_within_two_grey_levels(height):
    pixels = image(height=height)
    assert error(pixels, WILD) < 2.0
    assert error(pixels, Recipe(64)) < 2.0
    assert pixels.std() > 40  # the images are no blank sheets


def grainy(height: int) -> np.ndarray:
    """An image with grain, as a sensor leaves it."""
    pixels = image(height=height)
    return np.clip(pixels + np.random.default_rng(0).normal(0, 25, pixels.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "share"), [(115, 0.75), (135, 0.5), (153, 0.35)])  # 1.5, 1.75 and 2 times the view
def test_means_over_areas_come_nearer_to_the_slow_views_the_more_a_view_shrinks(height, share):
    bilinear = dataclasses.replace(WILD, crop=(0.9, 1), resampling="bilinear")
    area = dataclasses.replace(bilinear, resampling="area")
    for pixels, most in ((grainy(height), share), (image(height=height), 1.0)):
        assert error(pixels, area) < most * error(pixels, bilinear)


def test_a_view_that_shrinks_is_the_mean_of_four_views_and_one_that_does_not_is_a_bilinear_sample():
    draws = uniforms(1, 2, range(6), 0)
    large, small = image(height=120), image(height=80)  # 100 and 67 px wide: 1.56 and 1.04 times the view
    area = Recipe(64, rotation=15)
    plain = dataclasses.replace(area, resampling="bilinear")
    np.testing.assert_array_equal(draw_views([small] * 6, area, draws), draw_views([small] * 6, plain, draws))
    views = draw_views([large] * 6, area, draws)
    assert (views != draw_views([large] * 6, plain, draws)).any()
    for view, draw in zip(views, draws, strict=True):
        mapping = matrix(area, large.shape, draw)
        quarters = []
        for x, y in ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)):
            moved = mapping.copy()
            moved[:, 2] += mapping[:, :2] @ (x, y)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            quarters.append(cv2.warpAffine(large, moved, (64, 64), flags=flags).astype(float))
        assert np.abs(view - np.mean(quarters, axis=0)).max() <= 1.0  # of OpenCV 4 a sample is on 1/32 of a pixel


@pytest.mark.parametrize(("field", "value"), [("rotation", -15.0), ("flip", 0.0), ("crop", (0.6, 1.0))])
def test_the_oracle_sees_a_wrong_sign_or_size(field, value):
    wrong = dataclasses.replace(WILD, **{field: value})
    pixels, draws = image(height=153), uniforms(1, 2, range(12), 0)
    apart = [np.abs(draw_view(pixels, wrong, d).astype(float) - slow_view(pixels, WILD, d)).mean() for d in draws]
    assert np.mean(apart) > 4.0


def test_a_level_more_than_twice_as_large_aliases_and_its_half_does_not():
    grain = grainy(460)
    assert error(grain, WILD, 3) > 3 * error(shrink(grain, 4), WILD, 3)
    bars = np.tile(np.uint8([255, 0, 0, 0, 255, 255]), (384, 64))  # at a sixth of the size all is grey
    middle, single = np.full(DRAWS, 0.5), dataclasses.replace(STILL, resampling="bilinear")
    assert np.abs(draw_view(bars, single, middle) - 127.5).mean() > 100
    assert np.abs(draw_view(shrink(bars, 4), single, middle) - 127.5).mean() < 45


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.999])
def test_an_image_of_the_views_size_comes_through_bit_for_bit(draw):
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    np.testing.assert_array_equal(draw_view(image, STILL, np.full(DRAWS, draw)), image)


def test_halving_is_the_exact_mean_of_four_pixels():
    image = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    means = image.reshape(64, 2, 64, 2).astype(float).mean(axis=(1, 3))
    assert np.abs(draw_view(image, STILL, np.full(DRAWS, 0.5)) - means).max() <= 0.75


def test_a_flipped_view_is_the_mirror_of_the_view_that_is_not():
    pixels = image(height=77)
    for draws in uniforms(0, 0, range(8), 0):
        recipe = Recipe(64, flip=1, rotation=0, crop=(1, 1))
        plain = draw_view(pixels, dataclasses.replace(recipe, flip=0), draws)
        np.testing.assert_array_equal(draw_view(pixels, recipe, draws), plain[:, ::-1])
    square = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    np.testing.assert_array_equal(draw_view(square, Recipe(64, 1, 0), np.zeros(DRAWS)), square[:, ::-1])


def test_half_of_the_views_are_flipped_and_angles_fill_their_range():
    draws = uniforms(0, 0, range(4000), 0)
    flipped = [np.linalg.det(matrix(Recipe(64), (64, 64), d)[:, :2]) < 0 for d in draws]
    assert abs(np.mean(flipped) - 0.5) < 0.03
    turned = [matrix(Recipe(64, flip=0), (64, 64), d) for d in draws]
    degrees = np.array([np.rad2deg(np.arctan2(m[1, 0], m[0, 0])) for m in turned])
    assert stats.kstest(degrees, "uniform", (-10, 20)).pvalue > 0.01


@pytest.mark.parametrize("shape", [(64, 100), (100, 64)])
def test_the_papers_crop_covers_the_shorter_side_and_moves_along_the_longer(shape):
    upright = np.add.outer(np.arange(shape[0]), np.zeros(shape[1])).astype(np.uint8)
    across = np.add.outer(np.zeros(shape[0]), np.arange(shape[1])).astype(np.uint8)
    firsts = []
    for draws in uniforms(0, 0, range(300), 0):
        rows, columns = draw_view(upright, STILL, draws)[:, 0], draw_view(across, STILL, draws)[0]
        short, long = (rows, columns) if shape[0] == 64 else (columns, rows)
        np.testing.assert_array_equal(short, np.arange(64))
        assert np.abs(np.diff(long.astype(int)) - 1).max() <= 1
        assert long[-1] <= 99
        firsts.append(int(long[0]))
    assert min(firsts) <= 1
    assert max(firsts) >= 35
    assert stats.kstest(firsts, "uniform", (0, 36)).pvalue > 0.01


def test_corners_that_a_rotation_brings_in_are_black():
    white = np.full((64, 64), 255, np.uint8)
    view = draw_view(white, Recipe(64, flip=0, rotation=45), np.ones(DRAWS))
    assert view[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0
    assert view[32, 32] == 255
    assert draw_view(white, Recipe(64, flip=0, rotation=45), np.full(DRAWS, 0.5)).min() == 255


def test_an_area_crop_shows_that_share_of_the_largest_square():
    recipe = Recipe(64, flip=0, rotation=0, crop=(0.25, 0.25))
    ramp = np.tile(np.arange(128, dtype=np.uint8), (128, 1))
    view = draw_view(ramp, recipe, np.full(DRAWS, 0.5))
    np.testing.assert_array_equal(view[0], np.arange(32, 96))
    areas = [np.abs(np.linalg.det(matrix(WILD, (64, 80), d)[:, :2])) for d in uniforms(0, 0, range(2000), 0)]
    assert stats.kstest(areas, "uniform", (0.5, 0.5)).pvalue > 0.01


def test_brightness_and_contrast_follow_their_formula():
    recipe = Recipe(64, flip=0, rotation=0, brightness=0.3, contrast=0.4)
    plain = image(height=77)[:64, :64]
    for draws in uniforms(0, 0, range(20), 0):
        shift = 1 + 0.3 * (2 * draws[BRIGHTNESS] - 1)
        gain = 1 + 0.4 * (2 * draws[CONTRAST] - 1)
        brighter = plain.astype(float) * shift
        wanted = (brighter - brighter.mean()) * gain + brighter.mean()
        view = draw_view(plain, recipe, draws)
        assert np.abs(view - np.clip(wanted, 0, 255)).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(draw_view(plain, recipe, np.full(DRAWS, 0.5)), plain)


@pytest.mark.parametrize("brightness", [0.0, 0.3])
def test_a_view_is_written_where_it_is_wanted(brightness):
    recipe = dataclasses.replace(WILD, brightness=brightness)
    pixels, draws = image(height=100), uniforms(0, 0, [5], 1)[0]
    batch = np.zeros((3, 64, 64), np.uint8)
    view = draw_view(pixels, recipe, draws, out=batch[1])
    assert np.shares_memory(view, batch)
    np.testing.assert_array_equal(batch[1], draw_view(pixels, recipe, draws))
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("brightness", [0.0, 0.3])
def test_the_views_of_a_batch_are_bit_for_bit_those_drawn_one_by_one(brightness):
    recipe = dataclasses.replace(WILD, brightness=brightness, contrast=brightness)
    images = [image(i, height) for i, height in enumerate([77, 100, 230, 153, 90])]
    draws = uniforms(0, 1, range(5), 0)
    views = draw_views(images, recipe, draws)
    for pixels, one, view in zip(images, draws, views, strict=True):
        np.testing.assert_array_equal(view, draw_view(pixels, recipe, one))
    maps = matrix(recipe, np.array([pixels.shape for pixels in images]), draws)
    np.testing.assert_array_equal(maps, [matrix(recipe, i.shape, d) for i, d in zip(images, draws, strict=True)])


def test_an_image_is_not_changed_by_its_views():
    pixels = image(height=77)
    before = pixels.copy()
    pixels.flags.writeable = False
    draw_view(pixels, Recipe(64, brightness=0.5, contrast=0.5), uniforms(0, 0, [0], 0)[0])
    np.testing.assert_array_equal(pixels, before)


def test_random_numbers_depend_on_nothing_but_seed_epoch_index_and_side():
    whole = uniforms(7, 3, range(50), 1)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(uniforms(7, 3, order, 1), whole[order])
    np.testing.assert_array_equal(np.concatenate([uniforms(7, 3, [i], 1) for i in range(50)]), whole)
    np.random.seed(5)  # noqa: NPY002 - the global generator is not looked at
    cv2.setRNGSeed(5)
    np.testing.assert_array_equal(uniforms(7, 3, range(50), 1), whole)


def test_random_numbers_stay_the_same_from_version_to_version():
    first = uniforms(0, 0, [0, 1], 0)[:, :3]
    wanted = [[0.99447012, 0.11877515, 0.03206726], [0.96552757, 0.24041869, 0.29067995]]
    np.testing.assert_allclose(first, wanted, atol=1e-8)


def test_random_numbers_are_uniform_and_each_setting_has_its_own():
    p_values = []
    for seed in range(-8, 8):
        draws = uniforms(seed, seed % 5, range(4000), seed % 3)
        assert draws.dtype == np.float64
        assert draws.min() >= 0
        assert draws.max() < 1
        p_values += [stats.kstest(column, "uniform", method="asymp").pvalue for column in draws.T]
        off = np.corrcoef(draws.T) - np.eye(DRAWS)
        assert np.abs(off).max() < 0.08
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_neighbours_have_unrelated_random_numbers():
    base = uniforms(4, 5, range(4000), 0)
    neighbours = {
        "index": uniforms(4, 5, range(1, 4001), 0),
        "side": uniforms(4, 5, range(4000), 1),
        "epoch": uniforms(4, 6, range(4000), 0),
        "seed": uniforms(5, 5, range(4000), 0),
        "seed for epoch": uniforms(5, 4, range(4000), 0),
    }
    for name, other in neighbours.items():
        assert not (base == other).any(), name
        related = [abs(stats.spearmanr(base[:, i], other[:, i]).statistic) for i in range(DRAWS)]
        assert max(related) < 0.06, name
