"""`study --executor ray` on real Ray: nodes and drivers that are lost, and GPUs in fractions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fake_ray import stay
from mococxr.cluster import Cluster, Task
from mococxr.studies.executors import OnRay
from ray_nodes import MEMORY, nodes
from test_study_ray import local, numbers, place, study

assert local
assert place  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]  # Ray's own warnings
LONGER: dict[str, Any] = {"mode": ["linear", "finetune"], "fraction": [0.5], "draws": 2, "epochs": 4.0}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with nodes(1, 1) as made:
        yield made


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study, local and never stopped."""
    return study(place, tmp_path_factory.mktemp("full") / "study", **LONGER)


def test_a_node_killed_in_the_middle_costs_no_trial_and_none_is_there_twice(
    place: Path, whole: Path, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    came: list[str] = []
    do = OnRay.do

    def losing(self: OnRay, todo: Any) -> Iterator[dict[str, Any]]:
        for record in do(self, todo):
            came.append(record["id"])
            if len(came) == 2:
                threading.Thread(target=cluster.remove_node, args=(second, False)).start()
            yield record

    monkeypatch.setattr(OnRay, "do", losing)
    over = study(place, tmp_path / "study", **LONGER, executor="ray", jobs=None)
    trials = pl.read_csv(over / "trials.csv")
    assert set(trials["status"]) == {"done"}
    assert sorted(came) == sorted(set(trials["trial"]))
    assert len(trials) == len(came) == 2 * 2 * 2
    assert numbers(over) == numbers(whole)


def test_a_driver_that_is_killed_comes_back_to_what_was_done(
    place: Path, whole: Path, cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "go.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom test_study_ray import study\nimport json\n"
        "if __name__ == '__main__':\n    study(Path(sys.argv[1]), Path(sys.argv[2]), **json.loads(sys.argv[3]))\n"
    )
    out = tmp_path / "study"
    words = [sys.executable, str(script), str(place), str(out), json.dumps(LONGER | {"executor": "ray", "jobs": 2})]
    with subprocess.Popen(words, env=os.environ | {"RAY_ADDRESS": cluster.address}) as driver:
        try:
            while driver.poll() is None and len(list(out.glob("trials/*.json"))) < 3:
                time.sleep(0.02)
        finally:
            os.kill(driver.pid, signal.SIGKILL)
    done = {file: file.stat().st_mtime_ns for file in out.glob("trials/*.json")}
    assert 3 <= len(done) < 8
    capsys.readouterr()
    study(place, out, **LONGER, executor="ray", jobs=None)
    assert "of 8 trials are done already" in capsys.readouterr().err
    assert numbers(out) == numbers(whole)
    assert len(list(out.glob("trials/*.json"))) == 8


def test_four_tasks_share_a_gpu_and_a_machine_whose_gpu_torch_does_not_see_trains_on_its_cpu(
    place: Path, cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    node = cluster.add_node(num_cpus=5, num_gpus=1, object_store_memory=MEMORY)
    cluster.wait_for_nodes()
    tasks = [Task(n, stay, (str(tmp_path), str(n), 8.0), gpus=0.25) for n in range(5)]
    spans = [span for _, span in Cluster(ray).run_unordered(tasks)]
    assert {gpu for gpu, _, _ in spans} == {"0"}
    together = [sum(began <= start < ended for _, began, ended in spans) for _, start, _ in spans]
    assert max(together) == 4
    how: dict[str, Any] = {"mode": ["finetune"], "fraction": [1.0], "epochs": 1.0, "device": "auto"}
    capsys.readouterr()
    over = study(place, tmp_path / "over", **how, executor="ray", jobs=None)
    told = capsys.readouterr().err
    cluster.remove_node(node)
    assert told.count("torch sees none there") == 1
    assert numbers(over) == numbers(study(place, tmp_path / "here", **how))
