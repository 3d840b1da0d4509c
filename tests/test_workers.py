"""Processes that survive a crash; what a process does with memory and cores."""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
from functools import partial

import cv2
import pytest
import torch

from deadly_folder import broken, map_in_a_daemon, square
from mococxr.errors import RunError
from mococxr.pretraining import hardware
from mococxr.pretraining.moco import MoCo
from mococxr.workers import cores, opencv_on_one_thread, surviving_map
from small_run import tiny_run

pytestmark = pytest.mark.usefixtures("_new_processes")


def test_a_process_that_dies_costs_the_item_it_died_of_and_no_other():
    work = partial(square, deadly=(5,))
    answers = list(surviving_map(work, range(12), 2, ordered=True, died=lambda item: -item))
    assert answers == [(n, -n if n == 5 else n * n) for n in range(12)]


def test_every_item_is_answered_once_in_any_order():
    assert sorted(surviving_map(square, range(7), 2)) == [(n, n * n) for n in range(7)]
    assert list(surviving_map(square, [], 2)) == []


def test_an_item_that_kills_its_process_ends_the_run_unless_something_is_to_be_done_about_it():
    with pytest.raises(RunError, match="died twice"):
        list(surviving_map(partial(square, deadly=(0,)), [0], 1))


def test_an_error_of_the_work_is_raised_here():
    with pytest.raises(OSError, match="no room for 0"):
        list(surviving_map(broken, [0], 1))


def test_cores_that_this_process_may_not_use_do_not_count(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == 64


TOUCH = """
import resource, sys
from mococxr.workers import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytes(sys.argv[1][:1], "ascii") * (64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", TOUCH, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_pages_of_large_arrays_are_asked_for_once():
    pages = (64 << 20) // resource.getpagesize()
    assert faults("as it is") > 5 * pages
    assert faults("kept") < pages / 10


@pytest.fixture
def _three_threads():
    """OpenCV as a program around us has set it."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    yield
    cv2.setNumThreads(before)


def stop(seen):
    seen.append(cv2.getNumThreads())
    raise KeyError


@pytest.mark.usefixtures("_three_threads")
def test_opencv_has_its_threads_back_afterwards_whatever_happens():
    seen = []
    with pytest.raises(KeyError), opencv_on_one_thread():
        stop(seen)
    assert seen == [1]
    assert cv2.getNumThreads() == 3


@pytest.mark.usefixtures("_three_threads")
def test_opencv_keeps_to_one_thread_while_a_network_is_pretrained(synthetic_store, tmp_path, monkeypatch):
    seen, step = [], MoCo.step
    monkeypatch.setattr(MoCo, "step", lambda *given, **how: seen.append(cv2.getNumThreads()) or step(*given, **how))
    tiny_run(synthetic_store, tmp_path / "run", epochs=1)
    assert set(seen) == {1}
    assert cv2.getNumThreads() == 3


def test_a_seeded_network_draws_what_torch_would_have_it_draw():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        wanted = torch.rand(5)
        hardware.seed_generators(torch.device("cpu"), 11)
        assert torch.equal(torch.rand(5), wanted)


def test_a_daemon_process_starts_its_workers_too():
    daemon = multiprocessing.get_context("spawn").Process(target=map_in_a_daemon, daemon=True)
    daemon.start()
    daemon.join()
    assert daemon.exitcode == 7
