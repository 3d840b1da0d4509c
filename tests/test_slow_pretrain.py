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

import small_encoders
from mococxr.pretraining import run_folder
from small_run import read_log
from test_pretrain import assert_same_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
SCRIPT = HERE / "process_run.py"


def command(store: Path, out: Path, processes: int = 1, restarts: int = 0, **settings: object) -> list[str]:
    several = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    launcher = [*several, "--standalone"] if processes > 1 else []
    return [sys.executable, *launcher, str(SCRIPT), str(store), str(out), json.dumps(settings)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), "PYTHONWARNINGS": "default"}


def finish(store: Path, out: Path, processes: int = 1, **settings: object) -> Path:
    """Run to the end."""
    done = subprocess.run(
        command(store, out, processes, **settings), env=environment(), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def begin(store: Path, out: Path, steps: int, processes: int = 1, **settings: object) -> subprocess.Popen[bytes]:
    """Start it, and return as soon as its log tells of so many steps."""
    process = subprocess.Popen(
        command(store, out, processes, **settings),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = out / "log.jsonl"
    while process.poll() is None and not (log.is_file() and log.read_bytes().count(b"\n") >= steps):
        time.sleep(0.002)
    return process


def kill_after(store: Path, out: Path, steps: int, **settings: object) -> None:
    """Start it and kill -9 it as soon as its log tells of so many steps."""
    with begin(store, out, steps, **settings) as process:
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"


def test_a_run_that_is_killed_anywhere_and_resumed_is_the_uninterrupted_run(synthetic_store, tmp_path):
    settings = {"epochs": 8, "save_every": 5, "log_every": 1}
    whole = finish(synthetic_store, tmp_path / "whole", **settings)
    out = tmp_path / "killed"
    chance = random.Random(time.time_ns())  # another place each time
    first = chance.randrange(1, 18)
    second = chance.randrange(first + 1, 36)
    kill_after(synthetic_store, out, first, **settings)
    kill_after(synthetic_store, out, second, resume=True, **settings)
    assert not (out / "run.json").exists()
    finish(synthetic_store, out, resume=True, **settings)
    assert_same_run(whole, out)
    assert [entry["step"] for entry in read_log(out)] == list(range(1, 41))


FREE = {
    "backbone": "test_convnext", "epochs": 2, "log_every": 1, "save_every": 5, "optimizer": "sgd", "lr": 0.05,
    "precision": "no",
}  # fmt: skip
"""A run of 10 steps whose encoder has no batch norm: its batch may be shared out without a trace."""


@pytest.fixture(scope="module")
def one(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(synthetic_store, tmp_path_factory.mktemp("one") / "run", **FREE)


@pytest.fixture(scope="module")
def two(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(synthetic_store, tmp_path_factory.mktemp("two") / "run", processes=2, **FREE)


def assert_alike(single: Path, other: Path) -> None:
    """Losses, keys in their places and weights are those of one process, but for the order of sums."""
    for ours, theirs in zip(*(read_log(run) for run in (single, other)), strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-4)
        assert theirs["contrast_accuracy"] == pytest.approx(ours["contrast_accuracy"], abs=1e-6)
        assert (theirs["step"], theirs["lr"]) == (ours["step"], ours["lr"])
    states = [run_folder.latest_checkpoint(run / "checkpoints") for run in (single, other)]
    keys = [state["method"]["queue"]["keys_KC"].numpy() for state in states]
    apart = np.linalg.norm(keys[0][:, None] - keys[0], axis=2) + np.eye(len(keys[0]))
    assert apart.min() > 1e-3  # so that a key in another's place would be seen
    np.testing.assert_allclose(*keys, atol=1e-4)
    assert states[0]["method"]["steps"] == states[1]["method"]["steps"] == 10
    for name, tensor in states[0]["method"]["query"].items():
        np.testing.assert_allclose(states[1]["method"]["query"][name], tensor, atol=1e-4, err_msg=name)


def test_two_processes_share_the_views_of_every_size(synthetic_store, tmp_path):
    how = FREE | {"size": 48, "sizes": ["32:1", "48:1"]}
    runs = [finish(synthetic_store, tmp_path / str(n), processes=n, **how) for n in (1, 2)]
    assert [entry["size"] for entry in read_log(runs[1])] == [32] * 5 + [48] * 5
    assert_alike(*runs)


def test_two_processes_train_one_auxiliary_head(synthetic_store, tmp_path):
    """Its loss is a mean over the known values of a process, so that two differ where some are not: all ages are."""
    how = FREE | {"auxiliary": ["age"], "auxiliary_weight": 0.01}
    runs = [finish(synthetic_store, tmp_path / str(n), processes=n, **how) for n in (1, 2)]
    assert_alike(*runs)
    for ours, theirs in zip(*map(read_log, runs), strict=True):
        assert theirs["auxiliary_loss"] == pytest.approx(ours["auxiliary_loss"], abs=1e-4)


def test_two_processes_contrast_against_the_batch_of_both(synthetic_store, tmp_path):
    """Gradients flow through both views, so rounding grows: below 4e-6 up to step 7, and by step 9 to between 1.4e-5 and
    4.9e-4 with the processor (AVX2, AVX-512); without those of the other process, or with its embeddings left out, the
    losses part by 4e-2 in step 2."""
    how = FREE | {"method": "simclr", "queue": None}
    runs = [finish(synthetic_store, tmp_path / str(n), processes=n, **how) for n in (1, 2)]
    for ours, theirs in zip(*map(read_log, runs), strict=True):
        early = ours["step"] <= 4
        assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-4 if early else 5e-3)
        if early:
            assert theirs["contrast_accuracy"] == pytest.approx(ours["contrast_accuracy"], abs=1e-6)
    states = [run_folder.latest_checkpoint(run / "checkpoints")["method"]["network"] for run in runs]
    for name, tensor in states[0].items():  # 1.7e-4 apart at most on AVX-512
        np.testing.assert_allclose(states[1][name], tensor, atol=2e-3, err_msg=name)


def test_two_processes_learn_what_one_does(one, two):
    assert_alike(one, two)
    hashes = [json.loads(Path(f"{two}-queue-{rank}.json").read_text()) for rank in (0, 1)]
    assert hashes[0] == hashes[1]  # to the last bit, after every step
    assert len(set(hashes[0])) == 10
    facts = json.loads((two / "run.json").read_text())
    assert (facts["processes"], facts["processes_from_step"]) == (2, [[0, 2]])


def test_two_processes_compute_in_the_precision_asked_for_and_do_not_wait_for_weights_that_no_image_reaches(
    synthetic_store, tmp_path
):
    small_encoders.transformers_folder(tmp_path / "dino", small_encoders.small_dinov2())  # it has a mask token
    brought = {"init": f"hf:{tmp_path / 'dino'}", "size": 28, "epochs": 1, "precision": "bf16"}
    out = finish(synthetic_store, tmp_path / "run", processes=2, **brought)
    for rank in (0, 1):
        assert json.loads(Path(f"{out}-kinds-{rank}.json").read_text()) == ["torch.bfloat16"]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(one, two, synthetic_store, tmp_path, before, after):
    out = stopped_after(two if before == 2 else one, tmp_path / "begun", 5)
    finish(synthetic_store, out, processes=after, resume=True, **FREE)
    assert_alike(one, out)
    facts = json.loads((out / "run.json").read_text())
    assert (facts["steps"], facts["processes"]) == (10, after)
    assert facts["processes_from_step"] == [[0, before], [5, after]]


def stopped_after(whole: Path, out: Path, step: int) -> Path:
    """The folder of a run as if it had been killed after a checkpoint."""
    (out / "checkpoints").mkdir(parents=True)
    for name in ("settings.yaml", "inputs.json", "patients.csv", "log.jsonl", f"checkpoints/step-{step:08d}.pt"):
        (out / name).write_bytes((whole / name).read_bytes())
    return out


NORMED = {"epochs": 8, "log_every": 1, "save_every": 7, "precision": "no"}
"""A run of 40 steps with batch norm."""


def test_a_killed_process_is_started_again_and_the_run_ends_as_if_nothing_had_been(synthetic_store, tmp_path):
    """By the launcher alone, with nobody there to type --resume; on the way there is a half-written checkpoint."""
    whole = finish(synthetic_store, tmp_path / "whole", processes=2, **NORMED)
    out = tmp_path / "killed"
    with begin(synthetic_store, out, random.randrange(8, 36), processes=2, restarts=1, **NORMED) as launcher:
        killed = int(Path(f"{out}-pid-1").read_text())
        (out / "checkpoints" / ".step-00000039.pt.x.part").write_bytes(b"half")
        os.kill(killed, signal.SIGKILL)
        assert launcher.wait(timeout=300) == 0
    assert int(Path(f"{out}-pid-1").read_text()) != killed
    assert_same_run(whole, out)
    queues = [json.loads(Path(f"{run}-queue-{r}.json").read_text()) for run in (whole, out) for r in (0, 1)]
    assert {queue[-1] for queue in queues} == {queues[0][-1]}
    assert len(queues[0]) == 40 > len(queues[2]) == len(queues[3]) >= 4  # gone on with, not done again
    assert [entry["step"] for entry in read_log(out)] == list(range(1, 41))
    again = command(synthetic_store, out, 2, restarts=1, **NORMED)
    done = subprocess.run(again, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode != 0  # another launch does not write over it, even when it is started again
    assert done.stderr.count(f"{out} is not empty.") == 2
    assert "nothing to resume" not in done.stderr
