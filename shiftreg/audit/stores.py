"""What keeps a chain of events: the form of it, and what a store gives to be checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shiftreg.audit.events import AuditEvent, Draft


@dataclass(frozen=True)
class Entry:
    """One place of a store, with what stands there.

    Attributes:
        number: Of the line or version, from 1 on.
        content: The event's line, as far as nobody changed it.
    """

    number: int
    content: bytes


@dataclass(frozen=True)
class Contents:
    """All that a store holds, oldest first, whether it is sound or not.

    Attributes:
        name: What the store is called, for messages.
        entries: By number.
        word: What one place is called: "line", "version".
        claimed: Whether a place is taken before anybody knows who took it. Then the places of
            writers who came second stay, as void ones, and a missing number is a deletion.
        torn: Bytes after the last whole entry.
    """

    name: str
    entries: tuple[Entry, ...]
    word: str = "line"
    claimed: bool = False
    torn: bytes = b""


class EventStore(Protocol):
    """A place that a chain is kept in; any number of writers may use it at once."""

    def add(self, draft: Draft) -> AuditEvent:
        """Puts an event at the end of the chain, and returns when it is safe there.

        Raises:
            InvalidInputError: A value that JSON cannot say.
            IntegrityError: The last event is damaged, so that nothing can continue it.
            StorageError: The disk or the server refused.
        """

    def contents(self) -> Contents:
        """Everything that is there.

        Raises:
            StorageError: The disk or the server refused.
        """

    def last_place(self) -> int:
        """Number of the last place that is taken, 0 if none is: what comes later is above it.

        Raises:
            IntegrityError: The last event is damaged.
            StorageError: The disk or the server refused.
        """

    def noted_head(self) -> tuple[int, str] | None:
        """Sequence and digest of the last event that this computer knows to have been there."""

    def note_head(self, sequence: int, digest: str) -> None:
        """Remembers the head of a chain that was found to be sound."""
