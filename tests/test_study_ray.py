"""`study --executor ray`, the cluster in this process: a local study's numbers, one pass over the images an arm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fake_ray import FakeRay
from mococxr.commands import run
from mococxr.encoders import EncoderSpec, build, save_encoder
from mococxr.errors import RunError
from mococxr.studies import executors, trial
from mococxr.studies.folder import is_finished
from small_store import BACKBONE, make_store, run_study


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and two encoders with other random weights."""
    folder = tmp_path_factory.mktemp("ray")
    make_store(folder, patients=40)
    for i in (1, 2):
        save_encoder(build(EncoderSpec(BACKBONE, 32, mean=0.4), seed=i), folder / f"run{i}", {})
    return folder


def study(place: Path, out: Path, **changed: object) -> Path:
    given: dict[str, Any] = {
        "store": place / "store", "out": out, "target": ["Finding"], "fraction": [0.3, 1.0], "draws": 2,
        "arm": [f"one={place / 'run1'}", f"two={place / 'run2'}"], "replicates": 200, "device": "cpu", "jobs": 1,
    }  # fmt: skip
    return run_study(given | changed)


def numbers(folder: Path) -> dict[str, object]:
    """All that a study found: records without the time they took, and the bytes of predictions and tables."""
    files = [*folder.glob("predictions/*"), *folder.glob("draws/*"), folder / "cells.csv", folder / "differences.csv"]
    found: dict[str, object] = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    for file in folder.glob("trials/*.json"):
        found[file.name] = {name: value for name, value in json.loads(file.read_text()).items() if name != "seconds"}
    assert len(found) > 4
    return found


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`use(ray)`: what a study then finds in the place of Ray."""
    monkeypatch.setattr("mococxr.workers.configure_process", lambda: None)
    monkeypatch.setattr("mococxr.cluster.GRACE", 0.0)

    def put(ray: FakeRay) -> FakeRay:
        @contextmanager
        def joined() -> Iterator[FakeRay]:
            threads = torch.get_num_threads()
            yield ray
            torch.set_num_threads(threads)  # a task sets those of its own process

        monkeypatch.setattr("mococxr.studies.executors.connected", joined)
        return ray

    return put


@pytest.fixture(scope="module")
def local(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = study(place, tmp_path_factory.mktemp("local") / "study")
    run("report", {"study": out})
    return out


def test_a_study_over_a_cluster_finds_what_a_local_one_finds(
    place: Path, local: Path, tmp_path: Path, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = use(FakeRay(cpus=6))
    monkeypatch.chdir(tmp_path)  # a folder named in short: tasks have another working folder
    over = study(place, Path("over"), executor="ray", jobs=None)
    assert numbers(over) == numbers(local)
    cpus = [options["num_cpus"] for options in ray.started]
    assert cpus == [min(6, torch.get_num_threads())] * 2 + [1] * 6  # two passes, then six trials of one core
    assert not [options for options in ray.started if options["num_gpus"]]


def test_images_are_read_once_for_each_encoder_whatever_the_fractions_and_draws(
    place: Path, tmp_path: Path, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = trial.features

    def counted(encoder: Any, store: Any, rows: Any, **how: Any) -> Any:
        read.append(len(rows))
        return real(encoder, store, rows, **how)

    monkeypatch.setattr(trial, "features", counted)
    much: dict[str, Any] = {"fraction": [0.3, 0.6, 1.0], "draws": 3}
    here = study(place, tmp_path / "here", **much)
    assert len(read) == 2
    assert len(list(here.glob("trials/*.json"))) == 2 * (2 * 3 + 1)
    assert len(list(here.glob("features/*.npy"))) == 2
    ray = use(FakeRay())
    there = study(place, tmp_path / "there", **much, executor="ray")
    assert len(read) == 4
    assert numbers(there) == numbers(here)
    tasks = len(ray.started)
    study(place, there, **much, executor="ray", replicates=200)
    assert len(ray.started) == tasks, "nothing is done again"


def test_tasks_share_a_folder_of_features_with_local_studies(
    place: Path,
    local: Path,
    tmp_path: Path,
    use: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(FakeRay())
    monkeypatch.chdir(tmp_path)
    first = study(place, tmp_path / "first", executor="ray", feature_cache="shared")
    monkeypatch.setattr(trial, "features", None)  # nothing more is read
    second = study(place, tmp_path / "second", feature_cache="shared")
    third = study(place, tmp_path / "third", executor="ray", feature_cache="shared", jobs=2)
    assert capsys.readouterr().err.count("features: 0 images are read") == 2
    assert numbers(first) == numbers(second) == numbers(third) == numbers(local)
    assert len(list((tmp_path / "shared").glob("*.npy"))) == 2


def test_a_study_begun_on_a_cluster_goes_on_here_and_the_other_way_round(
    place: Path, local: Path, tmp_path: Path, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(FakeRay(deaths=[5]))
    with pytest.raises(RunError, match=r"died 4 times \(WorkerCrashedError\)"):
        study(place, tmp_path / "study", executor="ray")
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "study" / "trials").glob("*.json")}
    assert 0 < len(done) < 6
    study(place, tmp_path / "study")
    assert f"{len(done)} of 6 trials are done already" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in done} == done
    assert numbers(tmp_path / "study") == numbers(local)
    asked = json.loads((local / "study.json").read_text())["settings"]
    assert is_finished(local, asked | {"executor": "ray", "gpus": 0.5, "jobs": 7})
    next((tmp_path / "study" / "trials").glob("*.json")).unlink()
    use(FakeRay())
    study(place, tmp_path / "study", executor="ray")
    assert numbers(tmp_path / "study") == numbers(local)


def test_training_by_gradient_takes_a_share_of_a_gpu_and_a_solved_head_none(
    place: Path, tmp_path: Path, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = use(FakeRay(gpus=1))
    how = {"mode": ["linear", "finetune"], "fraction": [1.0], "epochs": 0.5, "device": "auto", "checkpoints": 0}
    over = study(place, tmp_path / "over", **how, executor="ray")
    assert [options["num_gpus"] for options in ray.started] == [0.25, 0.25, 0, 0, 0.25, 0.25]
    told = capsys.readouterr().err
    assert told.count("torch sees none there") == 1
    assert numbers(over) == numbers(study(place, tmp_path / "here", **how))


def test_a_machine_without_the_encoder_or_with_another_study_is_refused(
    place: Path, tmp_path: Path, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(FakeRay())
    real = executors._seen

    def then(change: Callable[[], object]) -> None:
        def seen(work: Any) -> Any:
            found = real(work)
            change()
            return found

        monkeypatch.setattr(executors, "_seen", seen)

    spec = place / "run2" / "encoder.json"
    then(lambda: spec.rename(place / "hidden.json"))
    with pytest.raises(RunError, match=r"does not see the encoder .*run2"):
        study(place, tmp_path / "a", executor="ray")
    (place / "hidden.json").rename(spec)
    then(lambda: (tmp_path / "b" / "inputs.json").write_text("{}"))
    with pytest.raises(RunError, match="does not see the study folder"):
        study(place, tmp_path / "b", executor="ray")
