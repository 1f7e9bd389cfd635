"""A registry's lock: one client at a time changes what is active, and records the event of it.

MLflow sets an alias to whatever the last writer says; it cannot compare first. So whoever changes
one holds the lock: reads, changes, writes the event, and releases it. In a home of our own it is a
locked file. On a server it rests on the one thing that MLflow writes once and never again, a run's
parameter: ``lock-N`` holds the token of whoever wrote it first, and ``release-N`` releases it. A
lock whose holder died is released by another client, which writes the same ``release-N``: only one
of the two can, so that a holder who was thought dead learns of it.
"""

from __future__ import annotations

import random
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from filelock import FileLock, Timeout

from shiftreg.errors import StorageError
from shiftreg.registry.failures import MISSING, TAKEN, Suppressed, translated_errors
from shiftreg.registry.runs import find_or_create_experiment
from shiftreg.registry.store import Store

WAIT_SECONDS = 600.0
LEASE_SECONDS = 150.0
"""Longer than a change takes, even where its event loses races for two minutes."""
POLL_SECONDS = 0.25
LOCKS_PER_RUN = 200

POINTER = "shiftreg-lock"
RUN_TAG = "shiftreg.run"
NEXT_RUN = "next run: "


@contextmanager
def lock(store: Store) -> Iterator[None]:
    """Keeps everybody else from changing what is active.

    Raises:
        StorageError: Others held it too long, or this client did and another one released it.
    """
    if store.is_own:
        with _file_lock(store):
            yield
    else:
        with _server_lock(store):
            yield


@contextmanager
def _file_lock(store: Store) -> Iterator[None]:
    file = FileLock(store.home / "changes.lock", timeout=WAIT_SECONDS)
    with translated_errors(store.uri):
        try:
            file.acquire()
        except Timeout as error:
            raise StorageError(
                f"Others have been changing the registry {store.uri} for {WAIT_SECONDS:.0f} s. "
                "Wait for them to end and try again."
            ) from error
    try:
        yield
    finally:
        file.release()


@contextmanager
def _server_lock(store: Store) -> Iterator[None]:
    with translated_errors(store.uri):
        mine = _acquire(store)
    try:
        yield
    except BaseException:
        # The first error is the one to raise.
        with suppress(Exception):
            _release(store, mine)
        raise
    with translated_errors(store.uri):
        is_mine = _release(store, mine)
    if not is_mine:
        raise StorageError(
            f"This change of {store.uri} took more than {LEASE_SECONDS:.0f} s, and another client "
            "took the lock meanwhile. It was made; see whether both hold: shiftreg list"
        )


@dataclass(frozen=True)
class _Held:
    run_id: str
    number: int
    token: str


def _acquire(store: Store) -> _Held:
    """Waits until nobody holds the lock, and takes it."""
    token = f"{socket.gethostname()[:100]} {uuid.uuid4().hex}"
    run_id = _first_run(store)
    began = since = time.monotonic()
    seen = None
    while True:
        cells = store.client.get_run(run_id).data.params
        number = max((int(key[5:]) for key in cells if key.startswith("lock-")), default=0)
        released = cells.get(f"release-{number}") if number else ""
        if released is not None and released.startswith(NEXT_RUN):
            run_id = released.removeprefix(NEXT_RUN)
            continue
        now = time.monotonic()
        if released is not None:
            if _write_once(store, run_id, f"lock-{number + 1}", token):
                return _Held(run_id, number + 1, token)
        elif (run_id, number) != seen:
            seen, since = (run_id, number), now
        elif now - since > LEASE_SECONDS:
            _write_once(store, run_id, f"release-{number}", f"given up by {token}")
            continue
        if now - began > WAIT_SECONDS:
            raise StorageError(
                f"Others have been changing the registry {store.uri} for {WAIT_SECONDS:.0f} s. "
                "Try again later."
            )
        time.sleep(random.uniform(POLL_SECONDS / 5, POLL_SECONDS))


def _release(store: Store, mine: _Held) -> bool:
    """Releases the lock, and says whether no other client had done so."""
    value = mine.token
    if is_last := mine.number >= LOCKS_PER_RUN:
        value = f"{NEXT_RUN}{_new_run(store)}"
    released = _write_once(store, mine.run_id, f"release-{mine.number}", value)
    if released and is_last:
        # A short cut: who finds the old run is led to the new one, too.
        with suppress(Exception):
            run_id = value.removeprefix(NEXT_RUN)
            store.client.set_registered_model_tag(POINTER, RUN_TAG, run_id)
    return released


def _write_once(store: Store, run_id: str, key: str, value: str) -> bool:
    """Writes a parameter, and says whether it holds this value: the first one to come stays."""
    with Suppressed("INVALID_PARAMETER_VALUE"):
        store.client.log_param(run_id, key, value)
        return True
    return False


def _first_run(store: Store) -> str:
    """The run that locks are written to, as all clients find it."""
    client = store.client
    with Suppressed(MISSING):
        return str(client.get_registered_model(POINTER).tags[RUN_TAG])
    # A registered model's name is taken once: who comes second uses what the first one made.
    run_id = _new_run(store)
    with Suppressed(TAKEN):
        client.create_registered_model(
            POINTER,
            tags={RUN_TAG: run_id, "shiftreg.kind": "lock"},
            description="Who may change what is active. Leave it to shiftreg.",
        )
    return str(client.get_registered_model(POINTER).tags[RUN_TAG])


def _new_run(store: Store) -> str:
    kind = {"mlflow.experimentKind": "custom_model_development"}
    experiment = find_or_create_experiment(store, POINTER, kind)
    run = store.client.create_run(
        experiment.experiment_id, run_name="lock", tags={"shiftreg.kind": "lock"}
    )
    store.client.set_terminated(run.info.run_id)
    return str(run.info.run_id)
