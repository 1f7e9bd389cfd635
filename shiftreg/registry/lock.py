"""Turns: one client at a time changes what is active, and says so in the audit trail.

MLflow sets an alias to whatever the last writer says; it cannot compare first. So whoever changes
one takes a turn: reads, changes, writes the event, and ends the turn. In a home of our own a lock
on a file gives turns. A server gives them by the one thing that MLflow writes once and never
again, a run's parameter: ``turn-N`` holds the token of whoever wrote it first, and ``end-N`` ends
that turn. A turn whose holder died is ended by another one, which writes the same ``end-N``: only
one of the two can, so that a holder who was thought dead learns of it.
"""

from __future__ import annotations

import random
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from filelock import FileLock, Timeout

from shiftreg.errors import StorageError
from shiftreg.registry.failures import is_missing, is_taken, translated_errors
from shiftreg.registry.store import Store

WAIT_SECONDS = 600.0
LEASE_SECONDS = 150.0
"""Longer than a change takes, even where its event finds no place for two minutes."""
POLL_SECONDS = 0.25
TURNS_PER_RUN = 200

POINTER = "shiftreg-turns"
RUN_TAG = "shiftreg.run"
NEXT_RUN = "next run: "


@contextmanager
def lock(store: Store) -> Iterator[None]:
    """Keeps everybody else from changing what is active.

    Args:
        store: The registry.

    Raises:
        StorageError: Others took too long, or this turn did and another client has ended it.
    """
    if store.is_own:
        with _file_turn(store):
            yield
    else:
        with _server_turn(store):
            yield


@contextmanager
def _file_turn(store: Store) -> Iterator[None]:
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
def _server_turn(store: Store) -> Iterator[None]:
    with translated_errors(store.uri):
        mine = _take(store)
    try:
        yield
    except BaseException:
        # What went wrong first is what to tell.
        with suppress(Exception):
            _end(store, mine)
        raise
    with translated_errors(store.uri):
        is_mine = _end(store, mine)
    if not is_mine:
        raise StorageError(
            f"This change of {store.uri} took more than {LEASE_SECONDS:.0f} s, and another client "
            "took its turn meanwhile. It was made; see whether both hold: shiftreg list"
        )


@dataclass(frozen=True)
class _Turn:
    run_id: str
    number: int
    token: str


def _take(store: Store) -> _Turn:
    """Waits until nobody has a turn, and takes the next."""
    token = f"{socket.gethostname()[:100]} {uuid.uuid4().hex}"
    run_id = _first_run(store)
    began = since = time.monotonic()
    seen = None
    while True:
        cells = store.client.get_run(run_id).data.params
        number = _last_turn(cells)
        ended = cells.get(f"end-{number}") if number else ""
        if ended is not None and ended.startswith(NEXT_RUN):
            run_id = ended.removeprefix(NEXT_RUN)
            continue
        now = time.monotonic()
        if ended is not None:
            if _write_once(store, run_id, f"turn-{number + 1}", token):
                return _Turn(run_id, number + 1, token)
        elif (run_id, number) != seen:
            seen, since = (run_id, number), now
        elif now - since > LEASE_SECONDS:
            _write_once(store, run_id, f"end-{number}", f"given up by {token}")
            continue
        if now - began > WAIT_SECONDS:
            raise StorageError(
                f"Others have been changing the registry {store.uri} for {WAIT_SECONDS:.0f} s. "
                "Try again later."
            )
        time.sleep(random.uniform(POLL_SECONDS / 5, POLL_SECONDS))


def _end(store: Store, mine: _Turn) -> bool:
    """Ends a turn, and says whether it had not been ended by another."""
    value = mine.token
    if is_last := mine.number >= TURNS_PER_RUN:
        value = f"{NEXT_RUN}{_new_run(store)}"
    ended = _write_once(store, mine.run_id, f"end-{mine.number}", value)
    if ended and is_last:
        # A short cut: who finds the old run is led to the new one, too.
        with suppress(Exception):
            run_id = value.removeprefix(NEXT_RUN)
            store.client.set_registered_model_tag(POINTER, RUN_TAG, run_id)
    return ended


def _write_once(store: Store, run_id: str, key: str, value: str) -> bool:
    """Writes a parameter, and says whether it holds this value: the first one to come stays."""
    from mlflow.exceptions import MlflowException

    try:
        store.client.log_param(run_id, key, value)
    except MlflowException as error:
        if error.error_code == "INVALID_PARAMETER_VALUE":
            return False
        raise
    return True


def _last_turn(cells: Mapping[str, str]) -> int:
    return max((int(key[5:]) for key in cells if key.startswith("turn-")), default=0)


def _first_run(store: Store) -> str:
    """The run that turns are written to, as all clients find it."""
    from mlflow.exceptions import MlflowException

    client = store.client
    try:
        return str(client.get_registered_model(POINTER).tags[RUN_TAG])
    except MlflowException as error:
        if not is_missing(error):
            raise
    # A registered model's name is taken once: who comes second uses what the first one made.
    run_id = _new_run(store)
    try:
        client.create_registered_model(
            POINTER,
            tags={RUN_TAG: run_id, "shiftreg.kind": "turns"},
            description="Whose turn it is to change what is active. Leave it to shiftreg.",
        )
    except MlflowException as error:
        if not is_taken(error):
            raise
    return str(client.get_registered_model(POINTER).tags[RUN_TAG])


def _new_run(store: Store) -> str:
    from mlflow.exceptions import MlflowException

    client = store.client
    experiment = client.get_experiment_by_name(POINTER)
    if experiment is None:
        try:
            client.create_experiment(
                POINTER, tags={"mlflow.experimentKind": "custom_model_development"}
            )
        except MlflowException as error:
            if not is_taken(error):
                raise
        experiment = client.get_experiment_by_name(POINTER)
        assert experiment is not None
    run = client.create_run(
        experiment.experiment_id, run_name="turns", tags={"shiftreg.kind": "turns"}
    )
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)
