"""Tasks on a cluster: every one answered once, errors in words, machines that are no use named."""

from __future__ import annotations

import pickle
from contextlib import closing
from pathlib import Path

import pytest

from fake_ray import FakeRay, double, raise_it, total
from mococxr import cluster
from mococxr.cluster import Cluster, SharedPath, Task, WorkerDied
from mococxr.errors import InputError, RunError
from mococxr.studies.executors import SHARE, share_of_gpu


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task settles its own process, not that of the tests; and no test waits for files."""
    monkeypatch.setattr("mococxr.workers.configure_process", lambda: None)
    monkeypatch.setattr(cluster, "GRACE", 0.0)


def test_each_task_is_answered_once_and_no_more_than_asked_for_are_on_their_way() -> None:
    ray = FakeRay(cpus=3)
    tasks = [Task(n, double, (n,)) for n in range(20)]
    assert sorted(Cluster(ray).run_unordered(tasks)) == [(n, 2 * n) for n in range(20)]
    assert ray.most == 6
    ray = FakeRay(cpus=3)
    assert len(list(Cluster(ray).run_unordered(tasks, at_once=2))) == 20
    assert ray.most == 2
    assert not ray.cancelled


def test_a_share_of_a_gpu_rules_how_many_tasks_are_on_their_way() -> None:
    ray = FakeRay(cpus=16, gpus=1)
    list(Cluster(ray).run_unordered([Task(n, double, (n,), gpus=0.25) for n in range(20)]))
    assert ray.most == 2 * 4
    assert ray.started[0] == {"num_cpus": 1, "num_gpus": 0.25, "max_retries": cluster.RETRIES}


def test_a_shared_value_comes_before_the_tasks_own() -> None:
    one = Cluster(FakeRay())
    task = Task("sum", total, (10,), (one.broadcast([1, 2, 3]),))
    assert list(one.run_unordered([task])) == [("sum", 60)]


def test_a_task_whose_process_died_is_told_apart_from_an_answer() -> None:
    answers = dict(Cluster(FakeRay(deaths=[1])).run_unordered([Task(n, double, (n,)) for n in range(3)]))
    assert answers == {0: 0, 1: WorkerDied("WorkerCrashedError"), 2: 4}


def test_only_what_kills_two_processes_is_blamed_for_it() -> None:
    assert Cluster(FakeRay(deaths=[0])).survives(double, 1)
    assert not Cluster(FakeRay(deaths=[0, 1])).survives(double, 1)


@pytest.mark.parametrize("error", [InputError("no such image", "look"), RunError("no room"), OSError(28, "No space")])
def test_the_errors_of_a_task_are_raised_here_as_they_were(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        list(Cluster(FakeRay()).run_unordered([Task(0, raise_it, (error,))]))
    assert raised.value.args == error.args


def test_the_text_of_an_unexpected_error_stays_on_the_machine() -> None:
    with pytest.raises(RunError, match="unexpected: ValueError") as raised:
        list(Cluster(FakeRay()).run_unordered([Task(0, raise_it, (ValueError("Jane Doe"),))]))
    assert "Jane" not in str(raised.value)


def test_leaving_early_cancels_what_is_on_its_way() -> None:
    ray = FakeRay(cpus=2)
    with closing(Cluster(ray).run_unordered([Task(n, double, (n,)) for n in range(9)])) as answers:
        next(answers)
    assert len(ray.cancelled) == 3
    assert len(ray.started) == 4


def test_a_machine_that_does_not_see_a_file_or_sees_another_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    for seen in (SharedPath("the study", file), SharedPath("the study", tmp_path, "ab")):
        with pytest.raises(RunError, match="does not see the study"):
            list(Cluster(FakeRay(), [seen]).run_unordered([Task(0, double, (1,))]))
    file.write_text("{}")
    with pytest.raises(RunError, match="does not see the study"):
        list(Cluster(FakeRay(), [SharedPath("the study", file, "ab")]).run_unordered([Task(0, double, (1,))]))
    assert list(Cluster(FakeRay(), [SharedPath("the study", file)]).run_unordered([Task(0, double, (1,))])) == [(0, 2)]


def test_a_machine_with_another_version_or_without_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = pickle.dumps(())
    assert cluster._work("0.0.1", nothing, b"not looked at") == ("version", cluster.VERSION)
    monkeypatch.setattr(cluster, "_work", lambda *_: ("version", "0.0.1"))
    with pytest.raises(RunError, match=rf"has mococxr 0\.0\.1; here it is {cluster.VERSION}"):
        list(Cluster(FakeRay()).run_unordered([Task(0, double, (1,))]))
    with pytest.raises(RunError, match="cannot start tasks"):
        list(Cluster(FakeRay(broken=True)).run_unordered([Task(0, double, (1,))]))


def test_tasks_that_wait_for_what_no_machine_has_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    ray = FakeRay(gpus=1)
    late = iter([([], [])])
    real = ray.wait

    def wait(references: list[int], **how: float) -> tuple[list[int], list[int]]:
        ray.has["GPU"] = 0
        return next(late, None) or real(references, **how)  # type: ignore[arg-type]

    ray.wait = wait  # type: ignore[method-assign]
    assert list(Cluster(ray).run_unordered([Task(0, double, (1,), gpus=0.5)])) == [(0, 2)]
    assert "No machine of the cluster has a GPU now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "device", "asked", "share"),
    [(0, "auto", None, 0), (0, "cpu", None, 0), (8, "auto", None, SHARE), (8, "cuda", None, SHARE), (8, "cpu", None, 0),
     (8, "auto", 0.5, 0.5), (8, "auto", 0.0, 0), (8, "mps", None, 0)],
)  # fmt: skip
def test_a_task_takes_the_share_of_a_gpu_that_was_asked_for(
    there: int, device: str, asked: float | None, share: float
) -> None:
    assert share_of_gpu(FakeRay(gpus=there), device, asked) == share


@pytest.mark.parametrize(
    ("there", "device", "asked", "says"),
    [(0, "auto", 0.5, "No machine"), (0, "cuda", None, "No machine"), (8, "cpu", 0.5, "contradict"),
     (8, "cuda", 0.0, "contradict")],
)  # fmt: skip
def test_a_share_that_cannot_be_is_refused(there: int, device: str, asked: float | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        share_of_gpu(FakeRay(gpus=there), device, asked)
