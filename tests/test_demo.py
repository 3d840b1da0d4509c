"""The demo in small: every step said as a user would type it, and nothing done twice."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mococxr import commands
from mococxr.errors import InputError
from mococxr.settings import COMMANDS, DemoSettings, make
from mococxr.store import Store
from mococxr.synthetic import demo, loop
from small_store import BACKBONE
from small_world import status

STEPS = ["prepare", "views", "pretrain", "study", "fit", "predict"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DemoSettings:
    """A demo of seconds, as where the extra imagenet-offline is not installed."""
    monkeypatch.setattr(demo, "BACKBONE", BACKBONE)
    monkeypatch.setattr(demo, "OFFLINE", "not_installed")
    monkeypatch.setattr(demo, "IMAGES", {"size": 64, "prevalence": 0.5})
    monkeypatch.setattr(demo, "STORE_SIZE", 48)
    monkeypatch.setattr(demo, "VIEW_SIZE", 32)
    monkeypatch.setattr(demo, "DRAWS", 2)
    monkeypatch.chdir(tmp_path)
    return DemoSettings(out=Path("my demo"), images=200, epochs=1)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The commands that the demo gives, as they are given."""
    given: list[tuple[str, dict[str, Any]]] = []
    run = commands.run

    def note(command: str, settings: dict[str, Any]) -> Any:
        given.append((command, settings))
        return run(command, settings)

    monkeypatch.setattr(commands, "run", note)
    return given


@pytest.mark.slow
def test_the_demo_goes_the_whole_way_and_a_stopped_one_goes_on(
    small: DemoSettings,
    steps: list[tuple[str, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mococxr.pretraining.pretrain.train", _stop)
        with pytest.raises(KeyboardInterrupt):
            demo.run(small)
    drawn = (small.out / "images" / "labels.csv").stat().st_mtime_ns
    steps.clear()
    report = demo.run(small)
    assert report == small.out / "study" / "report.html"
    assert report.is_file()
    assert [command for command, _ in steps] == STEPS
    assert dict(steps)["pretrain"]["resume"]
    assert (small.out / "images" / "labels.csv").stat().st_mtime_ns == drawn
    told = capsys.readouterr()
    assert "imagenet-offline is not installed" in told.err
    assert str(report) in told.out
    assert "proves nothing" in told.out

    trials = {path: path.stat().st_mtime_ns for path in (small.out / "study" / "trials").iterdir()}
    kept = {path: path.stat().st_mtime_ns for path in small.out.glob("*/*.safetensors")}
    demo.run(small)
    assert {path: path.stat().st_mtime_ns for path in trials} == trials
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert "finished; there is nothing to resume" in capsys.readouterr().err


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_lines_said_are_the_commands_given(
    small: DemoSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(commands, "run", lambda command, settings: given.append((command, settings)) or "r")
    monkeypatch.setattr(demo, "_scored", lambda *_: ["a b.png", "c.png"])
    demo.run(small)
    lines = [line[2:] for line in capsys.readouterr().err.splitlines() if line.startswith("$ ")]
    made = [make(COMMANDS[command], settings) for command, settings in given]
    assert [command for command, _ in given] == STEPS
    given.clear()
    for line in lines:
        assert status(*shlex.split(line)[1:]) == 0
    assert [make(COMMANDS[command], settings) for command, settings in given] == made


def test_a_demo_goes_on_only_with_its_own_settings(small: DemoSettings) -> None:
    small.out.mkdir()
    demo._claim(small.out, {"images": 200, "epochs": 1, "seed": 0, "loop": False})
    with pytest.raises(InputError, match="--images 200"):
        demo.run(DemoSettings(out=small.out, images=201, epochs=1))


@pytest.mark.slow
def test_the_loop_goes_from_no_label_to_a_table_of_rounds(
    small: DemoSettings,
    steps: list[tuple[str, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loop, "TEST", 30)
    monkeypatch.setattr(loop, "FIRST", 16)
    monkeypatch.setattr(loop, "ROUNDS", 2)
    page = demo.run(replace(small, loop=True))
    rounds = ["next", "label", "fit", "forecast", "predict", "evaluate"]
    assert [command for command, _ in steps] == ["prepare", "pretrain", "next", "label", *rounds, *rounds, "evaluate"]
    assert page.is_file()
    told = capsys.readouterr()
    store = Store.open(small.out / "store")
    truth = pl.read_csv(small.out / "images" / "labels.csv").select("path", truth="Effusion")
    labelled = store.index.filter(pl.col("Effusion").is_not_null()).join(truth, on="path")
    assert (labelled["Effusion"] == labelled["truth"]).all()
    assert Store.open(small.out / "store", "0").labels == [], "the store began without a label"
    table = pl.read_csv(small.out / "rounds.csv")
    assert table["labels"].to_list() == [16, 32]
    assert len(labelled) == 32 + min(30, len(store.rows_in("test")))
    assert all(str(cell) in told.out for cell in table["AUROC on the test labels"])
    assert "No image of a test patient has a label of Effusion" not in told.err, "the test set comes first"
    history = store.label_events
    demo.run(replace(small, loop=True))
    assert Store.open(small.out / "store").label_events == history
