from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

STARTS = 3


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster of two nodes, each with one processor, that this process is connected to."""
    import ray

    nodes = _started()
    ray.init(address=nodes.address, log_to_driver=False)
    yield
    ray.shutdown()
    nodes.shutdown()


def _started() -> Any:
    """Nodes that are up. Ray gives one half a minute, which a busy machine may not keep."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    for attempt in range(STARTS):
        nodes = Cluster()
        try:
            nodes.add_node(**node, include_dashboard=False)
            nodes.add_node(**node)
            break
        except Exception:
            nodes.shutdown()
            if attempt == STARTS - 1:
                raise
    return nodes
