"""Every kind of encoder leaves as an ONNX graph that says what PyTorch says, or is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import mococxr
from mococxr.encoders import EncoderSpec, load_encoder, save_encoder
from mococxr.encoders.sources import open_encoder, resolve_encoder
from mococxr.errors import InputError
from small_encoders import small_dinov2, transformers_folder
from test_export import ask, frames, make_run

SHORT = json.dumps({"growth_rate": 8, "block_config": [2, 2, 2, 2]})
KINDS = {
    "EfficientNet-Lite": EncoderSpec("tf_efficientnet_lite0", 64),
    "ResNet": EncoderSpec("resnet18", 64),
    "DenseNet": EncoderSpec("densenet121", 64, config=SHORT),
    "ViT of timm": EncoderSpec("vit_tiny_patch16_224", 64, config=json.dumps({"depth": 4})),
    "xrv: one channel of -1024 to 1024": EncoderSpec("densenet121", 64, channels=1, mean=0.5, std=1 / 2048, config=SHORT),
    "ViT of transformers": None,
}  # fmt: skip


def saved(kind: str, folder: Path) -> Path:
    """A run folder with an encoder of that kind, weights drawn."""
    if (spec := KINDS[kind]) is not None:
        return make_run(
            folder / "run", spec.architecture, **{k: v for k, v in vars(spec).items() if k != "architecture"}
        )
    run = make_run(folder / "run")  # its record; the encoder follows
    transformers_folder(folder / "hub", small_dinov2())
    save_encoder(open_encoder(resolve_encoder(f"hf:{folder / 'hub'}")).eval(), run, {})
    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_of_every_kind_of_encoder_gives_the_features_of_pytorch(kind, tmp_path):
    run = saved(kind, tmp_path)
    out = mococxr.export(run, to="onnx", out=tmp_path / "out", features="stages")
    encoder = load_encoder(run, features="stages")
    images = frames(encoder.size, 3)
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(images[:, None])).numpy()
    assert np.ptp(expected, axis=0).max() > 1e-3  # images differ
    np.testing.assert_allclose(ask(out, images), expected, rtol=0, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


def test_a_network_without_a_graph_is_refused_by_name_and_nothing_is_kept(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        try:
            raise NotImplementedError("no ONNX function for aten.odd\nat line 3")
        except NotImplementedError as cause:
            raise RuntimeError("step 2 of 3 failed, see the report") from cause

    run = make_run(tmp_path / "run", "test_resnet", 32)
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(InputError, match=r"no ONNX graph of test_resnet: no ONNX function for aten\.odd") as refusal:
        mococxr.export(run, to="onnx", out=tmp_path / "out")
    assert "PyTorch" in refusal.value.way_out
    assert not (tmp_path / "out").exists()
