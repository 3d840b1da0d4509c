"""`imagenet@288+run@96`: what is written around the name of an encoder, and what quotes keep together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import mococxr
from mococxr.encoders import EncoderSpec, build, load_encoder, quoted, resolve_encoders, save_encoder
from mococxr.encoders.names import EncoderName, arm_name, encoder_names, split_outside_quotes
from mococxr.errors import InputError
from mococxr.features import features
from mococxr.studies.design import read_arms
from small_store import BACKBONE, HOW

OPTIONS = {"backbone": BACKBONE, "size": 32, "mean": (), "std": (), "features": "last"}


@pytest.mark.parametrize(
    ("text", "names", "called"),
    [
        ("imagenet", [("imagenet", None)], "imagenet"),
        ("imagenet@288", [("imagenet", 288)], "imagenet@288"),
        ("imagenet@288+runs/a@96", [("imagenet", 288), ("runs/a", 96)], "imagenet@288+a@96"),
        ("'my+run'@96", [("my+run", 96)], "my+run@96"),
        ('"a@b/my+run"', [("a@b/my+run", None)], "my+run"),
        ("resnet18:'w+eights@2.pth'@64", [("resnet18:w+eights@2.pth", 64)], "w+eights@2@64"),
        ("hf:microsoft/rad-dino@main@224", [("hf:microsoft/rad-dino@main", 224)], "rad-dino@224"),
        ("hf:microsoft/rad-dino@main", [("hf:microsoft/rad-dino@main", None)], "rad-dino"),
        ("o'brien/run+random", [("o'brien/run", None), ("random", None)], "run+random"),
    ],
)
def test_a_text_is_its_encoders_with_their_sizes(text, names, called):
    assert encoder_names(text) == tuple(EncoderName(*name) for name in names)
    assert arm_name(text) == called


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("+run", "no encoder"), ("run+", "no encoder"), ("@96", "no encoder"), ("''@96", "no encoder"),
        ("run@8", "between 16 and 4096"), ("run@5000", "between 16 and 4096"), ("'run", "no end"),
    ],
)  # fmt: skip
def test_what_is_no_encoder_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        encoder_names(text)


@pytest.mark.parametrize("name", ["my+run", "run@96", "run@home", "a=b", "a,b"])
def test_a_path_with_signs_is_quoted_or_refused_and_a_path_object_is_taken_as_it_is(tmp_path, name):
    run = tmp_path / name
    save_encoder(build(EncoderSpec(BACKBONE, 32)), run, {})
    for text in (quoted(run), f'"{run}"'):
        assert encoder_names(text) == (EncoderName(str(run)),)
        (arm,) = read_arms([f"mine={text}"], OPTIONS)
        assert (arm.name, arm.sources[0][0].path) == ("mine", run)
    assert encoder_names(run) == (EncoderName(str(run)),)
    assert load_encoder(run).spec.feature_dim == 256
    if "+" in name or "@" in name:
        with pytest.raises(InputError, match="path with @ or") as refusal:
            encoder_names(str(run))
        assert f"'{run}'" in refusal.value.way_out


def test_marks_in_quotes_split_nothing():
    assert split_outside_quotes("a='b=c'=d", "=", 1) == ["a", "'b=c'=d"]
    assert split_outside_quotes("'x,y',z", ",") == ["'x,y'", "z"]


def test_a_size_behind_a_name_comes_before_the_size_of_all(tmp_path):
    save_encoder(build(EncoderSpec(BACKBONE, 64, mean=0.4)), tmp_path / "run", {})
    arms = read_arms([f"{tmp_path}/run@48", "random", "again=random@40"], OPTIONS | {"backbone": None})
    assert [(arm.name, arm.sources[0][0].spec.size) for arm in arms] == [("run@48", 48), ("random", 32), ("again", 40)]
    assert {arm.sources[0][0].spec.mean for arm in arms} == {0.4}, "random follows the run, whatever sizes are written"
    arms = read_arms([f"{tmp_path}/run", "random@40", "random"], OPTIONS | {"backbone": None, "size": None})
    assert [arm.sources[0][0].spec.size for arm in arms] == [64, 40, 64]
    assert [source.spec.size for source in resolve_encoders(f"{tmp_path}/run@96")] == [96]


def test_embed_and_fit_take_a_size_with_the_name(store, tmp_path):
    how = {name: value for name, value in HOW.items() if name != "size"}
    mococxr.embed(store.path, encoder="random@48", out=tmp_path / "a.parquet", size=32, **how)
    encoder = load_encoder("random@48", backbone=BACKBONE, features="stages")
    wanted = features(encoder, store, np.arange(len(store)), size=48, label=None)
    assert np.array_equal(np.array(pl.read_parquet(tmp_path / "a.parquet")["features"].to_list(), np.float32), wanted)
    model = mococxr.fit(store.path, encoder="random@48", target="Finding", out=tmp_path / "model", **how)
    classifier = mococxr.load_classifier(Path(model))
    image = store.pixels(0)
    assert classifier.frames_of(image)[0].shape == (48, 48)
    whole = [store.pixels(row) for row in range(3)]
    given = mococxr.Features("random@48", device="cpu").set_params(encoder=encoder).transform(whole)
    assert given.shape == (3, encoder.spec.feature_dim)
