"""The SLURM script, with stand-ins for SLURM's programs: what it starts, and what it does when its time is up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples/slurm/pretrain.sbatch"
SRUN = """#!/bin/bash
echo "$@" > started
trap 'exit 1' TERM
[ -e short ] && exit 3
touch run/ready
while :; do sleep 0.05; done
"""
SCONTROL = """#!/bin/bash
[ "$1" = show ] && printf 'node1\\nnode2\\n' || echo "$@" >> asked
"""

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="no bash")


@pytest.fixture
def job(tmp_path: Path) -> subprocess.Popen[bytes]:
    """The script as SLURM would start it, on two nodes."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "run").mkdir()
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4",
             "SLURM_JOB_ID": "77", "PATH": f"{tmp_path}:{os.environ['PATH']}"}  # fmt: skip
    return subprocess.Popen(["bash", str(SCRIPT)], cwd=tmp_path, env={**os.environ, **slurm})


def told_that_time_is_up(job: subprocess.Popen[bytes], folder: Path) -> int:
    limit = time.monotonic() + 30
    while not (folder / "run/ready").exists() and time.monotonic() < limit:
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    return job.wait(timeout=30)


def test_a_job_whose_time_is_up_saves_and_queues_again(job, tmp_path):
    assert told_that_time_is_up(job, tmp_path) == 1
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    started = (tmp_path / "started").read_text()
    assert "--nnodes 2 --nproc-per-node 4" in started
    assert "--rdzv-endpoint node1:29500 --rdzv-id 77" in started
    assert started.endswith("-m mococxr pretrain store --out run --batch 256 --resume\n")


def test_a_job_that_is_done_or_fails_does_not_queue_again(job, tmp_path):
    (tmp_path / "run/run.json").write_text("{}")
    assert told_that_time_is_up(job, tmp_path) == 1
    assert not (tmp_path / "asked").exists()
    (tmp_path / "short").touch()
    again = subprocess.run(job.args, cwd=tmp_path, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert again.returncode == 3
    assert not (tmp_path / "asked").exists()
