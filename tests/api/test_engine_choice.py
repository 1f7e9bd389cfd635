from __future__ import annotations

import pytest

from shiftreg import api
from shiftreg.engines import InProcess, ProcessPool, RayCluster
from shiftreg.errors import InvalidInputError


def test_one_short_task_is_done_here(workspace: api.Workspace) -> None:
    assert isinstance(api.choose_engine(workspace, tasks=1, long=True), InProcess)
    assert isinstance(api.choose_engine(workspace, tasks=9, long=False), InProcess)
    assert isinstance(api.choose_engine(workspace, "local", tasks=9, long=True), InProcess)


def test_several_long_tasks_are_shared_out(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert isinstance(api.choose_engine(workspace, tasks=2, long=True), ProcessPool)
    assert isinstance(api.choose_engine(workspace, tasks=2, workers=2), ProcessPool)
    assert isinstance(api.choose_engine(workspace, "processes", tasks=1), ProcessPool)
    assert isinstance(api.choose_engine(workspace, "ray", tasks=1), RayCluster)


def test_no_more_workers_than_the_memory_holds(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 1)
    assert isinstance(api.choose_engine(workspace, tasks=9, long=True), InProcess)


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(workspace: api.Workspace, workers: int) -> None:
    with pytest.raises(InvalidInputError, match="at least 1 worker"):
        api.choose_engine(workspace, tasks=2, workers=workers)


def test_an_engine_that_does_not_exist_is_named(workspace: api.Workspace) -> None:
    with pytest.raises(InvalidInputError, match="no engine 'steam'"):
        api.choose_engine(workspace, "steam", tasks=2)  # type: ignore[arg-type]
