"""What holds for every engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shiftreg.engines import Engine, InProcess, RayCluster
from tests.engines.work import Heard, raise_stubborn, refuse_odd, square


@pytest.fixture(
    params=["local", "processes", pytest.param("ray", marks=pytest.mark.second_tier)],
    scope="module",
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "processes":
        yield request.getfixturevalue("workers")
        return
    if request.param == "ray":
        request.getfixturevalue("cluster")
    with {"local": InProcess, "ray": RayCluster}[request.param]() as made:
        yield made


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_every_task_is_done_and_its_result_comes_back(engine: Engine, heard: Heard) -> None:
    engine.run([1, 2, 3, 4, 5], square, heard)
    assert heard.results == {0: 1, 1: 4, 2: 9, 3: 16, 4: 25}
    assert sorted(heard.starts) == [0, 1, 2, 3, 4]
    assert heard.errors == {}


def test_reports_of_a_task_arrive_in_their_order(engine: Engine, heard: Heard) -> None:
    engine.run([1, 2, 3], square, heard)
    for number, task in enumerate([1, 2, 3]):
        own = [report for teller, report in heard.reports if teller == number]
        assert own == [f"half of {task}", f"all of {task}"]


def test_a_task_that_fails_does_not_stop_the_others(engine: Engine, heard: Heard) -> None:
    engine.run([0, 1, 2, 3], refuse_odd, heard)
    assert heard.results == {0: 0, 2: 2}
    assert {number: (type(e), str(e)) for number, e in heard.errors.items()} == {
        1: (ValueError, "1 is odd"),
        3: (ValueError, "3 is odd"),
    }


def test_an_error_that_cannot_be_copied_is_told_in_words(engine: Engine, heard: Heard) -> None:
    engine.run([0], raise_stubborn, heard)
    assert "no copy" in str(heard.errors[0])


def test_an_engine_can_be_used_again(engine: Engine, heard: Heard) -> None:
    engine.run([2], square, heard)
    engine.run([3], square, heard)
    assert heard.results == {0: 9}
    assert heard.starts == [0, 0]


def test_no_tasks_are_no_work(engine: Engine, heard: Heard) -> None:
    engine.run([], square, heard)
    assert heard.starts == []
