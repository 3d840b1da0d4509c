"""The console on a terminal and off it."""

from __future__ import annotations

import functools
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from mococxr import console
from small_run import TINY

JOB = """
import time
from mococxr import console
with console.progress("pretrain", 30, "steps", done=10) as bar:
    for step in range(20):
        time.sleep(0.03)
        bar.advance(loss="3.21", effective_rank="33.1")
        if step == 15:
            console.warn("look out")
            with console.progress("inner", 2) as inner:
                inner.advance(2)
"""


@functools.cache
def seen_on_a_terminal(*arguments: str, interrupt_at: str = "", columns: int = 100) -> str:
    """All that Python writes to a terminal, control sequences included; Ctrl-C once `interrupt_at` is matched."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": str(columns), "PYTHONWARNINGS": "error"}
    with subprocess.Popen([sys.executable, *arguments], stdout=theirs, stderr=theirs, env=environment) as child:
        os.close(theirs)
        text = ""
        try:
            while block := os.read(ours, 4096):
                text += block.decode(errors="replace")
                if interrupt_at and re.search(interrupt_at, text):
                    child.send_signal(signal.SIGINT)
                    interrupt_at = ""
        except OSError:  # Linux ends a terminal with an error
            pass
        os.close(ours)
    assert child.returncode == 0, text
    return text


def test_on_a_terminal_a_live_bar_shows_rate_time_left_and_fields() -> None:
    text = seen_on_a_terminal("-c", JOB)
    assert "━" in text
    assert re.search(r"\d+/30 steps", text)
    assert re.search(r"[\d.]+ steps/s", text)
    assert re.search(r"\d:\d\d left", text)
    assert "loss 3.21" in text


def test_on_a_terminal_a_warning_stands_on_a_line_of_its_own_and_one_line_stays() -> None:
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in seen_on_a_terminal("-c", JOB).split("\n")]
    last_state = [line.rstrip("\r").split("\r")[-1] for line in lines]
    assert "warning: look out" in last_state
    assert "pretrain: 20 steps in 0:01" in last_state or "pretrain: 20 steps in 0:02" in last_state
    assert "inner: 2 images in 0:00" in last_state, "a job inside another is told in lines"
    assert not [line for line in lines if "inner ━" in line], "and has no bar of its own"


COMMANDS = """
import json, sys
from mococxr import cli
for words in json.loads(sys.argv[1]):
    try:
        cli.main(words)
    except SystemExit as end:
        print(f"ended with {end.code}", flush=True)
"""


def test_the_bar_of_pretrain_moves_and_the_cursor_comes_back(synthetic_store, tmp_path):
    """With success, with an error and with Ctrl-C, which is sent once the bar of the last run has moved."""
    tiny: dict[str, Any] = {**TINY, "epochs": None, "lr": None, "save_every": 10_000, "log_every": None}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items() if value is not None]
    ways = [["--epochs=12"], ["--epochs=12", "--lr=1e30", "--log-every=1"], ["--epochs=20000"]]
    commands = [["pretrain", str(synthetic_store), f"--out={tmp_path / way[-1]}", *options, *way] for way in ways]
    text = seen_on_a_terminal("-c", COMMANDS, json.dumps(commands), interrupt_at=r"[1-9]\d*/\d{3},\d{3} ")
    *texts, rest = re.split(r"ended with (\d)", text)
    assert rest.strip() == ""
    assert texts[1::2] == ["0", "1", "1"]
    positions = {int(n.replace(",", "")) for n in re.findall(r"([\d,]+)/[\d,]+ images", texts[0])}
    assert len(positions) > 2, "the bar has moved"
    for part in texts[::2]:
        assert part.count("\x1b[?25l") > 0, "the bar hides the cursor"
        assert part.rindex("\x1b[?25h") > part.rindex("\x1b[?25l"), "and shows it again"


def test_off_a_terminal_only_the_last_line_is_written_for_a_short_job() -> None:
    stream = io.StringIO()
    bar = console.Progress("prepare", 4, stream=stream)
    for _ in range(4):
        bar.advance()
    bar.close()
    assert stream.getvalue() == "prepare: 4 images in 0:00\n"


def test_off_a_terminal_a_line_comes_every_twenty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    stream = io.StringIO()
    bar = console.Progress("prepare", 100, done=20, stream=stream)
    for _ in range(80):
        clock[0] += 1.0
        bar.advance(loss="0.5")
    bar.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "prepare  40 %  40/100 images  1.00 images/s  1:00 left  loss 0.5"
    assert len(lines) == 5
    assert lines[-1] == "prepare: 80 images in 1:20"


def test_images_done_by_an_earlier_run_do_not_count_for_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    bar = console.Progress("prepare", 100, done=50, stream=io.StringIO())
    clock[0] = 10.0
    bar.advance(10)
    assert bar.rate == pytest.approx(1.0)


def test_a_job_that_fails_is_said_to_be_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        with console.progress("prepare", 4) as bar:
            bar.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job()
    assert capsys.readouterr().err == "prepare: 1 images in 0:00 (stopped)\n"


def test_results_go_to_standard_output_and_talk_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("talk")
    console.warn("careful")
    console.result("0.9")
    out, err = capsys.readouterr()
    assert out == "0.9\n"
    assert err == "talk\nwarning: careful\n"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75, "1:15"), (3700, "1:01:40"), (59.7, "1:00")])
def test_durations_read_as_a_clock(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text
