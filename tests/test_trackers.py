"""Experiment trackers: refused where missing, and what arrives in a log that is read back by the library itself."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import get_args, get_type_hints

import polars as pl
import pytest

from fake_study import fake_study
from mococxr import trackers
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.reporting.report import report_study
from mococxr.settings.fields import Tracked
from mococxr.trackers import TRACKERS, check_tracker, open_tracker
from small_run import TINY, make_synthetic_store

FEW = {"arms": ("moco", "imagenet"), "targets": ("Pneumonia",), "modes": ("linear",), "fractions": (0.01, 1.0)}


def test_the_setting_offers_the_trackers_that_there_are() -> None:
    assert set(get_args(get_type_hints(Tracked)["tracker"])) == TRACKERS.keys()


@pytest.mark.parametrize("command", ["pretrain", "study"])
def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_read_or_written(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None if name == "mlflow" else find(name))
    values = {"out": tmp_path / "out", "tracker": "mlflow"}
    nowhere = tmp_path / "no-store"
    values |= {"stores": [nowhere]} if command == "pretrain" else {"store": nowhere, "target": ["A"], "arm": ["random"]}
    with pytest.raises(InputError, match=r"needs the package mlflow\.\n.*pip install mlflow"):
        run(command, values)
    assert list(tmp_path.iterdir()) == []
    check_tracker("none")


def tracked_study(tmp_path: Path, name: str) -> Path:
    settings = {"draws": 5, "tracker": name, "target": ["Pneumonia"]}
    folder = fake_study(tmp_path / "study", **FEW, recorded={"settings": settings})
    report_study(folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="no tensorboard")
def test_tensorboard_reads_back_curves_settings_tables_and_figures_of_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tracked_study(tmp_path, "tensorboard")
    assert f"tensorboard --logdir {folder}" in capsys.readouterr().err
    log = EventAccumulator(
        str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0, "tensors": 0}
    ).Reload()
    cells = pl.read_csv(folder / "cells.csv").filter(arm="moco").sort("fraction")
    curve = [event.value for event in log.Scalars("auroc/Pneumonia/linear/moco")]
    assert sorted(curve) == pytest.approx(sorted(cells["auroc"].to_list()), abs=1e-6)
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {tag.removeprefix("figures/") for tag in log.Tags()["images"]} == figures
    tables = {tag.removesuffix("/text_summary") for tag in log.Tags()["tensors"]}
    assert {"settings", "tables/cells", "tables/differences"} <= tables
    text = log.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| tracker | tensorboard |" in text


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="no tensorboard")
def test_tensorboard_has_every_line_of_the_log_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    run("pretrain", {**TINY, "stores": [make_synthetic_store(tmp_path)], "out": folder, "tracker": "tensorboard"})
    assert f"tensorboard --logdir {folder}" in capsys.readouterr().err
    log = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    lines = pl.read_ndjson(folder / "log.jsonl")
    events = log.Scalars("loss")
    assert [event.step for event in events] == lines["step"].to_list()
    assert [event.value for event in events] == pytest.approx(lines["loss"].to_list(), rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="no mlflow: pip install mlflow")
def test_mlflow_reads_back_curves_settings_tables_and_figures_of_a_study(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = tracked_study(tmp_path, "mlflow")
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mococxr")
    assert experiment is not None
    (entry,) = client.search_runs([experiment.experiment_id])
    assert entry.data.params["tracker"] == "mlflow"
    cells = pl.read_csv(folder / "cells.csv").filter(arm="moco")["auroc"].to_list()
    history = client.get_metric_history(entry.info.run_id, "auroc/Pneumonia/linear/moco")
    assert sorted(point.value for point in history) == pytest.approx(sorted(cells))
    figures = {Path(item.path).name for item in client.list_artifacts(entry.info.run_id, "figures")}
    assert figures == {path.stem for path in (folder / "figures").glob("*.png")}
    assert "tables/cells.csv" in {item.path for item in client.list_artifacts(entry.info.run_id, "tables")}


def test_values_that_are_no_plain_ones_become_text(tmp_path: Path) -> None:
    log = open_tracker("none", tmp_path, {"a": [1, 2], "b": None, "c": 3})
    assert json.loads(json.dumps(log.plain_settings)) == {"a": "[1, 2]", "b": "None", "c": 3}
    assert log.close() == ""
    assert list(tmp_path.iterdir()) == []
