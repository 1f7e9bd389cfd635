from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shiftreg.engines import RayCluster, WorkerDiedError
from tests.engines.work import Heard, die_if_odd, die_once, which_node, who
from tests.servers import free_port

pytestmark = pytest.mark.second_tier


@pytest.mark.usefixtures("cluster")
def test_both_nodes_of_a_cluster_work() -> None:
    heard = Heard()
    with RayCluster() as engine:
        engine.run(range(6), which_node, heard)
    assert len(set(heard.results.values())) == 2


@pytest.mark.usefixtures("cluster")
def test_tasks_have_the_threads_that_were_asked_for() -> None:
    heard = Heard()
    with RayCluster(threads=3) as engine:
        engine.run([0], who, heard)
    assert heard.results[0][1:] == ("3", "PASSIVE")


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_is_replaced_and_its_task_done_again(tmp_path: Path) -> None:
    heard = Heard()
    with RayCluster() as engine:
        engine.run([tmp_path / "a"], die_once, heard)
    assert heard.results == {0: "survived"}
    assert heard.starts == [0, 0]


@pytest.mark.usefixtures("cluster")
def test_a_task_whose_workers_always_die_fails_and_the_others_are_done() -> None:
    heard = Heard()
    with RayCluster() as engine:
        engine.run([0, 1], die_if_odd, heard)
    assert heard.results == {0: 0}
    assert isinstance(heard.errors[1], WorkerDiedError)


def test_a_cluster_that_is_not_there_is_named() -> None:
    script = "from shiftreg.engines import RayCluster\nRayCluster().run([0], print, None)"
    address = f"127.0.0.1:{free_port()}"
    # In a process of its own: this one may be connected to a cluster.
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RAY_ADDRESS": address},
    )
    assert f"StorageError: The Ray cluster at '{address}' cannot be reached" in done.stderr
