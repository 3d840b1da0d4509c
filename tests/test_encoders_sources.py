from __future__ import annotations

import argparse
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from mococxr import encoders
from mococxr.encoders import (
    EncoderSpec,
    load_encoder,
    open_encoder,
    resolve_encoder,
    save_encoder,
    short_name,
    transformer,
    weights,
    xrv,
)
from mococxr.encoders.weights_file import read_weights
from mococxr.errors import InputError
from mococxr.files import sha256_file
from small_encoders import (
    CNN,
    GREY,
    VIT,
    hub_cache,
    images,
    lively,
    small_dinov2,
    timm_repository,
    timm_weights,
    transformers_folder,
)

pytestmark = pytest.mark.usefixtures("no_network")
last = torch.channels_last


@pytest.fixture(autouse=True)
def own_caches(tmp_path_factory, monkeypatch):
    """No cache of this machine is read or written."""
    place = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("TORCH_HOME", str(place / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place / "hub"))
    monkeypatch.setattr(weights, "reachable", lambda _: False)
    monkeypatch.syspath_prepend(place)
    return place


def features(name, given, **how):
    with torch.no_grad():
        return open_encoder(resolve_encoder(str(name), **how))(given)


def normalised(given, mean, std):
    """As torchvision's ToTensor and Normalize."""
    rgb = (given.float() / 255).expand(-1, 3, -1, -1).clone()
    rgb = rgb.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])
    return rgb.contiguous(memory_format=last)


def comes_back(encoder, folder, given):
    """Saved as a run saves it and loaded again, an encoder gives the same features, and knows no more folders."""
    save_encoder(encoder, folder, {})
    again = load_encoder(folder)
    assert again.spec == encoder.spec
    with torch.no_grad():
        assert torch.equal(again(given), encoder(given))


# --- timm


@pytest.mark.parametrize("written", ["hf:{}", "timm"])
@pytest.mark.parametrize("name", [CNN, VIT])
def test_a_timm_repository_gives_timms_own_features_on_timms_own_grey(tmp_path, name, written, own_caches):
    network = timm_repository(tmp_path / "repo", name)
    given = images(3, 64)
    if written == "timm":
        tag = timm.get_pretrained_cfg(name).hf_hub_id
        hub_cache(own_caches / "hub", tag, {"model.safetensors": tmp_path / "repo" / "model.safetensors"})
        told = timm.get_pretrained_cfg(name)
        mean, std, found = told.mean, told.std, f"timm:{name}"
        assert features(name, given).shape[1] == network.num_features
    else:
        mean, std, found = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3), written.format(tmp_path / "repo")
        assert resolve_encoder(found).spec.size == 64
    with torch.no_grad():
        theirs = network.to(memory_format=last)(normalised(given, mean, std))
    torch.testing.assert_close(features(found, given, size=64), theirs, rtol=1e-5, atol=5e-5)
    comes_back(open_encoder(resolve_encoder(found)), tmp_path / "run", images(2, 64))


def test_model_arguments_of_a_repository_are_kept(tmp_path):
    network = timm_repository(tmp_path / "repo", CNN, global_pool="max")
    given = images()
    with torch.no_grad():
        theirs = network.to(memory_format=last)(normalised(given, (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)))
    encoder = open_encoder(resolve_encoder(f"hf:{tmp_path / 'repo'}"))
    assert torch.equal(encoder(given), theirs)
    comes_back(encoder, tmp_path / "run", given)


def test_a_file_that_lacks_a_layer_is_refused_by_its_name(tmp_path):
    from safetensors.torch import load_file, save_file

    timm_repository(tmp_path / "repo", CNN)
    file = tmp_path / "repo" / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k != "conv_stem.weight"}, file)
    with pytest.raises(InputError, match=r"conv_stem\.weight missing"):
        open_encoder(resolve_encoder(f"hf:{tmp_path / 'repo'}"))


@pytest.mark.parametrize("named", ["{network}:{file}", "{file}"])
def test_a_weights_file_takes_its_network_from_its_name_or_from_backbone(tmp_path, named):
    file = tmp_path / "mine.safetensors"
    network = timm_weights(file)
    told = timm.get_pretrained_cfg(CNN)
    given = images()
    how = {} if ":" in named else {"backbone": CNN}
    found = features(named.format(network=CNN, file=file), given, **how)
    with torch.no_grad():
        theirs = network.to(memory_format=last)(normalised(given, told.mean, told.std))
    assert float((found - theirs).abs().max()) < 1e-6


def test_a_file_that_a_run_wrote_says_its_own_network(tmp_path):
    encoder = encoders.build(EncoderSpec(CNN, 48, channels=1, mean=0.3, std=0.2), seed=4).eval()
    save_encoder(encoder, tmp_path, {})
    source = resolve_encoder(str(tmp_path / "encoder.safetensors"))
    assert source.spec == encoder.spec
    assert torch.equal(open_encoder(source)(images()), encoder(images()))


# --- transformers


def dinov2(folder):
    return transformers_folder(folder, small_dinov2()), lambda out: out.pooler_output


def vit(folder):
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=56, patch_size=8
    )
    return transformers_folder(folder, ViTModel(config)), lambda out: out.pooler_output


def vit_of_a_classifier(folder):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=56, patch_size=8
    )
    return transformers_folder(folder, ViTForImageClassification(config)).vit, lambda out: out.last_hidden_state[:, 0]


def convnext(folder):
    from transformers import ConvNextConfig, ConvNextModel

    config = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], image_size=56)
    return transformers_folder(folder, ConvNextModel(config)), lambda out: out.pooler_output


def swin(folder):
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=7, image_size=56, patch_size=4)
    return transformers_folder(folder, SwinModel(config)), lambda out: out.pooler_output


def clip(folder):
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = CLIPConfig(
        vision_config={**small, "image_size": 56, "patch_size": 14}, text_config={**small, "vocab_size": 50}
    )
    return transformers_folder(folder, CLIPModel(config)).vision_model, lambda out: out.pooler_output


@pytest.mark.parametrize("make", [dinov2, vit, vit_of_a_classifier, convnext, swin, clip])
def test_a_transformers_model_gives_its_own_feature_on_its_own_preprocessing(tmp_path, make):
    from transformers import AutoImageProcessor

    network, feature = make(tmp_path / "repo")
    given = images(3, 56)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "repo", local_files_only=True)
    array = [np.repeat(image[0].numpy()[..., None], 3, axis=2) for image in given]
    pixels = processor(array, return_tensors="pt", do_resize=False)["pixel_values"]
    ours = normalised(given, GREY["image_mean"], GREY["image_std"])
    assert float((pixels - ours).abs().max()) < 2e-6  # the processor joins rescaling and normalising in one step
    with torch.no_grad():
        theirs = feature(network.eval().to(memory_format=last)(pixel_values=ours))
    source = resolve_encoder(f"hf:{tmp_path / 'repo'}")
    assert (source.kind, source.spec.package, source.spec.size) == ("hf", "transformers", 56)
    encoder = open_encoder(source)
    with torch.no_grad():
        found = encoder(given)
    assert found.shape == (3, encoder.spec.feature_dim)
    assert found.dtype == torch.float32
    assert float((found - theirs.flatten(1)).abs().max()) == 0
    comes_back(encoder, tmp_path / "run", given)
    assert str(tmp_path) not in (tmp_path / "run" / "encoder.json").read_text()


def test_a_transformers_encoder_takes_frames_of_other_sides(tmp_path):
    for make in (dinov2, vit):
        make(tmp_path / make.__name__)
        encoder = open_encoder(resolve_encoder(f"hf:{tmp_path / make.__name__}", size=84))
        assert encoder(images(2, 84)).shape == (2, 32)
        assert encoder(images(2, 56)[..., :42]).shape == (2, 32)


def test_grey_follows_the_image_processor(tmp_path):
    def told(**changed):
        (tmp_path / "p.json").write_text(json.dumps({**GREY, "size": {"height": 40, "width": 40}, **changed}))
        return transformer.grey_of(tmp_path / "p.json")

    assert told().size == 40
    assert told(crop_size=32, do_center_crop=True).size == 32
    assert told(crop_size=32, do_center_crop=False).size == 40
    assert told(do_normalize=False).mean == 0
    half = told(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    assert (half.mean, half.std) == (0.5, 0.5)
    raw = told(do_rescale=False, image_mean=[127.5] * 3, image_std=[255.0] * 3)
    assert (raw.mean, raw.std) == (0.5, 1.0)
    with pytest.raises(InputError, match="image size"):
        told(size={})


def test_models_that_give_no_fixed_feature_or_are_not_whole_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16))
    transformers_folder(tmp_path / "bert", bert)
    with pytest.raises(InputError, match="no fixed feature"):
        resolve_encoder(f"hf:{tmp_path / 'bert'}")
    dinov2(tmp_path / "part")
    file = tmp_path / "part" / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "cls_token" not in k}, file, {"format": "pt"})
    with pytest.raises(InputError, match="cls_token"):
        resolve_encoder(f"hf:{tmp_path / 'part'}")
    dinov2(tmp_path / "grey")
    (tmp_path / "grey" / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"preprocessor_config.*--size, --mean and --std"):
        resolve_encoder(f"hf:{tmp_path / 'grey'}")
    spec = resolve_encoder(f"hf:{tmp_path / 'grey'}", size=56, mean=(0.5,), std=(0.25,)).spec
    assert (spec.size, spec.mean, spec.std) == (56, 0.5, 0.25)
    with pytest.raises(InputError, match="Write hf:"):
        resolve_encoder(str(tmp_path / "grey"))


# --- torchxrayvision


@pytest.mark.parametrize("legacy", [False, True])
def test_torchxrayvisions_densenet_gives_its_own_features(own_caches, tmp_path, legacy):
    models = pytest.importorskip("torchxrayvision").models
    theirs = models.DenseNet()
    theirs.load_state_dict({k: v for k, v in _lively_densenet(theirs).items()})
    theirs = theirs.eval()
    file = own_caches / ".torchxrayvision" / "models_data" / xrv.FILES["densenet121-res224-nih"]
    file.parent.mkdir(parents=True)
    torch.save(theirs, file, _use_new_zipfile_serialization=not legacy)
    given = images(2, 64)
    source = resolve_encoder("xrv:densenet121-res224-nih")
    assert (source.spec.size, source.spec.channels) == (224, 1)
    scaled = torch.from_numpy(
        np.stack([__import__("torchxrayvision").utils.normalize(f[0].numpy(), 255)[None] for f in given])
    )
    with torch.no_grad():
        expected = theirs.to(memory_format=last).features2(scaled.contiguous(memory_format=last))
        found = open_encoder(source)(given)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-6
    assert source.hashes() == {file.name: sha256_file(file)}
    comes_back(open_encoder(source), tmp_path / "run", given)
    begun, origin = encoders.initial_encoder(source.name, EncoderSpec("resnet18", 96), seed=0)
    assert (begun.spec.architecture, begun.spec.size, begun.training, origin) == ("densenet121", 96, True, source.name)
    assert torch.equal(begun.eval()(given), found)
    plain = resolve_encoder("random", like=begun.spec).spec
    assert (plain.architecture, plain.channels, plain.mean, plain.std) == ("densenet121", 3, 0.449, 0.226)


def _lively_densenet(network):
    generator = torch.Generator().manual_seed(1)
    return {
        key: value + 0.1 * torch.rand(value.shape, generator=generator) if "norm" in key and "num" not in key else value
        for key, value in network.state_dict().items()
        if key != "op_threshs"
    }


def test_torchxrayvisions_resnet_gives_torchvisions_features(own_caches):
    import torchvision

    network = torchvision.models.resnet50(num_classes=18)
    network.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    file = own_caches / ".torchxrayvision" / "models_data" / xrv.FILES["resnet50-res512-all"]
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    network.fc = torch.nn.Identity()
    given = images(1, 64)
    with torch.no_grad():
        scaled = ((2 * (given.float() / 255) - 1) * 1024).contiguous(memory_format=last)
        expected = network.eval().to(memory_format=last)(scaled)
    found = features("xrv:resnet50-res512-all", given)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-6


def test_the_table_of_torchxrayvision_is_that_of_the_library():
    urls = pytest.importorskip("torchxrayvision").models.model_urls
    theirs = {name: about["weights_url"] for name, about in urls.items() if "-res" in name}
    assert {name: xrv.RELEASE + file for name, file in xrv.FILES.items()} == theirs
    for name in theirs:
        assert xrv.xrv_spec(name).size == urls[name]["input_resolution"]


class Evil:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_module_file_runs_no_code(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    module = torch.nn.Linear(2, 3)
    module.trap = Evil()
    torch.save(module, tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy)
    assert read_weights(tmp_path / "evil.pt").keys() == {"weight", "bias"}
    assert not (tmp_path / "pwned").exists()


# --- weights files of other trainers


def body_and_more():
    network = lively(timm.create_model(CNN, num_classes=5))
    body = {key: value for key, value in network.state_dict().items() if not key.startswith("classifier.")}
    return network, body


def named(prefix, table):
    return {prefix + key: value for key, value in table.items()}


NETWORK, BODY = body_and_more()
OTHER = {key: value + 1 for key, value in BODY.items()}
NUMBERS = {"best": np.float64(0.7), "args": argparse.Namespace(lr=0.1, out=Path("x")), "when": datetime.now(UTC)}


@pytest.mark.parametrize(
    "stored",
    [
        BODY,
        NETWORK,
        torch.nn.DataParallel(NETWORK),
        {"model": NETWORK, "epoch": 3},
        {"state_dict": named("module.", NETWORK.state_dict()), **NUMBERS},
        {"state_dict": {**named("model.backbone.", BODY), **named("model.head.0.", {"weight": torch.ones(2, 2)})}},
        named("_orig_mod.", NETWORK.state_dict()),
        {"state_dict": {**named("module.encoder_k.", OTHER), **named("module.encoder_q.", BODY)}},
        {"state_dict": {**named("module.base_encoder.", BODY), **named("module.momentum_encoder.", OTHER)}},
        {**named("online_network.encoder.", BODY), **named("target_network.encoder.", OTHER)},
        {"student": named("module.backbone.", OTHER), "teacher": named("backbone.", BODY)},
        {"model_state_dict": BODY, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"state_dict_ema": BODY, "state_dict": OTHER},
        {"epoch": 1, "net": {key: value for key, value in BODY.items() if "num_batches" not in key}},
        {f"backbone.{i}.{key.split('.')[-1]}": value for i, (key, value) in enumerate(BODY.items())},
        {**BODY, "mask_token": torch.ones(4), "decoder.0.weight": torch.ones(2, 2)},
    ],
    ids=range(16),
)  # fmt: skip
def test_a_weights_file_is_read_however_its_trainer_wrapped_and_stored_it(stored, tmp_path):
    torch.save(stored, tmp_path / "theirs.pth")
    encoder = open_encoder(resolve_encoder(f"{CNN}:{tmp_path / 'theirs.pth'}", size=64))
    state = encoder.network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in BODY.items() if "num_batches" not in key)


def test_what_was_taken_off_and_left_out_is_said(tmp_path, capsys):
    torch.save({"model": named("net.", NETWORK.state_dict()), "x": 1}, tmp_path / "theirs.pth")
    open_encoder(resolve_encoder(f"{CNN}:{tmp_path / 'theirs.pth'}", size=64))
    assert f"the tensors after 'net.' fit {CNN}; left out: classifier." in capsys.readouterr().err


RESNET = timm.create_model("resnet18", num_classes=3)


@pytest.mark.parametrize(
    ("stored", "name", "words"),
    [
        (named("net.", RESNET.state_dict()), f"{CNN}:", ("after 'net'", "net.conv1.weight", "write resnet18:")),
        (RESNET.state_dict(), "", ("does not say which network", "write resnet18:")),
        ({"a.weight": torch.ones(2)}, f"{CNN}:", ("1 tensors", "a.weight", "Write NETWORK:")),
        ({**named("a.", BODY), **named("b.", BODY)}, f"{CNN}:", ("holds 2 networks: a., b.",)),
        ({**BODY, "blocks.9.0.weight": torch.ones(2)}, f"{CNN}:", ("not in the network: blocks.9.0.weight",)),
        ({"epoch": 3, "args": [1]}, f"{CNN}:", ("no table of tensors (it holds epoch, args)", "model.state_dict()")),
        (b"junk", f"{CNN}:", ("Cannot read weights",)),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_weights_file_that_does_not_fit_is_refused_with_what_to_write(stored, name, words, tmp_path):
    file = tmp_path / "theirs.pth"
    file.write_bytes(stored) if isinstance(stored, bytes) else torch.save(stored, file)
    with pytest.raises(InputError) as refused:
        open_encoder(resolve_encoder(f"{name}{file}", size=64))
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_torchscript_program_is_not_run(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(1, 2)), tmp_path / "script.pt")
    with pytest.raises(InputError, match="TorchScript"):
        read_weights(tmp_path / "script.pt")


def test_a_file_that_states_no_grey_values_takes_those_given(tmp_path):
    torch.save(BODY, tmp_path / "theirs.pth")
    name = f"{CNN}:{tmp_path / 'theirs.pth'}"
    spec = resolve_encoder(name, size=64, mean=(0.0,), std=(0.1, 0.2, 0.3)).spec
    assert (spec.mean, spec.std) == (0.0, (0.1, 0.2, 0.3))
    with pytest.raises(InputError, match="--mean must be one value or three"):
        resolve_encoder(name, size=64, mean=(0.1, 0.2))


# --- the hub's cache, hashes, no network


def test_a_repository_of_the_hub_is_read_from_the_cache_and_checked_by_its_hash(tmp_path, own_caches):
    network = transformers_folder(tmp_path / "repo", small_dinov2())
    files = {file.name: file for file in (tmp_path / "repo").iterdir()}
    snapshot = hub_cache(own_caches / "hub", "someone/small-dino", files)
    source = resolve_encoder("hf:someone/small-dino")
    assert source.hashes()["model.safetensors"] == sha256_file(tmp_path / "repo" / "model.safetensors")
    given = images(2, 56)
    with torch.no_grad():
        theirs = network(pixel_values=normalised(given, GREY["image_mean"], GREY["image_std"])).pooler_output
        assert float((open_encoder(source)(given) - theirs).abs().max()) < 1e-6
    assert resolve_encoder(f"hf:someone/small-dino@{'0' * 40}").spec == source.spec
    blob = (snapshot / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match="damaged"):
        resolve_encoder("hf:someone/small-dino")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf:microsoft/rad-dino", ("config.json", "hf:FOLDER", "microsoft/rad-dino/resolve/main")),
        ("resnet50", ("model.safetensors", "hf:FOLDER", "timm/resnet50")),
        ("xrv:densenet121-res224-all", ("no network", "github.com/mlmed", "models_data")),
        ("timm:beit_base_patch16_224", ("safetensors",)),
        ("xrv:densenet121-res224-everything", ("densenet121-res224-all",)),
        ("resnet50.best", ("resnet50.a1_in1k",)),
        ("timm:resnot50", ("resnet50",)),
        ("hf:microsoft/rad-dino@v2", ("microsoft/rad-dino/resolve/v2/config.json",)),
        ("hf:one/two/three", ("OWNER/NAME",)),
        ("imagenett", ("Did you mean imagenet",)),
        ("resnet5O", ("Did you mean", "resnet50")),
        ("nowhere", ("run folder", "hf:OWNER/NAME")),
        (f"{CNN}:nothing.safetensors", ("no weights file",)),
    ],
)
def test_what_cannot_be_had_is_said_at_once_with_the_file_to_put_where(name, words):
    begun = time.perf_counter()
    with pytest.raises(InputError) as told:
        resolve_encoder(name)
    assert time.perf_counter() - begun < 5
    for word in words:
        assert word in str(told.value), str(told.value)


def test_without_network_nothing_waits(monkeypatch):
    monkeypatch.undo()

    def unreachable(*_, **__):
        raise socket.gaierror("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    begun = time.perf_counter()
    assert not weights.reachable("https://huggingface.co/x")
    assert time.perf_counter() - begun < 1


def test_a_file_of_the_web_is_fetched_once_and_checked_by_the_hash_in_its_name(tmp_path, monkeypatch):
    import io
    from email.message import Message

    monkeypatch.setattr(weights, "reachable", lambda _: True)
    fetched = []

    class Answer(io.BytesIO):
        def info(self):
            return Message()

    def answer(request, **_):
        fetched.append(request.full_url)
        return Answer(b"abc")

    monkeypatch.setattr("torch.hub.urlopen", answer)
    right = "https://x.org/w-ba7816bf.pt"  # how the SHA-256 of abc begins
    for _ in range(2):
        assert weights.url_file(right, tmp_path / "cache").read_bytes() == b"abc"
    assert len(fetched) == 1
    with pytest.raises(InputError, match="invalid hash"):
        weights.url_file("https://x.org/w-00000000.pt", tmp_path / "cache")
    (tmp_path / "cache" / "w-ba7816bf.pt").write_bytes(b"abd")
    with pytest.raises(InputError, match="damaged"):
        weights.url_file(right, tmp_path / "cache")


# --- what holds for every kind of encoder


def _run(place):
    save_encoder(encoders.build(EncoderSpec(CNN, 64), seed=3).eval(), place, {})
    return str(place), {}


def _published(place):
    save_encoder(encoders.build(EncoderSpec(CNN, 64), seed=3).eval(), place / "mococxr_weights", {})
    return "mococxr-lite0", {}


def _hub(place):
    transformers_folder(place, small_dinov2())
    return f"hf:{place}", {}


def _xrv(place):
    network = timm.create_model("densenet121", in_chans=1, num_classes=0)
    file = place / ".torchxrayvision" / "models_data" / xrv.FILES["densenet121-res224-nih"]
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    return "xrv:densenet121-res224-nih", {"size": 64}


def _file(place):
    timm_weights(place / "theirs.safetensors")
    return f"{CNN}:{place / 'theirs.safetensors'}", {}


def _timm(place):
    timm_repository(place / "repo", CNN)
    tag = timm.get_pretrained_cfg(CNN).hf_hub_id
    hub_cache(place / "hub", tag, {"model.safetensors": place / "repo" / "model.safetensors"})
    return CNN, {"size": 64}


def _imagenet(place):
    return "imagenet", {"backbone": _timm(place)[0], "size": 64}


EXAMPLES = {
    "imagenet": _imagenet,
    "random": lambda _: ("random", {"backbone": CNN, "size": 64}),
    "published": _published,
    "run": _run,
    "hf": _hub,
    "xrv": _xrv,
    "file": _file,
    "timm": _timm,
}
"""A new kind of encoder gets a line here: how to make the smallest one and how it is named."""


@torch.no_grad()
@pytest.mark.parametrize("kind", encoders.SOURCES)
def test_every_kind_of_encoder_keeps_the_contract(kind, own_caches, tmp_path):
    name, how = EXAMPLES[kind](own_caches if kind in ("xrv", "timm", "imagenet", "published") else tmp_path)
    source = resolve_encoder(name, **how)
    assert source.kind == kind
    assert set(source.hashes()) == {file.name for file in source.files}
    encoder = load_encoder(name, **how)
    assert not encoder.training
    assert encoder.size == source.spec.size == how.get("size", source.spec.size)
    given = images(3, encoder.size)
    features = encoder(given)
    assert features.shape == (3, encoder.spec.feature_dim)
    assert features.dtype == torch.float32
    assert torch.equal(encoder(given), features), "an encoder in eval mode gives the same features twice"
    assert torch.equal(load_encoder(name, **how)(given), features), "and so does the encoder opened again"
    scale = float(features.abs().max())
    torch.testing.assert_close(encoder(given.float() / 255), features, rtol=1e-4, atol=1e-5 * scale)
    begun, _ = encoders.initial_encoder(name, EncoderSpec(CNN, 64), seed=0)
    assert begun.training
    assert begun.size == 64


def test_help_contract_and_readme_list_every_kind():
    from pathlib import Path

    from mococxr.settings.fields import ENCODERS

    words = ", ".join(kind.words for kind in encoders.SOURCES.values())
    assert words == ENCODERS
    root = Path(__file__).parent.parent
    for page in ("docs/contract.md", "README.md"):
        assert words in " ".join((root / page).read_text().split()), page


# --- names


def test_a_bare_arm_gets_a_short_name():
    names = {
        "hf:microsoft/rad-dino": "rad-dino",
        "hf:microsoft/rad-dino@main": "rad-dino",
        "xrv:densenet121-res224-all": "densenet121-res224-all",
        "timm:resnet50.a1_in1k": "resnet50.a1_in1k",
        "runs/moco": "moco",
        "resnet18:files/theirs.safetensors": "theirs",
    }
    assert {encoder: short_name(encoder) for encoder in names} == names


def test_imagenet_and_random_after_a_run_of_transformers(tmp_path):
    transformers_folder(tmp_path / "repo", small_dinov2())
    like = resolve_encoder(f"hf:{tmp_path / 'repo'}").spec
    source = resolve_encoder("random", like=like)
    random = open_encoder(source, 1)
    assert random(images(2, 56)).shape == (2, random.spec.feature_dim) == (2, 32)
    with pytest.raises(InputError, match="--backbone"):
        resolve_encoder("imagenet", like=like)
    assert resolve_encoder("random", like=like, backbone=CNN).spec == EncoderSpec(CNN, 56)
