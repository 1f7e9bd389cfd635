"""AuditLog: the file of events, one a line, each naming the digest of the one before."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from shiftreg import __version__
from shiftreg.audit.events import GENESIS, AuditEvent
from shiftreg.audit.verification import AuditReport, verify_chain
from shiftreg.errors import (
    IntegrityError,
    InvalidInputError,
    ShiftregError,
    StorageError,
)

LOCK_SECONDS = 30


class AuditLog:
    """An append-only JSON Lines file whose events form a hash chain.

    What the chain shows: an edited, deleted, inserted, reordered or copied event, a fork, a torn
    last line. What a chain alone cannot show: events removed from the end, or a log that was
    rewritten from some event on. Both change or lose the head, so write the head down elsewhere
    (an export's recipe, a ticket) and pass it to :meth:`verify`.

    A crash in the middle of an append leaves a last line without an end. That event was never
    acknowledged: :meth:`append` returns only when the whole line is on the disk. The next append
    mends it: a line that lacks only its line break gets one; anything else is cut off, and an
    event "repair" keeps what was cut.

    Attributes:
        path: The file; made, with its folder, by the first append.
    """

    def __init__(self, path: Path) -> None:
        """Opens a log; touches no file.

        Args:
            path: The file.
        """
        self.path = Path(path)

    def append(
        self,
        action: str,
        *,
        base: str,
        concepts: Iterable[str] = (),
        reason: str = "",
        digests: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
        actor: str | None = None,
    ) -> AuditEvent:
        """Writes one event and returns when it is safely on the disk.

        Args:
            action: What was done.
            base: Name of the base.
            concepts: Names of the concepts.
            reason: Why.
            digests: A word -> SHA-256.
            details: Anything else, JSON values.
            actor: Who did it; the user of the operating system by default.

        Returns:
            The event as it was written.

        Raises:
            InvalidInputError: No action, or a value that JSON cannot say.
            IntegrityError: The last event is damaged, so that nothing can continue it.
            StorageError: The disk refused.
        """
        if not action.strip():
            raise InvalidInputError("An audit event needs an action. Say what was done.")
        values: dict[str, Any] = {
            "actor": actor or current_actor(),
            "host": socket.gethostname(),
            "tool_version": __version__,
            "base": base,
        }
        with self._opened() as file:
            last, torn = self._read_tail(file)
            size = file.seek(0, os.SEEK_END)
            events = [last] if last else []
            content = b""
            if torn and not _is_successor(torn, last):
                size -= len(torn)
                repair = _next_event(
                    events,
                    values,
                    action="repair",
                    concepts=(),
                    reason="The last line was torn by a crash and never acknowledged.",
                    digests={},
                    details={
                        "removed": torn.decode(errors="replace"),
                        "bytes": len(torn),
                    },
                )
                events.append(repair)
                content += repair.to_line().encode() + b"\n"
            elif torn:
                events.append(AuditEvent.from_line(torn))
                content += b"\n"
            event = _next_event(
                events,
                values,
                action=action,
                concepts=tuple(concepts),
                reason=reason,
                digests=dict(digests or {}),
                details=dict(details or {}),
            )
            content += event.to_line().encode() + b"\n"
            self._write(file, size, content)
        return event

    def events(self) -> tuple[AuditEvent, ...]:
        """All events, oldest first; a torn last line, never acknowledged, is left out.

        Raises:
            IntegrityError: A line is not an event. Whether the events are *true* says
                :meth:`verify`.
            StorageError: The file cannot be read.
        """
        events = []
        for number, line in enumerate(self._read().split(b"\n")[:-1], start=1):
            try:
                events.append(AuditEvent.from_line(line))
            except IntegrityError as error:
                raise IntegrityError(
                    f"Audit log {self.path}, line {number}: {error}. See: shiftreg audit verify"
                ) from error
        return tuple(events)

    def verify(self, expected_head: str | None = None) -> AuditReport:
        """Checks the whole chain.

        Args:
            expected_head: A head noted earlier. The log may have grown since, and must still hold
                it: otherwise events were removed from the end, or the log was rewritten.

        Returns:
            The report, with the lines where something is wrong.

        Raises:
            StorageError: The file cannot be read.
        """
        return verify_chain(self._read(), expected_head)

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
            if event.digest != event.expected_digest():
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


def current_actor() -> str:
    """The name of the operating system's user, or its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _next_event(events: list[AuditEvent], shared: Mapping[str, Any], **own: Any) -> AuditEvent:
    """The event that continues the last of ``events``."""
    last = events[-1] if events else None
    return AuditEvent.sealed(
        sequence=last.sequence + 1 if last else 1,
        previous=last.digest if last else GENESIS,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        **shared,
        **own,
    )


def _is_successor(line: bytes, last: AuditEvent | None) -> bool:
    """Whether ``line`` is a whole event that continues ``last``."""
    try:
        event = AuditEvent.from_line(line)
    except IntegrityError:
        return False
    expected = last.digest if last else GENESIS
    return event.digest == event.expected_digest() and event.previous == expected
