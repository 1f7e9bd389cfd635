"""Checkpoint: the head of a chain, to be kept elsewhere and compared later."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from shiftreg.audit.events import Signs
from shiftreg.audit.signatures import PublicKeys
from shiftreg.audit.verification import Known
from shiftreg.canonical import canonical_json
from shiftreg.errors import IntegrityError

FORMAT = "shiftreg-checkpoint-1"
SIGNED = "shiftreg audit checkpoint "


@dataclass(frozen=True)
class Checkpoint:
    """Where a chain stood at some time: everything up to there can be proven unchanged later.

    Attributes:
        sequence: Of the last event.
        origin: Digest of the first event: whose chain it is.
        time: When the checkpoint was made, UTC, ISO 8601.
        tool: What made it.
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

    def signed(self, signer: Signs | None) -> Checkpoint:
        """The same with a signature, if there is who signs."""
        if signer is None:
            return self
        named = replace(self, key=signer.key)
        return replace(named, signature=signer.sign(named._signed_text))

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
            for entry in fields(cls):
                if type(getattr(found, entry.name)) is not (
                    int if entry.name == "sequence" else str
                ):
                    raise ValueError(f"its {entry.name} has the wrong type")
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
            keys: To check its signature with.
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
