from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mococxr import checkpoint
from small_run import read_log
from test_pretrain import assert_same_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
SCRIPT = HERE / "process_run.py"


def command(store: Path, out: Path, processes: int = 1, **settings: object) -> list[str]:
    launcher = [
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={processes}",
        "--master-port=0",
        "--standalone",
    ]
    return [
        sys.executable,
        *(launcher if processes > 1 else []),
        str(SCRIPT),
        str(store),
        str(out),
        json.dumps(settings),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), "PYTHONWARNINGS": "default"}


def finish(store: Path, out: Path, processes: int = 1, **settings: object) -> Path:
    """Run to the end."""
    done = subprocess.run(
        command(store, out, processes, **settings),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def kill_after(store: Path, out: Path, steps: int, **settings: object) -> None:
    """Start it and kill -9 it as soon as its log tells of so many steps."""
    with subprocess.Popen(
        command(store, out, **settings),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        log = out / "log.jsonl"
        while process.poll() is None and not (log.is_file() and log.read_bytes().count(b"\n") >= steps):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"


def test_a_run_that_is_killed_anywhere_and_resumed_is_the_uninterrupted_run(phantom_store, tmp_path):
    settings = {"epochs": 8, "save_every": 5, "log_every": 1}
    whole = finish(phantom_store, tmp_path / "whole", **settings)
    out = tmp_path / "killed"
    chance = random.Random(time.time_ns())  # another place each time
    first = chance.randrange(1, 18)
    second = chance.randrange(first + 1, 36)
    kill_after(phantom_store, out, first, **settings)
    kill_after(phantom_store, out, second, resume=True, **settings)
    assert not (out / "run.json").exists()
    finish(phantom_store, out, resume=True, **settings)
    assert_same_run(whole, out)
    assert [entry["step"] for entry in read_log(out)] == list(range(1, 41))


def test_two_processes_learn_what_one_does(phantom_store, tmp_path):
    """With an encoder without batch norm the batch may be shared out without a trace: losses, keys, weights."""
    settings = {"backbone": "test_convnext", "epochs": 2, "log_every": 1, "optimizer": "sgd", "lr": 0.05}
    one = finish(phantom_store, tmp_path / "one", key_groups=1, **settings)
    two = finish(phantom_store, tmp_path / "two", processes=2, key_groups=2, **settings)
    logs = [read_log(run) for run in (one, two)]
    for single, shared in zip(*logs, strict=True):
        assert shared["loss"] == pytest.approx(single["loss"], abs=1e-5)
        assert shared["contrast_accuracy"] == pytest.approx(single["contrast_accuracy"], abs=1e-6)
        assert shared["lr"] == single["lr"]
    hashes = [json.loads((tmp_path / f"two-queue-{rank}.json").read_text()) for rank in (0, 1)]
    assert hashes[0] == hashes[1]  # to the last bit, after every step
    assert len(set(hashes[0])) == 10
    states = [checkpoint.latest(run / "checkpoints") for run in (one, two)]
    keys = [state["queue"]["keys_KC"].numpy() for state in states]
    np.testing.assert_allclose(*keys, atol=1e-5)  # the same keys in the same places
    for name, tensor in states[0]["query"].items():
        np.testing.assert_allclose(states[1]["query"][name], tensor, atol=1e-4, err_msg=name)
    assert json.loads((two / "run.json").read_text())["processes"] == 2


def test_two_processes_with_batch_norm_stop_and_go_on_to_the_last_bit(phantom_store, tmp_path):
    settings = {"epochs": 2, "log_every": 3, "save_every": 4}
    whole = finish(phantom_store, tmp_path / "whole", processes=2, **settings)
    out = tmp_path / "begun"
    out.mkdir()
    for name in ("settings.yaml", "inputs.json", "patients.csv", "log.jsonl"):
        (out / name).write_bytes((whole / name).read_bytes())
    middle = checkpoint.saved(whole / "checkpoints")[0]  # as if it had been killed after this one
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / middle.name).write_bytes(middle.read_bytes())
    assert middle.name == "step-00000008.pt"
    finish(phantom_store, out, processes=2, resume=True, **settings)
    assert_same_run(whole, out)
