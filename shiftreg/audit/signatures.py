"""Signatures of events, and what they show."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftreg.audit.events import AuditEvent
from shiftreg.keys import PublicKey, load_public_key


@dataclass(frozen=True)
class PublicKeys:
    """Public keys by fingerprint."""

    keys: Mapping[str, PublicKey]

    @classmethod
    def load(cls, paths: Iterable[Path]) -> PublicKeys:
        """Reads keys from PEM files.

        Raises:
            NotFoundError: No such file.
            InvalidInputError: It is not a public key of a kind that signs.
        """
        loaded = map(load_public_key, paths)
        return cls({key.fingerprint: key for key in loaded})

    def __contains__(self, fingerprint: str) -> bool:
        return fingerprint in self.keys

    def confirm(self, fingerprint: str, text: str, signature: str) -> bool:
        """Whether a signature of a text is that of a key that is here."""
        try:
            content = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            return False
        return self.keys[fingerprint].confirms(content, text.encode())


def signature_findings(
    events: Sequence[tuple[int, AuditEvent]],
    keys: PublicKeys | None,
    word: str,
    *,
    all_signed: bool,
) -> tuple[list[tuple[int, str]], list[str]]:
    """What the signatures of events show.

    Args:
        all_signed: Whether an event that no key vouches for is a problem, and not a note.

    Returns:
        Problems with their places, and notes.
    """
    problems: list[tuple[int, str]] = []
    unsigned: list[int] = []
    unknown: dict[str, list[int]] = {}
    for number, event in events:
        if bool(event.key) != bool(event.signature):
            problems.append((number, "its signature was removed, or added later"))
        elif not event.key:
            unsigned.append(number)
        elif keys is None or event.key not in keys:
            unknown.setdefault(event.key, []).append(number)
        elif not keys.confirm(event.key, event.signed_text, event.signature):
            problems.append((number, f"its signature is not that of its key {event.key[:12]}"))
    if all_signed:
        problems += [(number, "it is not signed") for number in unsigned]
        problems += [
            (number, f"it is signed by the unknown key {key[:12]}")
            for key, numbers in unknown.items()
            for number in numbers
        ]
        return problems, []
    notes = []
    if unsigned and (keys is not None or unknown):
        notes.append(f"not signed: {word} {number_ranges(unsigned)}")
    for key, numbers in unknown.items():
        remark = "a key that was not given" if keys else "not checked: no public key was given"
        notes.append(f"signed by {key[:12]}, {remark}: {word} {number_ranges(numbers)}")
    return problems, notes


def number_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, with what is contiguous put together: "1 to 3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
