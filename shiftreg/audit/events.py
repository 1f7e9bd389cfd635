"""AuditEvent: one thing that was done, bound by digest to all that was done before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from shiftreg.canonical import canonical_json
from shiftreg.errors import IntegrityError, ShiftregError

GENESIS = "0" * 64
"""What the first event of a log names as its predecessor."""

_TYPES: dict[str, type] = {
    "sequence": int,
    "concepts": tuple,
    "digests": dict,
    "details": dict,
}


@dataclass(frozen=True)
class AuditEvent:
    """One event.

    Attributes:
        sequence: 1 for the first event of a log, then one more for each.
        time: UTC, ISO 8601.
        actor: Who did it.
        host: The machine's name.
        tool_version: Version of shiftreg.
        action: "init", "erase", "refresh", "restore", "activate", "compose", "export", ...
        base: Name of the base.
        concepts: Names of the concepts it was done to.
        reason: Why, in the actor's words.
        digests: What was made or used: a word -> SHA-256.
        details: Anything else, JSON values.
        previous: Digest of the event before, or ``GENESIS``.
        digest: SHA-256 of the canonical JSON of all other fields.
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

    @classmethod
    def sealed(cls, **values: Any) -> AuditEvent:
        """Builds an event from all fields but ``digest``, and computes that.

        Raises:
            InvalidInputError: A value cannot be said in JSON.
        """
        # Through JSON and back, so that the digest is of what a reader of the file will see
        # (numbers as keys, for one, become text and sort differently).
        plain = json.loads(canonical_json(values))
        concepts = tuple(plain.pop("concepts"))
        event = cls(concepts=concepts, digest="", **plain)
        return cls(concepts=concepts, digest=event.expected_digest(), **plain)

    def expected_digest(self) -> str:
        """The digest that the other fields call for.

        Raises:
            InvalidInputError: A value cannot be said in JSON.
        """
        values = asdict(self)
        del values["digest"]
        return hashlib.sha256(canonical_json(values).encode()).hexdigest()

    def to_line(self) -> str:
        """The event as one line of the log, without the line break."""
        return canonical_json(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> AuditEvent:
        """Reads one line of the log, without judging the digest.

        Raises:
            IntegrityError: It is not an event as :meth:`to_line` writes it.
        """
        try:
            values = json.loads(line)
            if set(values) != {entry.name for entry in fields(cls)}:
                raise ValueError("its fields are not those of an event")
            event = cls(**(values | {"concepts": tuple(values["concepts"])}))
            for entry in fields(cls):
                if type(getattr(event, entry.name)) is not _TYPES.get(entry.name, str):
                    raise ValueError(f"its {entry.name} has the wrong type")
            # A line that says the same in other words (spaces, repeated keys) was not ours.
            if event.to_line().encode() != line:
                raise ValueError("it is not written as canonical JSON")
        except (
            ShiftregError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise IntegrityError(f"not an event: {error}") from error
        return event
