"""What a process does with memory and cores: memory stays, and OpenCV leaves the other cores to a network."""

from __future__ import annotations

import resource
import subprocess
import sys

import cv2
import pytest
import torch

from mococxr.pretraining import hardware, trainer
from mococxr.workers import opencv_on_one_thread
from small_run import tiny_run

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
def test_opencv_keeps_to_one_thread_while_a_network_is_pretrained(phantom_store, tmp_path, monkeypatch):
    seen, step = [], trainer.moco_step
    monkeypatch.setattr(
        trainer, "moco_step", lambda *given, **how: seen.append(cv2.getNumThreads()) or step(*given, **how)
    )
    tiny_run(phantom_store, tmp_path / "run", epochs=1)
    assert set(seen) == {1}
    assert cv2.getNumThreads() == 3


def test_a_seeded_network_draws_what_torch_would_have_it_draw():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        wanted = torch.rand(5)
        hardware.seed_generators(torch.device("cpu"), 11)
        assert torch.equal(torch.rand(5), wanted)
