"""WriteAheadLog: what is about to be done, on disk until its event is in the audit trail.

A change and its event cannot happen in one step: they live in different places. So the change is
written down first. A process that dies in between leaves its record behind, and the next command
completes the change or takes it back, if it can prove to have written the record itself: whoever
can put a file into the home could announce anything.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shiftreg.canonical import canonical_json
from shiftreg.errors import StorageError
from shiftreg.keys import own_secret


@dataclass(frozen=True)
class WriteAheadRecord:
    """A change that is about to be made.

    Attributes:
        identity: Of this record; the event carries it in its details.
        time: UTC, ISO 8601.
        process: Number of the process that makes it.
        author: Who makes it, by which key events are signed, and in which registry.
        action: As the event will say it.
        values: What is needed to complete the change or to take it back, JSON values.
    """

    identity: str
    time: str
    process: int
    author: str
    action: str
    values: Mapping[str, Any]


class WriteAheadLog:
    """The write-ahead records of one home, a file each.

    A file is locked as long as its writer lives; the system frees the lock of a dead process.

    Attributes:
        folder: Of the files; made by the first one.
        author: Who works here, by which key events are signed, and in which registry.
    """

    def __init__(self, folder: Path, author: Callable[[], str] = str) -> None:
        self.folder = folder
        self.author = author

    def paths(self) -> list[Path]:
        """All records, of living processes and of dead ones, and whatever else looks like one."""
        return sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []

    def read(self, path: Path) -> WriteAheadRecord | None:
        """The record in a file; None if it is not proven that this author wrote it, and here."""
        try:
            if path.is_symlink() or not path.is_file():
                return None
            content = json.loads(path.read_text(encoding="utf-8"))
            proof = content.pop("proof")
            record = WriteAheadRecord(**content)
            expected = self._proof(record)
            is_own = expected is not None and hmac.compare_digest(proof, expected)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        is_own = is_own and (record.identity, record.author) == (path.stem, self.author())
        return record if is_own else None

    def foreign(self) -> list[Path]:
        """What looks like a record, and is not proven to be one of this author's: see :meth:`read`.

        It stays where it is.
        """
        return [path for path in self.paths() if self.read(path) is None]

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
            author=self.author(),
            action=action,
            values=dict(values),
        )
        path = self._path(record)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"))
            lock.acquire()
        except OSError as error:
            raise self._refused(error) from error
        try:
            self.save(record)
            yield record
            self._remove(path)
        finally:
            lock.release()

    def save(self, record: WriteAheadRecord) -> None:
        """Puts a record on the disk, whole; again where its values have grown.

        Raises:
            InvalidInputError: A value cannot be said in JSON.
            StorageError: The disk refused.
        """
        content = canonical_json(asdict(record) | {"proof": self._proof(record)})
        path = self._path(record)
        draft = path.with_suffix(".draft")
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except OSError as error:
            raise self._refused(error) from error

    @contextmanager
    def abandoned(self) -> Iterator[tuple[WriteAheadRecord, ...]]:
        """The records whose writers are gone, held by nobody else for the duration of a block.

        They are removed when the block ends normally. What is not proven is not touched.
        """
        locks: list[FileLock] = []
        records: list[WriteAheadRecord] = []
        try:
            for path in filter(self.read, self.paths()):
                lock = FileLock(path.with_suffix(".lock"), timeout=0)
                with suppress(Timeout):
                    lock.acquire()
                    locks.append(lock)
                    if record := self.read(path):  # nobody writes or removes it from here on
                        records.append(record)
            yield tuple(sorted(records, key=lambda record: record.time))
            for record in records:
                self._remove(self._path(record))
        finally:
            for lock in locks:
                lock.release()

    def _path(self, record: WriteAheadRecord) -> Path:
        return self.folder / f"{record.identity}.json"

    def _proof(self, record: WriteAheadRecord) -> str | None:
        """That this user wrote a record in this home; None where no secret can be kept."""
        secret = own_secret()
        said = canonical_json([str(self.folder.resolve()), asdict(record)]).encode()
        return hmac.new(secret, said, hashlib.sha256).hexdigest() if secret else None

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            f"The folder {self.folder}, where changes are recorded first, cannot be written: "
            f"{error.strerror or error}. Check its permissions and the free space."
        )

    @staticmethod
    def _remove(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)
