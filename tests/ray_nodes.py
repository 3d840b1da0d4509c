"""A Ray cluster of several nodes on this machine, for tests that lose one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MEMORY = 80 << 20
"""Bytes of each node's object store."""


@contextmanager
def nodes(*cpus: int) -> Iterator[Any]:
    """Ray's `Cluster` with a node for each number of CPUs, the first its head, and this process connected to it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": cpus[0], "object_store_memory": MEMORY, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    for number in cpus[1:]:
        made.add_node(num_cpus=number, object_store_memory=MEMORY)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
