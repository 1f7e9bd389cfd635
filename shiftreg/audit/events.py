"""AuditEvent: one thing that was done, bound by digest to all before it; and what keeps a chain."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from shiftreg.canonical import canonical_digest, canonical_json
from shiftreg.errors import IntegrityError, ShiftregError
from shiftreg.keys import SigningKey

GENESIS = "0" * 64
"""What the first event of a log names as its predecessor."""

_TYPES: dict[str, type] = {"sequence": int, "concepts": tuple, "digests": dict, "details": dict}
_OPTIONAL = ("request", "licence", "key", "signature")
"""Fields that are not written where they are empty."""

SIGNED = "shiftreg audit event "
"""What precedes the digest in the text that is signed: a signature means one thing only."""


def signature_of(text: str, key: SigningKey) -> str:
    """A signature of a text, base64."""
    return base64.b64encode(key.sign(text.encode())).decode()


def check_types(value: Any, types: Mapping[str, type]) -> None:
    """Refuses a dataclass whose fields are of other types than these, and else texts.

    Raises:
        ValueError: Names the first one.
    """
    for entry in fields(value):
        if type(getattr(value, entry.name)) is not types.get(entry.name, str):
            raise ValueError(f"its {entry.name} has the wrong type")


@dataclass(frozen=True)
class AuditEvent:
    """One event.

    Attributes:
        sequence: 1 for the first event of a log, then one more for each.
        time: UTC, ISO 8601.
        action: "init", "erase", "refresh", "restore", "activate", "compose", "export", ...
        reason: Why, in the actor's words.
        digests: What was made or used: a word -> SHA-256.
        details: Anything else, JSON values.
        previous: Digest of the event before, or ``GENESIS``.
        digest: SHA-256 of the canonical JSON of all other fields but ``signature``.
        request: Reference of the request that it answers, "" if none.
        licence: Reference of the licence that it rests on, "" if none.
        key: SHA-256 of the public key that checks the signature, "" if it is not signed.
        signature: Of the digest, base64.
    """

    sequence: int
    time: str
    actor: str
    host: str
    tool_version: str
    action: str
    base: str
    concepts: tuple[str, ...]
    reason: str
    digests: Mapping[str, str] = field(hash=False)
    details: Mapping[str, Any] = field(hash=False)
    previous: str
    digest: str
    request: str = ""
    licence: str = ""
    key: str = ""
    signature: str = ""

    @classmethod
    def create(cls, **values: Any) -> AuditEvent:
        """Builds an event from all fields but digest and signature, and computes the digest.

        Raises:
            InvalidInputError: A value cannot be said in JSON.
        """
        # Through JSON and back, so that the digest is of what a reader of the file will see
        # (numbers as keys, for one, become text and sort differently).
        plain = json.loads(canonical_json(values))
        event = cls(concepts=tuple(plain.pop("concepts")), digest="", **plain)
        return replace(event, digest=event.expected_digest())

    def expected_digest(self) -> str:
        """The digest that the other fields call for.

        Raises:
            InvalidInputError: A value cannot be said in JSON.
        """
        values = self._written()
        del values["digest"]
        values.pop("signature", None)
        return canonical_digest(values)

    def to_line(self) -> str:
        """The event as one line of the log, without the line break."""
        return canonical_json(self._written())

    @property
    def is_sound(self) -> bool:
        """Whether the digest is that of the content."""
        return self.digest == self.expected_digest()

    @property
    def signed_text(self) -> str:
        """What the signature is of."""
        return SIGNED + self.digest

    def _written(self) -> dict[str, Any]:
        values = asdict(self)
        return {name: value for name, value in values.items() if value or name not in _OPTIONAL}

    @classmethod
    def from_line(cls, line: bytes) -> AuditEvent:
        """Reads one line of the log, without judging the digest.

        Raises:
            IntegrityError: It is not an event as :meth:`to_line` writes it.
        """
        try:
            values = json.loads(line)
            names = {entry.name for entry in fields(cls)}
            if not names.difference(_OPTIONAL) <= set(values) <= names:
                raise ValueError("its fields are not those of an event")
            event = cls(**(values | {"concepts": tuple(values["concepts"])}))
            check_types(event, _TYPES)
            # A line that says the same in other words (spaces, repeated keys) was not ours.
            if event.to_line().encode() != line:
                raise ValueError("it is not written as canonical JSON")
        except (ShiftregError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(f"not an event: {error}") from error
        return event


@dataclass(frozen=True)
class Draft:
    """An event before it has its place in a chain.

    Attributes:
        values: All fields but time, place, digest and signature.
        signer: Signs it; None leaves it unsigned.
    """

    values: Mapping[str, Any]
    signer: SigningKey | None = None

    def event(self, sequence: int, previous: str) -> AuditEvent:
        """The event at a place: dated now, with digest and, where there is a signer, signature.

        Raises:
            InvalidInputError: A value cannot be said in JSON.
        """
        event = AuditEvent.create(
            **self.values,
            sequence=sequence,
            previous=previous,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            key=self.signer.public.fingerprint if self.signer else "",
        )
        if self.signer is None:
            return event
        return replace(event, signature=signature_of(event.signed_text, self.signer))

    def about(self, **values: Any) -> Draft:
        """The same by the same, about something else."""
        return replace(self, values={**self.values, **values})


@dataclass(frozen=True)
class Entry:
    """One place of a store, with what stands there.

    Attributes:
        content: The event's line, as far as nobody changed it.
    """

    number: int
    content: bytes


@dataclass(frozen=True)
class Contents:
    """All that a store holds, oldest first, whether it is sound or not.

    Attributes:
        name: What the store is called, for messages.
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
        """Sequence and digest of the last event that this computer knows to have been there.

        None beside a file: who can change that could change the note.
        """
        return None

    def note_head(self, sequence: int, digest: str) -> None:
        """Remembers the head of a chain that was found to be sound."""
        return
