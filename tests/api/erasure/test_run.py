"""Erasing on engines: the same shifts wherever they are found, and nothing lost if one fails."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from shiftreg import api
from shiftreg.api.erasure import run
from shiftreg.api.erasure.register import register_shift
from shiftreg.api.values import Progress
from shiftreg.engines import Engine, InProcess, ProcessPool, RayCluster
from shiftreg.errors import IncompleteError, StorageError
from tests.worlds import Worlds

OPTIONS = {"iterations": 3, "pool_size": 8, "batch_size": 4}
NAMES = ["Picasso", "Caravaggio", "Edvard Munch"]  # the last is new to the base


@pytest.fixture(params=["processes", pytest.param("ray", marks=pytest.mark.second_tier)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "processes":
        yield request.getfixturevalue("workers")
        return
    request.getfixturevalue("cluster")
    with RayCluster(2, torch.get_num_threads()) as made:
        yield made


def digests(workspace: api.Workspace) -> dict[str, str]:
    return {
        version.concept: version.digest for version in workspace.registry.shifts.active("miniature")
    }


def test_shifts_found_by_workers_are_those_found_one_after_the_other(
    tmp_path: Path, worlds: Worlds, engine: Engine
) -> None:
    request: dict[str, Any] = {"method": "srs-me", "options": OPTIONS}
    names = ["Picasso", "Edvard Munch"]
    one, another = (worlds.open(tmp_path / name / "home", steps=1) for name in ("one", "another"))
    alone = [result.digest for result in api.erase(one, names, **request)]
    shared = [result.digest for result in api.erase(another, names, **request, engine=engine)]
    assert shared == alone
    for name in names:
        (version,) = another.registry.shifts.versions("miniature", name)
        steps = another.registry.trainings.curves(version)["correlation"]
        assert [step for step, _ in steps] == [1, 2, 3]
    assert sorted(e.concepts for e in another.audit.events() if e.action == "erase") == [
        ("Edvard Munch",),
        ("Picasso",),
    ]


def test_concepts_that_are_new_in_one_go_protect_each_other_alike(
    workspace: api.Workspace,
) -> None:
    for result in api.erase(workspace, ["Edvard Munch", "Rembrandt"], force=True):
        assert result.stale == ()
        other = {"Edvard Munch": "Rembrandt", "Rembrandt": "Edvard Munch"}[result.plan.concept]
        assert other in result.plan.protected
        assert f"a painting by {other}" in result.plan.preserved


class Failing(InProcess):
    """An engine on which the second of all tasks fails."""

    def run(self, tasks: Any, work: Any, listener: Any) -> None:
        def do(task: Any, tell: Any) -> Any:
            if task is tasks[1]:
                raise RuntimeError("the machine caught fire")
            return work(task, tell)

        super().run(tasks, do, listener)


def test_one_that_fails_leaves_the_others_registered_and_is_named(
    workspace: api.Workspace,
) -> None:
    with pytest.raises(IncompleteError) as caught:
        api.erase(workspace, NAMES, engine=Failing(), force=True)
    assert caught.value.missing == ("Caravaggio",)
    message = str(caught.value)
    assert "1 of 3 concepts are not erased. Caravaggio: the machine caught fire." in message
    assert "Picasso: erased (version 1); Edvard Munch: erased (version 1)" in message
    assert message.endswith("shiftreg erase Caravaggio")
    assert digests(workspace).keys() == {"Picasso", "Edvard Munch"}
    assert workspace.registry.shifts.versions("miniature", "Picasso")


def test_what_was_trained_together_is_registered_one_by_one(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_the_second(*arguments: Any, **options: Any) -> Any:
        if arguments[2].concept == "Caravaggio":
            raise StorageError("The disk is full.")
        return register_shift(*arguments, **options)

    monkeypatch.setattr(run, "register_shift", refuse_the_second)
    with pytest.raises(IncompleteError, match="1 of 2 concepts are not erased") as caught:
        api.erase(workspace, NAMES[:2], method="srs-me-joint", options=OPTIONS, force=True)
    assert caught.value.missing == ("Caravaggio",)
    assert "Picasso: erased (version 1)" in str(caught.value)
    (version,) = workspace.registry.shifts.versions("miniature", "Picasso")
    assert workspace.registry.trainings.curves(version)
    assert api.examine_registry(workspace).findings == ()


def test_the_error_of_the_only_one_is_told_as_it_is(workspace: api.Workspace) -> None:
    class Broken(InProcess):
        def run(self, tasks: Any, work: Any, listener: Any) -> None:
            listener.failed(0, RuntimeError("the machine caught fire"))

    with pytest.raises(RuntimeError, match=r"^the machine caught fire$"):
        api.erase(workspace, ["Picasso"], engine=Broken())


@pytest.mark.second_tier
def test_a_worker_that_is_killed_in_a_training_goes_on_where_it_was(
    workspace: api.Workspace,
) -> None:
    killed: list[int | None] = []
    others = {*multiprocessing.active_children()}

    def kill(progress: Progress) -> None:
        if progress.stage == "training Picasso" and progress.done == 2 and not killed:
            (worker,) = {*multiprocessing.active_children()} - others
            killed.append(worker.pid)
            worker.kill()

    request: dict[str, Any] = {"method": "srs-me", "options": {**OPTIONS, "iterations": 40}}
    whole = api.erase(workspace, ["Picasso"], **request)[0].digest
    with ProcessPool(1, torch.get_num_threads()) as pool:
        (result,) = api.erase(workspace, ["Picasso"], **request, engine=pool, observe=kill)
    assert killed
    assert result.digest == whole
    runs = [v.run_id for v in workspace.registry.shifts.versions("miniature", "Picasso")]
    assert len(set(runs)) == 2


def test_all_lanes_are_told_of_and_how_many_are_done(workspace: api.Workspace) -> None:
    seen: list[Progress] = []
    api.erase(workspace, NAMES[:2], engine=InProcess(), observe=seen.append)
    assert {progress.lane for progress in seen} == {"", "Picasso", "Caravaggio"}
    overall = [(p.done, p.total) for p in seen if not p.lane]
    assert overall[0] == (0, 2)
    assert overall[-1] == (2, 2)


def test_an_interrupt_leaves_what_is_registered_and_no_run_behind(
    workspace: api.Workspace,
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.lane == "Caravaggio":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.erase(workspace, NAMES[:2], engine=InProcess(), observe=interrupt)
    assert digests(workspace).keys() == {"Picasso"}
    assert api.examine_registry(workspace).findings == ()


@pytest.mark.second_tier
@pytest.mark.erased("Caravaggio", "Picasso")
def test_refreshing_shares_the_work_out_too(workspace: api.Workspace) -> None:
    api.erase(workspace, ["Edvard Munch"], force=True)
    assert {name for name, _ in api.plan_refresh(workspace)} == {"Picasso", "Caravaggio"}
    with ProcessPool(2, torch.get_num_threads()) as pool:
        results = api.refresh(workspace, engine=pool)
    assert {result.plan.concept for result in results} == {"Picasso", "Caravaggio"}
    assert api.plan_refresh(workspace) == ()
