from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mococxr.encoders import EncoderSpec, build, open_encoder, resolve_encoder, save_encoder
from mococxr.errors import InputError, RunError
from mococxr.features import encode_frames, features, state_hash
from mococxr.frames import image_level, to_frame
from mococxr.images import read_image
from small_store import BACKBONE

SPEC = EncoderSpec(BACKBONE, 32)


def ramp(height, width):
    return np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)


def test_a_centre_frame_is_the_middle_of_the_image_at_the_right_size():
    image = np.zeros((64, 128), np.uint8)
    image[:, 32:96] = 200
    assert (to_frame(image, 32) == 200).all()
    assert to_frame(image.T.copy(), 32).shape == (32, 32)


def test_a_frame_of_an_image_that_has_its_size_is_the_image():
    image = ramp(32, 32)
    assert (to_frame(image, 32) == image).all()
    assert (to_frame(image, 32, "full") == image).all()


@pytest.mark.parametrize(
    ("shape", "expected"), [((64, 96), (32, 64)), ((150, 64), (64, 32)), ((64, 70), (32, 32)), ((64, 192), (32, 96))]
)
def test_a_whole_frame_keeps_all_of_the_image_and_its_longer_side_is_a_multiple_of_32(shape, expected):
    assert to_frame(ramp(*shape), 32, "full").shape == expected


def test_a_frame_halved_in_size_is_the_mean_of_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    means = image.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    assert np.abs(to_frame(image, 32).astype(float) - means).max() <= 0.51


@pytest.mark.parametrize("crop_mode", ["center", "full"])
def test_an_image_from_a_file_gives_the_frame_that_the_store_gives(store, crop_mode):
    level = store.level(32)
    root = store.path.parent / "images"
    for row, path in enumerate(store.index["path"]):
        ours = to_frame(image_level(read_image(root / path), 72, 32), 32, crop_mode)
        assert np.array_equal(ours, to_frame(level.pixels(row), 32, crop_mode))


def test_features_follow_the_order_of_rows_and_leave_the_encoder_as_it_was(store):
    encoder = build(SPEC)
    before = state_hash(encoder)
    rows = np.array([5, 0, 9, 2])
    found = features(encoder, store, rows, size=32, crop_mode="full", batch=3, label=None)
    assert found.shape == (4, 256)
    assert found.dtype == np.float32
    assert state_hash(encoder) == before
    assert not encoder.training
    for i, row in enumerate(rows):
        alone = features(encoder, store, [row], size=32, crop_mode="full", label=None)
        assert np.allclose(found[i], alone[0], atol=1e-5)


def test_an_encoder_that_moves_while_it_is_read_is_caught(store):
    encoder = build(SPEC)

    def drift(module, *_):
        next(module.buffers()).add_(1)

    encoder.network.register_forward_hook(drift)
    with pytest.raises(RunError, match="changed"):
        features(encoder, store, [0], size=32, label=None)


def test_features_that_are_not_finite_are_refused(store):
    encoder = build(SPEC)
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="finite"):
        features(encoder, store, [0, 1], size=32, label=None)


def test_frames_of_different_shapes_do_not_share_a_batch():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, images):
            seen.append(tuple(images.shape))
            return images.float().mean(dim=(2, 3))

    frames = [ramp(32, 32), ramp(32, 64), ramp(32, 32), ramp(32, 64), ramp(32, 32)]
    got = dict(encode_frames(Spy(), frames, torch.device("cpu"), batch=2))
    assert sorted(got) == [0, 1, 2, 3, 4]
    assert all(np.isclose(got[i][0], frames[i].mean()) for i in got)
    assert seen == [(2, 1, 32, 32), (2, 1, 32, 64), (1, 1, 32, 32)]


def test_random_follows_the_run_in_backbone_size_and_preprocessing(tmp_path):
    encoder = build(EncoderSpec(BACKBONE, 64, channels=1, mean=0.3, std=0.2))
    save_encoder(encoder, tmp_path / "run", {})
    run = resolve_encoder(str(tmp_path / "run"))
    plain = resolve_encoder("random", like=run.spec)
    assert (plain.spec.architecture, plain.spec.size, plain.spec.channels) == (BACKBONE, 64, 1)
    assert (plain.spec.mean, plain.spec.std) == (0.3, 0.2)
    assert state_hash(open_encoder(run)) == state_hash(encoder)
    assert state_hash(open_encoder(plain, 1)) != state_hash(open_encoder(plain, 2))


@pytest.mark.parametrize(("name", "words"), [("random", "--backbone"), ("nowhere", "run folder")])
def test_an_encoder_that_nobody_describes_is_refused_with_the_way_out(name, words):
    with pytest.raises(InputError, match=words):
        resolve_encoder(name)


def test_resizing_agrees_with_opencv_area_averages():
    image = ramp(70, 90)
    expected = cv2.resize(image, (round(90 * 40 / 70), 40), interpolation=cv2.INTER_AREA)
    left = (expected.shape[1] - 40) // 2
    assert np.array_equal(to_frame(image, 40), expected[:, left : left + 40])
