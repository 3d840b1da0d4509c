"""`mococxr serve` as a user starts it: without PyTorch, and what it took in is answered before it ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import mococxr
from mococxr.exporting.export import leave_onnx
from small_store import HOW

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-for-tests-alone"


@contextmanager
def served(model: Path, log: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command in a process of its own, once it answers, and its port."""
    command = [sys.executable, "-m", "mococxr", "serve", str(model), "--port", "0", "--jobs", "1", *flags]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stderr=stream, env=os.environ | {"MOCOCXR_TOKEN": TOKEN})
    try:
        while not (named := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        assert asked(int(named[1]), "GET", "/health", b"")[0] == 200
        yield process, int(named[1])
    finally:
        process.kill()
        process.wait()


def asked(port: int, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.slow
def test_what_is_in_the_queue_is_answered_after_sigterm_and_pytorch_is_never_loaded(store: Any, tmp_path: Path) -> None:
    model = mococxr.fit(store.path, target="Finding", out=tmp_path / "model", encoder="random", **HOW)
    leave_onnx(model)
    image = (store.path.parent / "images" / store.index["path"][0]).read_bytes()
    with served(model, tmp_path / "log") as (process, port), ThreadPoolExecutor(12) as pool:
        assert asked(port, "POST", "/predict", image)[0] == 200
        assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        for child in children:
            os.kill(child, signal.SIGSTOP)  # what decodes: all images wait
        waiting = [pool.submit(asked, port, "POST", "/predict", image) for _ in range(8)]
        while b"mococxr_images_waiting 8.0" not in asked(port, "GET", "/metrics", b"")[1]:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert not any(future.done() for future in waiting)
        for child in children:
            os.kill(child, signal.SIGCONT)
        assert [future.result()[0] for future in waiting] == [200] * 8
        assert process.wait(60) == 0
    log = (tmp_path / "log").read_text()
    assert log.count("POST /predict 200") == 9
    assert log.rstrip().endswith("Stopped; what was taken in is answered.")


def test_what_the_ward_installs_is_named_with_the_bounds_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {*project["dependencies"], *project["optional-dependencies"]["dicom"]}
    lines = (ROOT / "deploy/requirements.txt").read_text().splitlines()
    named = {line for line in lines if line and not line.startswith("#")}
    assert named <= known
    assert not {name for name in named if name.startswith(("torch", "timm", "onnxscript"))}
    assert set(project["optional-dependencies"]["dicom"]) <= named
