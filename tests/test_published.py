"""The published weights: made of a run, installed as a distribution of their own, used by name without network."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from mococxr.commands import run
from mococxr.encoders import LITE0, EncoderSource, EncoderSpec, load_encoder, published, resolve_encoder, trained_on
from mococxr.errors import InputError
from mococxr.exporting.card import starting_licence
from mococxr.files import read_json, write_json
from mococxr.pretraining.run_folder import pretrained_before
from mococxr.reproduction.runner import _copy_seen as copy_seen
from mococxr.store import Store
from mococxr.studies import baseline
from small_run import tiny_run
from small_store import run_study

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "weights"
SIZE = 48
FIT: dict[str, Any] = {"encoder": "imagenet", "target": "Effusion", "device": "cpu", "jobs": 1}

pytestmark = pytest.mark.usefixtures("no_network")


def load_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_weights", WEIGHTS / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def maker(synthetic_store: Path) -> ModuleType:
    """The script, for which synthetic images may be published and random weights are ImageNet's."""
    module = load_maker()
    module.SOURCES = {Store.open(synthetic_store).source: "images drawn by a program"}
    module.STUDIES = {next(iter(module.SOURCES)): {"target": ["Effusion"], "fraction": [1.0], "replicates": 200}}
    module.START, module.BESIDE = "random", ("random@32",)
    return module


@pytest.fixture(scope="module")
def runs(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs, the second from the first."""
    folder = tmp_path_factory.mktemp("runs")
    first = tiny_run(synthetic_store, folder / "first", epochs=1, mean=0.4, std=0.3, channels=1)
    return first, tiny_run(synthetic_store, folder / "second", epochs=1, init=str(first), mean=0.4, std=0.3, channels=1)


@pytest.fixture(scope="module")
def site(runs: tuple[Path, Path], maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution made and installed by pip, without network, into a folder of its own."""
    place = tmp_path_factory.mktemp("weights") / "weights"
    shutil.copytree(WEIGHTS, place, ignore=shutil.ignore_patterns("*.safetensors", "*.parquet", "*.npy", "build"))
    maker.write_card(place / "README.md", maker.publish(runs[1], place / "mococxr_weights", SIZE), [])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", place.parent / "site", place], check=True, capture_output=True)
    return place.parent / "site"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(site)
    return site / "mococxr_weights"


@pytest.fixture
def wider(site: Path, synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Installed weights that saw a test image of the store, too; its hash."""
    folder, store = tmp_path / "wider" / "mococxr_weights", Store.open(synthetic_store)
    shutil.copytree(site / "mococxr_weights", folder)
    sha256 = store.index["sha256"][int(store.rows_in("test")[0])]
    images = pl.DataFrame({"sha256": [sha256], "fingerprint": [bytes(32)]})
    pl.concat([pl.read_parquet(folder / "images.parquet"), images]).write_parquet(folder / "images.parquet")
    monkeypatch.syspath_prepend(folder.parent)
    return sha256


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "PACKAGE", "no_package_of_this_name")


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix not in (".py", "")}


def test_installed_weights_give_the_features_of_the_run_by_name(installed: Path, runs, maker) -> None:
    source = resolve_encoder(LITE0)
    assert (source.path, source.spec.size, source.spec.channels) == (installed, SIZE, 1)
    assert (source.spec.mean, source.spec.std) == (0.4, 0.3)
    ours = maker.answers(load_encoder(LITE0, features="stages"), SIZE)
    theirs = maker.answers(load_encoder(runs[1], features="stages"), SIZE)
    assert 0 < maker.apart(theirs, ours) < maker.TOLERANCE
    np.testing.assert_array_equal(np.load(installed / "proof.npy"), theirs)
    assert maker.apart(theirs, maker.answers(load_encoder(runs[0], features="stages"), SIZE)) > maker.TOLERANCE


def test_the_same_run_gives_the_same_bytes_half_of_them_and_no_path_of_this_machine(installed, runs, maker, tmp_path):
    facts = maker.publish(runs[1], tmp_path / "again", SIZE)
    files = files_of(installed)
    assert files_of(tmp_path / "again") == files
    assert set(files) == set(facts["hashes"])
    whole = len((runs[1] / "encoder.safetensors").read_bytes())
    assert 0.4 * whole < len(files["encoder.safetensors"]) < 0.7 * whole
    text = b"".join(content for name, content in files.items() if not name.endswith((".npy", ".parquet")))
    assert str(tmp_path.parents[1]).encode() not in text
    record = json.loads(files["run.json"])
    assert (record["kind"], record["init"], record["auxiliary"]) == (LITE0, "random", [])


@pytest.mark.usefixtures("absent")
def test_without_the_distribution_the_way_to_have_it_is_said() -> None:
    for name in (LITE0, f"{LITE0}@96"):
        with pytest.raises(InputError, match=r"Run pip install \./weights"):
            load_encoder(name)
    with pytest.raises(InputError, match=f"Did you mean {LITE0}"):
        load_encoder("mococxr-lite")


@pytest.mark.usefixtures("wider")
def test_a_study_takes_its_network_for_the_baseline_and_knows_which_test_images_it_saw(
    synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = resolve_encoder(LITE0)

    def imagenet(name: str, *, backbone: str, size: int, features: str) -> EncoderSource:
        return EncoderSource(name, "random", EncoderSpec(backbone, size, features=features))

    monkeypatch.setattr(baseline, "imagenet_on_disk", lambda _: True)
    monkeypatch.setattr(baseline, "resolve_encoder", imagenet)
    out = run_study(
        {"store": synthetic_store, "arm": [LITE0, "random"], "target": ["Effusion"], "fraction": [1.0], "draws": 1,
         "replicates": 200, "device": "cpu", "jobs": 1, "out": tmp_path / "study", "baseline": True}
    )  # fmt: skip
    facts = read_json(out / "study.json")
    parts = {arm: (block["parts"][0]["timm"], block["parts"][0]["mean"]) for arm, block in facts["arms"].items()}
    network = source.spec.architecture
    assert parts == {LITE0: (network, 0.4), "random": (network, 0.4), "imagenet@64": (network, 0.449)}
    assert facts["images_in_both"][f"{LITE0}/{LITE0}"] == {"test_images": 11, "same": 1, "near_duplicates": 0}
    assert facts["arms"][LITE0]["trained_on"] == trained_on(LITE0).sentence()
    assert facts["arms"][LITE0]["pretrained_on"]["images"] > 0
    assert not any("whose images" in text for text in facts["warnings"])
    run("report", {"study": out})
    assert "NIH ChestX-ray14, children of Guangzhou" in (out / "report.md").read_text()


def test_a_run_from_them_brings_their_greys_and_hands_on_what_they_saw(wider, synthetic_store, tmp_path):
    out = tiny_run(synthetic_store, tmp_path / "run", epochs=1, init=LITE0, size=32)
    spec = load_encoder(out).spec
    assert (spec.mean, spec.std, spec.channels, spec.size) == (0.4, 0.3, 1, 32)
    assert read_json(out / "run.json")["started_from"] == {"known": True, "sets": ["nih", "kermany"], "labels": False}
    assert wider in set(pl.read_parquet(out / "images.parquet")["sha256"])
    assert pretrained_before(LITE0) == (read_json(resolve_encoder(LITE0).path / "run.json")["verdict"] != "too easy")


@pytest.mark.usefixtures("absent")
def test_a_run_from_weights_that_are_gone_is_read_all_the_same() -> None:
    assert not pretrained_before(LITE0)


@pytest.mark.parametrize("state", ["installed", "absent"])
def test_fit_names_them_to_who_has_few_images_and_imagenet(state, synthetic_store, request, monkeypatch):
    from mococxr.classifier import fit

    request.getfixturevalue(state)
    store = Store.open(synthetic_store)
    record = {"encoders": [{"name": "imagenet@96"}]}
    (line,) = fit.better_start(record, store)
    assert LITE0 in line
    assert ("pip install" in line) == (state == "absent")
    assert fit.better_start({"encoders": [{"name": "imagenet"}, {"name": "run"}]}, store) == []
    monkeypatch.setattr(fit, "FEW", len(store.rows_in("train")))
    assert fit.better_start(record, store) == [], "enough to pretrain on"
    monkeypatch.undo()
    monkeypatch.setattr(Store, "source", "NIH ChestX-ray14")
    assert fit.better_start(record, store) == [], "they may have seen these images"


def test_the_card_says_data_recipe_licence_and_the_figures_of_a_study(runs, maker, synthetic_store, tmp_path):
    (folder,) = maker.judge(runs[1], SIZE, [synthetic_store])
    artifact = maker.read_artifact(runs[1])
    maker.write_card(
        tmp_path / "README.md", maker.publish(runs[1], tmp_path / "out", SIZE), [maker.figures(artifact, SIZE, folder)]
    )
    card = (tmp_path / "README.md").read_text()
    cell = pl.read_csv(folder / "cells.csv").row(0, named=True)
    words = f"| Effusion | 100 % | {cell['auroc']:.3f} ({cell['low']:.3f}, {cell['high']:.3f}) |"
    for text in (words, "images drawn by a program", "CC BY 4.0", "\n2. ", "No medical device", "11 test images"):
        assert text in card, text
    assert str(tmp_path.parents[1]) not in card
    with pytest.raises(InputError, match=f"judged the run at {SIZE} px"):
        maker.figures(artifact, SIZE + 1, folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"init": "xrv:densenet121-res224-nih"}, "started from xrv:"),
        ({"pretrained_on": {"splits": "train", "stores": [{"source": "pool"}]}}, "saw images of 'pool'"),
        ({"pretrained_on": {"splits": "train+test", "stores": []}}, "validation or test patients"),
    ],
)
def test_a_run_of_other_images_is_not_published_nor_one_that_started_from_it(change, words, runs, maker, tmp_path):
    shutil.copytree(runs[0], tmp_path / "first")
    shutil.copytree(runs[1], tmp_path / "second")
    write_json(tmp_path / "first" / "run.json", read_json(runs[0] / "run.json") | change)
    second = read_json(runs[1] / "run.json") | {"init": str(tmp_path / "first")}
    write_json(tmp_path / "second" / "run.json", second)
    with pytest.raises(InputError, match=words):
        maker.publish(tmp_path / "second", tmp_path / "out", SIZE)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
    not (WEIGHTS / "mococxr_weights/encoder.safetensors").is_file(), reason="no weights are published yet"
)
def test_the_published_weights_give_the_features_that_their_run_gave() -> None:
    folder, script = WEIGHTS / "mococxr_weights", load_maker()
    encoder = load_encoder(folder, features="stages")
    features = script.answers(encoder, encoder.size)
    assert script.apart(np.load(folder / "proof.npy"), features) < script.TOLERANCE
    assert sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) <= script.MOST


@pytest.mark.parametrize("record", [{"kind": LITE0, "init": "imagenet"}, {"init": LITE0}])
def test_cards_of_what_was_made_from_them_name_whose_images_they_learned_from(record: dict[str, str]) -> None:
    stated = starting_licence(record, "tf_efficientnet_lite0")
    assert "NIH Clinical Center" in stated
    assert "CC BY 4.0" in stated


def test_a_reproduction_that_starts_from_them_hands_on_what_they_saw(wider: str, tmp_path: Path) -> None:
    copy_seen(tmp_path, LITE0)
    assert wider in set(pl.read_parquet(tmp_path / "images.parquet")["sha256"])
