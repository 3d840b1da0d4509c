"""On a GPU: the losses of the CPU, views made there, pinned batches, bfloat16, and no waiting within a step."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mococxr.pretraining.dataset import gather_images
from mococxr.pretraining.hardware import bf16_support, make_accelerator
from mococxr.pretraining.loader import make_loader
from mococxr.pretraining.pretrain import build_method
from mococxr.pretraining.trainer import Monitor
from mococxr.store import Store
from small_run import read_log, tiny, tiny_run

GPU = next((kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()), "")
pytestmark = pytest.mark.skipif(not GPU, reason="no GPU: neither torch.cuda nor torch.mps is available")
needs_cuda = pytest.mark.skipif(GPU != "cuda", reason="not a GPU of NVIDIA")
NETWORK = {"backbone": "test_vit", "epochs": 2, "log_every": 1, "precision": "no"}


def losses(store: Path, out: Path, **settings: object) -> np.ndarray:
    return np.array([entry["loss"] for entry in read_log(tiny_run(store, out, **{**NETWORK, **settings}))])


def test_a_gpu_has_the_losses_of_the_cpu(synthetic_store, tmp_path):
    ours, theirs = (losses(synthetic_store, tmp_path / device, device=device) for device in ("cpu", GPU))
    np.testing.assert_allclose(theirs, ours, atol=5e-3)


def test_views_made_on_the_gpu_are_those_of_the_cpu(synthetic_store, tmp_path):
    pool = gather_images([Store.open(synthetic_store)], (32,), "train")
    accelerator = make_accelerator(GPU, "no")
    feeds = [
        make_loader(tiny(synthetic_store, tmp_path / "run", device=GPU, views_on=place), pool, accelerator)
        for place in ("cpu", "device")
    ]
    for (_, plain), (_, stored) in zip(*(feed.run(0, 4) for feed in feeds), strict=True):
        apart = (plain.int() - stored.to(accelerator.device, non_blocking=True).cpu().int()).abs()
        assert apart.float().mean() < 0.5
        assert int(apart.max()) <= 6


@pytest.mark.parametrize("settings", [{"views_on": "device"}, {"accumulate": 2}, {"channels": 1}])
def test_every_way_runs_on_a_gpu(synthetic_store, tmp_path, settings):
    found = losses(synthetic_store, tmp_path / "run", device=GPU, **settings)
    assert np.isfinite(found).all()


@needs_cuda
def test_batches_for_a_gpu_lie_in_pinned_memory(synthetic_store, tmp_path):
    pool = gather_images([Store.open(synthetic_store)], (32,), "train")
    accelerator = make_accelerator("cuda", "no")
    for place in ("cpu", "device"):
        settings = tiny(synthetic_store, tmp_path / "run", device="cuda", views_on=place)
        _, batch = next(make_loader(settings, pool, accelerator).run(0, 1))
        tensors = [batch] if isinstance(batch, torch.Tensor) else [batch.images, batch.maps]
        assert all(tensor.is_pinned() for tensor in tensors)


@needs_cuda
def test_bfloat16_runs_and_stays_near(synthetic_store, tmp_path):
    if not bf16_support(torch.device("cuda")):
        pytest.skip("this GPU does not know bfloat16")
    plain, half = (losses(synthetic_store, tmp_path / p, device="cuda", precision=p) for p in ("no", "bf16"))
    np.testing.assert_allclose(half, plain, atol=0.2)


@needs_cuda
@pytest.mark.parametrize(("method", "parts"), [("moco", 1), ("moco", 2), ("simclr", 1), ("simsiam", 1)])
def test_no_step_waits_for_the_gpu(synthetic_store, tmp_path, method, parts):
    queue = 16 if method == "moco" else None
    settings = tiny(synthetic_store, tmp_path, device="cuda", method=method, queue=queue, accumulate=parts)
    pool = gather_images([Store.open(synthetic_store)], (32,), "train")
    accelerator = make_accelerator("cuda", "no")
    learner, loader = build_method(settings, accelerator)[0], make_loader(settings, pool, accelerator)
    monitor = Monitor(learner)
    views = loader.views(*loader.images(0)).to("cuda")
    learner.step(views, 1e-3)  # what is set up once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = learner.step(views, 1e-3)
        monitor.add(0, result)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(float(result.loss))


@needs_cuda
def test_batch_auto_finds_a_power_of_two(synthetic_store, tmp_path):
    import yaml

    run = tiny_run(synthetic_store, tmp_path / "run", device="cuda", batch=0, key_groups=1, epochs=1, queue=None)
    found = yaml.safe_load((run / "settings.yaml").read_text())["batch"]
    assert found == 4  # of 44 images an epoch keeps eight steps
