"""Waiting for others who write to the same database: what it refused for that is tried again."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE_SECONDS = 60.0
CONFLICTS = (
    # SQLite: two transactions had read, and both want to write. Waiting inside one would not help.
    "database is locked",
    # MLflow numbers a new version by reading the highest, and gives up when others were quicker.
    "Giving up after",
)


def patient(client: MlflowClient) -> MlflowClient:
    """MLflow's client, whose methods try again where somebody else was writing.

    Both conflicts are told after the transaction was rolled back, so that nothing is done twice.

    Args:
        client: To make patient.
    """
    return cast("MlflowClient", _Patient(client))


class _Patient:
    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return _retried(value) if callable(value) else value


def _retried(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        end = time.monotonic() + PATIENCE_SECONDS
        pause = 0.02
        while True:
            try:
                return method(*arguments, **options)
            except Exception as error:
                is_conflict = any(sign in str(error) for sign in CONFLICTS)
                if not is_conflict or time.monotonic() > end:
                    raise
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, 1.0)

    return call
