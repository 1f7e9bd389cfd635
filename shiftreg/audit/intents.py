"""Intents: what is about to be done, on disk until its event is in the audit trail.

A change and its event cannot happen in one step: they live in different places. So the change is
announced first. Whoever dies in between leaves the announcement behind, and the next command
completes the change or takes it back.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shiftreg.canonical import canonical_json
from shiftreg.errors import StorageError


@dataclass(frozen=True)
class Intent:
    """A change that was announced.

    Attributes:
        identity: Of this announcement; the event carries it in its details.
        time: UTC, ISO 8601.
        process: Number of the process that announced it.
        action: As the event will say it.
        values: What is needed to complete the change or to take it back, JSON values.
    """

    identity: str
    time: str
    process: int
    action: str
    values: Mapping[str, Any]


class Intents:
    """The announcements of one home, a file each.

    A file is locked as long as its writer lives; the system frees the lock of a dead process.

    Attributes:
        folder: Where they are; made by the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exist(self) -> bool:
        """Whether there are any, of living processes or of dead ones."""
        return self.folder.is_dir() and any(self.folder.glob("*.json"))

    @contextmanager
    def announced(self, action: str, values: Mapping[str, Any]) -> Iterator[Intent]:
        """Announces a change for the time of a block.

        If the block fails, the announcement stays: how far the change came is found out later.

        Raises:
            InvalidInputError: A value cannot be said in JSON.
            StorageError: The disk refused.
        """
        intent = Intent(
            identity=secrets.token_hex(8),
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            process=os.getpid(),
            action=action,
            values=dict(values),
        )
        path = self.folder / f"{intent.identity}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"))
            lock.acquire()
            _write(path, canonical_json(asdict(intent)))
        except OSError as error:
            raise StorageError(
                f"The folder {self.folder}, where changes are announced, cannot be written: "
                f"{error.strerror or error}. Check its permissions and the free space."
            ) from error
        try:
            yield intent
            self._remove(path)
        finally:
            lock.release()

    @contextmanager
    def abandoned(self) -> Iterator[tuple[Intent, ...]]:
        """The announcements whose writers are gone, and nobody else's for the time of a block.

        They are removed when the block ends normally. Damaged ones were never acted on: an
        announcement is whole on the disk before the change begins.
        """
        held: list[tuple[FileLock, Path]] = []
        intents = []
        try:
            for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
                lock = FileLock(path.with_suffix(".lock"), timeout=0)
                with suppress(Timeout):
                    lock.acquire()
                    held.append((lock, path))
                    with suppress(OSError, ValueError, TypeError):
                        intents.append(Intent(**json.loads(path.read_text(encoding="utf-8"))))
            yield tuple(sorted(intents, key=lambda intent: intent.time))
            for _, path in held:
                self._remove(path)
        finally:
            for lock, _ in held:
                lock.release()

    @staticmethod
    def _remove(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Puts a whole file on the disk."""
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
