"""The Python face: explicit functions with real signatures, objects that other libraries take, nothing heavy."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import mococxr
from mococxr import commands, errors
from mococxr import features as interop
from mococxr.settings import COMMANDS
from mococxr.synthetic import write_synthetic
from small_store import BACKBONE

ROOT = Path(__file__).parents[1]
FUNCTIONS = {commands.PYTHON_NAMES.get(name, name): name for name in COMMANDS}
MANUAL = ("read_image", "load_encoder", "load_classifier", "read_results")


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_stubs", ROOT / "docs/make_stubs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_stub() -> dict[str, ast.FunctionDef]:
    stub = Path(mococxr.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    return {node.name: node for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef)}


def test_the_committed_stub_is_the_one_that_the_settings_make() -> None:
    assert Path(mococxr.__file__).with_suffix(".pyi").read_text() == _maker().stub(), "stale: run `make docs`"


@pytest.mark.parametrize("name", [*FUNCTIONS, *MANUAL])
def test_the_signature_at_run_time_is_that_of_the_stub(name: str) -> None:
    function = getattr(mococxr, name)
    assert getattr(mococxr, name) is function
    assert (function.__name__, function.__module__) == (name, "mococxr")
    assert pickle.loads(pickle.dumps(function)) is function
    stub, signature = in_stub()[name].args, inspect.signature(function)
    by_position = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_position == [argument.arg for argument in stub.args]
    assert list(signature.parameters) == [argument.arg for argument in (*stub.args, *stub.kwonlyargs)]
    defaults = [*[None] * (len(stub.args) - len(stub.defaults)), *stub.defaults, *stub.kw_defaults]
    for parameter, argument, default in zip(
        signature.parameters.values(), (*stub.args, *stub.kwonlyargs), defaults, strict=True
    ):
        assert (parameter.default is parameter.empty) is (default is None)
        if default is not None:
            value = parameter.default
            assert ast.literal_eval(default) == (str(value) if isinstance(value, Path) else value)
        if name in FUNCTIONS:
            assert ast.unparse(ast.parse(parameter.annotation)) == ast.unparse(argument.annotation)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_function_returns_is_what_its_command_returns(command: str) -> None:
    module, name = commands.ENTRIES[command].split(":")
    returns = inspect.signature(getattr(importlib.import_module(module), name)).return_annotation
    assert returns == commands.RETURNS.get(command, "Path")


@pytest.mark.slow
def test_mypy_takes_right_calls_and_refuses_wrong_ones(tmp_path: Path) -> None:
    lines = {
        'mococxr.prepare("x", out="y", size=320, label="TB", split=(0.5, 0.1, 0.4))': True,
        'mococxr.pretrain(["a", "b"], out="y", batch="auto", lr=None)': True,
        'mococxr.study("s", target=["TB"], arm="imagenet", out="o", mode="linear")': True,
        'len(mococxr.Store.open("s").rows_in("train"))': True,
        'mococxr.Features("run").transform([])': True,
        'mococxr.Images("store", split="test")[0]': True,
        'mococxr.load_classifier("m").predict([])': True,
        'mococxr.prepare("x", outt="y")': False,
        'mococxr.prepare("x")': False,
        'mococxr.fit("s", encoder="e", target="t", out="o", mode="probe")': False,
        'mococxr.pretrain("s", out="o", epochs="ten")': False,
        "mococxr.nonsense": False,
    }
    program = tmp_path / "program.py"
    program.write_text("\n".join(["import mococxr", *lines]) + "\n")
    stub = str(ROOT / "src/mococxr/__init__.pyi")  # this file alone: what torch is made of is not asked
    words = ["--follow-imports", "skip", "--config-file", os.devnull, "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, stub, str(program)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    refused = {int(line.split(":")[1]) for line in done.stdout.splitlines() if line.startswith("program.py:")}
    assert refused == {i for i, right in enumerate(lines.values(), 2) if not right}, done.stdout


def test_every_public_name_is_there_and_listed() -> None:
    public = {name for name in vars(mococxr) if not name.startswith("_")}
    assert set(mococxr.__all__) - {"__version__"} <= public
    assert {*FUNCTIONS, *MANUAL, "Store", "Images", "Features"} < set(mococxr.__all__)
    assert {name for name in vars(errors) if name.endswith("Error")} < set(mococxr.__all__)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny store with a run, a model and a study made from it, as the examples name them."""
    folder = tmp_path_factory.mktemp("api")
    write_synthetic(folder / "images", 12, size=72, prevalence=0.5, seed=3, jobs=1)
    cpu = {"device": "cpu", "jobs": 1}
    store = folder / "store"
    mococxr.prepare(folder / "images", out=store, size=48, split=(0.5, 0, 0.5), split_seed=21, jobs=1)
    mococxr.pretrain(
        store, out=folder / "run", backbone=BACKBONE, init="random", size=32, batch=2, key_groups=1, epochs=1,
        device="cpu",
    )  # fmt: skip
    made: dict[str, Any] = {"encoder": str(folder / "run"), "target": "Effusion", **cpu}
    mococxr.fit(store, out=folder / "model", **made)
    mococxr.study(
        store, target="Effusion", arm="random=" + str(folder / "run"), fraction=1, replicates=200,
        out=folder / "study", **cpu,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    "name", ["Store", "Images", "Features", "read_image", "load_encoder", "load_classifier", "read_results"]
)
def test_the_examples_in_the_docstrings_run(name: str, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders)
    found = doctest.DocTestFinder(recurse=False).find(getattr(mococxr, name), name, globs={"mococxr": mococxr})
    assert found[0].examples
    report: list[str] = []
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found[0], out=report.append).failed == 0, report


def test_features_are_those_of_embed_and_serve_in_scikit_learn(folders: Path) -> None:
    store = mococxr.Store.open(folders / "store")
    images = [store.pixels(row) for row in range(len(store))]
    labels = store.index["Effusion"].to_numpy()
    features = mococxr.Features(str(folders / "run"), device="cpu")
    whole = features.fit_transform(images)
    dataset = mococxr.Images(store, split=None)
    np.testing.assert_allclose(clone(features).transform(dataset), whole, atol=1e-6)
    encoder = mococxr.load_encoder(folders / "run")
    square = np.stack([image[:32, :32] for image in images])
    np.testing.assert_allclose(
        mococxr.Features(encoder, device="cpu").transform(square),
        encoder(torch.from_numpy(square)[:, None]).detach().numpy(),
        atol=1e-6,
    )
    assert features.get_params()["batch"] == 64
    assert isinstance(features, interop.Features)
    model = make_pipeline(features, LogisticRegression())
    assert cross_val_score(model, images, labels, cv=2).shape == (2,)
    assert pickle.loads(pickle.dumps(model.fit(images, labels))).predict(images).shape == (12,)


def test_images_are_a_torch_dataset_that_workers_read(folders: Path) -> None:
    images = mococxr.Images(folders / "store", split=("train", "val"), size=32, transform=lambda t: t.float())
    assert isinstance(images, torch.utils.data.Dataset)
    frames, rows = next(iter(torch.utils.data.DataLoader(images, batch_size=4)))
    assert frames.shape == (4, 1, 32, 32)
    assert rows.tolist() == images.rows[:4].tolist()


def test_a_classifier_scores_arrays_as_predict_scores_files(folders: Path) -> None:
    import polars as pl

    mococxr.predict(folders / "model", folders / "store", out=folders / "scores.csv", device="cpu", jobs=1)
    store = mococxr.Store.open(folders / "store")
    table = mococxr.load_classifier(folders / "model").predict(
        [store.pixels(row) for row in range(len(store))], device="cpu"
    )
    written = pl.read_csv(folders / "scores.csv")
    np.testing.assert_allclose(table["score"].to_numpy(), written["score"].to_numpy(), atol=1e-6)


def test_an_image_is_the_same_from_its_bytes(folders: Path) -> None:
    path = next((folders / "images").rglob("*.png"))
    np.testing.assert_array_equal(mococxr.read_image(path), mococxr.read_image(path.read_bytes()))
    with pytest.raises(mococxr.ImageError):
        mococxr.read_image(b"text")
