"""WriteAheadLog: what is about to be done, on disk until its event is in the audit trail.

A change and its event cannot happen in one step: they live in different places. So the change is
written down first. A process that dies in between leaves its record behind, and the next command
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
class WriteAheadRecord:
    """A change that is about to be made.

    Attributes:
        identity: Of this record; the event carries it in its details.
        time: UTC, ISO 8601.
        process: Number of the process that makes it.
        action: As the event will say it.
        values: What is needed to complete the change or to take it back, JSON values.
    """

    identity: str
    time: str
    process: int
    action: str
    values: Mapping[str, Any]


class WriteAheadLog:
    """The write-ahead records of one home, a file each.

    A file is locked as long as its writer lives; the system frees the lock of a dead process.

    Attributes:
        folder: Of the files; made by the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exist(self) -> bool:
        """Whether there are records, of living processes or of dead ones."""
        return self.folder.is_dir() and any(self.folder.glob("*.json"))

    @contextmanager
    def recorded(self, action: str, values: Mapping[str, Any]) -> Iterator[WriteAheadRecord]:
        """Keeps a record of a change for the duration of a block.

        If the block fails, the record stays: how far the change got is found out later.

        Raises:
            InvalidInputError: A value cannot be said in JSON.
            StorageError: The disk refused.
        """
        record = WriteAheadRecord(
            identity=secrets.token_hex(8),
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            process=os.getpid(),
            action=action,
            values=dict(values),
        )
        path = self.folder / f"{record.identity}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"))
            lock.acquire()
            _write(path, canonical_json(asdict(record)))
        except OSError as error:
            raise StorageError(
                f"The folder {self.folder}, where changes are recorded first, cannot be written: "
                f"{error.strerror or error}. Check its permissions and the free space."
            ) from error
        try:
            yield record
            self._remove(path)
        finally:
            lock.release()

    @contextmanager
    def abandoned(self) -> Iterator[tuple[WriteAheadRecord, ...]]:
        """The records whose writers are gone, held by nobody else for the duration of a block.

        They are removed when the block ends normally. Damaged ones were never acted on: a record
        is whole on the disk before the change begins.
        """
        held: list[tuple[FileLock, Path]] = []
        records = []
        try:
            for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
                lock = FileLock(path.with_suffix(".lock"), timeout=0)
                with suppress(Timeout):
                    lock.acquire()
                    held.append((lock, path))
                    with suppress(OSError, ValueError, TypeError):
                        records.append(
                            WriteAheadRecord(**json.loads(path.read_text(encoding="utf-8")))
                        )
            yield tuple(sorted(records, key=lambda record: record.time))
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
