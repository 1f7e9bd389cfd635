"""FileEvents: the chain in a file, one event a line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from shiftreg.audit.events import GENESIS, AuditEvent, Contents, Draft, Entry, EventStore
from shiftreg.errors import IntegrityError, ShiftregError, StorageError

LOCK_SECONDS = 30


class FileEvents(EventStore):
    """An append-only JSON Lines file.

    A crash in the middle of an append leaves a last line without an end. That event was never
    acknowledged: :meth:`add` returns only when the whole line is on the disk. The next append
    mends it: a line that lacks only its line break gets one; anything else is cut off, and an
    event "repair" keeps what was cut.

    Attributes:
        path: The file; made, with its folder, by the first append.
    """

    def __init__(self, path: Path) -> None:
        """Opens a file; touches none."""
        self.path = Path(path)

    def add(self, draft: Draft) -> AuditEvent:
        """Writes one event; see :meth:`EventStore.add`."""
        with self._opened() as file:
            last, torn = self._read_tail(file)
            size = file.seek(0, os.SEEK_END)
            content = b""
            if torn and not _is_successor(torn, last):
                size -= len(torn)
                last = _continued(draft.about(**_repair(torn)), last)
                content += last.to_line().encode() + b"\n"
            elif torn:
                last = AuditEvent.from_line(torn)
                content += b"\n"
            event = _continued(draft, last)
            content += event.to_line().encode() + b"\n"
            self._write(file, size, content)
        return event

    def contents(self) -> Contents:
        """All lines; see :meth:`EventStore.contents`."""
        return read_lines(self._read(), f"audit log {self.path}")

    def last_place(self) -> int:
        """The number of whole lines; see :meth:`EventStore.last_place`."""
        return self._read().count(b"\n")

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StorageError(
                f"The audit log {self.path} cannot be read: {error.strerror}. "
                "Check its permissions."
            ) from error

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """The file, open for reading and writing, with all other writers locked out."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=LOCK_SECONDS):
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
                with os.fdopen(descriptor, "r+b", buffering=0) as file:
                    yield file
        except Timeout as error:
            raise StorageError(
                f"The audit log {self.path} stayed locked for {LOCK_SECONDS} s by another process. "
                "Wait for it to end and try again."
            ) from error
        except ShiftregError:
            raise
        except OSError as error:
            raise StorageError(
                f"The audit log {self.path} cannot be written: {error.strerror or error}. "
                "Check its permissions and the free space."
            ) from error

    def _read_tail(self, file: BinaryIO) -> tuple[AuditEvent | None, bytes]:
        """The last whole event, and the bytes after it."""
        size = file.seek(0, os.SEEK_END)
        length = 4096
        while True:
            start = max(0, size - length)
            file.seek(start)
            parts = file.read(size - start).split(b"\n")
            # Two line breaks, or the beginning of the file, enclose the last whole line.
            if len(parts) > 2 or start == 0:
                break
            length *= 4
        torn = parts.pop()
        if not parts:
            return None, torn
        try:
            event = AuditEvent.from_line(parts[-1])
            if not event.is_sound:
                raise IntegrityError("its content does not match its digest")
        except IntegrityError as error:
            raise IntegrityError(
                f"The last event of the audit log {self.path} is damaged ({error}), so nothing can "
                "continue it. See: shiftreg audit verify. Keep the file as evidence, and put a "
                "copy that verifies in its place."
            ) from error
        return event, torn

    def _write(self, file: BinaryIO, size: int, content: bytes) -> None:
        """Puts ``content`` at ``size``, whole or not at all."""
        is_new = size == 0
        try:
            file.truncate(size)
            file.seek(size)
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                file.truncate(size)
            raise
        if is_new:
            # The file's name must survive a crash too; not every system can sync a folder.
            with suppress(OSError):
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)


def read_lines(content: bytes, name: str = "audit log") -> Contents:
    """The lines of a file."""
    *lines, torn = content.split(b"\n")
    entries = (Entry(number, line) for number, line in enumerate(lines, start=1))
    return Contents(name, tuple(entries), torn=torn)


def _continued(draft: Draft, last: AuditEvent | None) -> AuditEvent:
    """The event that continues the last one."""
    return draft.event(last.sequence + 1, last.digest) if last else draft.event(1, GENESIS)


def _repair(torn: bytes) -> dict[str, object]:
    """What the event of a repair says."""
    return {
        "action": "repair",
        "concepts": (),
        "reason": "The last line was torn by a crash and never acknowledged.",
        "request": "",
        "licence": "",
        "digests": {},
        "details": {"removed": torn.decode(errors="replace"), "bytes": len(torn)},
    }


def _is_successor(line: bytes, last: AuditEvent | None) -> bool:
    """Whether ``line`` is a whole event that continues ``last``."""
    try:
        event = AuditEvent.from_line(line)
    except IntegrityError:
        return False
    return event.is_sound and event.previous == (last.digest if last else GENESIS)
