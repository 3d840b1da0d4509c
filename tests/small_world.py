"""One of everything that the commands make, small: what the tests of whole commands start from."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mococxr import cli
from small_images import contents
from small_store import BACKBONE, make_store


@dataclass(frozen=True)
class World:
    """Folders made by the commands, to be read and not written to."""

    images: Path
    store: Path
    run: Path
    model: Path
    study: Path


def status(*words: object) -> int:
    """What the command line exits with."""
    try:
        cli.main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("the command line did not exit")


def quietly(*words: object) -> None:
    """Run a command that has to succeed."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = status(*words)
    assert code == 0, said.getvalue()


def make_world(folder: Path, patients: int = 16) -> World:
    """Prepare, pretrain, fit and study on a few drawn images."""
    store = make_store(folder, patients=patients).path
    run, model, study = folder / "run", folder / "model", folder / "study"
    quietly(
        "pretrain", store, "--out", run, "--backbone", BACKBONE, "--init", "random", "--size", 32,
        "--epochs", 1, "--batch", 4, "--device", "cpu",
    )  # fmt: skip
    quietly("fit", store, "--encoder", run, "--target", "Finding", "--out", model, "--device", "cpu")
    quietly(
        "study", store, "--target", "Finding", "--arm", "random", "--arm", f"moco={run}", "--fraction", 1,
        "--replicates", 200, "--jobs", 1, "--device", "cpu", "--no-baseline", "--out", study,
    )  # fmt: skip
    return World(folder / "images", store, run, model, study)


def but(line: str, flag: str, *values: object) -> str:
    """A command line with another value of one flag, or with that flag added."""
    before, found, after = line.partition(f" {flag} ")
    if not found:
        return " ".join([line, flag, *map(str, values)])
    words = after.split()
    left = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    return " ".join([before, flag, *map(str, values), *words[left:]])


class Refusal:
    """Runs a command that has to fail: its message, and a folder in which nothing changed."""

    def __init__(self, here: Path, capsys: pytest.CaptureFixture[str], world: World | None = None) -> None:
        self.here, self.capsys, self.world = here, capsys, world

    def __call__(self, line: str, *says: str) -> None:
        """`{store}`, `{run}`, `{model}` and `{study}` in the line stand for those of the world."""
        words = [word.format(**vars(self.world)) if self.world else word for word in line.split()]
        before = contents(self.here)
        self.capsys.readouterr()
        assert status(*words) == 2
        told = self.capsys.readouterr().err
        assert contents(self.here) == before, "something was written"
        assert_clear(told)
        for word in says:
            assert word in told


def assert_clear(told: str) -> None:
    """An error in words, with the way out as its last line."""
    lines = told.strip().splitlines()
    assert "Traceback" not in told
    assert "unexpected" not in told
    assert any(text.startswith("error: ") for text in lines), told
    assert lines[-1].startswith("  "), f"no way out: {told}"


def closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder one that `os.walk` may not read, for root as well."""
    scan = os.scandir

    def refuse(path: Any = ".") -> Any:
        if Path(os.path.abspath(path)) == folder and sys._getframe(1).f_code.co_name in ("walk", "_walk"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
