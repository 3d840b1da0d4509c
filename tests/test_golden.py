"""The losses of fifty steps, as they were, and what each way to be faster changes of them.

`golden_losses.json` holds the lists and the machine that made them: there they come out bit for bit, elsewhere to 1e-4.
`python tests/test_golden.py` writes it anew; do that only with a line under *Numerics* in the change log.

What several processes change is in tests/test_slow_pretrain.py.
"""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mococxr.encoders import EncoderSpec, build, save_encoder
from mococxr.errors import InputError
from small_run import make_synthetic_store, read_log, tiny_run

GOLDEN = Path(__file__).with_name("golden_losses.json")
PLAIN: dict[str, dict[str, Any]] = {
    "layer norm": {"backbone": "test_vit"},
    "batch norm": {"backbone": "test_efficientnet", "lr": 1e-4},
}
STEPS, FEW = 50, 10
LIKE_PLAIN: list[tuple[str, str, dict[str, Any], int, float]] = [
    # option, network, settings, steps compared, tolerance of a loss
    ("threads for views", "batch norm", {"workers": 4}, FEW, 0.0),
    ("four parts", "layer norm", {"accumulate": 4}, FEW, 1e-4),
    # Views of the device round otherwise; in a run of ten steps the rate rises at once, and they part by 1.4e-4 in step 2.
    ("views on the device", "layer norm", {"views_on": "device"}, 5, 1e-3),
    ("views on the device", "batch norm", {"views_on": "device"}, FEW, 2e-2),
    ("bfloat16", "layer norm", {"precision": "bf16"}, FEW, 2e-1),
    # One kernel learns as three: the losses part after the first descents (`encoders.weights.fit_stem`).
    ("one channel", "layer norm", {"channels": 1}, 1, 1e-5),
    ("one channel", "batch norm", {"channels": 1}, 1, 1e-5),
]


def losses(store: Path, out: Path, network: str, steps: int = FEW, **settings: Any) -> np.ndarray:
    """The loss of each step, on one thread."""
    torch.set_num_threads(1)
    run = tiny_run(store, out, epochs=steps // 5, log_every=1, **PLAIN[network], **settings)
    return np.array([entry["loss"] for entry in read_log(run)])


def this_machine() -> dict[str, str]:
    """What the last bits of a sum depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    cpu = " ".join(value.strip() for key, value in told.items() if key.strip() in ("cpu family", "model", "stepping"))
    return {
        "cpu": f"{platform.machine()} {cpu} {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


@pytest.fixture(scope="module")
def plain(synthetic_store, tmp_path_factory) -> dict[str, np.ndarray]:
    """The plain path of each network, from weights in a folder that other ways start from too."""
    place = tmp_path_factory.mktemp("plain")
    return {name: losses(synthetic_store, place / name, name, init=start(place, name)) for name in PLAIN}


def start(place: Path, network: str) -> str:
    """Weights of three channels to start from, as a folder."""
    folder = place / f"start of {network}"
    if not folder.exists():
        save_encoder(build(EncoderSpec(PLAIN[network]["backbone"], 32)), folder, {})
    return str(folder)


@pytest.mark.parametrize("network", PLAIN)
def test_fifty_steps_have_the_losses_that_they_had(synthetic_store, tmp_path, network):
    golden = json.loads(GOLDEN.read_text())
    found = losses(synthetic_store, tmp_path / "run", network, STEPS, init=start(tmp_path, network))
    assert len(golden[network]) == len(found) == STEPS
    apart = np.abs(found - golden[network]).max()
    if golden["machine"] == this_machine():
        assert apart == 0.0
    assert apart < 1e-4


@pytest.mark.parametrize(
    ("network", "settings", "steps", "tolerance"),
    [row[1:] for row in LIKE_PLAIN],
    ids=[f"{row[0]}, {row[1]}" for row in LIKE_PLAIN],
)
def test_a_way_to_be_faster_stays_within_its_tolerance_of_the_plain_path(
    synthetic_store, tmp_path, plain, network, settings, steps, tolerance
):
    found = losses(synthetic_store, tmp_path / "run", network, init=start(tmp_path, network), **settings)
    assert np.abs(found - plain[network])[:steps].max() <= tolerance
    assert np.isfinite(found).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.timeout(900)  # a compiler on a busy machine
def test_compiled_encoders_stay_near_the_plain_path(synthetic_store, tmp_path, plain):
    """So near that weights and batch-norm statistics are as before the compiling passes too."""
    network = "batch norm"
    found = losses(synthetic_store, tmp_path / "run", network, init=start(tmp_path, network), compile=True)
    assert np.abs(found - plain[network]).max() <= 2e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.timeout(900)
def test_encoders_are_compiled_for_each_size_of_a_growing_run(synthetic_store, tmp_path):
    how = {"size": 48, "sizes": ("32:1", "48:1"), "log_every": 1, "backbone": "test_vit"}
    plain, fast = (
        read_log(tiny_run(synthetic_store, tmp_path / str(c), epochs=2, compile=c, **how)) for c in (False, True)
    )
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(plain, fast, strict=True)) <= 2e-3


@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_where_encoders_cannot_be_compiled_it_is_refused_before_anything_is_written(
    synthetic_store, tmp_path, monkeypatch
):
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler here")

    monkeypatch.setattr("mococxr.pretraining.moco.Projector.forward", no_compiler)
    with pytest.raises(InputError, match=r"--compile cannot work here \(RuntimeError: no C\+\+ compiler here\)"):
        tiny_run(synthetic_store, tmp_path / "run", compile=True)
    assert not (tmp_path / "run").exists()


def write() -> None:
    """Write the golden lists of this machine."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        store = make_synthetic_store(place)
        lists = {net: losses(store, place / net, net, STEPS, init=start(place, net)).tolist() for net in PLAIN}
    GOLDEN.write_text(json.dumps({"machine": this_machine(), **lists}, indent=1) + "\n")


if __name__ == "__main__":
    write()
