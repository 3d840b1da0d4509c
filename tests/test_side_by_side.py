"""Encoders side by side: their features are those of each, one behind the other, wherever they are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import mococxr
from mococxr.classifier.saved import load_model
from mococxr.encoders import EncoderSpec, build, save_encoder
from mococxr.errors import InputError
from mococxr.exporting.artifact import read_artifact
from mococxr.feature_cache import read_features
from mococxr.studies import trial
from small_store import BACKBONE, HOW, run_study

PLAIN = {name: value for name, value in HOW.items() if name not in ("size", "backbone")}
STUDY = {"target": "Finding", "fraction": 1.0, "replicates": 200, "device": "cpu", "jobs": 1, "backbone": BACKBONE}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """Two runs, of another network and grey scale each."""
    folder = tmp_path_factory.mktemp("side")
    for name, spec in {"my+run": EncoderSpec("test_resnet", 32, mean=0.4), "other": EncoderSpec(BACKBONE, 64)}.items():
        save_encoder(build(spec, seed=1), folder / name, {})
    return folder / "my+run", folder / "other"


def embedded(store, encoder: str, out: Path) -> np.ndarray:
    mococxr.embed(store.path, encoder=encoder, out=out, **PLAIN)
    return np.array(pl.read_parquet(out)["features"].to_list(), np.float32)


@pytest.fixture(scope="module")
def parts(store, runs, tmp_path_factory) -> tuple[str, np.ndarray]:
    """How two encoders are written side by side, and their features laid side by side by hand."""
    folder = tmp_path_factory.mktemp("parts")
    each = [f"'{runs[0]}'@48", f"{runs[1]}@32"]
    return "+".join(each), np.hstack([embedded(store, name, folder / f"{i}.parquet") for i, name in enumerate(each)])


@pytest.fixture(scope="module")
def store(small_store):
    return small_store


def test_embed_and_scikit_learn_give_the_concatenation_by_hand_bit_for_bit(store, parts, tmp_path):
    text, wanted = parts
    assert np.array_equal(embedded(store, text, tmp_path / "both.parquet"), wanted)
    images = mococxr.Images(store, split=None)
    transformer = mococxr.Features(text, device="cpu").fit([store.pixels(0)])
    assert transformer.n_features_out_ == wanted.shape[1]
    assert np.array_equal(transformer.transform(images), wanted)


def test_a_study_reads_each_part_once_and_scores_with_the_concatenation(store, parts, runs, tmp_path, monkeypatch):
    (text, wanted), table = parts, tmp_path / "both.parquet"
    embedded(store, text, table)
    jobs, kept, real = [], {}, trial.extract_features

    def count(context, job, label=None):
        jobs.append(job)
        read = real(context, job, label)
        kept[job.source.name] = read_features(read.file, context.train.rows), context.train.rows
        return read

    monkeypatch.setattr("mococxr.studies.executors.extract_features", count)
    arms = [f"both={text}", f"{runs[1]}@32", f"table={table}", f"mixed={table}+{runs[1]}@32"]
    run_study({"store": store.path, "arm": arms, "out": tmp_path / "study", "baseline": False, **STUDY})
    assert [job.source.name for job in jobs] == [str(runs[0]), str(runs[1]), str(table)]
    assert [key[:3] for key in jobs[1].keys] == [("both", 0, 1), ("other@32", 0, 0), ("mixed", 0, 1)]
    (first, rows), (second, _) = (kept[str(run)] for run in runs)
    np.testing.assert_array_equal(np.hstack([first, second]), wanted[rows].astype(np.float16))
    scores = {
        arm: pl.read_parquet(next((tmp_path / "study" / "predictions").glob(f"*-linear-{arm}-*")))["score"].to_numpy()
        for arm in ("both", "table")
    }
    np.testing.assert_allclose(scores["both"], scores["table"], rtol=1e-9)
    arms = mococxr.read_results(tmp_path / "study").facts["arms"]
    facts, mixed = arms["both"], arms["mixed"]
    assert (mixed["dimensions"], mixed["seconds_per_image"]) == (wanted.shape[1] + 424, None), "a table has no time"
    assert (facts["encoder"], facts["kind"]) == ("my+run@48 + other@32", "run")
    assert [run["run"] for run in facts["runs"]] == ["my+run@48", "other@32"]
    assert [(part["timm"], part["size"]) for part in facts["parts"]] == [("test_resnet", 48), (BACKBONE, 32)]
    assert facts["dimensions"] == wanted.shape[1]
    assert facts["seconds_per_image"] == pytest.approx(sum(part["seconds_per_image"] for part in facts["parts"]))
    assert facts["parameters"] == sum(part["parameters"] for part in facts["parts"])


def fitted(store, text: str, out: Path, **how) -> Path:
    return Path(mococxr.fit(store.path, encoder=text, target="Finding", out=out, **PLAIN, **how))


def test_a_classifier_on_both_is_kept_and_scores_files_and_stores_alike(store, parts, tmp_path):
    text, wanted = parts
    model = load_model(fitted(store, text, tmp_path / "model"))
    assert [encoder["name"] for encoder in model.record["encoders"]] == ["my+run@48", "other@32"]
    assert model.sizes == (48, 32)
    for images in (store.path, store.path.parent / "images"):
        mococxr.predict(tmp_path / "model", images, out=tmp_path / "scores.csv", device="cpu")
        scores = pl.read_csv(tmp_path / "scores.csv")["score"].to_numpy()
        np.testing.assert_allclose(scores, model.ensemble.members[0].head.scores(wanted), rtol=0, atol=1e-6)
    assert np.ptp(scores) > 1e-3


def test_modes_by_gradient_take_one_encoder(store, parts, tmp_path):
    with pytest.raises(InputError, match="--mode finetune trains one encoder; --encoder"):
        fitted(store, parts[0], tmp_path / "model", mode="finetune")
    given = {"store": store.path, "arm": f"both={parts[0]}", "out": tmp_path / "study", "mode": ["linear", "lpft"]}
    with pytest.raises(InputError, match="--mode lpft trains one encoder; arm both has 2"):
        run_study({**given, **STUDY})
    with pytest.raises(InputError, match="side by side"):
        mococxr.load_encoder(parts[0], backbone=BACKBONE)


def test_timm_and_torchvision_have_no_network_for_two_encoders(store, parts, tmp_path):
    model = fitted(store, parts[0], tmp_path / "model")
    for to in ("timm", "torchvision"):
        with pytest.raises(InputError, match="2 encoders side by side") as refusal:
            mococxr.export(model, to=to, out=tmp_path / to)
        assert "--to onnx" in refusal.value.way_out


@pytest.mark.slow
def test_the_onnx_graph_has_an_input_for_each_encoder_and_gives_the_scores(store, parts, tmp_path):
    import onnxruntime

    model = fitted(store, parts[0], tmp_path / "model")
    out = mococxr.export(model, to="onnx", out=tmp_path / "out")
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    ours = load_model(model)
    frames = [ours.frames_of(store.pixels(row)) for row in range(5)]
    named = {f"frames_{part + 1}": np.stack([each[part] for each in frames])[:, None] for part in range(2)}
    scores = session.run(None, named)[0]
    np.testing.assert_allclose(scores, ours.ensemble.scores(frames, torch.device("cpu"))[:, 0], rtol=0, atol=1e-5)
    card = (out / "README.md").read_text()
    assert "test_resnet, 48 px beside test_efficientnet, 32 px" in card
    assert "def frames_of(image):" in card
    assert read_artifact(model).sizes == (48, 32)
