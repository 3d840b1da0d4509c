"""What the machine is found good for: precision, threads, the largest batch; and threads that grow with the need."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import Future

import pytest
import torch
from torch import nn

from mococxr.encoders import EncoderSpec, build
from mococxr.errors import InputError
from mococxr.pretraining import hardware
from mococxr.pretraining.loader import LOOK, AdaptiveThreads
from mococxr.pretraining.method import OneProcess
from mococxr.pretraining.pretrain import METHODS, build_method
from mococxr.settings import PretrainSettings, from_yaml, make
from mococxr.settings.pretraining import AUTO
from small_run import tiny, tiny_run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "native", "instructions", "told"),
    [
        ("cuda", True, False, True),
        ("cuda", False, True, False),
        ("mps", True, True, False),
        ("cpu", True, False, False),
        ("cpu", False, True, None),
    ],
)
def test_bfloat16_is_taken_where_a_device_is_known_to_be_fast_in_it(monkeypatch, device, native, instructions, told):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    assert hardware.bf16_support(torch.device(device)) is told


def test_on_a_cpu_that_knows_bfloat16_a_network_of_whole_convolutions_takes_it_and_one_of_grouped_does_not(monkeypatch):
    def network(name: str) -> nn.Module:
        return build(EncoderSpec(name, 32))

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    chosen = {
        name: hardware.choose_precision(CPU, lambda _n=name: network(_n))
        for name in ("resnet18", "tf_efficientnet_lite0")
    }
    assert chosen == {"resnet18": "bf16", "tf_efficientnet_lite0": "no"}
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert hardware.choose_precision(CPU, lambda: pytest.fail("built in vain")) == "no"


def test_threads_follow_the_cores_and_their_sharing(monkeypatch):
    monkeypatch.setattr(hardware, "cores", lambda: 12)
    assert hardware.view_threads(CPU, 1) == (1, 12)
    assert hardware.view_threads(CUDA, 1) == (12, 12)
    assert hardware.view_threads(CUDA, 4) == (3, 3)
    assert hardware.view_threads(CUDA, 50) == (1, 1)
    assert hardware.view_threads(CPU, 1, asked=5) == (5, 5)
    monkeypatch.setattr(hardware, "cores", lambda: 128)
    assert hardware.view_threads(CUDA, 1) == (hardware.MOST_THREADS,) * 2


def test_the_processes_of_this_machine_are_those_that_the_launcher_tells(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert hardware.processes_here(8) == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert hardware.processes_here(8) == 2


@pytest.mark.parametrize(("holds", "most", "found"), [(100, 1000, 64), (64, 1000, 64), (1000, 48, 32), (3, 9, 2)])
def test_the_batch_is_the_largest_power_of_two_that_fits_and_is_allowed(holds, most, found):
    tried: list[int] = []
    assert hardware.largest_that_fits(lambda batch: tried.append(batch) or batch <= holds, most) == found
    assert max(tried) <= most


def test_a_device_that_holds_no_two_images_is_refused():
    with pytest.raises(InputError, match="not even two images"):
        hardware.largest_that_fits(lambda _: False, 64)


# --- threads


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Late(Future):
    """A result that takes its time."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def result(self, _: float | None = None) -> int:
        self.clock.now += self.seconds
        return 7


@pytest.mark.parametrize(("waits", "workers"), [(0.0, [1, 1, 1]), (0.005, [1, 1, 1]), (0.1, [2, 3, 3])])
def test_threads_are_added_while_the_run_waits_for_views_and_no_longer(waits, workers):
    clock = Clock()
    crew, seen = AdaptiveThreads(1, 3, clock), []
    with crew.threads:
        for _ in range(3):
            for _ in range(LOOK):
                clock.now += 1.0  # the step
                assert crew.result(Late(clock, waits)) == 7
            seen.append(crew.workers)
    assert seen == workers


def test_no_more_threads_work_at_once_than_may():
    import threading

    crew, lock, at_work, most = AdaptiveThreads(1, 3), threading.Lock(), [0], [0]
    gate = threading.Event()

    def work(number: int) -> int:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        gate.wait(0.01)
        with lock:
            at_work[0] -= 1
        return number

    with crew.threads:
        assert [future.result() for future in [crew.start(work, i) for i in range(8)]] == list(range(8))
        assert most[0] == 1
        crew._leave.release()
        assert [future.result() for future in [crew.start(work, i) for i in range(8)]] == list(range(8))
    assert most[0] == 2


# --- settings


def test_batch_auto_is_a_word_for_a_number_to_be_found():
    settings = make(PretrainSettings, {"stores": ["s"], "out": "r", "batch": "auto", "accumulate": 4})
    assert (settings.batch, settings.workers) == (AUTO, AUTO)
    for wrong in ({"batch": "most"}, {"batch": 1}, {"batch": 8, "accumulate": 5}, {"accumulate": 0}, {"workers": -1}):
        with pytest.raises(InputError, match="--"):
            make(PretrainSettings, {"stores": ["s"], "out": "r", **wrong})


def test_what_the_machine_settles_stands_in_the_settings_as_numbers_and_stays_on_resuming(
    synthetic_store, tmp_path, monkeypatch
):
    """`--batch auto` on a CPU is the preset's."""
    monkeypatch.setitem(hardware.PRESETS, "tuned", dataclasses.replace(hardware.PRESETS["tuned"], batch=4))
    run = tiny_run(synthetic_store, tmp_path / "run", batch=AUTO, key_groups=1, epochs=1)
    kept = vars(make(PretrainSettings, from_yaml(run / "settings.yaml")))
    assert (kept["batch"], kept["precision"]) == (4, "no")
    assert json.loads((run / "run.json").read_text())["steps"] == 11
    (run / "run.json").unlink()
    monkeypatch.setitem(hardware.PRESETS, "tuned", dataclasses.replace(hardware.PRESETS["tuned"], batch=8))
    tiny_run(synthetic_store, tmp_path / "run", batch=AUTO, key_groups=1, epochs=1, resume=True)
    assert make(PretrainSettings, from_yaml(run / "settings.yaml")).batch == 4


@pytest.mark.parametrize("method", METHODS)
def test_the_trial_of_a_batch_is_a_whole_step_that_nothing_keeps(synthetic_store, tmp_path, method):
    settings = tiny(synthetic_store, tmp_path / "run", method=method, batch=AUTO, queue=None)
    accelerator = hardware.make_accelerator("cpu", "no")

    def fits(batch: int) -> bool:
        hardware.trial_step(settings, batch, OneProcess(accelerator), lambda *args: build_method(*args)[0])
        return batch < 8

    assert hardware.largest_that_fits(fits, 64) == 4
    assert accelerator._models == []
