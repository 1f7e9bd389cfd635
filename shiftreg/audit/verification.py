"""Verification of a log: what was edited, deleted, reordered, inserted, forked or torn."""

from __future__ import annotations

from dataclasses import dataclass

from shiftreg.audit.events import GENESIS, AuditEvent
from shiftreg.errors import IntegrityError


@dataclass(frozen=True)
class AuditReport:
    """What a verification found.

    Attributes:
        valid: No problem was found.
        count: Events that could be read.
        head: Digest of the last event; write it down elsewhere to see later deletions.
        problems: One sentence each, beginning with the line's number.
    """

    valid: bool
    count: int
    head: str
    problems: tuple[str, ...]


def verify_chain(content: bytes, expected_head: str | None = None) -> AuditReport:
    """Checks every line of a log, and that each continues the line before.

    Args:
        content: The log's bytes.
        expected_head: A head noted earlier: it must still be in the log, at the end or further up.

    Returns:
        The report; nothing is raised for a bad log.
    """
    lines = content.split(b"\n")
    torn = lines.pop()
    problems: list[str] = []
    events: list[tuple[int, AuditEvent]] = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append((number, AuditEvent.from_line(line)))
        except IntegrityError as error:
            problems.append(f"line {number}: {error}")

    where = {GENESIS: 0}
    for number, event in reversed(events):
        where[event.digest] = number  # The first line wins where a digest is repeated.
    previous, sequence = GENESIS, 0
    for number, event in events:
        if event.digest != event.expected_digest():
            problems.append(f"line {number}: edited: its content does not match its digest")
        if where[event.digest] != number:
            problems.append(f"line {number}: inserted: a copy of line {where[event.digest]}")
            continue
        if event.previous != previous:
            problems.append(f"line {number}: {_broken_link(event, number, where)}")
        elif event.sequence != sequence + 1:
            problems.append(
                f"line {number}: event {event.sequence} where event {sequence + 1} was expected"
            )
        previous, sequence = event.digest, event.sequence

    if torn:
        problems.append(
            f"line {len(lines) + 1}: torn: it has no end, as after a crash while it was written; "
            "the next append mends it"
        )
    if expected_head is not None and expected_head not in where:
        problems.append(
            f"line {len(lines) + 1}: events are missing at the end: "
            f"the expected head {expected_head[:12]} is not in the log"
        )
    # Sorted by line, so that the reader meets the first damage first.
    problems.sort(key=lambda problem: int(problem[len("line ") : problem.index(":")]))
    return AuditReport(not problems, len(events), previous, tuple(problems))


def _broken_link(event: AuditEvent, number: int, where: dict[str, int]) -> str:
    """Says what a wrong ``previous`` points to."""
    origin = where.get(event.previous)
    if origin is None:
        return "the event that it continues was deleted or replaced"
    if origin >= number:
        return f"reordered: it continues line {origin}, which comes later"
    place = f"line {origin}" if origin else "the beginning of the log"
    return f"it continues {place} and not the line before: inserted, forked or reordered"
