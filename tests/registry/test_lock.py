"""Turns: on a file for a home of our own, on a run's parameters for everything else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from shiftreg.errors import StorageError
from shiftreg.registry import Registry, lock, open_registry
from shiftreg.registry.store import Store, connect


@pytest.fixture(params=["file", "database"])
def store(request: pytest.FixtureRequest, home: Path) -> Store:
    """A store of our own, or one that many homes may share (which a database's address is)."""
    if request.param == "file":
        return connect(home)
    return shared(home)


def shared(home: Path) -> Store:
    return connect(home, f"sqlite:///{home}/registry.db")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.01)


def test_only_one_holds_the_lock(store: Store) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            with lock.lock(store):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    with lock.lock(store):  # makes what locks are written to
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        assert not most
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_a_failure_inside_releases_the_lock(store: Store) -> None:
    with pytest.raises(ValueError, match="mine"), lock.lock(store):
        raise ValueError("mine")
    with lock.lock(store):
        pass


def test_who_waits_too_long_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock.lock(store):
        monkeypatch.setattr(lock, "WAIT_SECONDS", 0.1)
        with (
            pytest.raises(StorageError, match=r"changing the registry .* for 0 s"),
            lock.lock(store),
        ):
            pass


def test_the_turn_of_who_died_is_ended_by_the_next(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shared(home)
    lock._acquire(store)  # and never ended
    monkeypatch.setattr(lock, "LEASE_SECONDS", 0.2)
    with lock.lock(store):
        pass


def test_who_was_only_slow_learns_that_another_had_the_turn(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shared(home)
    monkeypatch.setattr(lock, "LEASE_SECONDS", 0.1)
    with pytest.raises(StorageError, match="another client took the lock"), lock.lock(store):
        another = lock._acquire(store)
        assert lock._release(store, another)


def test_turns_go_on_in_a_new_run_and_everybody_finds_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shared(home)
    first = lock._first_run(store)
    monkeypatch.setattr(lock, "LOCKS_PER_RUN", 3)
    for _ in range(7):
        with lock.lock(store):
            pass
    assert lock._first_run(store) != first
    # Somebody who still knows the first run is led on from there.
    store.client.set_registered_model_tag(lock.POINTER, lock.RUN_TAG, first)
    taken = lock._acquire(store)
    assert taken.number == 2
    assert len(store.client.get_run(first).data.params) == 6


def test_a_registry_that_others_share_lists_no_turns(home: Path) -> None:
    registry = Registry(shared(home))
    with registry.lock():
        pass
    assert registry.bases.all() == ()
    assert open_registry(home).bases.all() == ()
