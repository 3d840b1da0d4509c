"""`model.onnx` in a model folder: it says what PyTorch says, `predict` then needs no PyTorch, and it is the model's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import torch

import mococxr
from archive_images import grey_image, image
from mococxr.classifier.graph import open_graph
from mococxr.classifier.saved import load_model
from mococxr.exporting import export
from mococxr.exporting.export import leave_onnx
from mococxr.files import write_json
from mococxr.store import Store
from small_store import HOW

ISOTONIC = {"inputs": [-3.0, -0.4, 0.1, 0.3, 4.0], "outputs": [0.0, 0.2, 0.2, 0.7, 0.9]}
CALIBRATIONS: dict[str, Any] = {
    "platt": {"slope": 1.7, "intercept": -0.4},
    "isotonic": ISOTONIC,
    "temperature": {"slope": 0.6, "intercept": 0.0},
}
VIT = {"backbone": "test_vit", "size": 64}


def fitted(store: Store, out: Path, method: str = "platt", **how: Any) -> Path:
    """A model with a calibration and a threshold among its scores, and no graph yet."""
    mococxr.fit(store.path, target="Finding", out=out, **{"encoder": "random", **HOW, **how})
    model = load_model(out)
    threshold = float(np.median(scores_by_torch(model, store)[1]))
    blocks = {
        "calibration": {"method": method, "parameters": CALIBRATIONS[method], "prevalence": 0.3},
        "threshold": {"value": threshold},
    }
    write_json(out / "model.json", model.record | {"targets": [model.record["targets"][0] | blocks]})
    return out


def scores_by_torch(model: Any, store: Store) -> tuple[list[Any], np.ndarray]:
    frames = [model.frames_of(store.pixels(row)) for row in range(len(store))]
    return frames, model.ensemble.scores(frames, torch.device("cpu"))


def onnx_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "model.json").read_text())["onnx"]
    return facts


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("platt", {"features": "last"}),
        pytest.param("isotonic", VIT | {"features": "stages"}, marks=pytest.mark.slow),
        pytest.param("temperature", VIT | {"features": "last"}, marks=pytest.mark.slow),
        pytest.param("isotonic", {"features": "stages", "crop_mode": "full"}, marks=pytest.mark.slow),
        pytest.param("platt", {"encoder": "random@32+random@48", "size": None}, marks=pytest.mark.slow),
    ],
)
def test_the_graph_gives_score_calibration_and_decision_of_pytorch(store, tmp_path, method, how):
    folder = leave_onnx(fitted(store, tmp_path / "model", method, **how))
    assert onnx_of(folder)["reason"] is None
    model = load_model(folder)
    frames, expected = scores_by_torch(model, store)
    assert np.ptp(expected) > 1e-3
    del model.__dict__["ensemble"]
    np.testing.assert_allclose(model.scores(frames), expected, rtol=0, atol=1e-5)
    assert "ensemble" not in model.__dict__, "PyTorch was asked"
    session = open_graph(folder / "model.onnx")
    alike = [each for each in frames if each[0].shape == frames[0][0].shape]
    feed = {part.name: np.stack([f[i] for f in alike])[:, None] for i, part in enumerate(session.get_inputs())}
    found = dict(zip([output.name for output in session.get_outputs()], session.run(None, feed), strict=True))
    columns = model.columns(found["score"][:, None])
    assert list(found) == [*columns, "features"]
    of_torch = model.ensemble.answers(alike, torch.device("cpu"))[1]
    np.testing.assert_allclose(found["features"], of_torch, rtol=0, atol=1e-4 * np.abs(of_torch).max())
    np.testing.assert_allclose(found["calibrated"], columns["calibrated"], rtol=0, atol=1e-9)
    assert np.ptp(found["calibrated"]) > 1e-4
    assert np.array_equal(found["decision"], columns["decision"])
    assert set(found["decision"]) == {0, 1}
    if "encoder" not in how:
        a_fresh_process_predicts_without_torch(store, folder, tmp_path)


def a_fresh_process_predicts_without_torch(store: Store, folder: Path, out: Path) -> None:
    file = store.path.parent / "images" / store.index["path"][0]
    code = (
        "import sys, mococxr\n"
        "model, file, out = sys.argv[1:]\n"
        "mococxr.predict(model, file, out=out)\n"
        "print(mococxr.load_classifier(model).predict([file])['score'][0], 'torch' in sys.modules)\n"
    )
    line = [sys.executable, "-c", code, str(folder), str(file), str(out / "scores.csv")]
    score, imported = subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()
    assert imported == "False"
    expected = scores_by_torch(load_model(folder), store)[1][0, 0]
    assert [float(score), pl.read_csv(out / "scores.csv")["score"][0]] == pytest.approx([expected] * 2, abs=1e-5)


def test_a_graph_that_is_not_the_models_own_is_refused(store, tmp_path, monkeypatch):
    def write(_: Any, folder: Path) -> dict[str, Any]:
        (folder / "model.onnx").write_bytes(b"a graph")
        return {"file": "model.onnx", "difference": 0.0}

    monkeypatch.setattr(export, "write_onnx", write)
    folder = leave_onnx(fitted(store, tmp_path / "model"))
    load_model(folder)
    for change in (lambda path: path.write_bytes(b"another"), lambda path: path.unlink()):
        change(folder / "model.onnx")
        with pytest.raises(mococxr.InputError, match=r"model\.onnx is missing or not the one that model\.json names"):
            load_model(folder)


def test_where_there_is_no_graph_the_model_says_why_and_predicts_by_pytorch(store, tmp_path, monkeypatch, capsys):
    folder = fitted(store, tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"of an earlier fit")
    padded = fitted(store, tmp_path / "padded", backbone="tf_efficientnet_lite0", crop_mode="full")
    assert "takes frames of one size" in onnx_of(leave_onnx(padded))["reason"]
    assert "`predict` goes on by PyTorch" in " ".join(capsys.readouterr().err.split())
    for error, difference in ((RuntimeError("no such operator\nat line 3"), 0.0), (None, 2e-5)):

        def write(_: Any, out: Path, error: Any = error, difference: float = difference) -> dict[str, Any]:
            (out / "model.onnx").write_bytes(b"half")
            if error:
                raise error
            return {"difference": difference}

        monkeypatch.setattr(export, "write_onnx", write)
        facts = onnx_of(leave_onnx(folder))
        assert facts["reason"] in ("no such operator", "the graph differs from the classifier by 2e-05.")
        assert (facts["file"], facts["sha256"]) == (None, None)
    off = leave_onnx(fitted(store, tmp_path / "off", onnx=False))
    assert onnx_of(off)["reason"] == "--no-onnx"
    for made in (folder, padded, off):
        assert not (made / "model.onnx").exists()
        model = load_model(made)
        frames, expected = scores_by_torch(model, store)
        assert np.array_equal(model.scores(frames), expected)


def test_a_classifier_takes_arrays_paths_and_bytes(store, tmp_path):
    model = mococxr.load_classifier(fitted(store, tmp_path / "model"))
    grey = grey_image(np.random.default_rng(0), 90, 80)
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(1).integers(0, 256, (90, 80), dtype=np.uint8))
    image(grey, patient="P", study="1.2", sop="1.3").save_as(tmp_path / "b", enforce_file_format=True)
    for file in (tmp_path / "a.png", tmp_path / "b"):
        forms = [mococxr.read_image(file), file, str(file), file.read_bytes()]
        table = model.predict(forms)
        assert table["score"].n_unique() == 1
        assert model.predict(file)["score"][0] == pytest.approx(table["score"][0], abs=1e-6)
    assert table["calibrated"].null_count() == table["decision"].null_count() == 0
    with pytest.raises(mococxr.ImageError, match="image 2: no such file"):
        model.predict([file, tmp_path / "none.png"])
    with pytest.raises(mococxr.InputError, match=r"Image 1 is float64 of shape \(90, 80\)"):
        model.predict([np.zeros((90, 80))])


def test_what_fit_leaves_is_readable_by_group_and_others(store, tmp_path):
    before = os.umask(0o022)
    try:
        folder = leave_onnx(fitted(store, tmp_path / "model", onnx=False))
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o055 == 0o055
    assert {path.name for path in folder.iterdir() if path.stat().st_mode & 0o044 == 0o044} == {
        "model.json", "model.safetensors",
    }  # fmt: skip
