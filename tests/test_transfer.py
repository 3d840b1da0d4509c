"""An encoder from one store is studied on another: what the study says of the images behind each arm."""

from __future__ import annotations

import json

import cv2
import numpy as np
import polars as pl
import pytest
import torch

from mococxr.commands import run
from mococxr.encoders import EncoderSpec, build, load_encoder, save_encoder, trained_on
from mococxr.encoders.training_data import SETS, shared_sets
from mococxr.near_duplicates import candidate_pairs, fingerprints
from mococxr.store import Store
from mococxr.studies.provenance import DISTANCE
from small_encoders import CNN, images, small_dinov2, timm_repository, transformers_folder
from small_store import make_store, run_study

PRETRAIN = {"batch": 4, "queue": 8, "epochs": 1, "size": 32, "device": "cpu", "precision": "no", "backbone": CNN}
STUDY = {"target": ["Finding"], "fraction": [1.0], "draws": 1, "replicates": 200, "device": "cpu", "jobs": 1}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two hospitals with other images; of the second's test images one is a file of the first, one a copy of one."""
    place = tmp_path_factory.mktemp("transfer")
    source = make_store(place / "here", patients=24, split=(0.7, 0.1, 0.2))
    folder = place / "there"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(3)
    rows = []
    for i in range(40):
        image = cv2.GaussianBlur(rng.normal(110, 600, (112, 96)), (0, 0), 7).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i}.png"), image)
        split = "test" if i >= 20 else "train"
        rows.append({"path": f"images/{i}.png", "patient": f"p{i}", "split": split, "Finding": i % 2})
    seen = [source.path.parent / "images" / source.index["path"][int(row)] for row in source.rows_in("train")[:2]]
    (folder / "images" / "30.png").write_bytes(seen[0].read_bytes())
    image = cv2.imread(str(seen[1]), cv2.IMREAD_GRAYSCALE)
    smaller = cv2.resize(image, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "images" / "31.png"), smaller)
    pl.DataFrame(rows).write_csv(folder / "labels.csv")
    run("prepare", {"source": folder, "out": place / "store2", "size": 64, "jobs": 1})
    return source, Store.open(place / "store2")


@pytest.fixture(scope="module")
def pretrained(stores, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    run("pretrain", {"stores": [stores[0].path], "out": out, "init": "random", **PRETRAIN})
    return out


def study(store, out, arms, **changed):
    run_study({"store": store.path, "out": out, "arm": [str(arm) for arm in arms], **STUDY, **changed})
    return json.loads((out / "study.json").read_text())


def test_a_run_keeps_hashes_and_fingerprints_of_its_images_and_no_names(stores, pretrained):
    source = stores[0]
    kept = pl.read_parquet(pretrained / "images.parquet")
    rows = source.rows_in("train")
    assert kept.columns == ["sha256", "fingerprint"]
    assert kept["sha256"].to_list() == sorted(source.index["sha256"][rows].to_list())
    marks = dict(kept.iter_rows())
    expected = fingerprints(source.level(64).pixels(int(row)) for row in rows)
    for row, mark in zip(rows, expected, strict=True):
        assert marks[source.index["sha256"][int(row)]] == mark.tobytes()


def test_test_images_that_the_run_saw_are_counted_listed_and_shouted_about(stores, pretrained, tmp_path):
    facts = study(stores[1], tmp_path / "study", [f"moco={pretrained}", "random"])
    assert facts["images_in_both"] == {f"moco/{pretrained.name}": {"test_images": 20, "same": 1, "near_duplicates": 1}}
    (warning,) = [text for text in facts["warnings"] if text.startswith("TEST IMAGES SEEN")]
    assert "1 are files" in warning
    listed = pl.read_csv(tmp_path / "study" / "copies.csv")
    found = dict(zip(listed["path"], listed["match"], strict=True))
    assert found == {"images/30.png": "same file", "images/31.png": "looks the same"}
    index = stores[1].index
    assert [index["path"][row] for row in listed["row"]] == listed["path"].to_list()
    assert facts["arms"]["moco"]["pretrained_on"]["source"] == stores[0].source
    assert facts["store"]["source"] == stores[1].source != stores[0].source
    run("report", {"study": tmp_path / "study"})
    report = (tmp_path / "study" / "report.md").read_text()
    assert stores[0].source in report
    assert stores[1].source in report


def test_other_patients_of_the_same_store_are_no_copies(stores, pretrained, tmp_path):
    facts = study(stores[0], tmp_path / "study", [f"moco={pretrained}", "random"])
    assert facts["warnings"] == []
    assert facts["images_in_both"][f"moco/{pretrained.name}"]["same"] == 0
    assert not (tmp_path / "study" / "copies.csv").exists()


def test_a_run_without_fingerprints_is_said_not_to_be_checked(stores, pretrained, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    for name in ("encoder.json", "encoder.safetensors", "run.json", "patients.csv"):
        (old / name).write_bytes((pretrained / name).read_bytes())
    facts = study(stores[1], tmp_path / "study", [f"moco={old}", "random"])
    assert facts["images_in_both"] == {"moco/old": None}
    assert any("not checked" in text for text in facts["warnings"])


def test_no_real_image_of_one_hospital_looks_like_one_of_another(real_data):
    """The distance at which a study warns gives no false alarm, and a smaller level of an image is still the image."""
    adults, children = (
        [
            cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            for file in sorted((real_data / name / "images").iterdir())[::step]
        ]
        for name, step in (("nih", 4), ("pediatric", 8))
    )
    marks = fingerprints(adults)
    assert len(candidate_pairs(marks, fingerprints(children), 3 * DISTANCE)) == 0
    levels = fingerprints(cv2.resize(image, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA) for image in adults)
    assert np.unpackbits(marks ^ levels, axis=1).sum(axis=1).max() <= DISTANCE


def test_what_an_earlier_run_saw_is_handed_on(stores, pretrained, tmp_path):
    out = tmp_path / "second"
    run("pretrain", {"stores": [stores[1].path], "out": out, "init": str(pretrained), **PRETRAIN})
    before, now = (pl.read_parquet(place / "images.parquet") for place in (pretrained, out))
    assert set(before["sha256"]) < set(now["sha256"])
    sources = set(pl.read_csv(out / "patients.csv")["source"])
    assert sources == {store.source for store in stores}
    told = json.loads((out / "run.json").read_text())["started_from"]
    assert told == {"known": True, "sets": [], "labels": False}


@pytest.mark.parametrize("kind", ["transformers", "timm", "file"])
def test_any_encoder_is_pretrained_studied_and_trained_through(stores, tmp_path, kind):
    """From each kind of start: a run that loads alone, a solved head, all layers trained."""
    if kind == "transformers":
        transformers_folder(tmp_path / "rad-dino", small_dinov2())
        encoder = f"hf:{tmp_path / 'rad-dino'}"
    elif kind == "timm":
        timm_repository(tmp_path / "repo", "test_vit", size=32)
        encoder = f"hf:{tmp_path / 'repo'}"
    else:
        save_encoder(build(EncoderSpec(CNN, 32, channels=1)), tmp_path / "given", {})
        encoder = f"{CNN}:{tmp_path / 'given' / 'encoder.safetensors'}"
    out = tmp_path / "run"
    how = {**PRETRAIN, "channels": 1} if kind == "file" else PRETRAIN
    run("pretrain", {"stores": [stores[0].path], "out": out, "init": encoder, **how})
    again = load_encoder(out)
    assert again(images(2, 32)).shape == (2, again.spec.feature_dim)
    assert again.spec.size == 32
    facts = study(
        stores[1], tmp_path / "study", [f"moco={out}", f"start={encoder}"],
        mode=["linear", "finetune"], epochs=0.3, checkpoints=0,
    )  # fmt: skip
    cells = pl.read_csv(tmp_path / "study" / "cells.csv")
    assert len(cells) == 4
    assert cells["auroc"].null_count() == 0
    for arm in facts["arms"].values():
        assert arm["seconds_per_image"] > 0
        assert arm["parameters"] == sum(p.numel() for p in again.parameters())
        assert all(len(sha256) == 64 for files in arm["files_sha256"] for sha256 in files.values())
    assert str(tmp_path) not in json.dumps(facts["arms"])
    if kind == "transformers":
        assert (again.spec.mean, again.spec.package) == ((0.48, 0.45, 0.40), "transformers")
        assert "NIH ChestX-ray14" in facts["arms"]["start"]["trained_on"] == facts["arms"]["moco"]["trained_on"]
    else:
        assert sum("not known" in text for text in facts["warnings"]) == 2


def test_a_model_of_a_transformers_encoder_is_kept_and_scores_again(stores, tmp_path):
    transformers_folder(tmp_path / "small", small_dinov2())
    run(
        "fit",
        {"store": stores[1].path, "encoder": f"hf:{tmp_path / 'small'}", "target": "Finding", "out": tmp_path / "model",
         "device": "cpu"},
    )  # fmt: skip
    run(
        "predict", {"model": tmp_path / "model", "images": [stores[1].path], "out": tmp_path / "s.csv", "device": "cpu"}
    )
    assert len(pl.read_csv(tmp_path / "s.csv")) == 40


@pytest.mark.parametrize(
    ("encoder", "sentence"),
    [
        ("imagenet", "no chest images"),
        ("timm:resnet50.a1_in1k", "no chest images"),
        ("resnet50", "no chest images"),
        ("vit_base_patch16_224.augreg2_in21k_ft_in1k", "no chest images"),
        ("resnet50.fb_swsl_ig1b_ft_in1k", "not known"),
        ("vit_base_patch14_dinov2.lvd142m", "not known"),
        ("hf:timm/resnet18.a1_in1k", "no chest images"),
        ("hf:someone/net", "not known"),
        ("xrv:densenet121-res224-chex", "CheXpert (with labels)"),
        ("hf:microsoft/rad-dino", "MIMIC-CXR, CheXpert, NIH ChestX-ray14, PadChest, BRAX (without labels)"),
        ("/somewhere/weights.pt", "not known"),
    ],
)
def test_what_is_known_of_training_data_is_said_and_nothing_else(encoder, sentence):
    assert trained_on(encoder).sentence() == sentence


def test_a_store_is_matched_with_the_sets_whose_images_it_may_hold():
    every = tuple(SETS)
    assert shared_sets("chexpert", every) == ("chexpert",)
    assert shared_sets("CheXpert-v1.0-small", every) == ("chexpert",)
    assert set(shared_sets("rsna", every)) == {"nih", "rsna", "siim"}
    assert shared_sets("NIH_ChestX-ray14", ("rsna",)) == ("rsna",)
    assert shared_sets("pediatric", every) == shared_sets("shenzhen", every) == ()


def test_published_weights_that_may_have_seen_the_test_images_are_warned_of():
    from mococxr.encoders import EncoderSource
    from mococxr.studies.design import Arm
    from mococxr.studies.provenance import encoder_warnings

    class Nih:
        source = "nih"
        manifest = {"size": 320}  # noqa: RUF012

    class Small(Nih):
        manifest = {"size": 200}  # noqa: RUF012

    source = EncoderSource("xrv:densenet121-res224-rsna", "xrv", EncoderSpec("densenet121", 224))
    (warning,) = encoder_warnings(Nih, Nih, [Arm("theirs", ((source,),), ("theirs",))])
    assert "with labels, on RSNA Pneumonia" in warning
    Nih.source = "pediatric"
    for stores in ((Small, Nih), (Nih, Small)):  # the images that train and those that test
        (warning,) = encoder_warnings(*stores, [Arm("theirs", ((source,),), ("theirs",))])
        assert "224 px, larger than the images of the store (200 px)" in warning
    assert encoder_warnings(Nih, Nih, [Arm("theirs", ((source,),), ("theirs",))]) == []


def test_the_cost_of_an_image_grows_with_the_work():
    from mococxr.features import seconds_per_image

    encoder = build(EncoderSpec(CNN, 32))
    assert 0 < seconds_per_image(encoder, 32) < seconds_per_image(encoder, 256)
    assert torch.is_grad_enabled()
