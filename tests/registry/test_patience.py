from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from shiftreg.registry import BaseRecord, open_registry, patience
from shiftreg.registry.patience import patient


class Conflicting:
    """A client that others get in the way of."""

    def __init__(self, conflicts: int, message: str) -> None:
        self.left, self.message = conflicts, message

    def create(self, name: str, *, tags: Any = None) -> str:
        if self.left:
            self.left -= 1
            raise RuntimeError(self.message)
        return f"{name} {tags}"


@pytest.mark.parametrize(
    "message", ["(sqlite3.OperationalError) database is locked", "Giving up after 3 attempts."]
)
def test_what_lost_a_race_is_tried_again(message: str) -> None:
    client: Any = patient(Conflicting(3, message))  # type: ignore[arg-type]
    assert client.create("a", tags=1) == "a 1"


def test_other_errors_come_at_once() -> None:
    broken = Conflicting(1, "no such table")
    client: Any = patient(broken)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no such table"):
        client.create("a")
    assert broken.left == 0


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.1)
    client: Any = patient(Conflicting(10**6, "database is locked"))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="locked"):
        client.create("a")


def test_a_registry_waits_for_a_database_that_another_writes(
    home: Path, record: BaseRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = open_registry(home)
    other = sqlite3.connect(home / "registry.db", check_same_thread=False, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.5, lambda: other.execute("ROLLBACK"))
    release.start()
    registry.bases.save(record)
    release.join()
    other.close()
    assert registry.bases.all() == (record,)
