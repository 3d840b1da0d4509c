"""Processes in which films and networks take turns: memory stays, and OpenCV leaves the other cores alone."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch

from mococxr.backbone import Encoder, EncoderSpec, build
from mococxr.encode import encode_frames
from mococxr.finetune import train_by_gradient
from mococxr.pretrain import loop, machine
from mococxr.store import Store
from mococxr.workers import cores_for_network
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
    with pytest.raises(KeyError), cores_for_network("meta"):
        stop(seen)
    assert seen == [1]
    assert cv2.getNumThreads() == 3


@pytest.mark.usefixtures("_three_threads")
def test_opencv_keeps_to_one_thread_while_a_network_is_pretrained(phantom_store, tmp_path, monkeypatch):
    seen, step = [], loop.moco_step
    monkeypatch.setattr(
        loop, "moco_step", lambda *given, **how: seen.append(cv2.getNumThreads()) or step(*given, **how)
    )
    tiny_run(phantom_store, tmp_path / "run", epochs=1)
    assert set(seen) == {1}
    assert cv2.getNumThreads() == 3


class Noting(Encoder):
    """An encoder that notes how many threads OpenCV has."""

    seen: ClassVar[list[int]] = []

    def forward(self, films):
        self.seen.append(cv2.getNumThreads())
        return super().forward(films)


@pytest.mark.usefixtures("_three_threads")
def test_opencv_keeps_to_one_thread_while_features_are_made_and_networks_trained(phantom_store):
    built = build(EncoderSpec("test_resnet", 64))
    encoder = Noting(built.network, built.spec)
    frame = np.zeros((64, 64), dtype=np.uint8)
    list(encode_frames(encoder.eval(), [frame], torch.device("cpu")))
    assert cv2.getNumThreads() == 3
    rows = np.arange(8)
    how = {"size": 64, "batch": 4, "epochs": 1, "checkpoints": 0}
    train_by_gradient(encoder, Store.open(phantom_store), rows, rows % 2, **how)
    assert Noting.seen == [1, 1, 1]
    assert cv2.getNumThreads() == 3


def test_a_seeded_network_draws_what_torch_would_have_it_draw():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        wanted = torch.rand(5)
        machine.seed_generators(torch.device("cpu"), 11)
        assert torch.equal(torch.rand(5), wanted)
