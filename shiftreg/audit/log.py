"""AuditLog: what the use cases write to, whatever keeps the chain."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from shiftreg import __version__
from shiftreg.audit.checkpoint import Checkpoint
from shiftreg.audit.events import AuditEvent, Draft, EventStore, Signs
from shiftreg.audit.signatures import PublicKeys
from shiftreg.audit.verification import AuditReport, Known, place_events, verify_chain
from shiftreg.errors import IntegrityError, InvalidInputError

if sys.platform != "win32":
    import pwd


@dataclass(frozen=True)
class Cause:
    """Why something is done.

    Attributes:
        reason: In the actor's words.
        request: Reference of the request that it answers, such as a complaint's number.
        licence: Reference of the licence that it rests on.
    """

    reason: str = ""
    request: str = ""
    licence: str = ""


def current_actor() -> str:
    """The name of the account that the process runs as, or its number where it has no name.

    Not what LOGNAME and USER say: whoever starts the process sets those.
    """
    if sys.platform == "win32":  # it has no such table; what is left is the environment
        try:
            return getpass.getuser()
        except (KeyError, OSError, ImportError):
            return "unknown"
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@dataclass(frozen=True)
class AuditLog:
    """An append-only chain of events, each naming the digest of the one before.

    What the chain shows: an edited, deleted, inserted, reordered or copied event, a fork, a torn
    last line. What a chain alone cannot show: events removed from the end, or a log that was
    rewritten from some event on. Both change or lose the head, so write the head down elsewhere
    (a checkpoint, an export's recipe, a ticket) and pass it to :meth:`verify`.

    Attributes:
        store: Where the chain is.
        cause: Why things are done, for events that say nothing themselves.
        signer: Signs events; None leaves them unsigned.
        who: Names the actor.
    """

    store: EventStore
    cause: Cause = Cause()
    signer: Signs | None = None
    who: Callable[[], str] = current_actor

    def because(self, cause: Cause) -> AuditLog:
        """The same log, for something that is done for another cause."""
        return replace(self, cause=cause)

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
        """Writes one event and returns when it is safe.

        Args:
            reason: Why; the log's cause by default.
            digests: A word -> SHA-256.
            details: Anything else, JSON values.
            actor: Who did it; the user of the server or the operating system by default.

        Returns:
            The event as it was written.

        Raises:
            InvalidInputError: No action, or a value that JSON cannot say.
            IntegrityError: The last event is damaged, so that nothing can continue it.
            StorageError: The disk or the server refused.
        """
        if not action.strip():
            raise InvalidInputError("An audit event needs an action. Say what was done.")
        draft = Draft(
            {
                "actor": actor or self.who(),
                "host": socket.gethostname(),
                "tool_version": __version__,
                "action": action,
                "base": base,
                "concepts": tuple(concepts),
                "reason": reason or self.cause.reason,
                "request": self.cause.request,
                "licence": self.cause.licence,
                "digests": dict(digests or {}),
                "details": dict(details or {}),
            },
            self.signer,
        )
        return self.store.add(draft)

    def events(self) -> tuple[AuditEvent, ...]:
        """All events, oldest first; what was never acknowledged is left out.

        Raises:
            IntegrityError: An entry is not an event. Whether the events are *true* says
                :meth:`verify`.
            StorageError: The store cannot be read.
        """
        contents = self.store.contents()
        events, _, found = place_events(contents)
        for number, problem in found:
            raise IntegrityError(
                f"{contents.name[:1].upper()}{contents.name[1:]}, {contents.word} {number}: "
                f"{problem}. See: shiftreg audit verify"
            )
        return tuple(event for _, event in events)

    def verify(
        self,
        expected_head: str | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        keys: PublicKeys | None = None,
        all_signed: bool = False,
    ) -> AuditReport:
        """Checks the whole chain.

        Args:
            expected_head: A head noted earlier. The log may have grown since, and must still hold
                it: otherwise events were removed from the end, or the log was rewritten.
            checkpoint: The same with more to say.
            keys: Public keys to check signatures with.
            all_signed: Whether an event that is not signed by one of ``keys`` is a problem.

        Returns:
            The report, with the places where something is wrong.

        Raises:
            StorageError: The store cannot be read.
        """
        known = [Known(expected_head)] if expected_head else []
        known += [checkpoint.known()] if checkpoint else []
        if noted := self.store.noted_head():
            sequence, digest = noted
            known.append(Known(digest, sequence, "what this computer saw earlier"))
        report = verify_chain(self.store.contents(), known, keys, all_signed=all_signed)
        wrong = checkpoint.finding(report.origin, keys) if checkpoint else ""
        if wrong:
            problems = (f"checkpoint: {wrong}", *report.problems)
            return replace(report, valid=False, problems=problems)
        if report.valid and report.count:
            self.store.note_head(report.sequence, report.head)
        return report

    def checkpoint(self) -> Checkpoint:
        """The head of the chain, which must be sound.

        Raises:
            InvalidInputError: There are no events.
            IntegrityError: The chain is damaged.
            StorageError: The store cannot be read.
        """
        report = self.verify()
        if not report.valid:
            raise IntegrityError(
                f"The audit trail is damaged, so there is no head to vouch for: "
                f"{report.problems[0]}. See: shiftreg audit verify"
            )
        if not report.count:
            raise InvalidInputError("The audit trail has no events yet, and so no head.")
        return Checkpoint(
            sequence=report.sequence,
            head=report.head,
            origin=report.origin,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            tool=f"shiftreg {__version__}",
        ).signed(self.signer)
