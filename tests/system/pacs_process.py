"""`mococxr` as processes of its own that start at once: forked from one that has imported everything, killed with -9."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import dicomweb_client.api
import highdicom.sc
import highdicom.sr
import numpy
import onnxruntime
import polars
import pydicom
import pynetdicom
import requests

from mococxr import cli

# no import above is used here: a fork has them ready
_READY = (
    cv2,
    dicomweb_client.api,
    highdicom.sc,
    highdicom.sr,
    numpy,
    onnxruntime,
    polars,
    pydicom,
    pynetdicom,
    requests,
)
WAIT = 300.0
"""Seconds after which something is wrong, on a busy machine, too."""


def _run(words: Sequence[str], log: str, environment: dict[str, str]) -> None:
    """In the fork: the command line, with standard error in a file."""
    os.environ.update(environment)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    cli.main(list(words))


class Command:
    """A `mococxr` that runs.

    Args:
        words: behind `mococxr`.
        log: file that takes what it says.
        environment: variables that it has besides.
    """

    def __init__(self, words: Sequence[object], log: Path, environment: dict[str, str]) -> None:
        here = os.pathsep.join([*dict.fromkeys(sys.path), os.environ.get("PYTHONPATH", "")])
        os.environ["PYTHONPATH"] = here  # read by the process that forks, when the first is asked for
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pacs_process"])
        log.unlink(missing_ok=True)
        self.log, self.began = log, time.monotonic()
        self.process = context.Process(target=_run, args=([str(word) for word in words], str(log), environment))
        self.process.start()

    @property
    def lines(self) -> list[str]:
        """What it has said so far."""
        return self.log.read_text().splitlines() if self.log.is_file() else []

    def until(self, said: str = "", count: int = 0) -> None:
        """Wait until it has said something, or so many lines."""
        end = time.monotonic() + WAIT
        while not (said in "\n".join(self.lines) and len(self.lines) >= count):
            assert self.process.is_alive(), self.lines
            assert time.monotonic() < end, self.lines
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        assert self.process.is_alive(), self.lines
        self.process.kill()
        self.process.join()

    def end(self, *, stop: bool = False) -> tuple[int, list[str]]:
        """Wait for its end, after SIGTERM where it is to stop; returns its exit status and what it said."""
        if stop:
            self.process.terminate()
        self.process.join(WAIT)
        assert self.process.exitcode is not None, self.lines
        return int(self.process.exitcode), self.lines
