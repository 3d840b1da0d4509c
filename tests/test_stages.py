"""Features of the stages: the means over the maps that a plain network makes on its way, before its own feature."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import timm
import torch
from torch import Tensor, nn

import mococxr
from mococxr.classifier.saved import load_model
from mococxr.encoders import EncoderSpec, at_stages, build, load_encoder, resolve_encoder, save_encoder
from mococxr.encoders.sources import open_encoder
from mococxr.errors import InputError
from mococxr.features import features, state_hash
from mococxr.heads.targets import read_target
from mococxr.metrics import auroc
from mococxr.pretraining.selection import Labelled, Selection, knn_scores
from mococxr.reproduction.recipe import STUDY
from mococxr.settings import PRESETS
from small_encoders import images, lively, small_dinov2, transformers_folder
from small_store import HOW
from test_export import ask, frames, make_model, make_run

SMALL_DENSENET = json.dumps({"growth_rate": 8, "block_config": [2, 2, 2, 2]})
NETWORKS: dict[str, tuple[EncoderSpec, tuple[str, ...]]] = {
    "EfficientNet": (
        EncoderSpec("test_efficientnet", 64), ("blocks.1", "blocks.2", "blocks.3", "blocks.4"),
    ),
    "ResNet": (EncoderSpec("test_resnet", 64), ("layer1", "layer2", "layer3", "layer4")),
    "DenseNet": (
        EncoderSpec("densenet121", 64, config=SMALL_DENSENET),
        ("features.denseblock1", "features.denseblock2", "features.denseblock3", "features.norm5"),
    ),
    "ViT": (EncoderSpec("test_vit", 64), ("blocks.2", "blocks.3", "blocks.4", "blocks.5")),
    "a network of three channels that differ": (
        EncoderSpec("test_resnet", 64, mean=(0.4, 0.5, 0.6)), ("layer1", "layer2", "layer3", "layer4"),
    ),
}  # fmt: skip
"""Family -> a small network of it, and the modules whose outputs are its last four stages."""


def by_hooks(network: nn.Module, modules: tuple[str, ...], given: Tensor, prefix: int) -> Tensor:
    """The mean of what each module gives, and behind them what the network gives; the first tokens are no patches."""
    seen: list[Tensor] = []
    handles = [network.get_submodule(name).register_forward_hook(lambda *io: seen.append(io[-1])) for name in modules]
    last = network(given)
    for handle in handles:
        handle.remove()
    means = [maps.mean(dim=(2, 3)) if maps.ndim == 4 else maps[:, prefix:].mean(dim=1) for maps in seen]
    return torch.cat([*means, last], dim=1)


def normal(spec: EncoderSpec, given: Tensor) -> Tensor:
    grey = (given.float() / 255).expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (spec.mean, spec.std))
    return (grey - mean) / std


@torch.no_grad()
@pytest.mark.parametrize("family", NETWORKS)
def test_features_of_the_stages_are_what_hooks_on_the_plain_network_see(family):
    spec, modules = NETWORKS[family]
    encoder = build(replace(spec, features="stages")).eval()
    lively(encoder.network)
    plain = timm.create_model(spec.architecture, num_classes=0, **(json.loads(spec.config) if spec.config else {}),
                              **({"img_size": 64} if family == "ViT" else {})).eval()  # fmt: skip
    plain.load_state_dict(encoder.network.state_dict(), strict=True)
    plain = plain.to(memory_format=torch.channels_last)  # in another layout a processor sums in another order
    given = images(3, 64)
    colours = normal(spec, given).contiguous(memory_format=torch.channels_last)
    wanted = by_hooks(plain, modules, colours, prefix=1 if family == "ViT" else 0)
    largest = max(1.0, float(wanted.abs().max()))
    # Summed kernels round otherwise than the three channels of the plain network: 4e-6 of the largest on AVX2.
    for stem, tolerance in ((encoder.stem, 1e-4), ("", 1e-6)):
        encoder.stem = stem
        found = encoder(given)
        assert found.shape == wanted.shape == (3, encoder.spec.feature_dim)
        torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * largest)
    own = build(replace(spec, features="last")).spec.feature_dim
    assert own < encoder.spec.feature_dim
    torch.testing.assert_close(found[:, -own:], plain(colours), rtol=0, atol=1e-6 * largest)


@torch.no_grad()
def test_features_of_a_transformers_model_are_the_means_over_its_patches_in_each_layer(tmp_path):
    pytest.importorskip("transformers")
    model = transformers_folder(tmp_path / "dinov2", small_dinov2(num_hidden_layers=3)).eval()
    encoder = load_encoder(f"hf:{tmp_path / 'dinov2'}", features="stages")
    given = images(2, 70)
    seen: list[Tensor] = []
    for layer in model.encoder.layer:
        layer.register_forward_hook(lambda *io: seen.append(io[-1] if isinstance(io[-1], Tensor) else io[-1][0]))
    last = model(pixel_values=normal(encoder.spec, given)).pooler_output
    wanted = torch.cat([*(tokens[:, 1:].mean(dim=1) for tokens in seen), last], dim=1)
    assert len(seen) == 3
    assert wanted.shape[1] == encoder.spec.feature_dim == 4 * 32
    torch.testing.assert_close(encoder(given), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def test_reading_the_stages_changes_neither_the_state_nor_its_names_nor_the_mode():
    encoder = build(EncoderSpec("test_resnet", 32), seed=2)
    before, names = state_hash(encoder), list(encoder.state_dict())
    encoder.network.layer1.eval()
    staged = at_stages(encoder)
    assert state_hash(staged) == state_hash(encoder) == before == state_hash(copy.deepcopy(staged))
    assert list(staged.state_dict()) == names
    assert encoder.network.layer2.training
    assert not encoder.network.layer1.training


@torch.no_grad()
def test_a_copy_reads_its_own_weights():
    encoder = build(EncoderSpec("test_resnet", 32, features="stages")).eval()
    given, other = images(2, 32), copy.deepcopy(encoder)
    before = encoder(given)
    lively(other.network)
    assert torch.equal(encoder(given), before)
    assert not torch.equal(other(given), before)


def test_a_network_of_fewer_stages_gives_those_it_has():
    spec = EncoderSpec("test_vit", 32, config=json.dumps({"depth": 2}), features="stages")
    assert build(spec).spec.feature_dim == 3 * build(replace(spec, features="last")).spec.feature_dim


def test_a_network_without_stages_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.delattr(timm.models.resnet.ResNet, "forward_intermediates")
    source = resolve_encoder("random", backbone="test_resnet", size=32, features="stages")
    with pytest.raises(InputError, match="stages") as refusal:
        open_encoder(source)
    assert "--features last" in refusal.value.way_out
    assert "forward_intermediates" in refusal.value.problem, "the network's own words"
    assert open_encoder(replace(source, spec=replace(source.spec, features="last")))


def test_a_file_from_before_there_was_a_choice_is_of_the_last_layer(tmp_path):
    save_encoder(build(EncoderSpec("test_resnet", 32)), tmp_path / "run", {})
    content = json.loads((tmp_path / "run" / "encoder.json").read_text())
    assert content.pop("features") == "last"
    (tmp_path / "run" / "encoder.json").write_text(json.dumps(content))
    assert resolve_encoder(str(tmp_path / "run")).spec.features == "last"


@torch.no_grad()
def test_a_model_is_fitted_on_the_stages_and_scores_with_them(store, tmp_path):
    told = {"target": "Finding", "encoder": "random", "out": tmp_path / "model", **HOW}
    mococxr.fit(store.path, **told)
    encoder = load_encoder("random", backbone=HOW["backbone"], size=HOW["size"], features="stages")
    rows = np.arange(len(store))
    values = features(encoder, store, rows, size=HOW["size"], label=None)
    model = load_model(tmp_path / "model")
    assert model.record["encoders"][0]["features"] == "stages"
    assert model.record["encoders"][0]["feature_dim"] == values.shape[1] == encoder.spec.feature_dim
    table = mococxr.predict(tmp_path / "model", store.path, out=tmp_path / "scores.csv", device="cpu")
    scores = pl.read_csv(table)["score"].to_numpy()
    np.testing.assert_allclose(scores, model.ensemble.members[0].head.scores(values), rtol=0, atol=1e-6)
    mococxr.fit(store.path, **told | {"features": "last", "out": tmp_path / "last"})
    width = load_encoder("random", backbone=HOW["backbone"], size=HOW["size"]).spec.feature_dim
    assert load_model(tmp_path / "last").record["encoders"][0]["feature_dim"] == width < values.shape[1]


def test_neighbours_are_looked_for_in_the_features_that_are_named_and_a_look_changes_nothing(store):
    target, level = read_target(store, "sex=F"), store.level(32)
    sides = [(target.known(split), target.labels[target.known(split)]) for split in ("train", "test")]
    labelled = Labelled(*(part for rows, labels in sides for part in ([(level, int(row)) for row in rows], labels)))
    encoder = build(EncoderSpec("test_resnet", 32), seed=4).train()
    before = state_hash(encoder)
    logged = {}
    for kind in ("last", "stages"):
        selection = Selection("knn", labelled.val, labelled)
        selection.read(kind, encoder)
        logged[kind] = selection.evaluate(1, encoder, torch.device("cpu"))["knn_auroc"]
        reader = copy.deepcopy(encoder) if kind == "last" else at_stages(copy.deepcopy(encoder))
        near, judged = (torch.from_numpy(features(reader, store, rows, size=32, label=None)) for rows, _ in sides)
        scores = knn_scores(near, torch.from_numpy(labelled.train_labels), judged)
        assert logged[kind] == pytest.approx(auroc(labelled.val_labels, scores.numpy()))
    assert logged["last"] != logged["stages"]
    assert state_hash(encoder) == before
    assert all(module.training for module in encoder.modules())


def test_what_repeats_the_paper_keeps_the_last_layer():
    assert (PRESETS["paper"].features, PRESETS["tuned"].features, STUDY["features"]) == ("last", "stages", "last")


# --- what leaves


def exported(source: Path, to: str, out: Path, **how: Any) -> Path:
    return mococxr.export(source, to=to, out=out, **how)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "classifier"])
def test_the_onnx_graph_gives_features_and_scores_of_the_stages(tmp_path, kind):
    if kind == "encoder":
        run = make_run(tmp_path / "run", "test_resnet", 64)
        out = exported(run, "onnx", tmp_path / "out", features="stages")
        with torch.inference_mode():
            wanted = load_encoder(run, features="stages")(torch.from_numpy(frames(64)[:, None])).numpy()
    else:
        model = make_model(tmp_path / "model", "test_resnet", 64, features="stages")
        out = exported(model, "onnx", tmp_path / "out")
        wanted = load_model(model).ensemble.scores(list(zip(frames(64))), torch.device("cpu"))[:, 0]
    assert np.ptp(wanted) > 1e-3
    np.testing.assert_allclose(ask(out, frames(64)), wanted, rtol=0, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


def test_torchvision_refuses_the_stages_of_networks_that_do_not_tell_them(tmp_path):
    run = make_run(tmp_path / "run", "mobilenetv2_100", 32)
    with pytest.raises(InputError, match="stages") as refusal:
        exported(run, "torchvision", tmp_path / "out", features="stages")
    assert "onnx" in refusal.value.way_out
    model = make_model(tmp_path / "model", features="stages")
    with pytest.raises(InputError, match="--features last"):
        exported(model, "timm", tmp_path / "out", features="last")
