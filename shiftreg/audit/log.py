"""AuditLog, what the use cases write to, whatever keeps the chain; and checkpoints of its head."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from shiftreg import __version__
from shiftreg.audit.events import AuditEvent, Draft, EventStore, check_types, signature_of
from shiftreg.audit.verification import AuditReport, Known, PublicKeys, place_events, verify_chain
from shiftreg.canonical import canonical_json
from shiftreg.errors import IntegrityError, InvalidInputError
from shiftreg.keys import SigningKey

FORMAT = "shiftreg-checkpoint-1"
SIGNED = "shiftreg audit checkpoint "


@dataclass(frozen=True)
class Checkpoint:
    """Where a chain stood at some time: everything up to there can be proven unchanged later.

    Attributes:
        sequence: Of the last event.
        origin: Digest of the first event: whose chain it is.
        time: When the checkpoint was made, UTC, ISO 8601.
        key: SHA-256 of the public key that checks the signature, "" if it is not signed.
        signature: Of all else, base64.
    """

    sequence: int
    head: str
    origin: str
    time: str
    tool: str
    key: str = ""
    signature: str = ""
    format: str = FORMAT

    def signed(self, signer: SigningKey | None) -> Checkpoint:
        """The same with a signature, if there is who signs."""
        if signer is None:
            return self
        named = replace(self, key=signer.public.fingerprint)
        return replace(named, signature=signature_of(named._signed_text, signer))

    def to_json(self) -> str:
        """The document."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Checkpoint:
        """Reads what :meth:`to_json` wrote.

        Raises:
            IntegrityError: It is not a checkpoint.
        """
        try:
            values: Any = json.loads(text)
            found = cls(**values)
            if values.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            check_types(found, {"sequence": int})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(
                f"Not a checkpoint of an audit trail: {error}. Make one: "
                "shiftreg audit checkpoint FILE"
            ) from error
        return found

    def known(self) -> Known:
        """What it says of the chain."""
        return Known(self.head, self.sequence, f"the checkpoint of {self.time[:19]}")

    def finding(self, origin: str, keys: PublicKeys | None) -> str:
        """What is wrong with the checkpoint itself, before it is compared; "" if nothing.

        Args:
            origin: Of the chain that it is compared with.
        """
        if bool(self.key) != bool(self.signature):
            return "its signature was removed, or added later"
        if self.key and keys is not None:
            if self.key not in keys:
                return f"it is signed by {self.key[:12]}, a key that was not given"
            if not keys.confirm(self.key, self._signed_text, self.signature):
                return f"its signature is not that of its key {self.key[:12]}"
        if self.origin != origin:
            return (
                f"it is of another chain, which begins with {self.origin[:12]}; this one begins "
                f"with {origin[:12]}"
            )
        return ""

    @property
    def _signed_text(self) -> str:
        values = asdict(self)
        del values["signature"]
        return SIGNED + canonical_json(values)


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
        cause: Why things are done, for events that say nothing themselves.
    """

    store: EventStore
    cause: Cause = Cause()
    signer: SigningKey | None = None
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

    def readable_events(self) -> tuple[AuditEvent, ...]:
        """All events; none where an entry is not one: that must not hide what else is on record."""
        try:
            return self.events()
        except IntegrityError:
            return ()

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
