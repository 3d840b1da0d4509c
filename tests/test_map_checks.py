"""What maps must pass: correlations, shuffled weights, mirrored images, insertion and deletion."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import mococxr
from mococxr.encoders import EncoderSpec
from mococxr.errors import InputError
from mococxr.features import state_hash
from mococxr.heads.classifier import Ensemble, EnsembleMember
from mococxr.maps.checks import GRID, cascade, insertion_less_deletion, mirrored, randomised, rank_correlation
from mococxr.maps.class_map import class_maps
from test_maps import any_head, frames_of, small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    encoder = small(EncoderSpec("test_resnet", 64))
    return Ensemble((encoder,), [EnsembleMember(None, (any_head(encoder.spec.feature_dim),))])


def test_rank_correlation_is_that_of_scipy():
    first, second = np.random.default_rng(0).normal(size=(2, GRID, GRID)).round(1)  # with ties
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)
    assert rank_correlation(first, np.ones((GRID, GRID))) == 0.0


def test_weights_are_shuffled_from_the_head_down_and_the_classifier_stays_as_it_is(ensemble):
    images = frames_of(2, 64)
    before = state_hash(ensemble.encoders[0])
    plain = [drawn.values for drawn in class_maps(ensemble, images, CPU)]
    steps = [(name, maker()) for name, maker in cascade(ensemble, images, CPU)]
    names = [name for name, _ in steps]
    order = list(dict.fromkeys(".".join(key.split(".")[:-1][:2]) for key in ensemble.encoders[0].network.state_dict()))
    assert names == ["head", *reversed(order)]
    assert state_hash(ensemble.encoders[0]) == before
    again = [drawn.values for drawn in class_maps(ensemble, images, CPU)]
    assert all(np.array_equal(first, second) for first, second in zip(plain, again, strict=True))
    for (_, first), (_, second) in pairwise(steps):  # each step changes the maps
        assert not np.array_equal(first[0], second[0])
    left = randomised(ensemble, images, plain, CPU)
    assert left == pytest.approx([rank_correlation(new, old) for new, old in zip(steps[-1][1], plain, strict=True)])


def test_a_mirrored_image_is_compared_with_the_mirrored_map(ensemble):
    (frames,) = frames_of(1, 64)
    symmetric = [np.concatenate([frames[0][:, :32], frames[0][:, 31::-1]], axis=1)]
    for image in (frames, symmetric):
        turned = [np.ascontiguousarray(image[0][:, ::-1])]
        old, new = (drawn.values for drawn in class_maps(ensemble, [image, turned], CPU))
        slow = rank_correlation(new[:, ::-1], old)
        assert mirrored(ensemble, [image], [old], CPU)[0] == pytest.approx(slow)
    assert np.allclose(old, new)  # of a symmetric image both are one


class BrightCorner:
    """Stands for a classifier whose logit is the mean of the upper left quarter."""

    encoders = ()

    def __init__(self) -> None:
        self.members = [EnsembleMember(None, (self,))]  # type: ignore[arg-type]

    def features(self, images: Any, device: torch.device) -> Any:  # noqa: ARG002
        return np.array([[frames[0][:32, :32].mean()] for frames in images])

    def logits(self, features: Any) -> Any:
        return features[:, 0]


def test_giving_back_what_the_score_is_made_of_raises_it_sooner_than_anything_else():
    rng = np.random.default_rng(1)
    image = np.zeros((64, 64), np.uint8)
    image[8:24, 8:24] = 255
    right = np.zeros((64, 64))
    right[8:24, 8:24] = 1 + rng.uniform(size=(16, 16))
    gaps = insertion_less_deletion(
        BrightCorner(), [[image]] * 3, [right, -right, rng.normal(size=(64, 64))], CPU  # type: ignore[arg-type]
    )  # fmt: skip
    assert gaps[0] > 2 > 1 > abs(gaps[2])
    assert gaps[1] < -2


def test_maps_without_a_gallery_or_of_a_table_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="--maps is for the images of the gallery"):
        mococxr.evaluate([tmp_path, tmp_path], maps=True, gallery=False, out=tmp_path / "out")
    table = tmp_path / "table.csv"
    table.write_text("y,s\n1,0.5\n0,0.1\n")
    with pytest.raises(InputError, match="--maps is for models"):
        mococxr.evaluate(table, label="y", score="s", maps=True)
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
