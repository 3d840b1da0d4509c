"""What all tests share: one thread each, the place of the real images, and a door shut on the network."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from mococxr import commands, workers

if TYPE_CHECKING:
    from mococxr.store import Store

ROOT = Path(__file__).resolve().parent.parent

# Before numpy or torch is imported: pytest-xdist already uses every core, and threads of threads are slow.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, "1")


# Tracing a graph takes ten times as long as a small fit: who tests it calls `leave_onnx` (tests/test_model_graph.py).
for name in ("fit", "recalibrate"):
    del commands.THEN[name]

# A busy machine is no fault of the code.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.load_profile("house")


@pytest.fixture(autouse=True)
def _same_number_of_threads() -> Iterator[None]:
    """A test that changes torch's number of threads does not change it for the next one."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else None
    yield
    if before is not None:
        sys.modules["torch"].set_num_threads(before)


class WarmPool:
    """Stands for a new pool of one process, and leaves the process to the next test: to start it costs seconds."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool
        self.futures: list[Future[Any]] = []

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        self.futures.append(self.pool.submit(work, *arguments))
        return self.futures[-1]

    def shutdown(self, *, cancel_futures: bool = False) -> None:
        wait([future for future in self.futures if not (cancel_futures and future.cancel())])

    def __enter__(self) -> WarmPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


NEW_POOL = workers.process_pool


@pytest.fixture
def _new_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of how processes start and die: every pool is a new one."""
    monkeypatch.setattr(workers, "process_pool", NEW_POOL)


@pytest.fixture(autouse=True, scope="session")
def _one_warm_process() -> Iterator[None]:
    """A pool of one process that needs no set-up is the same process in all tests, until it dies."""
    kept: list[ProcessPoolExecutor] = []

    def process_pool(jobs: int, setup: Callable[[], object] | None = None) -> Any:
        if jobs > 1 or setup is not None:
            return NEW_POOL(jobs, setup)
        try:
            kept[0].submit(os.chdir, os.getcwd()).result()
        except (IndexError, BrokenProcessPool):
            kept[:] = [NEW_POOL(1)]
        return WarmPool(kept[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "process_pool", process_pool)
        yield
    for pool in kept:
        pool.shutdown()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real images (MOCOCXR_DATA), or a skip that says where it was looked for."""
    folder = Path(os.environ.get("MOCOCXR_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real images: MOCOCXR_DATA names no folder ({folder.name} is not there)")
    return folder


@pytest.fixture(scope="session")
def synthetic_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 60 small synthetic images, to be read only (tests/small_run.py)."""
    from small_run import make_synthetic_store

    return make_synthetic_store(tmp_path_factory.mktemp("synthetic images"))


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of 60 small images of 30 patients, to be read only (tests/small_store.py)."""
    from small_store import make_store

    return make_store(tmp_path_factory.mktemp("small"), patients=30)


@pytest.fixture(scope="session")
def store(small_store: Store) -> Store:
    """The store of a test module that makes none of its own."""
    return small_store


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt to reach another machine fails loudly; pipes between processes still work."""

    def refuse(*address: object, **_: object) -> None:
        raise AssertionError(f"this test may not use the network, and something tried: {address}")

    class Closed(socket.socket):
        def connect(self, address: object) -> None:
            if self.family == getattr(socket, "AF_UNIX", None):
                return super().connect(address)
            return refuse(address)

        def connect_ex(self, address: object) -> int:
            if self.family == getattr(socket, "AF_UNIX", None):
                return super().connect_ex(address)
            refuse(address)
            return 1

    monkeypatch.setattr(socket, "socket", Closed)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)  # what works only because these are set does not count


@pytest.fixture(scope="module")
def light_figures() -> Iterator[None]:
    """PDF and PNG of figures stay empty, which takes a quarter of the time: for tests of what a page says."""
    from matplotlib.figure import Figure

    draw = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Figure, "savefig", lambda self, file, **how: draw(self, file, **how) if how["format"] == "svg" else None
        )
        yield
