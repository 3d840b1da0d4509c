"""What holds for every library that can be exported to: one list of checks over `WRITERS`.

A new one needs a way to load its folder in `LOADERS`; the test of the registry asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import timm
import torch
import torchvision
import yaml
from torch import nn

import mococxr
from mococxr.classifier.saved import load_model
from mococxr.exporting.export import WRITERS
from mococxr.files import sha256_file
from mococxr.settings import ExportSettings
from test_export import SMALL, ask, frames, make_model, make_run, no_identity, normal

SIZE = 32
NETWORKS = {"torchvision": "resnet18"}
"""Libraries that do not have the small network of the tests."""
SECTIONS = (
    "How to load it", "What goes in", "Training images", "Labels", "What was measured", "Limits",
    "Licence of what it started from", "Hashes (SHA-256)",
)  # fmt: skip


def in_timm(folder: Path, images: np.ndarray, classifies: bool) -> np.ndarray:
    return answer(timm.create_model(f"local-dir:{folder}", pretrained=True), images, classifies)


def in_torchvision(folder: Path, images: np.ndarray, classifies: bool) -> np.ndarray:
    network = torchvision.models.resnet18(weights=None, num_classes=1)
    if not classifies:
        network.fc = nn.Identity()
    network.load_state_dict(torch.load(folder / "model.pth", weights_only=True), strict=True)
    return answer(network, images, classifies)


def in_onnx(folder: Path, images: np.ndarray, _: bool) -> np.ndarray:
    return ask(folder, images)


def answer(network: nn.Module, images: np.ndarray, classifies: bool) -> np.ndarray:
    with torch.inference_mode():
        outputs = network.eval()(normal(images))
    return (outputs.sigmoid()[:, 0] if classifies else outputs).numpy()


LOADERS: dict[str, Callable[[Path, np.ndarray, bool], np.ndarray]] = {
    "timm": in_timm, "torchvision": in_torchvision, "onnx": in_onnx,
}  # fmt: skip


def test_every_library_is_checked_here_and_known_to_the_settings() -> None:
    assert set(LOADERS) == set(WRITERS) == set(get_args(get_type_hints(ExportSettings)["to"]))


def rows() -> list[Any]:
    """Library and kind; tracing a graph takes ten times as long as the rest."""
    pairs = [(to, kind) for to in WRITERS for kind in ("encoder", "classifier")]
    return [pytest.param(pair, marks=[pytest.mark.slow] if pair[0] == "onnx" else []) for pair in pairs]


@pytest.fixture(scope="module", params=rows())
def exported(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path, bool]:
    """The library, what was exported, its folder, and whether it is a classifier."""
    to, kind = request.param
    folder = tmp_path_factory.mktemp(f"{to}-{kind}")
    make = make_model if kind == "classifier" else make_run
    source = make(folder / "source", NETWORKS.get(to, SMALL), SIZE)
    return to, source, mococxr.export(source, to=to, out=folder / "out"), kind == "classifier"


def test_what_was_written_loads_back_and_gives_the_same(exported: Any) -> None:
    to, source, out, classifies = exported
    images = frames(SIZE)
    if classifies:
        expected = load_model(source).ensemble.scores(list(zip(images)), torch.device("cpu"))[:, 0]
    else:
        with torch.inference_mode():
            expected = mococxr.load_encoder(source)(torch.from_numpy(images[:, None])).numpy()
    assert np.ptp(expected) > 1e-3
    tolerance = 1e-4 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(LOADERS[to](out, images, classifies), expected, rtol=0, atol=tolerance)


def test_the_card_has_its_sections_and_the_hash_of_every_file(exported: Any) -> None:
    to, _, out, classifies = exported
    card, facts = (out / "README.md").read_text(), json.loads((out / "export.json").read_text())
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["library_name"], facts["to"]) == (to, to)
    headings = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert [name for name in headings if name in SECTIONS] == list(SECTIONS)
    assert ("From the score to a probability and a decision" in headings) == classifies
    assert facts["difference"] <= 1e-4
    assert {path.name for path in out.iterdir()} == {*facts["files_sha256"], "README.md", "export.json"}
    for name, digest in facts["files_sha256"].items():
        assert digest == sha256_file(out / name)
        assert digest in card


def test_nothing_in_the_folder_names_anybody(exported: Any) -> None:
    no_identity(exported[2])


def test_the_same_source_gives_the_same_bytes(exported: Any, tmp_path: Path) -> None:
    to, source, out, _ = exported
    again = mococxr.export(source, to=to, out=tmp_path / "again")
    assert {path.name: sha256_file(path) for path in again.iterdir()} == {
        path.name: sha256_file(path) for path in out.iterdir()
    }
