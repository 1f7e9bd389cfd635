"""Verification of a chain: what was edited, deleted, reordered, inserted, forked, torn, signed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from shiftreg.audit.events import GENESIS, AuditEvent, Contents
from shiftreg.errors import IntegrityError
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
    # What is contiguous keeps its distance from its place in the sequence.
    groups = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in group] for _, group in groups]
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


@dataclass(frozen=True)
class Known:
    """An event that was seen in the chain earlier, and must still be there.

    Attributes:
        sequence: Of the event; None if only the digest was written down.
        source: Who says so, for messages.
    """

    digest: str
    sequence: int | None = None
    source: str = "the expected head"


@dataclass(frozen=True)
class AuditReport:
    """What a verification found.

    Attributes:
        valid: No problem was found.
        count: Events in the chain.
        head: Digest of the last event; write it down elsewhere to see later deletions.
        problems: One sentence each, beginning with the place: "line 3: edited: ...".
        notes: What a reader should know and is not damage: unsigned events, void places.
        origin: Digest of the first event.
        sequence: Of the last event.
    """

    valid: bool
    count: int
    head: str
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    origin: str = GENESIS
    sequence: int = 0


def verify_chain(
    contents: Contents,
    known: Iterable[Known] = (),
    keys: PublicKeys | None = None,
    *,
    all_signed: bool = False,
) -> AuditReport:
    """Checks every entry of a store, and that each event continues the one before.

    Args:
        known: Events noted earlier: they must still be in the chain.
        all_signed: Whether an event that is not signed by one of ``keys`` is a problem.

    Returns:
        The report; nothing is raised for a bad chain.
    """
    end = max((entry.number for entry in contents.entries), default=0) + 1
    events, voids, found = place_events(contents)
    if contents.claimed:
        found += _gaps(contents)
    found += _links(events, claimed=contents.claimed, word=contents.word)
    found += [
        (number, f"moved or inserted: it is event {event.sequence} of another chain or place")
        for number, event in voids
        if not _came_second(event, events)
    ]
    if contents.torn:
        found.append(
            (
                end,
                "torn: it has no end, as after a crash while it was written; the next append "
                "mends it",
            )
        )
    found += [finding for one in known for finding in _missing(one, events, end)]
    unproven, notes = signature_findings(events, keys, contents.word, all_signed=all_signed)
    found += unproven
    # Sorted by place, so that the reader meets the first damage first.
    problems = [f"{contents.word} {n}: {text}" for n, text in sorted(found, key=lambda one: one[0])]
    notes += [
        f"{contents.word} {number}: void: another writer was first at place {event.sequence}, and "
        "the event was written again later"
        for number, event in voids
        if _came_second(event, events)
    ]
    notes += [f"{contents.word} {number}: {text}" for number, text in _clocks(events)]
    return AuditReport(
        valid=not problems,
        count=len(events),
        head=events[-1][1].digest if events else GENESIS,
        problems=tuple(problems),
        notes=tuple(notes),
        origin=events[0][1].digest if events else GENESIS,
        sequence=events[-1][1].sequence if events else 0,
    )


Placed = list[tuple[int, AuditEvent]]
Findings = list[tuple[int, str]]


def place_events(contents: Contents) -> tuple[Placed, Placed, Findings]:
    """Reads the entries of a store.

    Returns:
        The events of the chain with their places, the void ones, and what is wrong with entries
        that are not events.
    """
    events: Placed = []
    voids: Placed = []
    found: Findings = []
    for entry in contents.entries:
        try:
            event = AuditEvent.from_line(entry.content)
        except IntegrityError as error:
            found.append((entry.number, str(error)))
            continue
        # A writer seals an event for the place that it expects. Who comes second gets a later one.
        second = contents.claimed and event.is_sound and event.sequence < entry.number
        (voids if second else events).append((entry.number, event))
    return events, voids, found


def _came_second(void: AuditEvent, events: Placed) -> bool:
    """Whether an event was sealed by who saw all places before the one that it expected."""
    before = [event.digest for number, event in events if number < void.sequence]
    return void.previous == (before[-1] if before else GENESIS)


def _gaps(contents: Contents) -> Iterator[tuple[int, str]]:
    there = {entry.number for entry in contents.entries}
    for number in range(1, max(there, default=0)):
        if number not in there:
            yield number, "deleted: the number is missing"


def _links(events: Placed, *, claimed: bool, word: str) -> Iterator[tuple[int, str]]:
    """What is wrong with digests, and with what each event says it continues."""
    where = {GENESIS: 0}
    for number, event in reversed(events):
        where[event.digest] = number  # The first place wins where a digest is repeated.
    previous, sequence = GENESIS, 0
    for number, event in events:
        if not event.is_sound:
            yield number, "edited: its content does not match its digest"
        if where[event.digest] != number:
            yield number, f"inserted: a copy of {word} {where[event.digest]}"
            continue
        expected = number if claimed else sequence + 1
        if event.previous != previous:
            yield number, _broken_link(event, number, where, word)
        elif event.sequence != expected:
            yield number, f"event {event.sequence} where event {expected} was expected"
        previous, sequence = event.digest, event.sequence


def _broken_link(event: AuditEvent, number: int, where: Mapping[str, int], word: str) -> str:
    """Says what a wrong ``previous`` points to."""
    origin = where.get(event.previous)
    if origin is None:
        return "the event that it continues was deleted or replaced"
    if origin >= number:
        return f"reordered: it continues {word} {origin}, which comes later"
    place = f"{word} {origin}" if origin else "the beginning of the log"
    return f"it continues {place} and not the {word} before: inserted, forked or reordered"


def _missing(known: Known, events: Placed, end: int) -> Iterator[tuple[int, str]]:
    """Says where a chain no longer holds what was noted."""
    if known.digest == GENESIS and not known.sequence:
        return  # the head of a chain without events
    for _, event in events:
        if event.digest == known.digest and known.sequence in (None, event.sequence):
            return
    for number, event in events:
        if event.sequence == known.sequence:
            yield (
                number,
                f"rewritten, here or before: {known.source} says that event {known.sequence} has "
                f"the digest {known.digest[:12]}, and it has {event.digest[:12]}",
            )
            return
    yield (
        end,
        f"events are missing at the end: {known.source} {known.digest[:12]} is not in the log",
    )


def _clocks(events: Placed) -> Iterator[tuple[int, str]]:
    times = [event.time for _, event in events]
    for (number, event), before in zip(events[1:], times, strict=False):
        if event.time < before:
            yield number, f"its clock, {event.time}, was behind that of the event before, {before}"
