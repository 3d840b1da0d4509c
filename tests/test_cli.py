"""The command line: every way in, every way out."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import typing
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

import mococxr
from mococxr import cli, commands
from mococxr.errors import InputError, RunError
from mococxr.settings import COMMANDS, PretrainSettings, flag, make, to_yaml

HEAVY = ("torch", "numpy", "polars", "cv2", "timm", "sklearn", "scipy", "matplotlib", "rich.live")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands do not run but leave their settings here."""
    kept: list[Any] = []
    room = ModuleType("a_room")
    room.run = kept.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_room", room)
    for command in COMMANDS:
        monkeypatch.setitem(commands.ENTRIES, command, "a_room:run")
    monkeypatch.setattr(commands, "THEN", {})
    return kept


def status(*words: str | Path) -> int:
    """The exit status of `mococxr WORDS`."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    assert isinstance(end.value.code, int)
    return end.value.code


def every_field(command: str) -> list[Any]:
    by_position, by_name = commands.fields_of(command)
    return [*by_position, *by_name]


def fails_with(error: BaseException, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    """The exit status of a command that ends with the error given."""

    def fail(_: Any) -> None:
        raise error

    room = ModuleType("a_room")
    room.run = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_room", room)
    monkeypatch.setitem(commands.ENTRIES, "report", "a_room:run")
    return status("report", "study", *more)


def test_only_what_was_given_is_set_and_the_rest_keeps_its_default(ran: list[Any]) -> None:
    assert status("pretrain", "a", "b", "--out", "run", "--crop", "0.5", "1", "--resume") == 0
    expected = make(PretrainSettings, {"stores": ["a", "b"], "out": "run", "crop": (0.5, 1.0), "resume": True})
    assert ran == [expected]


def test_a_setting_of_many_values_is_repeated_or_given_at_once(ran: list[Any]) -> None:
    arms = ["--arm", "moco=run", "--arm", "imagenet"]
    rest = ["--target", "TB", "--fraction", "0.1", "1", "--mode", "linear", "finetune", "--out", "out"]
    assert status("study", "store", *arms, *rest) == 0
    assert ran[0].arm == ("moco=run", "imagenet")
    assert ran[0].fraction == (0.1, 1.0)
    assert ran[0].mode == ("linear", "finetune")


def test_a_table_may_stand_after_the_columns_that_are_measured(ran: list[Any]) -> None:
    given = {"predictions": "t.csv", "label": ["A", "B"], "score": ["a", "b"]}
    line = "mococxr evaluate t.csv --label A --label B --score a --score b"
    assert commands.command_line("evaluate", given) == line
    assert status("evaluate", *line.split()[3:], "t.csv") == 0
    assert (ran[0].label, ran[0].score) == (("A", "B"), ("a", "b"))
    assert ran[0].predictions == (Path("t.csv"),)


def test_the_first_place_is_the_model_and_all_others_are_images(ran: list[Any]) -> None:
    assert status("predict", "model", "a.png", "b.png", "--out", "scores.csv") == 0
    assert ran[0].model == Path("model")
    assert ran[0].images == (Path("a.png"), Path("b.png"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_can_be_given_in_a_file_and_read_back(command: str, ran: list[Any], tmp_path: Path) -> None:
    kinds = commands.types_of(command)
    required = {
        f.name: next(iter(typing.get_args(kinds[f.name])), "x") if typing.get_origin(kinds[f.name]) is Literal else "x"
        for f in every_field(command)
        if commands.is_required(f)
    }
    settings = make(COMMANDS[command], required)
    (tmp_path / "settings.yaml").write_text(to_yaml(settings))
    assert status(command, "--config", tmp_path / "settings.yaml") == 0
    assert ran == [settings]


def test_flags_win_over_the_file_and_the_file_over_the_preset(ran: list[Any], tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("stores: [a]\nout: run\npreset: paper\nlr: 0.5\nbatch: 8\n")
    assert status("pretrain", "--config", config, "--batch", "4") == 0
    settings = ran[0]
    assert (settings.batch, settings.lr, settings.backbone) == (4, 0.5, "resnet18")
    assert status("pretrain", "b", "--config", config, "--preset", "paper") == 0
    assert ran[1].stores == (Path("b"),)


def test_a_preset_that_contradicts_the_file_is_refused(
    ran: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(to_yaml(make(PretrainSettings, {"stores": "a", "out": "run"})))
    assert status("pretrain", "--config", config, "--preset", "paper") == 2
    assert "--preset paper contradicts" in capsys.readouterr().err
    assert not ran


def test_resume_needs_only_the_run_folder(ran: list[Any], tmp_path: Path) -> None:
    settings = make(PretrainSettings, {"stores": "store", "out": str(tmp_path), "lr": 0.5})
    (tmp_path / "settings.yaml").write_text(to_yaml(settings))
    assert status("pretrain", "--out", tmp_path, "--resume") == 0
    assert ran[0].stores == (Path("store"),)
    assert ran[0].lr == 0.5
    assert ran[0].resume


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "s", "--out", "r", "--batsh", "3"], "--batch"),
        (["pretrian"], 'Did you mean "pretrain"'),
        (["pretrain", "s", "--out", "r", "--batch", "many"], "--batch"),
        (["pretrain", "s", "--out", "r", "--batch", "2.5"], "--batch"),
        (["pretrain", "s", "--out", "r", "--crop", "0.5"], "--crop"),
        (["pretrain", "s", "--out", "r", "--head", "mlpp"], "mlp"),
        (["pretrain", "s"], "out"),
        (["pretrain", "--out", "r"], "stores"),
        (["predict", "model", "--out", "r"], "images"),
        (["views", "s", "another", "--out", "r"], "another"),
        (["report", "s", "--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_wrong_line_is_said_in_words_and_exits_with_2(
    words: list[str], said: str, ran: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*words) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert said in err
    assert len(err.strip().splitlines()) == 2, "what is wrong, and the way out"
    assert "Traceback" not in err
    assert not out
    assert not ran


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("lerning_rate: 1", "lerning_rate"),
        ("tempersture: 1", "Did you mean temperature"),
        ("batch: many", "--batch"),
        ("batch: yes", "--batch"),
        ("resume: 1", "--resume"),
        ("[1, 2", "not YAML"),
        ("- a\n- b", "has no settings"),
        ("\xff\xfe", "mine.yaml"),
    ],
)
def test_a_wrong_file_is_said_in_words_and_exits_with_2(
    content: str, said: str, ran: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(content, encoding="latin-1")
    assert status("pretrain", "s", "--out", "r", "--config", config) == 2
    assert said in capsys.readouterr().err
    assert not ran


def test_bad_input_exits_with_2_and_says_problem_and_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(InputError("The image is blue.", "Take a grey one."), monkeypatch) == 2
    assert capsys.readouterr().err == "error: The image is blue.\n  Take a grey one.\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RunError("NaN at step 7."), "error: NaN at step 7.\n"),
        (KeyboardInterrupt(), "stopped\n"),
        (
            ZeroDivisionError("division by zero"),
            "unexpected: ZeroDivisionError: division by zero; run again with --debug for the traceback\n",
        ),
    ],
)
def test_any_other_end_exits_with_1_and_one_line(
    error: BaseException, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(error, monkeypatch) == 1
    assert capsys.readouterr().err == said


def test_a_traceback_comes_only_with_debug_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(ZeroDivisionError(), monkeypatch, "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    assert status("--debug", "report") == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_setting_with_its_words(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "600")
    assert status(command, "--help") == 0
    text = capsys.readouterr().out
    by_position, by_name = commands.fields_of(command)
    assert all(field.name.upper() in text for field in by_position)
    assert all(flag(field.name) in text for field in by_name)
    assert all(commands.describe(command, field) in text for field in [*by_position, *by_name])
    assert "--config FILE" in text


RELIED_ON = {
    "run": "source target budget plan out", "info": "path", "doctor": "folder",
    "prepare": "format labels label size out", "pretrain": "backbone init size batch queue epochs save_every resume out",
    "fit": "target encoder backbone size fraction batch epochs out", "embed": "encoder backbone size out",
    "study": "target arm fraction against backbone size batch epochs out", "predict": "out",
    "serve": "model host port token_file max_body queue timeout",
    "forecast": "encoder target auroc", "recalibrate": "target sensitivity out",
    "evaluate": "label score patient against json split out", "inspect": "against out",
    "reproduce": "fraction init size batch queue epochs out", "demo": "epochs out", "views": "size out",
    "next": "target count by split out",
    "label": "table label reader chosen_by as_of", "retract": "table label reader",
    "agreement": "store target resolve out",
    "annotate": "store target next reader source key port browser",
    "pacs": "model dicomweb since study ledger capture listen allow once", "drift": "ledger out",
    "report": "study", "import": "size out", "export": "arm out",
}  # fmt: skip


def test_commands_and_options_that_others_rely_on_keep_their_names() -> None:
    assert set(RELIED_ON) == set(COMMANDS)
    for command, names in RELIED_ON.items():
        assert set(names.split()) <= {field.name for field in every_field(command)}, command


@pytest.mark.parametrize("width", [80, 110])
def test_help_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for command in COMMANDS:
        assert status(command, "--help") == 0
    assert status() == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    assert all(command in text for command in COMMANDS)
    assert "…" not in text, "nothing is cut off"


def loaded_by(program: str) -> set[str]:
    """The modules that are loaded when a program has run in a fresh interpreter."""
    end = "\nimport sys\nprint('\\n'.join(['LOADED', *sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program + end], capture_output=True, text=True, check=True, env=os.environ.copy()
    )
    return set(done.stdout.split("LOADED\n")[1].split())


def test_help_and_import_load_nothing_heavy() -> None:
    ask = "from mococxr import cli\nfor words in (['--help'], ['study', '--help'], ['--version'], ['nonsense']):\n"
    ask += "    try: cli.main(words)\n    except SystemExit: pass\n"
    assert not loaded_by(ask) & set(HEAVY)
    assert not loaded_by("import mococxr\nmococxr.prepare, mococxr.InputError, dir(mococxr)") & set(HEAVY)


def test_torch_is_loaded_only_by_commands_that_need_it() -> None:
    without = [
        "demo",
        "prepare",
        "inspect",
        "views",
        "label",
        "retract",
        "annotate",
        "agreement",
        "report",
        "evaluate",
        "serve",
    ]
    entries = ", ".join(sorted({commands.ENTRIES[name].split(":")[0] for name in without}))
    assert not loaded_by(f"import {entries}") & {"torch", "timm", "accelerate"}


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--version") == 0
    assert capsys.readouterr().out == mococxr.__version__ + "\n"


def test_every_command_has_an_entry_and_the_order_is_that_of_the_work() -> None:
    assert list(commands.ENTRIES) == list(COMMANDS)
    for target in commands.ENTRIES.values():
        room, function = target.split(":")
        path = Path(mococxr.__file__).parent.parent / room.replace(".", "/")
        source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        assert source.is_file(), target
        assert function in source.read_text(), target


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_python_function_with_the_same_settings(command: str) -> None:
    function = getattr(mococxr, commands.PYTHON_NAMES.get(command, command))
    every = every_field(command)
    assert sorted(inspect.signature(function).parameters) == sorted(field.name for field in every)
    assert all(commands.describe(command, field) in function.__doc__ for field in every)


def test_a_python_function_takes_settings_by_position_and_by_name(ran: list[Any]) -> None:
    mococxr.pretrain("store", out="run", lr=0.5)
    mococxr.pretrain(["a", "b"], out=Path("run"))
    assert ran[0] == make(PretrainSettings, {"stores": "store", "out": "run", "lr": 0.5})
    assert ran[1].stores == (Path("a"), Path("b"))


@pytest.mark.parametrize(
    ("values", "named", "said"),
    [
        (("a", "b"), {}, "too many values by position"),
        (("a",), {"study": "b"}, "two values for study"),
        ((), {}, "'study' is missing"),
        (("a",), {"stdy": 1}, "Did you mean study"),
    ],
)
def test_a_python_function_refuses_what_it_does_not_know(
    values: tuple[str, ...], named: dict[str, Any], said: str, ran: list[Any]
) -> None:
    with pytest.raises(InputError, match=said):
        mococxr.report(*values, **named)
    assert not ran


def run_program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mococxr", *words], capture_output=True, text=True, check=False)


def test_the_program_itself_ends_with_the_same_statuses() -> None:
    assert run_program("--version").stdout == mococxr.__version__ + "\n"
    wrong = run_program("pretrain", "nowhere")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ")


def test_warnings_and_logs_of_libraries_stay_off_the_screen() -> None:
    program = """
import logging, sys, types, warnings
from mococxr import cli, commands
def run(settings):
    warnings.warn("look here")
    logging.getLogger("timm").warning("and here")
sys.modules["a_room"] = types.SimpleNamespace(run=run)
commands.ENTRIES["report"] = "a_room:run"
cli.main(["report", "study"] + sys.argv[1:])
"""
    for words, silent in (([], True), (["--debug"], False)):
        ran = subprocess.run(
            [sys.executable, "-W", "default", "-c", program, *words], capture_output=True, text=True, check=True
        )
        assert (ran.stderr == "") is silent


def test_a_reader_that_stops_reading_is_no_reason_for_a_traceback() -> None:
    program = f"{sys.executable} -m mococxr pretrain --help | head -1"
    ran = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert ran.stdout.startswith("Usage: mococxr pretrain")
    assert "Traceback" not in ran.stderr
    assert "Exception" not in ran.stderr
