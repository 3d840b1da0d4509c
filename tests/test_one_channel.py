"""A network of one input channel, started from weights of three, gives the features of three; training then differs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from mococxr import encoders
from mococxr.encoders import EncoderSpec, sources, weights
from mococxr.errors import InputError
from small_encoders import images, lively

PAPER = {"mean": 0.502, "std": 0.085585}
NETWORKS = ("resnet18", "test_resnet", "test_efficientnet", "test_convnext", "test_vit")


@pytest.fixture(scope="module", params=NETWORKS)
def three(request, tmp_path_factory) -> tuple[encoders.Encoder, Path]:
    """An encoder of three channels with weights that no start has, and its weights in a file."""
    encoder = encoders.build(EncoderSpec(request.param, 64, 3, **PAPER))
    lively(encoder.network)
    file = tmp_path_factory.mktemp("weights") / f"{request.param}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in encoder.network.state_dict().items()}, file)
    return encoder, file


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_an_image_has_the_features_that_it_has_repeated_in_three_channels(three, channels):
    oracle, file = three
    other, _ = encoders.initial_encoder(str(file), replace(oracle.spec, channels=channels), seed=0)
    given = images(3, 64)
    expected = oracle(given)
    torch.testing.assert_close(other.eval()(given), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert float(expected.std(dim=0).max()) > 1e-3 * float(expected.abs().max())  # images are told apart


@torch.no_grad()
def test_imagenet_weights_of_timm_and_those_of_a_run_are_fitted_alike(three, tmp_path, monkeypatch):
    oracle, _ = three
    name = oracle.spec.architecture
    told = asdict(timm.get_pretrained_cfg(name)) | {"input_size": (3, 64, 64), "hf_hub_id": "somebody/weights"}
    whole = timm.create_model(name, num_classes=told["num_classes"])  # with a classifier, as timm's files are
    tensors = whole.state_dict() | {key: value.contiguous() for key, value in oracle.network.state_dict().items()}
    own = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, own)
    for module in (weights, sources):
        monkeypatch.setattr(module, "imagenet_file", lambda _: own)
        monkeypatch.setattr(module, "timm_facts", lambda _: told)
    encoders.save_encoder(oracle, tmp_path / "run", {})
    given = images(2, 64)
    for init in ("imagenet", str(tmp_path / "run")):
        other, _ = encoders.initial_encoder(init, replace(oracle.spec, channels=1), seed=0)
        expected = oracle(given)
        torch.testing.assert_close(other.eval()(given), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_only_the_number_of_channels_is_fitted_and_other_weights_are_still_refused(tmp_path):
    encoder = encoders.build(EncoderSpec("resnet18", 64, 3))
    tensors = {name: tensor.contiguous() for name, tensor in encoder.network.state_dict().items()}
    save_file(tensors | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "small.safetensors")
    with pytest.raises(InputError, match=r"conv1\.weight \(64, 3, 3, 3\)"):
        encoders.initial_encoder(str(tmp_path / "small.safetensors"), replace(encoder.spec, channels=1), seed=0)


def test_the_gradient_of_one_channel_is_that_of_each_of_three(three):
    oracle, file = three
    if oracle.spec.architecture != "resnet18":
        pytest.skip("one network says it")
    one, _ = encoders.initial_encoder(str(file), replace(oracle.spec, channels=1), seed=0)
    for encoder in (oracle, one):
        encoder.eval()(images(2, 64)).square().sum().backward()
    gradients = [encoder.network.conv1.weight.grad for encoder in (oracle, one)]
    for channel in range(3):
        scale = float(gradients[1].abs().max())
        torch.testing.assert_close(gradients[0][:, channel], gradients[1][:, 0], rtol=1e-3, atol=1e-4 * scale)
