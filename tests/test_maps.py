"""Maps of where a classifier looks: sums, slow loops, a planted square, and the pictures that `predict --maps` writes."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

import mococxr
from mococxr.encoders import Encoder, EncoderSpec, build
from mococxr.errors import InputError
from mococxr.heads.classifier import Ensemble, EnsembleMember, LinearHead
from mococxr.heads.linear import solve_linear
from mococxr.maps.class_map import class_maps, method_of
from mococxr.maps.contributions import contributions, spread
from mococxr.maps.occlusion import occlusion
from mococxr.maps.overlay import MapFolder, overlay
from mococxr.maps.rollout import rollout
from small_encoders import lively
from small_store import HOW, make_store
from test_stages import NETWORKS

CPU = torch.device("cpu")
MORE = {
    "a head behind the pooled map": EncoderSpec("mobilenetv3_small_050", 64),
    "channels last": EncoderSpec("test_convnext", 64),
}
CNNS = {name: spec for name, (spec, _) in NETWORKS.items() if name != "ViT"} | MORE


def small(spec: EncoderSpec, seed: int = 0, features: str = "stages") -> Encoder:
    encoder = build(replace(spec, features=features), seed).eval()
    lively(encoder.network)
    return encoder


def any_head(length: int, outputs: int = 1, seed: int = 0) -> LinearHead:
    rng = np.random.default_rng(seed)
    scale, weight = rng.uniform(0.5, 2, length), rng.normal(size=(outputs, length))
    return LinearHead(rng.normal(size=length), scale, weight, rng.normal(size=outputs))


def frames_of(count: int, *sides: int, seed: int = 0) -> list[list[NDArray[np.uint8]]]:
    rng = np.random.default_rng(seed)
    return [[rng.integers(0, 256, (side, side), dtype=np.uint8) for side in sides] for _ in range(count)]


@pytest.mark.parametrize("features", ["stages", "last"])
@pytest.mark.parametrize("network", CNNS)
def test_contributions_sum_to_the_logit_less_the_intercept(network, features):
    encoder = small(CNNS[network], features=features)
    images = frames_of(2, 64)
    head = any_head(encoder.spec.feature_dim)
    for frames, drawn in zip(
        images, class_maps(Ensemble((encoder,), [EnsembleMember(None, (head,))]), images, CPU), strict=True
    ):
        with torch.no_grad():
            feature = encoder(torch.from_numpy(frames[0])[None, None]).double().numpy()
        standard = (feature[0] - head.mean) / head.scale
        assert drawn.logit == pytest.approx(float(head.logits(feature)[0]), rel=1e-5)
        assert drawn.intercept == head.bias[0]
        size = float(np.abs(standard * head.weight[0]).sum())  # parts cancel: rounding is of their size
        assert drawn.values.sum() == pytest.approx(drawn.logit - drawn.intercept, abs=1e-5 * size)
        assert drawn.values.std() > 0


def test_contributions_of_several_checkpoints_encoders_and_classes_sum_to_the_mean_logit():
    encoders = small(CNNS["ResNet"]), small(CNNS["EfficientNet"])
    length = sum(encoder.spec.feature_dim for encoder in encoders)
    members = []
    for seed in (0, 1):
        weights = tuple({key: value.clone() for key, value in small(CNNS[name], seed).network.state_dict().items()}
                        for name in ("ResNet", "EfficientNet"))  # fmt: skip
        members.append(EnsembleMember(weights, (any_head(length, 3, seed),)))
    images = frames_of(2, 64, 96)
    (first, second) = class_maps(Ensemble(encoders, members), images, CPU)
    intercepts = [member.head.bias[1] - member.head.bias[0] for member in members]
    for drawn in (first, second):
        assert drawn.values.shape == (96, 96)
        assert drawn.intercept == pytest.approx(np.mean(intercepts))
        assert drawn.values.sum() == pytest.approx(drawn.logit - drawn.intercept, abs=1e-4 * abs(drawn.values).sum())
    assert first.logit != second.logit


@pytest.mark.parametrize("network", ["ResNet", "DenseNet", "EfficientNet"])
def test_contributions_are_those_of_a_loop_over_the_positions_of_plain_maps(network):
    spec, modules = NETWORKS[network]
    encoder = small(spec)
    head = any_head(encoder.spec.feature_dim)
    image = torch.from_numpy(frames_of(1, 64)[0][0])[None, None]
    seen: list[torch.Tensor] = []
    for name in modules:
        encoder.network.get_submodule(name).register_forward_hook(lambda *io: seen.append(io[-1].detach()))
    ours = contributions(encoder, image, head.folded_margin()[0][0], torch.from_numpy(head.mean))[: len(modules)]
    start = 0
    for maps, grid in zip(seen, ours, strict=True):
        _, channels, height, width = maps.shape
        assert grid.shape == (1, height, width)
        for row in range(height):
            for column in range(width):
                terms = [
                    head.weight[0, start + c] * (float(maps[0, c, row, column]) - head.mean[start + c])
                    / head.scale[start + c] / (height * width)
                    for c in range(channels)
                ]  # fmt: skip
                assert grid[0, row, column] == pytest.approx(math.fsum(terms), abs=1e-6 * sum(map(abs, terms)))
        start += channels


def test_spread_keeps_the_sum_of_a_grid_and_the_place_of_its_largest_value():
    grid = np.random.default_rng(3).normal(size=(2, 3, 5))
    finer = spread(grid, (96, 160))
    assert finer.shape == (2, 96, 160)
    np.testing.assert_allclose(finer.sum(axis=(1, 2)), grid.sum(axis=(1, 2)))
    row, column = np.unravel_index(finer[0].argmax(), (96, 160))
    assert (row // 32, column // 32) == np.unravel_index(grid[0].argmax(), (3, 5))


def slow_rollout(encoder: Encoder, image: torch.Tensor, head: LinearHead) -> NDArray[np.float64]:
    """Attention worked out block by block from the weights, and relevance head by head (Chefer 2021, equation 5 and 6)."""
    network: Any = encoder.network
    grey = (image.float() / 255 - encoder.spec.mean) / encoder.spec.std
    x = network.norm_pre(network._pos_embed(network.patch_embed(grey.expand(-1, 3, -1, -1))))
    seen, outputs = [], []
    for block in network.blocks:
        layer, inside = block.attn, block.norm1(x)
        batch, tokens, length = inside.shape
        q, k, v = layer.qkv(inside).reshape(batch, tokens, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
        attention = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)
        attention.retain_grad()
        seen.append(attention)
        x = x + block.ls1(layer.proj((attention @ v).transpose(1, 2).reshape(batch, tokens, length)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
        outputs.append(x)
    first = network.num_prefix_tokens
    parts = [tokens[:, first:].mean(dim=1) for tokens in outputs[-4:]] if encoder.spec.features == "stages" else []
    feature = torch.cat([*parts, network.forward_head(network.norm(x))], dim=1)
    weight = torch.from_numpy(head.weight[0] / head.scale).float()
    (feature @ weight).sum().backward()
    tokens = seen[0].shape[-1]
    relevance, readings = np.eye(tokens), []
    for number, attention in enumerate(seen):
        weighed = np.zeros((tokens, tokens))
        for h in range(attention.shape[1]):
            weighed += np.maximum((attention.grad[0, h] * attention[0, h]).detach().numpy(), 0) / attention.shape[1]
        relevance = relevance + weighed @ relevance
        if parts and number >= len(seen) - 4:
            readings.append(relevance[first:, first:].mean(axis=0))
    pooled = relevance[0, first:] if network.global_pool == "token" else relevance[first:, first:].mean(axis=0)
    return np.mean([*readings, pooled], axis=0)


@pytest.mark.parametrize("features", ["stages", "last"])
def test_rollout_is_that_of_a_loop_with_the_attention_worked_out_by_hand(features):
    encoder = small(NETWORKS["ViT"][0], features=features)
    encoder.requires_grad_(True)
    head = any_head(encoder.spec.feature_dim)
    image = torch.from_numpy(frames_of(1, 64)[0][0])[None, None]
    ours = rollout(encoder, image, head.folded_margin()[0][0])
    slow = slow_rollout(encoder, image, head)
    assert ours.min() >= 0
    assert ours.std() > 0
    np.testing.assert_allclose(ours.ravel(), slow, rtol=1e-3, atol=1e-5 * slow.max())


def test_occlusion_is_that_of_a_loop_over_pixels_and_windows():
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(12, 12))

    def logits_of(images: Any) -> NDArray[np.float64]:
        return np.array([(np.tanh(frames[0] / 100) * weight).sum() for frames in images])

    frame = rng.integers(0, 256, (12, 12), dtype=np.uint8)
    ours = occlusion([frame], logits_of, windows=4, size=0.25)
    falls: list[list[float]] = [[] for _ in range(144)]
    for top in (0, 3, 6, 9):
        for left in (0, 3, 6, 9):
            covered = frame.copy()
            covered[top : top + 3, left : left + 3] = np.median(frame)
            fall = logits_of([[frame]])[0] - logits_of([[covered]])[0]
            for row in range(top, top + 3):
                for column in range(left, left + 3):
                    falls[12 * row + column].append(fall)
    np.testing.assert_allclose(ours.ravel(), [np.mean(each) for each in falls])


def test_each_kind_of_encoder_has_its_method():
    cnn, other, vit = small(CNNS["ResNet"]), small(CNNS["EfficientNet"]), small(NETWORKS["ViT"][0])
    foreign = Encoder(cnn.network, replace(cnn.spec, features="last", package="transformers"))
    assert method_of([cnn]) == method_of([cnn, other]) == "contributions"
    assert method_of([vit]) == "rollout"
    assert method_of([vit, cnn]) == method_of([foreign]) == "occlusion"


def planted(count: int, side: int, square: int, seed: int) -> tuple[NDArray[np.uint8], NDArray, list[tuple[int, int]]]:
    """Noise; every second image has a bright square, whose corner is said."""
    rng = np.random.default_rng(seed)
    images = rng.normal(100, 20, (count, side, side))
    corners = [tuple(rng.integers(0, side - square, 2).tolist()) for _ in range(count)]
    for image, (top, left) in zip(images[::2], corners[::2], strict=True):
        image[top : top + square, left : left + square] += 70
    return images.clip(0, 255).astype(np.uint8), (np.arange(count) % 2 == 0).astype(np.int64), corners


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_square_is_pointed_at(seed):
    side, square = 96, 24
    encoder = build(EncoderSpec("test_resnet", side, features="stages"), seed).eval()
    images, labels, corners = planted(96, side, square, seed)
    with torch.no_grad():
        features = encoder(torch.from_numpy(images)[:, None]).numpy()
    head = solve_linear(features[:64], labels[:64], patients=np.arange(64), C=0.01)
    ensemble = Ensemble((encoder,), [EnsembleMember(None, (head,))])
    tested = range(64, 96, 2)  # with a square
    maps = class_maps(ensemble, [[images[i]] for i in tested], CPU)
    hits = [
        all(-8 <= at - begin < square + 8 for at, begin in zip(drawn.peak, corners[i], strict=True))
        for i, drawn in zip(tested, maps, strict=True)
    ]
    assert np.mean(hits) >= 0.6  # by chance some 17 % would be


def test_the_picture_is_dark_outside_and_orange_and_blue_where_the_map_says():
    image = np.full((40, 60), 200, np.uint8)
    values = np.zeros((20, 20))
    values[:10, :10], values[10:, 10:] = 1.0, -1.0
    picture = overlay(image, values)
    assert picture.shape == (40, 60, 3)
    assert (picture[:, :10] == 90).all()  # the classifier sees the central square alone
    assert (picture[:, 50:] == 90).all()
    blue, _, red = picture[5, 15].astype(int)
    assert red > 200 > blue
    blue, _, red = picture[35, 45].astype(int)
    assert blue > 200 > red
    assert (picture[5, 45] == 200).all()
    assert (overlay(image, np.zeros((20, 30)), "full") == 200).all()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and its store."""
    folder = tmp_path_factory.mktemp("mapped")
    store = make_store(folder, patients=30)
    mococxr.fit(store.path, encoder="random", target="Finding", out=folder / "model", **HOW)
    return folder / "model", store.path


def test_predict_draws_a_picture_of_every_image_and_names_none_by_its_file(model, tmp_path):
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    for _ in range(2):  # the second time over the first
        mococxr.predict(model[0], model[1], out=out, split="test", maps=maps, device="cpu")
        (maps / "99999.png").write_bytes(b"of an earlier run")
    (maps / "99999.png").unlink()
    plain = tmp_path / "plain.csv"
    mococxr.predict(model[0], model[1], out=plain, split="test", device="cpu")
    assert plain.read_bytes() == out.read_bytes()
    scores, table = pl.read_csv(out), pl.read_csv(maps / "maps.csv")
    assert table["path"].to_list() == scores["path"].to_list()
    assert sorted(file.name for file in maps.iterdir()) == sorted([*table["file"], "maps.csv"])
    assert all(name[:5].isdigit() for name in table["file"])
    np.testing.assert_allclose(1 / (1 + np.exp(-table["logit"].to_numpy())), scores["score"], atol=1e-5)
    assert set(table["method"]) == {"contributions"}
    store = mococxr.Store.open(model[1])
    picture = cv2.imread(str(maps / table["file"][0]))
    row = store.index["path"].to_list().index(table["path"][0])
    assert picture.shape == (*store.pixels(row).shape, 3)


def test_each_target_of_a_classifier_has_a_picture_of_its_own(tmp_path):
    encoder = small(CNNS["ResNet"])
    heads = tuple(any_head(encoder.spec.feature_dim, seed=seed) for seed in (0, 1))
    ensemble, images = Ensemble((encoder,), [EnsembleMember(None, heads)]), frames_of(2, 64)
    folder = MapFolder(tmp_path / "maps", "center", ("A", "B"))
    folder.draw(ensemble, ["x.png", "y.png"], [frames[0] for frames in images], images, "cpu")
    folder.finish()
    table = pl.read_csv(tmp_path / "maps" / "maps.csv")
    assert table["file"].to_list() == ["00001-1.png", "00001-2.png", "00002-1.png", "00002-2.png"]
    assert table.select("path", "target").rows() == [(p, t) for p in ("x.png", "y.png") for t in "AB"]
    for row, (image, target) in enumerate(itertools.product(images, (0, 1))):
        (drawn,) = class_maps(ensemble, [image], CPU, target=target)
        assert table["logit"][row] == pytest.approx(drawn.logit)
        picture = cv2.imread(str(tmp_path / "maps" / table["file"][row]))
        assert np.array_equal(picture, overlay(image[0], drawn.values))


def test_without_pytorch_or_in_another_folder_maps_are_refused_before_anything_is_written(model, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("something else")
    how = {"out": tmp_path / "scores.csv", "device": "cpu"}
    with pytest.raises(InputError, match="not a folder of maps"):
        mococxr.predict(model[0], model[1], maps=tmp_path / "full", **how)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    with pytest.raises(InputError, match="needs PyTorch"):
        mococxr.predict(model[0], model[1], maps=tmp_path / "maps", **how)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert json.loads((model[0] / "model.json").read_text())["members"] == 1
