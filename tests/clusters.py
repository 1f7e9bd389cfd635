"""A Ray cluster of two nodes on this machine, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STARTS = 3


@contextmanager
def two_nodes() -> Iterator[None]:
    """Nodes with one processor each, that this process is connected to."""
    import ray

    nodes = _started()
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        yield
    finally:
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
        except Exception:  # Ray raises just that
            nodes.shutdown()
            if attempt == STARTS - 1:
                raise
    return nodes
