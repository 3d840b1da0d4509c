"""What every command does on a terminal: how much it says, JSON for programs, the next command, words that people try."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mococxr import cli, commands, console
from mococxr.settings import COMMANDS
from small_world import status as seen_status
from test_console import seen_on_a_terminal


def every_field(command: str) -> list[Any]:
    by_position, by_name = commands.fields_of(command)
    return [*by_position, *by_name]


@pytest.fixture
def speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """`report` says something of each kind, works a little, and returns a number; `views` a path."""

    def report(_: Any) -> dict[str, Any]:
        console.say("a message")
        console.warn("a warning")
        console.result("a result")
        with console.progress("work", 2) as bar:
            bar.advance(2)
        return {"auroc": 0.75}

    room = ModuleType("a_room")
    room.report, room.views = report, lambda settings: settings.out  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_room", room)
    monkeypatch.setitem(commands.ENTRIES, "report", "a_room:report")
    monkeypatch.setitem(commands.ENTRIES, "views", "a_room:views")


@pytest.mark.usefixtures("speaks")
def test_quiet_leaves_results_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert seen_status("report", "study") == 0
    said = capsys.readouterr()
    assert "a message" in said.err
    assert "work: 2 images" in said.err
    assert seen_status("report", "--quiet", "study") == 0
    assert capsys.readouterr() == ("a result\n", "warning: a warning\n")
    assert seen_status("report", "--quiet") == 2
    assert "missing" in capsys.readouterr().err
    assert console.manner == console.Manner(), "the next call says everything again"


@pytest.mark.usefixtures("speaks")
def test_json_is_all_that_standard_output_has(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert seen_status("report", "study", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"auroc": 0.75}
    assert "a result" in said.err
    assert seen_status("views", "store", "--out", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(tmp_path)}


def test_json_of_evaluate_is_a_setting_where_a_file_follows() -> None:
    line = ["evaluate", "t.csv", "--json", "numbers.json"]
    assert cli._switches(line) == (line, set())
    assert cli._switches(["evaluate", "t.csv", "--json"]) == (["evaluate", "t.csv"], {"--json"})
    assert cli._switches(["predict", "--json", "model"]) == (["predict", "model"], {"--json"})


@pytest.mark.usefixtures("speaks")
def test_verbose_says_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert seen_status("views", "store", "--out", "a.png", "--verbose") == 0
    said = capsys.readouterr().err
    assert all(f"{field.name}:" in said for field in every_field("views"))


def test_all_settings_that_are_missing_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert seen_status("fit") == 2
    said = capsys.readouterr().err
    assert "4 settings are missing: STORE, --encoder, --target, --out." in said
    assert "Model folder to create." in said


@pytest.mark.parametrize(
    ("words", "same"), [(["help"], ["--help"]), (["help", "fit"], ["fit", "--help"]), (["version"], ["--version"])]
)
def test_words_that_people_try_are_understood(
    words: list[str], same: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert seen_status(*words) == seen_status(*same) == 0
    said = capsys.readouterr().out
    assert said[: len(said) // 2] == said[len(said) // 2 :]


@pytest.mark.parametrize("command", commands.NEXT)
def test_the_next_command_is_one_that_the_program_takes(command: str) -> None:
    values = {field.name: ("A",) if field.metadata["single"] else "a" for field in every_field(command)}
    line = shlex.split(commands.next_line(command, values))
    name, words = line[1], line[2:]
    assert name in COMMANDS
    flags = {word for word in words if word.startswith("--")}
    assert flags <= {f"--{field.name.replace('_', '-')}" for field in every_field(name)}


def test_the_next_command_has_the_folders_of_this_one() -> None:
    assert commands.next_line("pretrain", {"stores": [Path("my store"), "b"], "out": "run"}) == (
        "mococxr study 'my store' --target TARGET --arm moco=run --out study"
    )
    assert commands.next_line("predict", {}) == ""
    assert commands.next_line("prepare", {}) == "", "its folder stands in a file"


def test_completion_knows_every_command_and_setting() -> None:
    script = cli.application().generate_completion(prog_name="mococxr", shell="bash")
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", script)
    assert "--split-seed" in script


@pytest.mark.parametrize("columns", [60, 80])
def test_sentences_keep_to_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    block = {
        "model": "model",
        "label": "TB",
        "n": 3,
        "patients": 2,
        "interval": {"value": 0.5, "low": None, "high": None},
    }
    content = {"models": [block], "store": " ".join(["store"] * 30), "split": "test", "notes": []}
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    text = seen_on_a_terminal("-m", "mococxr", "info", ".", columns=columns)
    assert max(map(len, text.replace("\r", "").splitlines())) < columns
    assert "evaluation, made by" in text
