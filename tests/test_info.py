"""`info` knows what commands make, and `doctor` what a machine lacks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from mococxr.errors import InputError
from mococxr.images.dicom import codecs
from mococxr.running import doctor
from mococxr.running.info import KINDS, facts_of
from mococxr.settings import COMMANDS, DoctorSettings


def test_every_kind_is_declared_by_a_command_that_there_is() -> None:
    from mococxr.running.info import _declared

    kinds = [_declared(where) for where in KINDS]
    assert all(kind.made_by in COMMANDS for kind in kinds)
    assert len({kind.name for kind in kinds}) == len(kinds)
    rooms = {path.parent.name for path in Path(doctor.__file__).parents[1].glob("*/kind.py")}
    assert {where.split(".")[0] for where in KINDS} == rooms


def test_tables_are_known_by_their_columns(tmp_path: Path) -> None:
    tables = {
        "list": "rank,path,patient,split,chosen_by,probability,readers,TB\n1,a.png,p,train,random,0.5,1,1\n",
        "scores": "path,score,calibrated,decision\na.png,0.4,,1\nb.png,0.1,,0\n",
    }
    for kind, text in tables.items():
        (tmp_path / f"{kind}.csv").write_text(text)
        assert facts_of(tmp_path / f"{kind}.csv")["kind"] == kind
    assert facts_of(tmp_path / "list.csv")["numbers"] == {"images": 1, "patients": 1, "labelled, TB": 1}
    assert facts_of(tmp_path / "scores.csv")["numbers"]["called positive"] == 1
    pl.DataFrame({"path": ["a"], "patient": ["p"], "features": [[1.0, 2.0]]}).write_parquet(tmp_path / "f.parquet")
    assert facts_of(tmp_path / "f.parquet")["numbers"] == {"images": 1, "features": 2}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"models": 1}'])
def test_what_no_command_made_is_refused(tmp_path: Path, content: str) -> None:
    for name in ("manifest.json", "evaluation.json", "notes.csv"):
        (tmp_path / name).write_text(content)
    for path in (tmp_path, tmp_path / "notes.csv", tmp_path / "nothing"):
        with pytest.raises(InputError, match="nothing"):
            facts_of(path)


def test_what_was_begun_is_said_to_be_unfinished(tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text("{}")
    facts = facts_of(tmp_path)
    assert (facts["kind"], facts["finished"]) == ("study", False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One that lacks nothing."""
    monkeypatch.setattr(doctor, "_gpu", lambda: iter(()))  # PyTorch takes seconds
    monkeypatch.setattr(doctor, "_quota", lambda: None)
    monkeypatch.setattr(doctor, "_free_memory", lambda: 8e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=50e9))
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (4096, 4096))
    for name in doctor.THREADS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def checks_of(diagnosis: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in diagnosis["checks"]}


@pytest.mark.usefixtures("machine")
def test_a_machine_that_lacks_nothing_is_left_alone() -> None:
    diagnosis = doctor.run(DoctorSettings())
    assert diagnosis["exit_status"] == 0
    assert not [check for check in diagnosis["checks"] if check["state"] == "change"]
    assert json.loads(json.dumps(diagnosis)) == diagnosis


@pytest.mark.parametrize(
    ("lacking", "name", "remedy"),
    [
        (lambda m: m.setattr(doctor, "_quota", lambda: 0.5), "processor time", "--jobs 1"),
        (lambda m: m.setattr(doctor, "_free_memory", lambda: 1e9), "memory", "--jobs 1"),
        (lambda m: m.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9)), "disk", "Free some"),
        (lambda m: m.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6e7)), "shared memory", "--shm-size"),
        (lambda m: m.setenv("OMP_NUM_THREADS", "4096"), "threads", "Unset OMP_NUM_THREADS"),
        (lambda m: m.setattr(doctor.resource, "getrlimit", lambda _: (256, 256)), "open files", "ulimit"),
    ],
)  # fmt: skip
def test_what_should_be_changed_is_named_with_its_remedy(
    machine: pytest.MonkeyPatch, lacking: Any, name: str, remedy: str
) -> None:
    lacking(machine)
    diagnosis = doctor.run(DoctorSettings())
    assert diagnosis["exit_status"] == 3
    assert checks_of(diagnosis)[name]["state"] == "change"
    assert remedy in checks_of(diagnosis)[name]["remedy"]


def test_a_decoder_that_is_missing_is_named(machine: pytest.MonkeyPatch) -> None:
    machine.setitem(codecs._MODULES, "JPEG-LS", "not_installed")
    check = checks_of(doctor.run(DoctorSettings()))["DICOM"]
    assert "JPEG-LS (no decoder)" in check["text"]
    assert "mococxr[dicom]" in check["remedy"]
    assert set(codecs.decoders()) == {"JPEG", "JPEG 12", "JPEG Lossless", "JPEG-LS", "JPEG 2000", "RLE"}
